"""Rows of a run: layouts, packing, exact bookkeeping of a staged mixture against a slow walk, and the way back."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmforge.errors import DataError
from llmforge.finetune.packing import pack
from llmforge.tokens.batch import IGNORED
from llmforge.tokens.best_fit import best_fit
from llmforge.tokens.folder import TokenFolder, TokenSplit
from llmforge.tokens.layout import Packing
from llmforge.tokens.loader import WindowBatches
from llmforge.tokens.mixture_notes import check, notes
from llmforge.tokens.run_rows import Mixing, RunRows, RunSource, StagedWeights, TracedSpan

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
PACKINGS: tuple[Packing, ...] = ("concatenate", "best_fit")


@pytest.fixture(scope="module")
def splits(tokens: TokenFolder) -> tuple[TokenSplit, TokenSplit]:
    return tokens.split("train"), tokens.split("valid")


def staged(splits: tuple[TokenSplit, TokenSplit], packing: Packing, seq_len: int = 32, rows: int = 4) -> RunRows:
    """Two sources at 3:1, only the first from step 6 on, 1:2 from step 9 on; the second comes twice at most."""
    sources = [RunSource(splits[0], 3.0, None, "big"), RunSource(splits[1], 1.0, 2.0, "small")]
    stages = (StagedWeights(6, (1.0, 0.0)), StagedWeights(9, (1.0, 2.0)))
    return RunRows(sources, seq_len, rows, 7, Mixing(packing, stages))


@settings(deadline=None, max_examples=80)
@given(lengths=st.lists(st.integers(1, 24), min_size=1, max_size=60), seed=st.integers(0, 99))
def test_best_fit_fills_as_piece_by_piece(lengths: list[int], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(lengths))
    rows = best_fit(np.asarray(lengths), 24, order)
    sums = np.bincount(rows, np.asarray(lengths, dtype=float))
    expected = [sum(lengths[at] for at in row) for row in pack(lengths, 24)]
    assert sorted(sums.astype(int).tolist()) == sorted(expected)


@RELAXED
@given(seq_len=st.integers(2, 90), seed=st.integers(0, 50), epoch=st.integers(0, 2))
def test_packed_rows_predict_every_token_but_the_first_of_a_document_once(
    splits: tuple[TokenSplit, TokenSplit], seq_len: int, seed: int, epoch: int
) -> None:
    split = splits[1]
    plan = WindowBatches([RunSource(split)], seq_len, 1, seed, True, Mixing("best_fit"))
    steps = range(epoch * plan.num_windows, (epoch + 1) * plan.num_windows)
    predicted = Counter(int(i) for step in steps for i in plan(step).labels.flatten() if i != IGNORED)
    first = set(split.starts[:-1].tolist())
    whole = split.stream(0, split.num_tokens).tolist()
    assert predicted == Counter(token for at, token in enumerate(whole) if at not in first)


def test_packed_rows_keep_documents_apart(splits: tuple[TokenSplit, TokenSplit]) -> None:
    plan = WindowBatches([RunSource(splits[0])], 200, 6, 1, True, Mixing("best_fit"))
    open_plan = WindowBatches([RunSource(splits[0])], 200, 6, 1, False, Mixing("best_fit"))
    seen_joint = False
    for step in range(4):
        batch, spans = plan(step), plan.trace(step)
        assert batch.document_ids is not None and batch.positions is not None
        assert torch.equal(batch.input_ids, open_plan(step).input_ids)
        assert torch.equal(batch.labels, open_plan(step).labels)
        for number, row in enumerate(plan.rows.step(step)):
            column = 0
            for _, count in row.pieces:
                inside = slice(column, min(column + count, 200))
                assert len(set(batch.document_ids[number, inside].tolist())) == 1
                assert batch.positions[number, inside].tolist() == list(range(inside.stop - inside.start))
                if column and column <= 200:
                    assert batch.labels[number, column - 1] == IGNORED
                    assert column == 200 or batch.document_ids[number, column] != batch.document_ids[number, column - 1]
                    seen_joint = True
                column += count
            assert (batch.labels[number, max(0, column - 1) :] == IGNORED).all()
            assert sum(span.length for span in spans if span.row == number) == min(column, 200)
    assert seen_joint


def test_the_wasted_share_is_what_is_empty(splits: tuple[TokenSplit, TokenSplit]) -> None:
    layout = RunRows([RunSource(splits[0])], 100, 1, 0, Mixing("best_fit")).layouts[0]
    filled = [sum(count for _, count in layout.row(0, place)) for place in range(layout.num_rows)]
    assert max(filled) <= 101 and layout.wasted == pytest.approx(1 - sum(filled) / (101 * layout.num_rows))
    assert 0 < layout.wasted < 0.1
    longer = np.diff(splits[0].starts) > 101
    assert layout.cut_documents == pytest.approx(longer.mean())
    assert RunRows([RunSource(splits[0])], 100, 1, 0, Mixing()).layouts[0].wasted == 0


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_staged_mixture_serves_exactly_these_documents(
    splits: tuple[TokenSplit, TokenSplit], packing: Packing
) -> None:
    """Counts after N steps against a walk over the traced spans of every step."""
    rows = staged(splits, packing)
    tokens, seen, by_row = Counter[str](), Counter[tuple[str, str]](), Counter[str]()
    for steps in range(1, 40):
        spans = rows.trace(steps - 1)
        for span in spans:
            tokens[span.source] += span.length
        seen.update(_in_rows(spans))
        by_row.update(rows.sources[row.source].name for row in rows.step(steps - 1))
        served = rows.served(steps)
        assert {entry.source: entry.rows for entry in served} == {"big": by_row["big"], "small": by_row["small"]}
        assert {entry.source: entry.tokens for entry in served} == {"big": tokens["big"], "small": tokens["small"]}
        if steps % 13 == 0:
            for number, source in enumerate(rows.sources):
                counts = rows.document_counts(number, steps)
                names = [source.split.document(at).id for at in range(source.split.num_documents)]
                expected = [seen[source.name, name] for name in names]
                assert counts.tolist() == expected


def _in_rows(spans: list[TracedSpan]) -> list[tuple[str, str]]:
    """(source, document) once for each row that it stands in."""
    found = {(span.source, span.document.id, span.row) for span in spans}
    return [(source, name) for source, name, _ in found]


def test_the_stages_are_kept_by_the_step(splits: tuple[TokenSplit, TokenSplit]) -> None:
    rows = staged(splits, "concatenate")
    used = [[entry.rows for entry in rows.served(steps)] for steps in (6, 9, 12)]
    assert used == [[18, 6], [30, 6], [34, 14]]


@pytest.mark.parametrize("packing", PACKINGS)
def test_from_a_document_to_its_steps(splits: tuple[TokenSplit, TokenSplit], packing: Packing) -> None:
    rows, steps = staged(splits, packing, seq_len=48), 60
    expected: dict[tuple[str, str], list[int]] = {}
    for step in range(steps):
        for source, name in _in_rows(rows.trace(step)):
            expected.setdefault((source, name), []).append(step)
    for number, source in enumerate(rows.sources):
        for at in range(source.split.num_documents):
            found = rows.steps_of(number, at, steps)
            assert found == expected.get((source.name, source.split.document(at).id), [])


@RELAXED
@given(rows=st.integers(1, 9), packing=st.sampled_from(PACKINGS), seed=st.integers(0, 9))
def test_any_batch_gives_the_same_rows(
    splits: tuple[TokenSplit, TokenSplit], rows: int, packing: Packing, seed: int
) -> None:
    """Without stages, which begin at steps, the stream of rows is the same for every global batch."""
    sources = [RunSource(splits[0], 2.0, None, "a"), RunSource(splits[1], 1.0, 3.0, "b")]
    wide = RunRows(sources, 40, rows, seed, Mixing(packing))
    single = RunRows(sources, 40, 1, seed, Mixing(packing))
    stream = [row for step in range(4) for row in wide.step(step)]
    assert stream == [single.step(step)[0] for step in range(4 * rows)]


def test_notes_tell_shares_passes_and_what_runs_out(splits: tuple[TokenSplit, TokenSplit]) -> None:
    rows = staged(splits, "concatenate")
    end = next(phase.start for phase in rows.mixture.phases if phase.left == (1,)) // 4
    found = "\n".join(notes(rows, end + 10))
    assert "from step 0: big 75.0%, small 25.0%" in found and "from step 6: big 100.0%" in found
    assert f"small reaches max_repetition 2 at step {end:,}; from there on its rows come from big" in found
    assert "small: " in found and "2.00 passes" in found
    assert "are never used: the run has 5 steps" in "\n".join(notes(rows, 5))
    check(rows, end + 10, "redistribute")
    check(rows, end, "refuse")
    with pytest.raises(DataError, match="small reaches max_repetition 2"):
        check(rows, end + 10, "refuse")
    assert notes(RunRows([RunSource(splits[0])], 32, 4, 0, Mixing()), 100) == []
    assert "positions wasted" in notes(RunRows([RunSource(splits[0])], 32, 4, 0, Mixing("best_fit")), 100)[0]


def test_a_run_beyond_its_data_is_refused_before_it_starts(splits: tuple[TokenSplit, TokenSplit]) -> None:
    rows = RunRows([RunSource(splits[0], 1.0, 1.0)], 32, 4, 0, Mixing())
    assert rows.max_steps is not None
    check(rows, rows.max_steps, "redistribute")
    with pytest.raises(DataError, match=f"max_repetition ends the data after {rows.max_steps}"):
        check(rows, rows.max_steps + 1, "redistribute")
    assert "a longer run fails there" in notes(rows, None)[-1]
    with pytest.raises(DataError, match=r"max_repetition 0.0001 of \d+ rows is not one row"):
        RunRows([RunSource(splits[0], 1.0, 0.0001)], 32, 4, 0, Mixing())
