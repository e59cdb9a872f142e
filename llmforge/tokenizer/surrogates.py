"""Half surrogate pairs: code points that Python's strings can hold and no UTF-8 can carry."""

from __future__ import annotations

import re

from llmforge.errors import DataError

_SURROGATE = re.compile("[\ud800-\udfff]")


def surrogate_fault(text: str) -> DataError | None:
    """The error that names the first half pair of a text; None when there is none."""
    found = _SURROGATE.search(text)
    if found is None:
        return None
    what = f"U+{ord(found[0]):04X} at character {found.start()} is half a surrogate pair, not text"
    return DataError(what, hint="remove it, or decode the bytes with errors='replace'")
