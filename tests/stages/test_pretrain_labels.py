"""A source of the mixture that takes documents of one label: what is trained on, what is held out, what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmforge.corpus.document import Document
from llmforge.errors import DataError
from llmforge.runtime.console import Console
from llmforge.runtime.manifest import write_manifest
from llmforge.stages.pretrain import PretrainConfig, run
from llmforge.stages.pretrain_data import open_data
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.train import train_tokenizer
from llmforge.tokens.write import TokenWriter

WORDS = "a ship at sea and bread from an oven and law in a court with a clerk".split()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents labelled sea and kitchen in turn, the label in the metadata field `topic`; rare is never held out."""
    place = tmp_path_factory.mktemp("labelled")
    rng = random.Random(0)
    rows = [
        Document(f"d{n}", " ".join(rng.choices(WORDS, k=50)), "made", {"topic": ("sea", "kitchen")[n % 2]})
        for n in range(60)
    ]
    rows[59].metadata["topic"] = "rare"
    (place / "tokenizer").mkdir()
    train_tokenizer([" ".join(WORDS)] * 20, place / "tokenizer", TokenizerSettings(vocab_size=300))
    (place / "tokens").mkdir()
    writer = TokenWriter(place / "tokens", place / "tokenizer", label_key="topic")
    writer.write_split("train", rows[8:], 1, lambda done: None)
    writer.write_split("valid", rows[:8], 1, lambda done: None)
    writer.close()
    write_manifest(place / "tokens", "tokens", config={})
    return place / "tokens"


def config(tokens: Path, output: Path, *sources: dict[str, Any]) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "output_dir": str(output),
            "device": "cpu",
            "precision": "fp32",
            "model": {"preset": "tiny", "hidden_size": 32, "num_hidden_layers": 1},
            "data": {"sources": [{"path": str(tokens), **source} for source in sources], "seq_len": 32},
            "train": {"micro_batch_size": 4, "global_batch_size": 4, "max_steps": 3, "max_grad_norm": 1.0},
        }
    )


def ids(split: Any) -> set[str]:
    return {split.document(number).id for number in range(split.num_documents)}


def test_a_source_takes_its_label_in_training_and_held_out(tokens: Path, tmp_path: Path) -> None:
    data = open_data(config(tokens, tmp_path, {"label": "sea"}))
    assert ids(data.train[0]) == {f"d{n}" for n in range(8, 60, 2)}
    assert [ids(split) for split in data.valid] == [{"d0", "d2", "d4", "d6"}]


def test_two_sources_of_one_folder_hold_each_document_out_once(tokens: Path, tmp_path: Path) -> None:
    both = config(tokens, tmp_path, {"name": "a", "label": "sea"}, {"name": "b", "label": ["kitchen", "rare"]})
    data = open_data(both)
    assert [len(ids(split)) for split in data.train] == [26, 26]
    assert [ids(split) for split in data.valid] == [{f"d{n}" for n in range(8)}]
    whole = open_data(config(tokens, tmp_path, {"name": "a", "label": "sea"}, {"name": "b"}))
    assert [ids(split) for split in whole.valid] == [{f"d{n}" for n in range(8)}]


def test_a_label_without_a_held_out_document_trains_without(tokens: Path, tmp_path: Path) -> None:
    data = open_data(config(tokens, tmp_path, {"label": "rare"}))
    assert ids(data.train[0]) == {"d59"} and data.valid == ()


def test_a_run_trains_on_a_mixture_of_labels(tokens: Path, tmp_path: Path) -> None:
    sources = ({"name": "a", "label": "sea", "weight": 3}, {"name": "b", "label": "kitchen"})
    result = run(config(tokens, tmp_path / "run", *sources), Console(quiet=True))
    assert result["state"] == "finished" and result["steps"] == 3


def test_an_unknown_label_is_refused_by_those_that_there_are(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labelled ocean: its labels are kitchen, rare, sea"):
        open_data(config(tokens, tmp_path, {"label": "ocean"}))
    for label in ("", []):
        with pytest.raises(ValidationError):
            config(tokens, tmp_path, {"label": label})
