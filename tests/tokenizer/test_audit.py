"""The audit's measures on vocabularies whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, normalizers, pre_tokenizers

from llmforge.tokenizer.audit import Reading, Share, fuzz, fuzz_texts, handling, pieces, spread, undertrained
from llmforge.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def lossy(tmp_path: Path) -> Tokenizer:
    """Lower case, words only: most texts do not come back; `cat` needs a merge that is not there."""
    vocabulary = {"<unk>": 0, "a": 1, "b": 2, "c": 3, "t": 4, "ab": 5, "cat": 6, "C": 7}
    library = Library(models.BPE(vocabulary, [("a", "b")], unk_token="<unk>"))
    library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.add_special_tokens(["<unk>"])
    library.save(str(tmp_path / "tokenizer.json"))
    return Tokenizer.load(tmp_path)


def test_our_vocabulary_loses_nothing_and_nothing_can_be_typed(tokenizer: Tokenizer) -> None:
    found = fuzz(tokenizer, 300, 0)
    assert found["texts"] == len(list(fuzz_texts(300, 0))) > 300
    assert found["lost"] == 0 and found["typed_control_symbols"] == [] and found["examples"] == []
    assert list(fuzz_texts(20, 1)) == list(fuzz_texts(20, 1)) != list(fuzz_texts(20, 2))


def test_a_lossy_vocabulary_is_told(lossy: Tokenizer) -> None:
    found = fuzz(lossy, 50, 0)
    assert isinstance(found["lost"], int) and found["lost"] > 50 and found["examples"]
    reading = Reading()
    reading.add(lossy, "ab C", "s", None)
    assert reading.lossy_texts == 1 and reading.lost == ["ab C"] and reading.used == {5: 1, 3: 1}
    assert reading.sources["s"].facts() == {
        "documents": 1,
        "bytes": 4,
        "tokens": 2,
        "words": 2,
        "bytes_per_token": 2.0,
        "tokens_per_word": 1.0,
    }


def test_pieces_that_nothing_reaches_or_uses(lossy: Tokenizer) -> None:
    found = pieces(lossy, {1: 3, 5: 1})
    unreachable, unused = found["unreachable"], found["unused"]
    assert isinstance(unreachable, dict) and isinstance(unused, dict)
    assert unreachable == {"count": 2, "examples": [{"id": 6, "text": "cat"}, {"id": 7, "text": "C"}]}
    assert [row["id"] for row in unused["examples"]] == [2, 3, 4, 6, 7] and unused["count"] == 5


def test_numbers_code_and_white_space(tokenizer: Tokenizer) -> None:
    found = handling(tokenizer)
    assert found["one_digit_a_token"] is True
    numbers = found["tokens_of_numbers"]
    assert isinstance(numbers, dict) and numbers["1_digits"] == 1.0 and numbers["6_digits"] == 6.0


def test_rows_that_training_hardly_moved(lossy: Tokenizer) -> None:
    embedding = np.ones((10, 4), dtype=np.float32)
    embedding[6], embedding[2] = 0.1, 0.2
    found = undertrained(lossy, embedding, {2: 5})
    assert found["count"] == 2 and found["median_norm"] == 2.0 and found["below"] == 1.0
    assert found["examples"] == [
        {"id": 6, "text": "cat", "norm": 0.2, "used": 0},
        {"id": 2, "text": "b", "norm": 0.4, "used": 5},
    ]


def test_the_best_and_the_worst_served() -> None:
    shares = {"en": Share(1, 9, 10, 10), "de": Share(1, 9, 25, 10), "none": Share(1, 1, 1, 0)}
    assert spread(shares) == {"best": "en", "worst": "de", "ratio": 2.5}
    assert spread({"en": shares["en"]}) is None


def test_a_vocabulary_that_begins_every_text_with_a_space(tmp_path: Path) -> None:
    """As Llama 2 does: its pieces come alone only behind something, or without the space that is put in front."""
    vocabulary = {"<unk>": 0, "\u2581": 1, "a": 2, "b": 3, "\u2581a": 4, "ab": 5, "cat": 6, "\n": 7}
    library = Library(models.BPE(vocabulary, [("\u2581", "a"), ("a", "b")], unk_token="<unk>"))
    library.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    library.add_special_tokens(["<unk>"])
    library.save(str(tmp_path / "tokenizer.json"))
    found = pieces(Tokenizer.load(tmp_path), {})["unreachable"]
    assert isinstance(found, dict) and [row["text"] for row in found["examples"]] == ["cat"]
