"""The benches of web pages, of the classifier, of mixtures and of a save's stall: figures by hand, and small runs."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "scripts" / "bench"


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    import html_text

    return html_text


def test_a_page_is_judged_by_its_runs_of_four_words(pages: ModuleType) -> None:
    assert pages.shares("a b c d e", "a b c d e") == (1.0, 0.0, 0.0)
    # abcd, bcde of the text; abcd, bcdx of what was found: one right, one too many, one missing
    assert pages.shares("a b c d e", "a b c d x") == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert pages.shares("", "") == (0.0, 0.0, 0.0) and pages.shares("a", "") == (0.0, 0.0, 1.0)
    found = pages.quality([("a b c d e", "a b c d x"), ("a b c d", "a b c d")])
    assert found == {"f1": 0.75, "precision": 0.75, "recall": 0.75}


def test_the_pages_of_a_checkout(tmp_path: Path) -> None:
    import gzip

    text = "The first words of an article are read by everyone who comes here. " * 8
    (tmp_path / "html").mkdir()
    page = f"<html><body><nav><a href='/'>Home</a></nav><article><p>{text}</p></article></body></html>"
    (tmp_path / "html" / "one.html.gz").write_bytes(gzip.compress(page.encode()))
    (tmp_path / "ground-truth.json").write_text(json.dumps({"one": {"articleBody": text}}))
    command = [sys.executable, str(BENCH / "html_text.py"), "--articles", str(tmp_path), "--rounds", "1"]
    subprocess.run([*command, "--json", str(tmp_path / "out.json")], check=True, capture_output=True)
    assert json.loads((tmp_path / "out.json").read_text())["extractors"]["fast"]["f1"] > 0.95


def test_half_of_the_pieces_are_spoilt_in_all_six_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import classify

    text = "\n".join(" ".join(f"word{at}" for at in range(line, line + 12)) for line in range(60))
    made = {classify.spoilt(text, random.Random(seed)) for seed in range(40)}
    assert text not in made and len(made) > 30
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for _ in range(200)))
    rows = classify.labelled(path)
    assert 70 < sum(label == "clean" for _, label in rows) < 130
    assert all((found == text) == (label == "clean") for found, label in rows)


def test_a_mixture_of_simulated_shards_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "mixture.py"), "--tokens", "4e6", "--sources", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "--json", str(tmp_path / "out.json")], check=True, capture_output=True, env=environment)
    assert (tmp_path / "out.json").stat().st_size > 100


def test_a_stall_is_measured_on_a_real_run(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "stall.py"), "--layers", "1", "--width", "64", "--rows", "2"]
    command += ["--length", "32", "--steps", "14", "--every", "4", "--json", str(tmp_path / "out.json")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found = json.loads((tmp_path / "out.json").read_text())
    assert len(found["save_seconds"]) == 3 and found["step_seconds"] > 0
    assert found["stall_of_an_interval"] == pytest.approx(found["stall_of_a_step"] / 4, abs=1e-4)
