"""`tokenize` as a whole: killed at any time it goes on, and the bytes are those of an undisturbed run."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmforge.corpus.document import Document
from llmforge.corpus.folder import CorpusWriter
from llmforge.errors import DamagedError, DataError, StopRequested
from llmforge.runtime.console import Console
from llmforge.runtime.files import digest_file, files_below
from llmforge.runtime.manifest import write_manifest
from llmforge.stages import tokenize
from llmforge.stages.tokenize import TokenizeConfig
from llmforge.tokenizer.settings import TokenizerSettings
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


@pytest.mark.usefixtures("small")
def test_workers_do_not_change_a_byte(inputs: dict[str, Any], tmp_path: Path) -> None:
    for workers in (1, 3):
        run(inputs, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


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
