"""Training: reproducible, nothing dropped, and clear answers when the text cannot give the vocabulary."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llmforge.errors import DataError
from llmforge.tokenizer.sample import fractions, sample, sizes_by_source
from llmforge.tokenizer.sentencepiece_model import replace_in_pieces
from llmforge.tokenizer.settings import MIN_VOCAB, TokenizerSettings
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokenizer.train import chunks, train_tokenizer

CAT = "the cat sat on the mat and the dog ran\n\tto the other mat\n\n"


@dataclass
class Doc:
    id: str
    text: str
    source: str


def _train(folder: Path, texts: list[str], vocab_size: int) -> Tokenizer:
    train_tokenizer(texts, folder, TokenizerSettings(vocab_size=vocab_size))
    return Tokenizer.load(folder)


def test_the_same_text_gives_the_same_bytes(tmp_path: Path, texts: list[str]) -> None:
    for name in ("a", "b"):
        _train(tmp_path / name, texts[:100], 500)
    for file in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_table_of_bytes_adds_up_to_the_text(tokenizer: Tokenizer, folder: Path, texts: list[str]) -> None:
    table = json.loads((folder / "bytes_per_id.json").read_text())
    assert len(table) == tokenizer.vocab_size and all(table[number] == 0 for number in tokenizer.special_ids.values())
    for text in (*texts[300:], "\u2581 日\0"):
        assert sum(table[number] for number in tokenizer.encode(text)) == len(text.encode())


def test_pieces_hold_newlines_and_tabs_and_no_stand_in(tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert any(b"\n" in piece and len(piece) > 1 for piece in tokenizer.token_bytes)
    tabs = _train(tmp_path, ["if x:\n\t\treturn y\n\n" * 50], 300)
    assert any(b"\t" in piece and len(piece) > 1 for piece in tabs.token_bytes)
    for table in (tokenizer.token_bytes, tabs.token_bytes):
        assert not any("\uf8d0".encode() in piece or "\uf8d1".encode() in piece for piece in table)


def test_stand_ins_reserved_characters_and_nul_in_the_text_lose_nothing(tmp_path: Path) -> None:
    text = "\uf8d0\uf8d1 \u2581\u2585\0 " + CAT * 20 + "\uf8d0\n\u2581x"
    made = _train(tmp_path, [text], 300)
    assert made.decode(made.encode(text)) == text
    assert len(made.encode("the cat")) <= 3


def test_long_lines_are_not_dropped(tmp_path: Path) -> None:
    line = "pineapple " * 20_000 + "q" * 5_000  # one line of 205 KB
    made = _train(tmp_path, [line], 287)
    assert len(made.encode(" pineapple")) == 1 and b"qqqq" in b"".join(made.token_bytes)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=6000), st.integers(1, 3))
def test_chunks_hold_all_of_the_text(text: str, times: int) -> None:
    whole = text * times
    kept = "".join(chunks(whole))
    expected = "".join(sign for sign in whole if sign not in "\u2581\u2585\0\uf8d0\uf8d1")
    assert kept.replace("\uf8d0", "\n").replace("\uf8d1", "\t") == expected
    assert all(0 < len(chunk) <= 1700 for chunk in chunks(whole))


@pytest.mark.parametrize(
    ("texts_", "vocab_size", "words"),
    [
        ([], 300, "no text"),
        (["", ""], 300, "no text"),
        (["\0"], 300, "no text"),
        (["a"], 300, "no more than 266 pieces, vocab_size is 300"),
        ([CAT], 100_000, "set vocab_size to"),
        ([CAT], 270, "no room"),
    ],
)
def test_a_vocabulary_that_does_not_fit_the_text(
    tmp_path: Path, texts_: list[str], vocab_size: int, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        _train(tmp_path / "made", texts_, vocab_size)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("vocab_size", [3_000, 30_000])
def test_the_size_that_the_line_names_fits(tmp_path: Path, vocab_size: int) -> None:
    texts = [f"{CAT} {number * 7919} " * 3 for number in range(60)]
    with pytest.raises(DataError) as refused:
        _train(tmp_path / "made", texts, vocab_size)
    most = int(str(refused.value.hint).partition("set vocab_size to at most ")[2].partition(",")[0])
    assert _train(tmp_path / "made", texts, most).vocab_size == most < vocab_size


def test_one_character_is_enough_for_the_smallest_vocabulary(tmp_path: Path) -> None:
    made = _train(tmp_path, ["a" * 5], 266)
    assert made.decode(made.encode("abc")) == "abc"


@pytest.mark.parametrize(
    "keys",
    [
        {"vocab_size": 255},
        {"vocab_size": 2**31},
        {"special_tokens": ["plain"]},
        {"special_tokens": ["<|user|>"]},
        {"special_tokens": ["<|a|>", "<|a|>"]},
        {"sample_bytes": 0},
    ],
)
def test_settings_that_cannot_work_are_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TokenizerSettings.model_validate(keys)


def test_only_normal_pieces_are_rewritten(folder: Path) -> None:
    model = (folder / "tokenizer.model").read_bytes()
    assert replace_in_pieces(model, {}) == model
    changed = replace_in_pieces(model, {"<": "!", "u": "\u1234"})
    assert b"<|user|>" in changed and b"<unk>" in changed and b"<0x0A>" in changed
    assert replace_in_pieces(changed, {"!": "<", "\u1234": "u"}).count(b"<") >= model.count(b"<")


def test_each_source_gives_the_same_amount() -> None:
    taken = fractions({"small": 100, "middle": 1000, "large": 100_000}, 1500)
    assert taken["small"] == 1.0
    assert taken["middle"] == pytest.approx(0.7) and taken["large"] == pytest.approx(0.007)
    assert fractions({"a": 5, "b": 7}, 100) == {"a": 1.0, "b": 1.0}
    assert fractions({"empty": 0}, 10) == {}


def test_the_sample_is_spread_stable_and_within_its_budget() -> None:
    letters: Callable[[int], str] = lambda number: f"word{number} " * 20_000  # noqa: E731
    documents = [Doc(f"d{number}", letters(number), "long") for number in range(30)]
    documents += [Doc(f"s{number}", "short text", "short") for number in range(30)]
    sizes = sizes_by_source(documents)
    taken = fractions(sizes, 1_000_000)
    parts = list(sample(documents, taken))
    assert parts == list(sample(documents, taken))
    assert sorted(parts) == sorted(sample(reversed(documents), taken))
    assert parts.count("short text") == 30
    assert 500_000 < sum(map(len, parts)) < 1_500_000
    assert len({part.split()[1] for part in parts if part != "short text"}) > 15


def test_characters_are_the_whole_alphabet_and_one_id_each(tmp_path: Path) -> None:
    text = "the cat\n\tsat — 日本" * 30 + "é"
    made = tmp_path / "made"
    train_tokenizer([text], made, TokenizerSettings(model_type="char"))
    tokenizer = Tokenizer.load(made)
    assert len(tokenizer.encode(text)) == len(text) and tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == MIN_VOCAB - 1 + len(set(text))
    assert tokenizer.decode(tokenizer.encode("ünknown")) == "ünknown"
    library = tokenizers.Tokenizer.from_file(str(made / "tokenizer.json"))
    assert library.encode(text + "ü", add_special_tokens=False).ids == tokenizer.encode(text + "ü")


def test_an_alphabet_too_large_keeps_the_commonest(tmp_path: Path) -> None:
    train_tokenizer(["aaabbc" * 9], tmp_path, TokenizerSettings(model_type="char", vocab_size=MIN_VOCAB + 1))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.token_bytes[-2:] == [b"a", b"b"] and tokenizer.decode(tokenizer.encode("abc")) == "abc"


def test_a_budget_of_less_than_a_span_still_gives_text() -> None:
    documents = [Doc(f"d{number}", f"word{number} " * 400_000, f"s{number}") for number in range(40)]
    parts = list(sample(documents, fractions(sizes_by_source(documents), 40)))
    assert {part.split()[0] for part in parts} == {f"word{number}" for number in range(40)}
    assert max(map(len, parts)) < 40_000
