"""Bits per byte against a loop over tokens and against what a uniform model must give."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmforge.corpus.document import Document
from llmforge.corpus.folder import CorpusWriter
from llmforge.errors import DataError
from llmforge.evaluation.perplexity import BitsPerByte, windows_of
from llmforge.evaluation.settings import BitsPerByteTask
from llmforge.evaluation.task import Examinee
from llmforge.model.transformer import Transformer
from llmforge.runtime.manifest import write_manifest

TEXTS = ["Hello.", "Grüße, 世界!", "x", "The quick brown fox jumps over the lazy dog, again and again. " * 3]


def rows(path: Path, texts: list[object]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def quiet(count: int) -> None:
    return


@given(st.integers(0, 300), st.integers(1, 40), st.floats(0, 0.9))
def test_each_token_is_predicted_once_in_order(count: int, length: int, overlap: float) -> None:
    ids = list(range(100, 100 + count))
    windows = list(windows_of(0, ids, 1, length, overlap))
    assert [token for window in windows for token in window.ids[len(window.ids) - window.scored :]] == ids
    for window in windows:
        assert 0 < window.scored < len(window.ids) <= length + 1
        assert window.ids == [1, *ids][([1, *ids].index(window.ids[0])) :][: len(window.ids)]


@pytest.mark.parametrize("row_tokens", [40, 64, 5000])
def test_equal_to_a_loop_over_tokens(
    tmp_path: Path,
    naive: Callable[..., float],
    random_model: Callable[..., Transformer],
    examinee: Callable[..., Examinee],
    row_tokens: int,
) -> None:
    model = random_model(context=64)
    texts = TEXTS[:3]
    asked = examinee(model, row_tokens=row_tokens)
    nats = -sum(naive(model, [1], asked.tokenizer.encode(text)) for text in texts)
    expected = nats / math.log(2) / sum(len(text.encode()) for text in texts)
    score = BitsPerByte(BitsPerByteTask(path=rows(tmp_path / "t.jsonl", texts)), 0).score(asked, quiet)
    assert score.metrics["bits_per_byte"] == pytest.approx(expected, abs=1e-5)
    assert score.metrics["samples"] == 3
    assert score.metrics["bytes"] == score.metrics["tokens"] == sum(len(text.encode()) for text in texts)


def test_long_texts_in_overlapping_windows(
    tmp_path: Path,
    naive: Callable[..., float],
    random_model: Callable[..., Transformer],
    examinee: Callable[..., Examinee],
) -> None:
    model = random_model(context=16)
    asked = examinee(model)
    ids = asked.tokenizer.encode(TEXTS[3])
    whole = [1, *ids]
    nats, done = 0.0, 0
    while done < len(ids):  # 16 inputs at a time, 8 of them seen before
        begin = max(0, done - 8)
        end = min(len(ids), begin + 16)
        nats -= naive(model, whole[begin : done + 1], whole[done + 1 : end + 1])
        done = end
    score = BitsPerByte(BitsPerByteTask(path=rows(tmp_path / "t.jsonl", TEXTS[3:])), 0).score(asked, quiet)
    assert score.metrics["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(ids), abs=1e-5)


def test_a_uniform_model_needs_log2_of_the_vocabulary(
    tmp_path: Path, uniform_model: Callable[[int], object], examinee: Callable[..., Examinee]
) -> None:
    score = BitsPerByte(BitsPerByteTask(path=rows(tmp_path / "t.jsonl", TEXTS)), 0).score(
        examinee(uniform_model(32)), quiet
    )
    assert score.metrics["bits_per_byte"] == pytest.approx(math.log2(265), abs=1e-5)
    assert score.metrics["chance"] == pytest.approx(math.log2(265))
    assert score.metrics["bits_per_byte_stderr"] == pytest.approx(0, abs=1e-5)


def test_reads_the_valid_split_of_a_corpus_folder(
    tmp_path: Path, uniform_model: Callable[[int], object], examinee: Callable[..., Examinee]
) -> None:
    folder = tmp_path / "run" / "corpus"
    folder.mkdir(parents=True)
    with CorpusWriter(folder, 1 << 20) as writer:
        writer.write("train", Document("a", "training text", "s", {}))
        writer.write("valid", Document("b", "held out", "s", {}))
    write_manifest(folder, "corpus", config={})
    for path in (folder, folder.parent):
        score = BitsPerByte(BitsPerByteTask(path=str(path)), 0).score(examinee(uniform_model(32)), quiet)
        assert (score.metrics["samples"], score.metrics["bytes"]) == (1, len("held out"))


def test_a_sample_is_the_same_for_a_seed_and_in_order(tmp_path: Path) -> None:
    path = rows(tmp_path / "t.jsonl", [f"text {number}" for number in range(50)])

    def drawn(seed: int) -> list[str]:
        return [text.text for text in BitsPerByte(BitsPerByteTask(path=path, limit=7), seed)._texts]

    assert drawn(0) == drawn(0) and len(drawn(0)) == 7 and drawn(0) != drawn(1)
    assert drawn(0) == sorted(drawn(0), key=lambda text: int(text.split()[1]))


@pytest.mark.parametrize("value", [None, 5, ["a"], {"a": 1}])
def test_a_row_that_is_no_text(tmp_path: Path, value: object) -> None:
    with pytest.raises(DataError, match="text") as caught:
        BitsPerByte(BitsPerByteTask(path=rows(tmp_path / "t.jsonl", ["good", value])), 0)
    assert caught.value.where == "t.jsonl:2"


def test_no_rows_and_only_empty_ones(tmp_path: Path) -> None:
    for texts in ([], ["", ""]):
        with pytest.raises(DataError):
            BitsPerByte(BitsPerByteTask(path=rows(tmp_path / "t.jsonl", list(texts))), 0)
