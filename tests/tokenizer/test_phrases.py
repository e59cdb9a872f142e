"""Phrases: learned where words stand together, and merged over ids exactly as sentencepiece would."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from llmforge.errors import DamagedError, DataError
from llmforge.tokenizer.fast_words import FastWords
from llmforge.tokenizer.phrase_training import GAP, learn_phrases
from llmforge.tokenizer.phrases import PhraseMerger, borders, is_mergeable, is_phrase, parts
from llmforge.tokenizer.sentencepiece_backend import SentencePieceBackend
from llmforge.tokenizer.sentencepiece_model import append_pieces
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokenizer.train import phrase_room, train_tokenizer

WORDS = ["", " a", " b", " c", " d", ",", " e"]


def _one_by_one(ids: list[int], merger_phrases: list[str], texts: dict[int, str]) -> list[int]:
    """The plain way: the best-ranked pair of the whole list first, leftmost of equals."""
    number = {text: at for at, text in texts.items()}
    rank = {text: at for at, text in enumerate(merger_phrases)}
    ids = list(ids)
    while True:
        pairs = [
            (rank[joined], at)
            for at in range(len(ids) - 1)
            if (joined := texts.get(ids[at], "\0") + texts.get(ids[at + 1], "\0")) in rank
        ]
        if not pairs:
            return ids
        best, at = min(pairs)
        ids[at : at + 2] = [number[merger_phrases[best]]]


PHRASES = [" a b", " c d", " b c", ", a", " a b c", " d e", " c d e", ", a b", " b d", " d c", " e a", " c a", " a d"]
TEXTS = dict(enumerate([*WORDS, *PHRASES]))
del TEXTS[0]


@given(st.lists(st.integers(0, len(WORDS) - 1), max_size=60), st.permutations(PHRASES))
def test_merging_everywhere_at_once_is_merging_the_best_first(ids: list[int], order: list[str]) -> None:
    # A phrase of three parts is always learned after the two that it is made of.
    order.sort(key=lambda text: len(parts(text)))
    ranked = [next(at for at, text in TEXTS.items() if text == phrase) for phrase in order]
    merger = PhraseMerger(TEXTS, ranked, len(WORDS) + len(PHRASES))
    given_ids = np.array(ids, dtype=np.uint32)
    assert merger.merge(given_ids).tolist() == _one_by_one(ids, order, TEXTS)
    assert given_ids.tolist() == ids


def test_word_borders() -> None:
    assert borders(" of the") == [3] and parts("\n    if  x") == ["\n", "    if", "  x"]
    assert not is_phrase("   of") and not is_phrase(",\n\n") and is_phrase("a ")
    assert is_mergeable(" one of the") and not is_mergeable(" a b a") and not is_mergeable(" a b c d")


def test_the_most_frequent_neighbours_become_phrases() -> None:
    pieces = ["", " of", " the", "se", " 7", " x", "ab"]
    row = [1, 2, GAP] * 50 + [1, 2, 3] * 70 + [4, 2] * 90 + [6, 5, GAP] * 30 + [5, 1, 2, GAP] * 25
    assert learn_phrases(np.array(row, dtype=np.uint32), pieces, 9) == [" of the", "ab x", " x of the"]
    assert learn_phrases(np.array(row, dtype=np.uint32), pieces, 1) == [" of the"]
    assert learn_phrases(np.array([GAP, 1, 2], dtype=np.uint32), pieces, 3) == []


def test_a_trained_vocabulary_has_phrases_behind_all_other_pieces(tokenizer: Tokenizer) -> None:
    texts = [piece.decode("utf-8", "replace") for piece in tokenizer.token_bytes]
    found = [number for number, text in enumerate(texts) if number >= 266 and is_phrase(text)]
    assert len(found) == phrase_room(TokenizerSettings(vocab_size=1500, phrase_share=0.09)) == 42
    assert found == list(range(1500 - 42, 1500))
    assert not any(sign.isdigit() for number in found for sign in texts[number])
    assert phrase_room(TokenizerSettings(vocab_size=900)) == 0


def test_phrases_in_any_order_have_the_ids_of_sentencepiece(tokenizer: Tokenizer, folder: Path) -> None:
    own = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    texts = [piece.decode("utf-8", "replace") for piece in tokenizer.token_bytes[266:]]
    phrases = texts[-42:]
    words = [part for phrase in phrases for part in parts(phrase)]
    rng = random.Random(0)
    for _ in range(3000):
        pool = rng.choice([phrases, words, texts, rng.sample(words, 4)])
        text = "".join(rng.choice(pool) for _ in range(rng.randint(1, 30))) * rng.choice([1, 1, 3])
        if "\ufffd" not in text:
            assert tokenizer.encode(text) == own.encode(text), repr(text)


def test_too_few_phrases_leave_their_ids_to_words(tmp_path: Path, texts: list[str]) -> None:
    settings = TokenizerSettings(vocab_size=1400, phrase_share=0.5)
    train_tokenizer(texts[:150], tmp_path / "t", settings)
    made = Tokenizer.load(tmp_path / "t")
    found = [piece for piece in made.token_bytes[266:] if is_phrase(piece.decode("utf-8", "replace"))]
    assert made.vocab_size == 1400 and 0 < len(found) < phrase_room(settings)


def test_documents_of_a_batch_are_those_encoded_alone(tokenizer: Tokenizer, texts: list[str], nasty: list[str]) -> None:
    documents = texts + nasty + ["<s> and <|user|>", "\u2581"] + texts + ["x of the y " * 50_000] + texts
    ids, lengths = tokenizer.encode_documents(documents)
    alone = [[1, *tokenizer.encode(text), 2] for text in documents]
    assert ids.tolist() == [number for row in alone for number in row] and lengths.tolist() == list(map(len, alone))
    assert ids.dtype == np.uint32 and tokenizer.encode_documents([])[1].tolist() == []
    with pytest.raises(DataError, match="document two: U\\+D800"):
        tokenizer.encode_documents(["fine", "a\ud800"], names=["one", "two"])


def test_pieces_over_words_that_are_not_llmforges_are_refused(folder: Path) -> None:
    model = append_pieces((folder / "tokenizer.model").read_bytes(), [" a b c d e"])
    with pytest.raises(DamagedError, match="across words"):
        SentencePieceBackend.of_model(model)


def test_a_faster_encoder_is_used_only_when_its_ids_are_equal(
    tokenizer: Tokenizer, folder: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gigatoken")
    backend = SentencePieceBackend(folder)
    assert backend._fast is not None and not backend._fast.usable("a</s>") and backend._fast.usable("a < b")
    fast = backend.encode_documents(texts)[0].tolist()
    monkeypatch.setattr(FastWords, "encode", lambda self, texts: (np.zeros(1, np.uint32), np.ones(1, np.int64)))
    plain = SentencePieceBackend(folder)
    assert plain._fast is None and plain.encode_documents(texts)[0].tolist() == fast
    monkeypatch.setattr(FastWords, "encode", lambda self, texts: self.no_such_layout)
    assert SentencePieceBackend(folder)._fast is None
