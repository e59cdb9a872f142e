"""Any field of a row to what JSON can hold, so that metadata survives every format."""

from __future__ import annotations

import datetime
import math

MAX_INTEGER = 2**63


def plain_fields(fields: dict[str, object]) -> dict[str, object]:
    """The fields as JSON values; bytes (pictures, sound) are left out, NaN becomes null, dates ISO text."""
    plain: dict[str, object] = {}
    for key, value in fields.items():
        if type(value) is str or value is None:
            plain[str(key)] = value
        elif not isinstance(value, bytes | bytearray):
            plain[str(key)] = plain_value(value)
    return plain


def plain_value(value: object) -> object:
    """One value: containers are walked, numbers beyond 64 bits and unknown types become text."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value) if -MAX_INTEGER <= value < MAX_INTEGER else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return plain_fields(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_value(item) for item in value if not isinstance(item, bytes | bytearray)]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 1) == 0:
        return plain_value(item())
    return str(value)
