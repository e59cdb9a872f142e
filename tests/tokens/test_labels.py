"""Labels in the token shards: kept for each document, selected from, mixed by, and absent in older shards."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.corpus.document import Document
from llmforge.errors import DataError
from llmforge.runtime.files import digest_file
from llmforge.runtime.manifest import write_manifest
from llmforge.tokens.folder import FACTS_FILE, TokenFolder
from llmforge.tokens.loader import ValidWindows, WindowBatches
from llmforge.tokens.selection import SelectedDocuments, select

Documents = Callable[..., list[Document]]
WriteTokens = Callable[..., TokenFolder]
LABELS = ("sea", "court", None, "sea", 5)


def labelled(rows: list[Document]) -> list[Document]:
    """A label for some: none for others, and one that is no text."""
    for number, row in enumerate(rows):
        label = LABELS[number % len(LABELS)]
        row.metadata = {"file": "f", **({} if label is None else {"label": label})}
    return rows


@pytest.fixture(scope="module")
def mixed(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path, documents: Documents, write_tokens: WriteTokens
) -> TokenFolder:
    place = tmp_path_factory.mktemp("labels") / "tokens"
    splits = {"train": labelled(documents(120)), "valid": labelled(documents(25, 7000))}
    return write_tokens(place, tokenizer_folder, splits)


def test_each_document_keeps_its_label(mixed: TokenFolder) -> None:
    assert mixed.label_names == ["", "sea", "court"]
    split = mixed.split("train")
    wanted = [label if isinstance(label, str) else "" for label in LABELS] * 24
    assert [split.document(number).label for number in range(120)] == wanted
    assert [split.label_names[at] for at in split.document_labels] == wanted


def test_the_bytes_do_not_depend_on_the_workers(
    tmp_path: Path, tokenizer_folder: Path, documents: Documents, write_tokens: WriteTokens
) -> None:
    folders = [
        write_tokens(tmp_path / str(workers), tokenizer_folder, {"train": labelled(documents(60))}, workers).path
        for workers in (1, 2)
    ]
    names = [FACTS_FILE, *(path.name for path in folders[0].glob("train-*"))]
    assert [digest_file(folders[0] / name) for name in names] == [digest_file(folders[1] / name) for name in names]


@pytest.mark.parametrize("labels", [["sea"], ["court", "sea"], [""], ["court"]], ids=str)
def test_a_selection_is_its_documents_in_their_order(mixed: TokenFolder, labels: list[str]) -> None:
    split = mixed.split("train")
    chosen = select(split, labels)
    wanted = [found for found in map(split.document, range(120)) if found.label in labels]
    assert chosen.num_documents == len(wanted)
    ids = [split.stream(found.start, found.length).tolist() for found in wanted]
    whole = chosen.stream(0, chosen.num_tokens + 9).tolist()
    assert whole == [number for document in ids for number in document]
    for number, found in enumerate(wanted):
        mine = chosen.document(number)
        assert (mine.id, mine.source, mine.label, mine.length) == (found.id, found.source, found.label, found.length)
        assert chosen.stream(mine.start, mine.length).tolist() == ids[number]
        assert chosen.document_at(mine.start) == number == chosen.document_at(mine.start + mine.length - 1)
    assert chosen.token_bytes_total == sum(found.text_bytes for found in wanted)
    assert [chosen.source_names[at] for at in chosen.document_sources] == [found.source for found in wanted]


@settings(deadline=None, max_examples=60)
@given(chosen=st.sets(st.integers(0, 119), min_size=1), start=st.integers(0, 9000), count=st.integers(0, 3000))
def test_any_piece_of_any_selection(mixed: TokenFolder, chosen: set[int], start: int, count: int) -> None:
    split = mixed.split("train")
    picked = SelectedDocuments(split, np.asarray(sorted(chosen)))
    found = [split.document(number) for number in sorted(chosen)]
    whole = [int(token) for one in found for token in split.stream(one.start, one.length)]
    assert picked.stream(start, count).tolist() == whole[start : start + count]


def test_batches_of_a_label_hold_its_documents_alone_and_follow_from_seed_and_step(mixed: TokenFolder) -> None:
    split = mixed.split("train")
    sources = [(select(split, ["sea"]), 3.0, None), (select(split, ["court"]), 1.0, None)]
    plan, again = WindowBatches(sources, 32, 8, 4, True), WindowBatches(sources, 32, 8, 4, True)
    labels: list[str] = []
    for step in (7, 0, 3):
        assert torch.equal(plan.batches(step).input_ids, again.batches(step).input_ids)
        spans = plan.trace(step)
        rows = [{span.document.label for span in spans if span.row == row} for row in range(8)]
        assert all(len(row) == 1 for row in rows)
        labels += [row.pop() for row in rows]
    assert (labels.count("sea"), labels.count("court")) == (18, 6)


def test_validation_on_a_label_predicts_each_of_its_tokens_once(mixed: TokenFolder) -> None:
    chosen = select(mixed.split("valid"), ["sea"])
    windows = ValidWindows(chosen, 40, 3, bos_id=1)
    predicted = [label for batch in windows for label in batch.labels.flatten().tolist() if label != -100]
    assert predicted == [token for token in chosen.stream(0, chosen.num_tokens).tolist() if token != 1]


def test_a_label_that_no_document_has(mixed: TokenFolder, tokens: TokenFolder) -> None:
    with pytest.raises(DataError, match="of the split `train` is labelled maths: its labels are court, sea"):
        select(mixed.split("train"), ["maths"])
    with pytest.raises(DataError, match="is labelled maths or law: none has a label"):
        select(tokens.split("train"), ["maths", "law"])


def test_shards_of_the_version_without_labels_still_open(mixed: TokenFolder, tmp_path: Path) -> None:
    expected = mixed.split("train")
    for path in sorted(mixed.path.glob("**/*")):
        if path.is_file() and path.name != "manifest.json":
            data = path.read_bytes()
            if path.suffix in (".bin", ".idx"):
                count = struct.unpack_from("<Q", data, 24)[0]
                data = data[:8] + struct.pack("<H", 1) + data[10:]
                if path.suffix == ".idx":
                    labels_at = 64 + 8 * (count + 1) + 8 * count + 8 * (count + 1) + 4 * count
                    data = data[:labels_at] + data[labels_at + 4 * count :]
            if path.name == FACTS_FILE:
                data = json.dumps({key: v for key, v in json.loads(data).items() if key != "labels"}).encode()
            place = tmp_path / "old" / path.relative_to(mixed.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    write_manifest(tmp_path / "old", "tokens", config={})
    old = TokenFolder.open(tmp_path / "old")
    assert old.label_names == [""]
    for number in (0, 60, 119):
        found, new = old.split("train").document(number), expected.document(number)
        assert (found.id, found.start, found.length, found.label) == (new.id, new.start, new.length, "")
