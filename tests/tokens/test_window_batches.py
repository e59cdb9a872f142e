"""Batches: a pure function of seed and step, every window once an epoch, every valid token predicted exactly once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmforge.errors import DataError
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokens.batch import IGNORED, Batch
from llmforge.tokens.folder import TokenFolder, TokenSplit
from llmforge.tokens.loader import ValidWindows, WindowBatches
from llmforge.tokens.run_rows import RunSource

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@pytest.fixture(scope="module")
def train(tokens: TokenFolder) -> TokenSplit:
    return tokens.split("train")


@pytest.fixture(scope="module")
def valid(tokens: TokenFolder) -> TokenSplit:
    return tokens.split("valid")


def _rows(batch: Batch) -> list[tuple[int, ...]]:
    return [tuple(row) for row in batch.input_ids.tolist()]


def _same(a: Batch, b: Batch) -> bool:
    pairs = [
        (a.input_ids, b.input_ids),
        (a.labels, b.labels),
        (a.document_ids, b.document_ids),
        (a.positions, b.positions),
    ]
    return all((x is None and y is None) or torch.equal(x, y) for x, y in pairs)


@RELAXED
@given(seed=st.integers(0, 2**31), steps=st.lists(st.integers(0, 200), min_size=1, max_size=6), mask=st.booleans())
def test_a_batch_depends_on_seed_and_step_only(train: TokenSplit, seed: int, steps: list[int], mask: bool) -> None:
    used = WindowBatches([RunSource(train)], 32, 6, seed, mask)
    for step in steps:
        fresh = WindowBatches([RunSource(train)], 32, 6, seed, mask)
        assert _same(used.batches(step), fresh.batches(step))


@RELAXED
@given(rows=st.integers(1, 20), seq_len=st.sampled_from([16, 33, 64]))
def test_any_batch_size_gives_the_same_stream(train: TokenSplit, rows: int, seq_len: int) -> None:
    sources = [RunSource(train)]
    single = WindowBatches(sources, seq_len, 1, 5)
    wide = WindowBatches(sources, seq_len, rows, 5)
    stream = [row for step in range(3) for row in _rows(wide.batches(step))]
    assert stream == [_rows(single.batches(step))[0] for step in range(3 * rows)]


def test_micro_batches_are_slices(train: TokenSplit) -> None:
    batch = WindowBatches([RunSource(train)], 32, 7, 0, True).batches(3)
    parts = [batch.rows(0, 2), batch.rows(2, 3), batch.rows(3, 7)]
    assert sum(part.num_trained for part in parts) == batch.num_trained
    assert [row for part in parts for row in _rows(part)] == _rows(batch)
    assert _same(batch.to("cpu"), batch) and parts[0].num_rows == 2


def test_an_epoch_serves_each_window_once_and_the_next_in_another_order(train: TokenSplit) -> None:
    plan = WindowBatches([RunSource(train)], 32, 1, 3)
    count = plan.num_windows
    assert count == (train.num_tokens - 1) // 32
    whole = train.stream(0, train.num_tokens)
    epochs = []
    for epoch in range(2):
        found = [_rows(plan.batches(step))[0] for step in range(epoch * count, (epoch + 1) * count)]
        shift = next(
            s for s in range(32) if set(found) == {tuple(whole[s + 32 * n : s + 32 * n + 32]) for n in range(count)}
        )
        assert 0 <= shift < 32
        epochs.append(found)
    assert epochs[0] != epochs[1] and plan.epoch(count) == 1.0 and plan.max_steps is None


def test_labels_are_the_next_tokens(train: TokenSplit) -> None:
    batch = WindowBatches([RunSource(train)], 32, 8, 1).batches(0)
    assert torch.equal(batch.input_ids[:, 1:], batch.labels[:, :-1])
    assert batch.document_ids is None and batch.num_trained == 8 * 32
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64


def test_the_document_mask_restarts_positions_and_hides_what_cannot_be_foreseen(train: TokenSplit) -> None:
    batch = WindowBatches([RunSource(train)], 64, 16, 1, True).batches(2)
    assert batch.document_ids is not None and batch.positions is not None
    assert batch.document_ids.dtype == torch.int32 and batch.positions.dtype == torch.int64
    for row in range(16):
        document, position = 0, 0
        for at, token in enumerate(batch.input_ids[row].tolist()):
            if token == 1 and at > 0:
                document, position = document + 1, 0
            assert (batch.document_ids[row, at], batch.positions[row, at]) == (document, position)
            position += 1
        following = [*batch.input_ids[row, 1:].tolist(), None]
        for at, label in enumerate(batch.labels[row].tolist()[:-1]):
            assert label == (IGNORED if following[at] == 1 else following[at])
        assert batch.labels[row, -1] != 1


def test_the_trace_tells_the_documents_of_a_step(tokens: TokenFolder, train: TokenSplit) -> None:
    tokenizer = Tokenizer.load(tokens.tokenizer_folder)
    plan = WindowBatches([RunSource(train)], 50, 4, 9)
    batch, spans = plan.batches(5), plan.trace(5)
    texts = {document.id: document for document in (train.document(n) for n in range(train.num_documents))}
    for row in range(4):
        ids: list[int] = []
        for span in (span for span in spans if span.row == row):
            assert texts[span.document.id] == span.document
            ids += train.stream(span.document.start + span.start, span.length).tolist()
        assert ids == batch.input_ids[row].tolist()
        assert tokenizer.decode(ids) == tokenizer.decode(batch.input_ids[row].tolist())


@pytest.mark.parametrize("seq_len", [7, 32, 5000])
@pytest.mark.parametrize("mask", [False, True])
def test_every_valid_token_is_predicted_exactly_once(
    tokens: TokenFolder, valid: TokenSplit, seq_len: int, mask: bool
) -> None:
    tokenizer = Tokenizer.load(tokens.tokenizer_folder)
    windows = ValidWindows(valid, seq_len, 3, document_mask=mask, bos_id=1, token_bytes=tokenizer.token_bytes)
    predicted = [label for batch in windows for label in batch.labels.flatten().tolist() if label != IGNORED]
    whole = valid.stream(0, valid.num_tokens).tolist()
    assert predicted == [token for token in whole if token != 1]
    assert windows.num_bytes == valid.token_bytes_total == len(tokenizer.decode_bytes(predicted))
    assert len(list(windows)) == len(windows)
    expected = Counter[str]()
    for number in range(valid.num_documents):
        expected[valid.document(number).source] += valid.document(number).text_bytes
    assert windows.bytes_by_source == dict(expected)


def test_each_valid_label_knows_its_source(tokens: TokenFolder, valid: TokenSplit) -> None:
    windows = ValidWindows(valid, 40, 4, bos_id=1)
    found = Counter[str]()
    for batch, sources in windows.with_sources():
        assert sources.shape == tuple(batch.labels.shape)
        kept = sources[batch.labels.numpy() != IGNORED]
        found.update({windows.source_names[n]: int(c) for n, c in enumerate(np.bincount(kept)) if c})
    expected = Counter[str]()
    for number in range(valid.num_documents):
        expected[valid.document(number).source] += valid.document(number).length - 1
    assert found == expected


def test_without_a_bos_symbol_only_the_first_token_is_left_out(valid: TokenSplit) -> None:
    windows = ValidWindows(valid, 32, 2)
    assert sum(batch.num_trained for batch in windows) == valid.num_tokens - 1


def test_a_part_of_a_long_validation_is_spread_evenly(valid: TokenSplit) -> None:
    windows = ValidWindows(valid, 16, 4, max_tokens=320)
    rows = [row for batch in windows for row in _rows(batch)]
    assert len(rows) == 20 == len(set(rows))
    whole = valid.stream(0, valid.num_tokens).tolist()
    assert any(tuple(whole[at : at + 16]) in rows for at in range(valid.num_tokens * 3 // 4, valid.num_tokens))


def test_too_little_text_says_both_numbers(train: TokenSplit) -> None:
    with pytest.raises(DataError, match=rf"{train.num_tokens:,} tokens are fewer than one window of seq_len 100000"):
        WindowBatches([RunSource(train)], 100_000, 1, 0)


def test_sources_are_mixed_by_weight_and_repeated_no_more_than_allowed(train: TokenSplit, valid: TokenSplit) -> None:
    plan = WindowBatches([RunSource(train, 3.0, 1.0), RunSource(valid, 1.0, 2.0)], 32, 4, 0)
    steps = plan.max_steps
    assert steps == (((train.num_tokens - 1) // 32) + 2 * ((valid.num_tokens - 1) // 32)) // 4
    names = [span.document.id for step in range(4) for span in plan.trace(step)]
    assert any(name.startswith("doc-7000") for name in names) and any(name.startswith("doc-0") for name in names)
    plan.batches(steps - 1)
    with pytest.raises(DataError, match="max_repetition"):
        plan.batches(steps + 1)
