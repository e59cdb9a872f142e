"""`tokenizer train` and `tokenize` as a person calls them: artefacts, answers, and what they refuse."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from llmforge.corpus.document import Document
from llmforge.corpus.folder import CorpusWriter
from llmforge.errors import DamagedError, DataError, MachineError, StopRequested
from llmforge.runtime.console import Console
from llmforge.runtime.manifest import read_manifest, write_manifest
from llmforge.runtime.stop import StopSignals
from llmforge.stages import tokenize
from llmforge.stages import tokenizer as tokenizer_stage
from llmforge.stages.tokenize import TokenizeConfig
from llmforge.stages.tokenizer import TokenizerTrainConfig
from llmforge.tokenizer import train
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokens.folder import TokenFolder

QUIET = Console(quiet=True, json=True)


def _corpus(folder: Path, train: int = 60, valid: int = 6) -> Path:
    whole = inspect.getsource(argparse) + inspect.getsource(textwrap)
    folder.mkdir(parents=True)
    with CorpusWriter(folder, 1 << 20) as writer:
        for number in range(train):
            writer.write("train", Document(f"t{number}", whole[number * 900 : number * 900 + 900], f"s{number % 2}"))
        for number in range(valid):
            start = 70_000 + number * 500
            writer.write("valid", Document(f"v{number}", whole[start : start + 500], "s0"))
        writer.write("dropped", Document("d0", "dropped text", "s0", {"reason": "short"}))
    write_manifest(folder, "corpus", config={})
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _corpus(tmp_path_factory.mktemp("clean") / "corpus")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> tuple[Path, dict[str, object]]:
    output = tmp_path_factory.mktemp("run") / "tokenizer-run"
    config = TokenizerTrainConfig(corpus=str(corpus.parent), output_dir=str(output), vocab_size=500)
    return output, tokenizer_stage.run(config, QUIET)


def test_training_publishes_a_checked_artefact(corpus: Path, trained: tuple[Path, dict[str, object]]) -> None:
    output, result = trained
    assert result["vocab_size"] == 500 and result["lossless"] is True and result["measured_on"] == "valid"
    assert result["output"] == str(output / "tokenizer")
    bytes_per_token = result["bytes_per_token"]
    assert isinstance(bytes_per_token, float) and 1.5 < bytes_per_token < 5
    manifest = read_manifest(output / "tokenizer", "tokenizer", verify="digests")
    assert manifest.made_from == {"corpus": read_manifest(corpus, "corpus").digest}
    assert json.loads((output / "run.json").read_text())["status"] == "finished"
    tokenizer = Tokenizer.load(output)
    assert tokenizer.vocab_size == 500
    assert not [path for path in output.iterdir() if path.name.startswith(".tokenizer.")]


def test_tokenize_publishes_every_document_once(
    tmp_path: Path, corpus: Path, trained: tuple[Path, dict[str, object]]
) -> None:
    config = TokenizeConfig(corpus=str(corpus), tokenizer=str(trained[0]), output_dir=str(tmp_path / "run"), workers=1)
    result = tokenize.run(config, QUIET)
    tokens = TokenFolder.open(tmp_path / "run")
    train, valid = tokens.split("train"), tokens.split("valid")
    assert (train.num_documents, valid.num_documents) == (60, 6)
    assert result["documents"] == 66 and result["tokens"] == train.num_tokens + valid.num_tokens
    assert result["bytes"] == train.token_bytes_total + valid.token_bytes_total
    assert result["output"] == str(tmp_path / "run" / "tokens")
    assert Tokenizer.load(tmp_path / "run" / "tokens").digest == Tokenizer.load(trained[0]).digest
    made_from = read_manifest(tmp_path / "run" / "tokens", "tokens").made_from
    assert made_from == tokenize.inputs_fingerprint(config)


def test_a_second_run_gives_the_same_artefact(
    tmp_path: Path, corpus: Path, trained: tuple[Path, dict[str, object]]
) -> None:
    digests = set()
    for name, workers in (("a", 1), ("b", 2)):
        output = str(tmp_path / name)
        tokenize.run(
            TokenizeConfig(corpus=str(corpus), tokenizer=str(trained[0]), output_dir=output, workers=workers), QUIET
        )
        digests.add(read_manifest(tmp_path / name / "tokens", "tokens").digest)
    assert len(digests) == 1


def test_previews_say_what_is_read_and_written(corpus: Path, trained: tuple[Path, dict[str, object]]) -> None:
    first = tokenizer_stage.preview(TokenizerTrainConfig(corpus=str(corpus), output_dir="o", vocab_size=500))
    assert first["reads"] == [str(corpus)] and first["writes"] == ["o/tokenizer"]
    second = tokenize.preview(TokenizeConfig(corpus=str(corpus), tokenizer=str(trained[0]), output_dir="o"))
    assert second["reads"] == [str(corpus), str(trained[0] / "tokenizer")] and second["writes"] == ["o/tokens"]
    with pytest.raises(DataError, match="no such folder"):
        tokenize.preview(TokenizeConfig(corpus="missing", tokenizer=str(trained[0]), output_dir="o"))


def test_a_corpus_without_held_out_text_is_measured_on_its_training_text(tmp_path: Path) -> None:
    corpus = _corpus(tmp_path / "corpus", valid=0)
    config = TokenizerTrainConfig(corpus=str(corpus), output_dir=str(tmp_path / "run"), vocab_size=400)
    assert tokenizer_stage.run(config, QUIET)["measured_on"] == "train"


def test_what_cannot_work_leaves_nothing_behind(
    tmp_path: Path, corpus: Path, trained: tuple[Path, dict[str, object]]
) -> None:
    run = tmp_path / "run"
    empty = _corpus(tmp_path / "empty", train=0, valid=1)
    with pytest.raises(DataError, match="no training text"):
        tokenizer_stage.run(TokenizerTrainConfig(corpus=str(empty), output_dir=str(run), vocab_size=400), QUIET)
    with pytest.raises(DataError, match="set vocab_size to"):
        tokenizer_stage.run(TokenizerTrainConfig(corpus=str(corpus), output_dir=str(run), vocab_size=90_000), QUIET)
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    with pytest.raises(DataError, match="no training text"):
        tokenize.run(
            TokenizeConfig(corpus=str(empty), tokenizer=str(trained[0]), output_dir=str(tmp_path / "t")), QUIET
        )
    for folder in (run, tmp_path / "t"):
        assert not [path.name for path in folder.iterdir() if path.is_dir()]


def test_a_damaged_corpus_is_named(tmp_path: Path) -> None:
    corpus = _corpus(tmp_path / "corpus")
    shard = corpus / "train-00000.jsonl.zst"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DamagedError, match=r"train-00000\.jsonl\.zst"):
        tokenizer_stage.run(TokenizerTrainConfig(corpus=str(corpus), output_dir=str(tmp_path / "r")), QUIET)


def test_a_stop_signal_ends_tokenize_with_nothing_half_written(
    tmp_path: Path, corpus: Path, trained: tuple[Path, dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self: StopSignals) -> None:
        raise StopRequested("stopped by SIGTERM")

    monkeypatch.setattr(StopSignals, "check", stopped)
    config = TokenizeConfig(corpus=str(corpus), tokenizer=str(trained[0]), output_dir=str(tmp_path), workers=1)
    with pytest.raises(StopRequested):
        tokenize.run(config, QUIET)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "stopped"
    # What is whole so far waits for the same command; nothing of it looks like an artefact.
    assert not (tmp_path / "tokens").exists() and not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_stop_signal_ends_the_learning(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, whole_group: bool
) -> None:
    def signalled(chunks: object, options: object, watch: Callable[[int, str], None]) -> bytes:
        os.kill(os.getpid(), signal.SIGUSR1)
        if whole_group:  # the trainer's process got it too and is gone
            raise MachineError("sentencepiece's trainer was ended from outside")
        watch(20, "")
        return b""

    monkeypatch.setattr(train, "learn", signalled)
    config = TokenizerTrainConfig(corpus=str(corpus), output_dir=str(tmp_path), vocab_size=500)
    with pytest.raises(StopRequested, match="SIGUSR1.*begins anew"):
        tokenizer_stage.run(config, QUIET)
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["exit_code"]) == ("stopped", 75)
    assert sorted(path.name for path in tmp_path.glob("*tokenizer*")) == []


def test_neither_stage_loads_torch(tmp_path: Path, corpus: Path) -> None:
    code = f"""
import sys
from llmforge.runtime.console import Console
from llmforge.stages import tokenize, tokenizer
assert "numpy" not in sys.modules and "sentencepiece" not in sys.modules
quiet = Console(quiet=True, json=True)
settings = dict(corpus={str(corpus)!r}, vocab_size=400)
tokenizer.run(tokenizer.TokenizerTrainConfig(output_dir={str(tmp_path / "a")!r}, **settings), quiet)
places = dict(corpus={str(corpus)!r}, tokenizer={str(tmp_path / "a")!r})
tokenize.run(tokenize.TokenizeConfig(output_dir={str(tmp_path / "b")!r}, **places), quiet)
assert not {{"torch", "transformers", "datasets", "pandas"}} & set(sys.modules), "heavy"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
