"""`tokenize` as a whole: killed at any time it goes on, and the bytes are those of an undisturbed run."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmforge.corpus.document import Document
from llmforge.corpus.folder import CorpusWriter, read_corpus
from llmforge.errors import DamagedError, DataError, MachineError, StopRequested
from llmforge.runtime.console import Console
from llmforge.runtime.files import digest_file, files_below
from llmforge.runtime.manifest import write_manifest
from llmforge.runtime.stop import StopSignals
from llmforge.stages import tokenize
from llmforge.stages.tokenize import TokenizeConfig
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokenizer.train import train_tokenizer
from llmforge.tokens import encoding, write
from llmforge.tokens.folder import TokenFolder
from llmforge.tokens.progress import PROGRESS_FILE

QUIET = Console(quiet=True, json=True)
SMALL = {"SHARD_TOKENS": 4000, "_BATCH_BYTES": 2000}
CHILD = """
import json, sys
from llmforge.runtime.console import Console
from llmforge.runtime.exits import guarded
from llmforge.stages import tokenize
from llmforge.tokens import encoding, write
import time
small, values = json.loads(sys.argv[2]), json.loads(sys.argv[1])
write.SHARD_TOKENS = small["SHARD_TOKENS"]
encoding._BATCH_BYTES = small["_BATCH_BYTES"]
encode = encoding.encode_batch
encoding.encode_batch = lambda *given: (time.sleep(0.02), encode(*given))[1]
sys.exit(guarded(lambda: tokenize.run(tokenize.TokenizeConfig.model_validate(values), Console(quiet=True)) and None))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A corpus of some shards' text from two sources, empty documents among them, and a tokenizer."""
    place = tmp_path_factory.mktemp("inputs")
    rng = random.Random(1)
    words = "a list holds values in order and a dict maps its keys to what was put there".split()
    corpus, tokenizer = place / "corpus", place / "tokenizer"
    corpus.mkdir()
    tokenizer.mkdir()
    with CorpusWriter(corpus, 1 << 20) as writer:
        for number in range(400):
            text = "" if number % 37 == 0 else " ".join(rng.choices(words, k=rng.randint(1, 120)))
            writer.write("train" if number % 10 else "valid", Document(f"d{number}", text, f"s{number % 2}"))
    write_manifest(corpus, "corpus", config={})
    train_tokenizer([" ".join(words)] * 20, tokenizer, TokenizerSettings(vocab_size=320))
    return {"corpus": str(corpus), "tokenizer": str(tokenizer), "workers": 1}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "SHARD_TOKENS", SMALL["SHARD_TOKENS"])
    monkeypatch.setattr(encoding, "_BATCH_BYTES", SMALL["_BATCH_BYTES"])


def run(inputs: dict[str, Any], output: Path, **changes: Any) -> dict[str, object]:
    values = {**inputs, "output_dir": str(output), **changes}
    return tokenize.run(TokenizeConfig.model_validate(values), QUIET)


def contents(output: Path) -> dict[str, str]:
    folder = output / "tokens"
    return {n.as_posix(): digest_file(folder / n) for n in files_below(folder) if n.name != "manifest.json"}


def start(inputs: dict[str, Any], output: Path) -> subprocess.Popen[bytes]:
    values = json.dumps({**inputs, "output_dir": str(output)})
    return subprocess.Popen([sys.executable, "-c", CHILD, values, json.dumps(SMALL)], stderr=subprocess.PIPE)


def whole_shards(output: Path) -> int:
    try:
        body = json.loads((output / ".tokens.partial" / PROGRESS_FILE).read_text())
    except (OSError, ValueError):
        return 0
    return sum(body["shards"].values())


def wait_for_shards(output: Path, count: int, child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and child.poll() is None:
        if whole_shards(output) >= count:
            return
        time.sleep(0.002)
    raise AssertionError(f"no {count} shards: {child.communicate()[1].decode()}")


@pytest.mark.usefixtures("small")
def test_killed_twice_it_goes_on_and_the_bytes_are_the_same(inputs: dict[str, Any], tmp_path: Path) -> None:
    result = run(inputs, tmp_path / "whole")
    assert len(list((tmp_path / "whole" / "tokens").glob("train-*.bin"))) > 4
    output = tmp_path / "killed"
    for shards in (1, 3):
        child = start(inputs, output)
        wait_for_shards(output, shards, child)
        child.send_signal(signal.SIGKILL)
        child.communicate()
    before = whole_shards(output)
    assert before >= 3 and not (output / "tokens").exists()
    # what is whole is not encoded again
    encoded = 0

    def counted(*given: Any) -> encoding.Encoded:
        nonlocal encoded
        made = encode(*given)
        encoded += len(made.tokens)
        return made

    encode = encoding.encode_batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "encode_batch", counted)
        patch.setattr("llmforge.runtime.code.code_digest", _code_of_child(output))
        again = run(inputs, output)
    assert contents(output) == contents(tmp_path / "whole") and len(contents(output)) > 10
    assert {**again, "output": ""} == {**result, "output": ""}
    assert 0 < encoded < int(str(result["tokens"])) - 3 * SMALL["SHARD_TOKENS"] + 1
    assert not (output / ".tokens.partial").exists()


def _code_of_child(output: Path) -> Any:
    """The digest that stands in the progress file: files may change while tests are worked on."""
    code = json.loads((output / ".tokens.partial" / PROGRESS_FILE).read_text())["makings"]["code"]
    return lambda *packages: code


@pytest.mark.usefixtures("small")
def test_a_signal_keeps_whole_shards_and_other_inputs_begin_anew(inputs: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "run"
    child = start(inputs, output)
    wait_for_shards(output, 2, child)
    child.send_signal(signal.SIGTERM)
    message = child.communicate(timeout=60)[1].decode()
    assert child.returncode == StopRequested.exit_code and "the same command goes on" in message
    assert whole_shards(output) >= 2
    other = tmp_path / "corpus"
    other.mkdir()
    with CorpusWriter(other, 1 << 20) as writer:
        writer.write("train", Document("x", "a list", "s"))
    write_manifest(other, "corpus", config={})
    assert run(inputs, output, corpus=str(other))["documents"] == 1
    assert TokenFolder.open(output).split("train").document(0).id == "x"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("harm", ["cut", "changed", "gone", "progress"])
def test_what_was_left_is_only_used_when_it_is_whole(inputs: dict[str, Any], tmp_path: Path, harm: str) -> None:
    run(inputs, tmp_path / "whole")
    output = tmp_path / "run"
    child = start(inputs, output)
    wait_for_shards(output, 2, child)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    shard = output / ".tokens.partial" / "train-00000.bin"
    data = bytearray(shard.read_bytes())
    if harm == "progress":
        (shard.parent / PROGRESS_FILE).write_text("{")
    elif harm == "gone":
        shard.unlink()
    else:
        data[100] ^= 1
        shard.write_bytes(bytes(data if harm == "changed" else data[:-10]))
    with pytest.MonkeyPatch.context() as patch:
        if harm != "progress":
            patch.setattr("llmforge.runtime.code.code_digest", _code_of_child(output))
        run(inputs, output)
    assert contents(output) == contents(tmp_path / "whole")


@pytest.fixture(scope="module", params=["threads", "processes"])
def spread(request: pytest.FixtureRequest, inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The inputs with names of control symbols in their texts, and a tokenizer that takes threads or processes."""
    if request.param == "threads":
        pytest.importorskip("gigatoken")
    place = tmp_path_factory.mktemp(request.param)
    corpus, tokenizer = place / "corpus", place / "tokenizer"
    corpus.mkdir()
    tokenizer.mkdir()
    hard = ["<s> is a name", "\u2581", "a </s> b <|user|>", "\u65e5\u672c " * 60]
    with CorpusWriter(corpus, 1 << 20) as writer:
        for number, document in enumerate(read_corpus(Path(inputs["corpus"]), "train")):
            text = f"{document.text} {hard[number // 9 % 4]} {number}" if number % 9 == 0 else document.text
            writer.write("train", Document(document.id, text, document.source))
        writer.write("valid", Document("v", "a list holds values", "s0"))
    write_manifest(corpus, "corpus", config={})
    kind = "bpe" if request.param == "threads" else "unigram"
    texts = [document.text for document in read_corpus(corpus, "train")]
    train_tokenizer(texts, tokenizer, TokenizerSettings(vocab_size=360, model_type=kind))
    assert Tokenizer.load(tokenizer).works_outside_lock == (request.param == "threads")
    return {"corpus": str(corpus), "tokenizer": str(tokenizer)}


@pytest.mark.usefixtures("small")
def test_workers_do_not_change_a_byte(spread: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmforge.tokenizer.word_cache._CACHE_SIZE", 5)
    for workers in (1, 3):
        run(spread, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3") and len(contents(tmp_path / "3")) > 10


@pytest.mark.usefixtures("small")
def test_a_stop_and_a_fault_among_several_workers(
    spread: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both come out as themselves, with whole shards kept by the first, and nobody goes on working."""
    run(spread, tmp_path / "whole")
    stop, calls = tmp_path / "stopped", 0

    def check(self: StopSignals) -> None:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise StopRequested("SIGTERM")

    with monkeypatch.context() as patch:
        patch.setattr(StopSignals, "check", check)
        with pytest.raises(StopRequested):
            run(spread, stop, workers=3)
    assert whole_shards(stop) >= 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("llmforge-tokenize")]
    run(spread, stop, workers=3)
    assert contents(stop) == contents(tmp_path / "whole")
    documents = [Document(f"d{number}", "a list" if number != 40 else "\ud800", "s") for number in range(80)]
    tokenizer = Tokenizer.load(spread["tokenizer"])
    monkeypatch.setattr(encoding, "_BATCH_BYTES", 30)
    with pytest.raises(DataError, match="document d40"):
        list(encoding.encode_documents(documents, tokenizer, 3))


@pytest.mark.parametrize("spread", ["processes"], indirect=True)
def test_a_killed_worker_process_is_told(spread: dict[str, Any]) -> None:
    tokenizer = Tokenizer.load(spread["tokenizer"])

    def documents() -> Iterator[Document]:
        for number in range(4000):
            yield Document(f"d{number}", "a list holds values " * 300, "s")
            if number == 2000:
                for child in multiprocessing.active_children():
                    os.kill(child.pid or 0, signal.SIGKILL)

    with pytest.raises(MachineError, match="worker process was ended from outside"):
        list(encoding.encode_documents(documents(), tokenizer, 3))


def test_a_mistake_leaves_nothing_behind(inputs: dict[str, Any], tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    with CorpusWriter(corpus, 1 << 20) as writer:
        writer.write("train", Document("x", "", "s"))
    write_manifest(corpus, "corpus", config={})
    with pytest.raises(DataError, match="no training text"):
        run(inputs, tmp_path / "run", corpus=str(corpus))
    assert [path.name for path in (tmp_path / "run").iterdir() if "tokens" in path.name] == []


def test_a_tokenizer_with_a_flipped_bit_is_refused_by_name(inputs: dict[str, Any], tmp_path: Path) -> None:
    """Such a file may load as another vocabulary: only its digest tells."""
    folder = tmp_path / "tokenizer"
    shutil.copytree(inputs["tokenizer"], folder)
    write_manifest(folder, "tokenizer", config={})
    path = folder / "tokenizer.model"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedError, match="tokenizer.model: the file was changed"):
        run({**inputs, "tokenizer": str(folder)}, tmp_path / "run")
    path.unlink()
    with pytest.raises(DamagedError, match="tokenizer.model: the file is missing"):
        run({**inputs, "tokenizer": str(folder)}, tmp_path / "run")
    assert not (tmp_path / "run" / "tokens").exists()
