"""What a document costs the judging process, in bytes that are counted where they are allocated.

The text, its metadata and its measurements lie on disk, so ten times the documents may cost ten times some tens of
bytes. Blocks that are held at once are made small here, or they would hide the growth.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmforge.cleaning import duplicates, signal_store, survivors
from llmforge.cleaning.corpus_run import Arrived, Places, open_run
from llmforge.cleaning.dedup import bands, near
from llmforge.cleaning.dedup.near import NearDuplicate, NearDuplicates
from llmforge.cleaning.dedup.settings import DedupSettings
from llmforge.cleaning.duplicates import EXACT, Duplicates
from llmforge.cleaning.parts import Measured, read_part, write_part
from llmforge.cleaning.pipeline import ChainSettings
from llmforge.cleaning.splits import SplitSettings
from llmforge.corpus import folder
from llmforge.corpus.document import Document
from llmforge.corpus.row_documents import UniqueIds
from llmforge.corpus.source_config import SourceConfig

SIGNALS = {f"signal_{number}": 0.5 for number in range(30)}
FEW, MANY = 1_000, 4_000


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal_store, "GROUP_ROWS", 500)
    monkeypatch.setattr(survivors, "_BLOCK_BYTES", 4 << 10)
    monkeypatch.setattr(folder, "WRITE_BYTES", 4 << 10)
    monkeypatch.setattr(bands, "_KEY_BYTES", 1)
    monkeypatch.setattr(bands, "_BLOCK_ROWS", 500)
    monkeypatch.setattr(near, "_CACHE_RUNS", 10_000)
    monkeypatch.setattr(duplicates, "_BLOCK_ROWS", 500)


def arrivals(part: Path, count: int) -> Iterator[Arrived]:
    """So many documents of a few texts, half of them exact copies and a quarter near ones."""
    source = SourceConfig(name="texts", path="texts.jsonl", id_key="id")
    entries = read_part(part)
    assert entries is not None
    drawn = np.random.default_rng(1)
    for first in range(0, count, 100):
        batch = []
        for number in range(first, first + 100):
            entry = entries[number % len(entries)]
            assert isinstance(entry, Measured)
            key, row = drawn.bytes(16), drawn.bytes(500)
            if number % 4 == 3:
                row = entry.signature
            if number % 4 in (1, 2):
                key, row = bytes(16), bytes(500)
            document = Document(f"row {number}", "", "texts", {"file": "texts.jsonl", "row": number})
            batch.append(replace(entry, document=document, exact_key=key, signature=row))
        yield source, part, batch


def peak_of_a_run(folder: Path, part: Path, count: int) -> int:
    """The most bytes allocated at any time of a run over `count` documents."""
    (folder / "corpus").mkdir(parents=True)
    (folder / "scratch").mkdir()
    places = Places(folder / "corpus", folder / "scratch", "jsonl.zst", 1 << 20, 1)
    chain = ChainSettings(repair=None, language=None, rules=(), anonymize=None, key=None, dedup=DedupSettings())
    gc.collect()
    tracemalloc.start()
    with open_run(chain, SplitSettings(), places, lambda row: None, lambda: None) as work:
        work.read(arrivals(part, count), lambda note: None)
        work.finish()
        work.ledger.check()
        assert work.ledger.read.documents == count
        assert set(work.ledger.dropped) == {"exact_duplicate", "near_duplicate"}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_document_costs_the_judge_some_tens_of_bytes(tmp_path: Path) -> None:
    part = tmp_path / "texts.part"
    texts = [" ".join(f"word{number * place}" for place in range(80)) for number in range(1, 21)]
    documents = [Document("", text, "", {}) for text in texts]
    write_part(part, [Measured(one, 1, 1, signals=SIGNALS, signature=bytes(range(250)) * 2) for one in documents], True)
    entries = read_part(part)
    assert entries is not None
    _, few, many = (peak_of_a_run(tmp_path / str(count), part, count) for count in (100, FEW, MANY))  # first: imports
    assert 0 < (many - few) / (MANY - FEW) < 110, f"{(many - few) / (MANY - FEW):.0f} bytes a document"


def test_ids_cost_at_most_24_bytes_each_and_stay_unique() -> None:
    ids = UniqueIds()
    for number in range(20_000):
        unique = ids.claim(f"id {number % 15_000}")
        assert unique == (f"id {number}" if number < 15_000 else f"id {number - 15_000}~2")
    assert 20_000 * 12 <= ids.memory_bytes <= 20_000 * 27


def test_what_is_found_costs_few_bytes() -> None:
    found, table = NearDuplicates(), {}
    for number in np.random.default_rng(2).permutation(1000).tolist():
        table[number] = NearDuplicate(number + 1, number / 1000)
        found.add(number, table[number])
    found.sort()
    assert list(found) == sorted(table) and all(found[number] == match for number, match in table.items())
    assert 1000 not in found and found.get(-1) is None
    tracemalloc.start()
    marks = Duplicates(10_000, None)  # type: ignore[arg-type]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size < 18 * 10_000 and bool(marks.stays.all())
    marks.add(3, 2, 1.0, EXACT)
    assert np.flatnonzero(~marks.stays).tolist() == [3]
