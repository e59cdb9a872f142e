"""Rewrites the pieces inside a sentencepiece `.model` file.

The file is one protocol buffer (sentencepiece_model.proto): field 1 repeats the pieces, each with its text (field 1),
score (field 2) and type (field 3). Texts of NORMAL pieces are changed and pieces are added; all else is kept byte for
byte. A few lines of wire format save the protobuf package, which nothing else here needs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

_NORMAL = 1
_SPACE = "\u2581"  # how sentencepiece writes a space
_PIECES = 1
_TEXT, _SCORE, _TYPE = 1, 2, 3
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _fields(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(field number, the whole field as written, its payload) one after another."""
    at = 0
    while at < len(data):
        start = at
        key, at = _read_varint(data, at)
        wire = key & 7
        if wire == _VARINT:
            begin = at
            _, at = _read_varint(data, at)
        elif wire == _LENGTH:
            size, begin = _read_varint(data, at)
            at = begin + size
        else:
            assert wire in (_FIXED64, _FIXED32), f"wire type {wire} is not in a sentencepiece model"
            begin, at = at, at + (8 if wire == _FIXED64 else 4)
        yield key >> 3, data[start:at], data[begin:at]


def _rewritten(piece: bytes, replace: dict[str, str]) -> bytes:
    fields = list(_fields(piece))
    kind = next((_read_varint(payload, 0)[0] for number, _, payload in fields if number == _TYPE), _NORMAL)
    if kind != _NORMAL:
        return piece
    out = bytearray()
    for number, whole, payload in fields:
        if number == _TEXT:
            text = payload.decode("utf-8").translate({ord(old): new for old, new in replace.items()}).encode("utf-8")
            whole = _varint(_TEXT << 3 | _LENGTH) + _varint(len(text)) + text
        out += whole
    return bytes(out)


def replace_in_pieces(model: bytes, replace: dict[str, str]) -> bytes:
    """The model with every character that is a key of `replace` changed to its value inside NORMAL pieces."""
    out = bytearray()
    for number, whole, payload in _fields(model):
        if number == _PIECES:
            piece = _rewritten(payload, replace)
            whole = _varint(_PIECES << 3 | _LENGTH) + _varint(len(piece)) + piece
        out += whole
    return bytes(out)


def append_pieces(model: bytes, texts: Sequence[str]) -> bytes:
    """The model with NORMAL pieces added behind all others, each ranked (scored) below the one before it."""
    lowest = 0.0
    for number, _, payload in _fields(model):
        if number == _PIECES:
            scores = [struct.unpack("<f", value)[0] for field, _, value in _fields(payload) if field == _SCORE]
            lowest = min([lowest, *scores])
    out = bytearray(model)
    for rank, text in enumerate(texts, 1):
        encoded = text.replace(" ", _SPACE).encode("utf-8")
        piece = _varint(_TEXT << 3 | _LENGTH) + _varint(len(encoded)) + encoded
        piece += _varint(_SCORE << 3 | _FIXED32) + struct.pack("<f", lowest - rank)
        out += _varint(_PIECES << 3 | _LENGTH) + _varint(len(piece)) + piece
    return bytes(out)


def without_pieces(model: bytes, unwanted: Callable[[str], bool]) -> bytes:
    """The model without the NORMAL pieces whose text (spaces as spaces) is `unwanted`; ids behind them move up."""
    out = bytearray()
    for number, whole, payload in _fields(model):
        if number == _PIECES:
            fields = {field: value for field, _, value in _fields(payload)}
            kind = _read_varint(fields[_TYPE], 0)[0] if _TYPE in fields else _NORMAL
            if kind == _NORMAL and unwanted(fields[_TEXT].decode("utf-8").replace(_SPACE, " ")):
                continue
        out += whole
    return bytes(out)
