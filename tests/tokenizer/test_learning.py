"""sentencepiece's trainer in its own process: the same model, progress on the way, clear words when it cannot."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sentencepiece import SentencePieceTrainer

from llmforge.errors import MachineError
from llmforge.tokenizer import learning
from llmforge.tokenizer.learning import LearnerError, learn

_RNG = random.Random(0)
_WORDS = ["".join(_RNG.choices("abcdefghij", k=_RNG.randint(2, 7))) for _ in range(400)]
CHUNKS = [" ".join(_RNG.choices(_WORDS, k=40)) for _ in range(200)]
OPTIONS = {"model_type": "bpe", "vocab_size": 600, "byte_fallback": True, "num_threads": 1}


def test_the_same_bytes_as_in_this_process_and_its_progress() -> None:
    merges: list[int] = []
    model = learn(CHUNKS, OPTIONS, lambda count, note: merges.append(count))
    here = io.BytesIO()
    SentencePieceTrainer.train(sentence_iterator=iter(CHUNKS), model_writer=here, minloglevel=4, **OPTIONS)
    assert model == here.getvalue()
    assert merges and merges == sorted(merges) and merges[-1] <= 600


def test_unigram_tells_how_many_pieces_are_left() -> None:
    notes: list[str] = []
    options = {**OPTIONS, "model_type": "unigram", "vocab_size": 500, "hard_vocab_limit": False}
    learn(CHUNKS, options, lambda count, note: notes.append(note))
    assert any(note.endswith("pieces left of the candidates") for note in notes)


def test_what_sentencepiece_refuses_comes_back_in_its_words() -> None:
    with pytest.raises(LearnerError, match="60000"):
        learn(CHUNKS, {**OPTIONS, "vocab_size": 60_000}, lambda count, note: None)


def test_a_fault_in_the_text_is_raised_here() -> None:
    def broken() -> Iterator[str]:
        yield CHUNKS[0]
        raise ValueError("the corpus went away")

    with pytest.raises(ValueError, match="the corpus went away"):
        learn(broken(), OPTIONS, lambda count, note: None)


def test_a_killed_trainer_is_a_matter_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def popen(arguments: list[str], **options: object) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(arguments, **options))  # type: ignore[call-overload]
        return started[0]

    def chunks() -> Iterator[str]:
        yield CHUNKS[0]
        os.kill(started[0].pid, signal.SIGKILL)
        yield from CHUNKS

    class Module:
        PIPE = subprocess.PIPE
        Popen = staticmethod(popen)

    monkeypatch.setattr(learning, "subprocess", Module)
    with pytest.raises(MachineError, match="ended from outside"):
        learn(chunks(), OPTIONS, lambda count, note: None)


def test_the_process_loads_nothing_of_ours() -> None:
    text = Path(learning.__file__).with_name("training_process.py").read_text(encoding="utf-8")
    assert "llmforge" not in text
