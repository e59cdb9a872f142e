"""A classifier of made-up texts; `labelled_texts.py` beside this file is importable for the tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from labelled_texts import write_rows  # noqa: E402

from llmforge.cleaning.classify.classifier import Classifier  # noqa: E402
from llmforge.cleaning.classify.settings import TrainOn  # noqa: E402
from llmforge.cleaning.classify.train import Training, train  # noqa: E402


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", {"sea": 150, "kitchen": 150, "court": 150})


@pytest.fixture(scope="session")
def training(rows: Path) -> Training:
    pytest.importorskip("sklearn", reason="needs the extra classify")
    return train(TrainOn(path=str(rows)))


@pytest.fixture(scope="session")
def classifier(training: Training) -> Classifier:
    return training.classifier
