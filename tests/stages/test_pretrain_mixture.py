"""`pretrain` on a mixture: what it says before the run, what it served, and shards that were changed in their bytes."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from llmforge.corpus.document import Document
from llmforge.errors import DamagedError, DataError
from llmforge.runtime.console import Console
from llmforge.runtime.manifest import write_manifest
from llmforge.stages.pretrain import PretrainConfig, run
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.train import train_tokenizer
from llmforge.tokens.write import TokenWriter

WORDS = "the list of a value returns an item when it is called with no key and then the next one is read".split()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two tokens folders of one vocabulary: `large`, and `small` with a tenth of the text."""
    place = tmp_path_factory.mktemp("mixture")
    tokenizer = place / "tokenizer"
    tokenizer.mkdir()
    train_tokenizer([" ".join(WORDS)] * 20, tokenizer, TokenizerSettings(vocab_size=320))
    made = {}
    for name, documents in (("large", 60), ("small", 6)):
        rng, folder = random.Random(name), place / name
        writer = TokenWriter(folder, tokenizer)
        texts = [" ".join(rng.choices(WORDS, k=60)) for _ in range(documents)]
        writer.write_split("train", [Document(f"{name}{n}", t, name) for n, t in enumerate(texts)], 1, lambda _: None)
        writer.write_split("valid", [], 1, lambda _: None)
        writer.close()
        write_manifest(folder, "tokens", config={})
        made[name] = folder
    return made


def train(folders: dict[str, Path], output: Path, data: dict[str, Any], **settings: Any) -> dict[str, Any]:
    sources = [
        {"name": name, "path": str(path), **data.pop(name, {})} for name, path in folders.items() if name != "other"
    ]
    config = {
        "output_dir": str(output),
        "device": "cpu",
        "precision": "fp32",
        "model": {"preset": "tiny", "hidden_size": 32, "num_hidden_layers": 1},
        "data": {"sources": sources, "seq_len": 32, **data},
        "train": {"micro_batch_size": 4, "max_steps": 12, "compile": False, **settings},
    }
    return run(PretrainConfig.model_validate(config), Console(quiet=False, json=True))


def test_a_staged_mixture_says_and_does(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {
        "large": {"weight": 3},
        "small": {"weight": 1, "max_repetition": 2},
        "stages": [{"start_step": 4, "weights": {"small": 1, "large": 1}}],
    }
    result = train(folders, tmp_path / "run", data, max_steps=30)
    said = capsys.readouterr().err
    assert "from step 0: large 75.0%, small 25.0%" in said and "from step 4: large 50.0%, small 50.0%" in said
    assert "small reaches max_repetition 2 at step" in said
    assert "from step 0: large 75.0%" in (tmp_path / "run" / "log.txt").read_text()
    assert result["sources"]["large"]["rows"] + result["sources"]["small"]["rows"] == 120
    assert result["sources"]["small"]["epochs"] == 2.0
    assert result["sources"]["large"]["tokens"] == 32 * result["sources"]["large"]["rows"]


@pytest.mark.parametrize("document_mask", [False, True])
def test_packing_trains_and_tells_its_waste(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], document_mask: bool
) -> None:
    result = train(folders, tmp_path / "run", {"packing": "best_fit", "document_mask": document_mask, "seq_len": 200})
    assert "of the positions wasted" in capsys.readouterr().err
    assert result["steps"] == 12 and result["train_loss"] < 5.5
    assert 0 < result["sources"]["large"]["wasted"] < 0.5


def test_what_cannot_be_kept_is_refused_before_the_run(folders: dict[str, Path], tmp_path: Path) -> None:
    capped = {"large": {"max_repetition": 0.1}, "small": {"max_repetition": 1}}
    with pytest.raises(DataError, match="the run has 12 steps and max_repetition ends the data after"):
        train(folders, tmp_path / "a", dict(capped))
    with pytest.raises(DataError, match="small reaches max_repetition 1 at step"):
        train(folders, tmp_path / "b", {"small": {"max_repetition": 1, "weight": 5}, "when_exhausted": "refuse"})
    for name in ("a", "b"):
        assert not (tmp_path / name / "model").exists() and not (tmp_path / name / "checkpoints").exists()


def test_a_changed_byte_stops_the_run_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    changed = tmp_path / "tokens"
    shutil.copytree(folders["large"], changed)
    shard = changed / "train-00000.bin"
    content = bytearray(shard.read_bytes())
    content[200:202] = content[202:204][::-1] if content[202] != content[203] else b"\x05\x00"
    shard.write_bytes(bytes(content))
    with pytest.raises(DamagedError, match=r"train-00000\.bin: the file was changed: its SHA-256") as caught:
        train({"large": changed}, tmp_path / "run", {}, max_steps=400)
    assert caught.value.exit_code == 6 and not (tmp_path / "run" / "model").exists()


def test_a_run_of_refuse_needs_a_known_length(folders: dict[str, Path], tmp_path: Path) -> None:
    data = {"small": {"max_repetition": 1}, "when_exhausted": "refuse"}
    with pytest.raises(DataError, match="small reaches max_repetition 1"):
        train(folders, tmp_path / "run", data, max_steps=None, max_minutes=1.0)
