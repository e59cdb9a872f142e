"""`verify-resume`: what it compares and how it names a difference; and one real run that is killed and resumed."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmforge import cli
from llmforge.checkpoint.tensor_spans import read_spans
from llmforge.stages.pretrain import PretrainConfig
from llmforge.stages.verify_resume import shortened
from llmforge.stages.verify_resume_compare import Differs, compare_runs
from llmforge.stages.verify_resume_runs import Kill, draw_kills

WORDS = "a river carries the names of quiet streets before dawn and keeps what was said".split()


def write_run(run: Path, pace: float) -> Path:
    """A run folder as the trainer leaves it; `pace` is all that the clock changes."""
    generator = torch.Generator().manual_seed(0)
    lines = []
    for step in range(1, 9):
        lines.append(json.dumps({"step": step, "loss": 1 / step, "step_seconds": pace, "tokens_per_second": 9 / pace}))
    run.mkdir(parents=True)
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    for step in (4, 8):
        folder = run / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        tensors = {
            "model.weight": torch.randn(300, 7, generator=generator),
            "optimizer.weight": torch.randn(300, 7, generator=generator),
            "meta/rng/torch": torch.arange(50, dtype=torch.uint8),
        }
        save_file(tensors, folder / "state.safetensors")
        position = len("\n".join(lines[:step]) + "\n")
        meta = {"progress": {"step": step, "elapsed": pace * step}, "metrics_position": position, "reserve": pace}
        (folder / "state.json").write_text(json.dumps({**meta, "config": {"output_dir": str(run)}}))
        (folder / "manifest.json").write_text(str(pace))
    (run / "model").mkdir()
    save_file({"weight": torch.randn(300, 7, generator=generator)}, run / "model" / "model.safetensors")
    (run / "model" / "README.md").write_text("# a model\n")
    return run


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return write_run(tmp_path / "one", 0.5), write_run(tmp_path / "two-with-a-longer-name", 0.123456789)


def test_two_runs_that_only_the_clock_tells_apart_are_equal(runs: tuple[Path, Path]) -> None:
    compared = compare_runs(*runs)
    assert (compared.states, compared.tensors, compared.metric_lines) == (2, 7, 8)
    assert compared.tensor_bytes == 5 * 300 * 7 * 4 + 2 * 50
    assert set(compared.digests) == {
        "checkpoints/step-4/state.safetensors",
        "checkpoints/step-8/state.safetensors",
        "model/model.safetensors",
    }


def test_the_text_of_a_sample_may_hold_any_line_break(runs: tuple[Path, Path]) -> None:
    texts = ("a\u2028b\x85c", "a\u2028b\x85d")
    lines = [json.dumps({"step": 4, "text": text}, ensure_ascii=False) + "\n" for text in texts]
    for run in runs:
        (run / "samples.jsonl").write_text(lines[0] * 2, encoding="utf-8")
    compare_runs(*runs)
    (runs[1] / "samples.jsonl").write_text(lines[0] + lines[1], encoding="utf-8")
    with pytest.raises(Differs, match=r"samples.jsonl line 2: text is"):
        compare_runs(*runs)
    (runs[1] / "samples.jsonl").write_bytes(lines[0].encode() + lines[0].encode()[:-4])
    with pytest.raises(Differs, match=r"samples.jsonl line 2 is not JSON"):
        compare_runs(*runs)


def test_one_bit_anywhere_is_found_and_named(runs: tuple[Path, Path]) -> None:
    rng = random.Random(0)
    for name in ("checkpoints/step-4/state.safetensors", "model/model.safetensors"):
        path = runs[1] / name
        content = path.read_bytes()
        for _ in range(10):
            span = rng.choice(read_spans(path))
            at = rng.randrange(span.start, span.stop)
            changed = bytearray(content)
            changed[at] ^= 1 << rng.randrange(8)
            path.write_bytes(bytes(changed))
            with pytest.raises(Differs) as caught:
                compare_runs(*runs)
            text = str(caught.value)
            assert name in text and span.name in text and f"(byte {at} of the file)" in text
            assert f"element {span.element_at(at)} " in text
        path.write_bytes(content)
    compare_runs(*runs)


def _edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def _lines(run: Path, change: Callable[[list[str]], object]) -> None:
    rows = (run / "metrics.jsonl").read_text().splitlines()
    change(rows)
    (run / "metrics.jsonl").write_text("\n".join(rows) + "\n")


BREAKAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a doubled line": (
        lambda run: _lines(run, lambda rows: rows.insert(3, rows[3])),
        "metrics.jsonl line 5: loss is 0.2",
    ),
    "a missing line": (lambda run: _lines(run, lambda rows: rows.pop()), "8 lines undisturbed and 7 resumed"),
    "another loss": (
        lambda run: _lines(run, lambda rows: rows.__setitem__(2, rows[2].replace("0.333", "0.334"))),
        "line 3: loss is 0.333",
    ),
    "half a line": (lambda run: _lines(run, lambda rows: rows.__setitem__(7, rows[7][:9])), "line 8 is not JSON"),
    "another data position": (
        lambda run: _edit(run / "checkpoints/step-8/state.json", lambda v: v["progress"].update(step=7)),
        "progress.step is 8 undisturbed and 7 resumed",
    ),
    "a place within a line of metrics": (
        lambda run: _edit(run / "checkpoints/step-8/state.json", lambda v: v.update(metrics_position=50)),
        "metrics_position",
    ),
    "a key that only one has": (
        lambda run: _edit(run / "checkpoints/step-8/state.json", lambda v: v.update(waited=1)),
        "waited is None undisturbed and 1 resumed",
    ),
    "a file too many": (lambda run: (run / "model" / "x.json").write_text("{}"), "x.json in one run only"),
    "another card": (lambda run: (run / "model" / "README.md").write_text("# another\n"), "README.md differs"),
    "an earlier last state": (lambda run: shutil.rmtree(run / "checkpoints" / "step-8"), "not of one step"),
    "no model": (lambda run: shutil.rmtree(run / "model"), "model"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_everything_else_that_differs_is_named(runs: tuple[Path, Path], name: str) -> None:
    change, words = BREAKAGES[name]
    change(runs[1])
    with pytest.raises(Differs, match=re.escape(words)):
        compare_runs(*runs)


def test_another_tensor_another_shape(runs: tuple[Path, Path]) -> None:
    path = runs[1] / "model" / "model.safetensors"
    save_file({"weight": load_file(path)["weight"].reshape(7, 300)}, path)
    with pytest.raises(Differs, match=r"weight is F32 \[300, 7\]"):
        compare_runs(*runs)
    save_file({"other": torch.zeros(3)}, path)
    with pytest.raises(Differs, match="one run only: other, weight"):
        compare_runs(*runs)


def test_kills_come_in_order_and_from_the_seed() -> None:
    kills = draw_kills(40, 20, seed=3)
    assert len(kills) == 40 and kills == draw_kills(40, 20, seed=3) != draw_kills(40, 20, seed=4)
    steps = [kill.step for kill in kills if kill.step is not None]
    assert steps == sorted(steps) and steps[0] < 5 and steps[-1] > 15 and max(steps) <= 20
    assert sum(kill.step is None for kill in kills) == 6 and all(0 <= kill.share < 1 for kill in kills)
    assert draw_kills(1, 1, seed=0)[0] in (Kill(0, draw_kills(1, 1, 0)[0].share), Kill(1, draw_kills(1, 1, 0)[0].share))


def config(tokens: Path, output: Path) -> dict[str, Any]:
    return {
        "output_dir": str(output),
        "device": "cpu",
        "precision": "fp32",
        "deterministic": False,
        "model": {"preset": "tiny", "hidden_size": 32, "num_hidden_layers": 2},
        "data": {"sources": [{"name": "made", "path": str(tokens)}], "seq_len": 32},
        "train": {"micro_batch_size": 4, "max_minutes": 3, "eval_every": 100, "sample_every": 50},
        "scheduler": {"warmup_steps": 500},
    }


def test_a_config_is_cut_to_a_short_run_that_shows_everything() -> None:
    whole = PretrainConfig.model_validate(config(Path("t"), Path("o")))
    short = PretrainConfig.model_validate(shortened(whole, 20))
    assert (short.train.max_steps, short.train.max_minutes, short.deterministic) == (20, None, True)
    assert (short.train.log_every, short.train.save_every, short.train.eval_every) == (1, 3, 6)
    assert short.train.sample_every == 6 and short.scheduler.warmup_steps == 5
    assert short.optimizer == whole.optimizer and short.data == whole.data and short.model == whole.model


def test_a_config_that_keeps_states_for_good_is_cut_too() -> None:
    values = config(Path("t"), Path("o"))
    values["train"] |= {"save_every": 100, "keep_every": 1000}
    short = PretrainConfig.model_validate(shortened(PretrainConfig.model_validate(values), 20))
    assert (short.train.save_every, short.train.keep_every) == (3, None)


def write_tokens(folder: Path) -> Path:
    from llmforge.corpus.document import Document
    from llmforge.runtime.manifest import write_manifest
    from llmforge.tokenizer.settings import TokenizerSettings
    from llmforge.tokenizer.train import train_tokenizer
    from llmforge.tokens.write import TokenWriter

    rng = random.Random(0)
    rows = [Document(f"d{n}", " ".join(rng.choices(WORDS, k=60)) + ".\n", "books", {}) for n in range(40)]
    tokenizer = folder.parent / "tokenizer"
    tokenizer.mkdir()
    train_tokenizer([" ".join(WORDS)] * 20, tokenizer, TokenizerSettings(vocab_size=320))
    folder.mkdir()
    writer = TokenWriter(folder, tokenizer)
    writer.write_split("train", rows[4:], 1, lambda done: None)
    writer.write_split("valid", rows[:4], 1, lambda done: None)
    writer.close()
    write_manifest(folder, "tokens", config={})
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["llmforge", "verify-resume", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("data") / "tokens")


def test_the_dry_run_tells_the_kills_and_writes_nothing(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(config(tokens, tmp_path / "out")))
    assert call(monkeypatch, "-c", path, "--dry-run", "--json", "--kills", 2, "--steps", 9) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["config"]["train"]["max_steps"] == 9 and len(shown["kills"]) == 2
    assert str(tmp_path / "out" / "verify-resume.json") in shown["preview"]["writes"]
    assert call(monkeypatch, "-c", path, "--dry-run", "train.max_stepz=3") == 2
    assert "did you mean `train.max_steps`" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path]


def test_an_override_that_the_short_run_does_not_follow_is_told(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(config(tokens, tmp_path / "out")))
    words = ["train.max_steps=7", "train.save_every=5", "train.eval_every=null", "seed=3"]
    assert call(monkeypatch, "-c", path, "--dry-run", "--json", "--steps", 9, *words) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == [
        "warning: train.max_steps=7 is not used: these runs have 9 (see --steps)",
        "warning: train.save_every=5 is not used: these runs have 1 (see --steps)",
    ]
    assert json.loads(shown.out)["config"]["seed"] == 3
    assert call(monkeypatch, "-c", path, "--dry-run", "--steps", 7, "train.max_steps=7") == 0
    assert capsys.readouterr().err == ""


def test_a_config_of_another_command_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("output_dir: a\ncorpus: b\ntokenizer: c\n")
    assert call(monkeypatch, "-c", path) == 2 and "llmforge tokenize" in capsys.readouterr().err
    assert call(monkeypatch) == 2 and "--config FILE" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_gets_its_certificate(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two starts of real processes and a kill within the steps; the certificate's digests are those of equal bytes."""
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(config(tokens, tmp_path / "out")))
    assert call(monkeypatch, "-c", path, "--kills", 1, "--steps", 8, "--seed", 1, "--json", "-q") == 0
    shown = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "out" / "verify-resume.json").read_text())
    assert shown.pop("output") == str(tmp_path / "out" / "verify-resume.json") and shown == kept
    assert kept["identical"] is True and len(kept["kills_done"]) == 1
    assert kept["compared"]["metric_lines"] >= 8 and kept["compared"]["tensors"] > 20
    assert any("minutes" in note for note in kept["notes"]) and any("deterministic" in note for note in kept["notes"])
    assert not list(Path(str(tmp_path / "out")).glob("checkpoints"))
