"""Every text comes back, control symbols cannot be typed, and the fast path gives sentencepiece's own ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from llmforge.errors import DamagedError, DataError
from llmforge.tokenizer.special_tokens import CONTROL
from llmforge.tokenizer.tokenizer import Tokenizer

RELAXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PIECES = [
    "<s>",
    "<|user|>",
    "<|end|>",
    "\u2581",
    "\uf8d0",
    "\uf8d1",
    "\u2585",
    "\0",
    " ",
    "  ",
    "\n",
    "\t",
    "-",
    "ab",
    "é",
    "日",
]


def _special(tokenizer: Tokenizer) -> set[int]:
    return set(tokenizer.special_ids.values())


def _check(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert not _special(tokenizer) & set(ids)
    assert all(0 <= number < tokenizer.vocab_size for number in ids)
    stream = tokenizer.stream()
    assert "".join(stream.push(number) for number in ids) + stream.finish() == text


@RELAXED
@given(text=ANY_TEXT)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    _check(tokenizer, text)


@RELAXED
@given(parts=st.lists(st.sampled_from(PIECES), max_size=20), times=st.integers(1, 30))
def test_hard_pieces_in_any_order_come_back(tokenizer: Tokenizer, parts: list[str], times: int) -> None:
    _check(tokenizer, "".join(parts))
    _check(tokenizer, "".join(parts[:4]) * times)


def test_nasty_strings_come_back(tokenizer: Tokenizer, nasty: list[str], texts: list[str]) -> None:
    for text in nasty + texts[300:]:
        _check(tokenizer, text)


@pytest.mark.parametrize("text", ["\ud800", "ab\udfffc", "x" * 10 + "\udc80 end"])
def test_half_a_surrogate_pair_is_refused_with_its_place(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(DataError, match=r"U\+D[0-9A-F]{3} at character \d+"):
        tokenizer.encode(text)


def test_ids_are_those_of_sentencepiece_itself(
    tokenizer: Tokenizer, folder: Path, texts: list[str], nasty: list[str]
) -> None:
    own = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    compared = [text for text in texts + nasty if "\u2581" not in text] + [
        "".join(texts[300:]),
        "".join(texts[300:]).replace(" ", ""),
    ]
    for text in compared:
        assert tokenizer.encode(text) == own.encode(text)


@RELAXED
@given(parts=st.lists(st.sampled_from([p for p in PIECES if p != "\u2581"]), max_size=30), times=st.integers(1, 400))
def test_runs_and_long_words_are_cut_without_changing_an_id(
    tokenizer: Tokenizer, folder: Path, parts: list[str], times: int
) -> None:
    text = "".join(parts) * times
    assert tokenizer.encode(text) == SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).encode(text)


def test_control_symbols_have_their_fixed_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.special_ids == {name: number for number, name in enumerate([*CONTROL, "<|think|>"])}
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 2, 3)
    assert tokenizer.stop_ids == {2, 8}
    assert tokenizer.encode_prompt("a") == [1, *tokenizer.encode("a")]
    assert tokenizer.vocab_size == 1500 and tokenizer.decode([1, 5, 8], skip_special=False) == "<s><|user|><|end|>"
    assert tokenizer.decode([1, 5, 8]) == ""


def test_ids_beyond_the_vocabulary_have_no_text_and_negative_ones_are_refused(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("word")
    assert tokenizer.decode([*ids, 1500, 5000]) == "word" and tokenizer.decode_bytes([1500]) == b""
    assert tokenizer.stream().push(5000) == ""
    with pytest.raises(DataError, match="negative"):
        tokenizer.decode([-1])


def test_the_stream_never_shows_half_a_character(tokenizer: Tokenizer) -> None:
    stream = tokenizer.stream()
    shown = [stream.push(number) for number in tokenizer.encode("日👍é")]
    assert all("\ufffd" not in piece for piece in shown) and "".join(shown) == "日👍é"
    for number in tokenizer.encode("👍")[:2]:
        assert stream.push(number) == ""
    assert stream.finish() == "\ufffd"


def test_what_is_no_tokenizer_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        Tokenizer.load(tmp_path / "missing")
    with pytest.raises(DataError, match="no tokenizer here"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\xff\xff\xff\xff\x0fhostile")
    with pytest.raises(DamagedError, match=r"tokenizer\.model"):
        Tokenizer.load(tmp_path)
    model = (folder / "tokenizer.model").read_bytes()
    piece = Tokenizer.load(folder).token_bytes[400]
    assert model.count(b"\x0a" + bytes([len(piece)]) + piece) == 1
    broken = model.replace(b"\x0a" + bytes([len(piece)]) + piece, b"\x0a" + bytes([len(piece)]) + b"\xff" * len(piece))
    (tmp_path / "tokenizer.model").write_bytes(broken)
    with pytest.raises(DamagedError, match=r"tokenizer\.model"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    huge = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 2**32 - 1}, "merges": []}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(huge))
    with pytest.raises(DamagedError, match="beyond any real vocabulary"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DamagedError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)
