"""STUB until the real one is merged."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass

import xxhash

from llmforge.corpus.document import BadRow, Document


@dataclass(frozen=True)
class Unit:
    key: str
    bytes: int
    rows: bytes


def plan_units(source, on_note=None) -> Iterator[Unit]:
    from llmforge.corpus.sources import read_source

    bad = []
    rows = []
    size = 0
    gen = read_source(source, bad.append)
    for d in gen:
        rows += bad
        bad.clear()
        rows.append(d)
        size += len(d.text)
        if size > 1 << 20:
            p = pickle.dumps(rows)
            yield Unit(xxhash.xxh3_128_hexdigest(p), size, p)
            rows, size = [], 0
    rows += bad
    if rows:
        p = pickle.dumps(rows)
        yield Unit(xxhash.xxh3_128_hexdigest(p), size, p)


def read_unit(unit, source) -> list[Document | BadRow]:
    return pickle.loads(unit.rows)
