"""What a resumed `pretrain` may have changed, whose states it takes, and what a refusal leaves as it was."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from llmforge.corpus.document import Document
from llmforge.errors import DataError, StopRequested, UsageError
from llmforge.runtime.console import Console
from llmforge.runtime.files import digest_file
from llmforge.runtime.launch_note import has_begun
from llmforge.runtime.manifest import write_manifest
from llmforge.runtime.run_folder import CLOCKED
from llmforge.runtime.stop import StopSignals
from llmforge.stages.pretrain import PretrainConfig, run
from llmforge.stages.request import Request, execute
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.train import train_tokenizer
from llmforge.tokens.write import TokenWriter

WORDS = "the list of a value returns an item when it is called with no key and then the next one is read".split()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, rng = tmp_path_factory.mktemp("data"), random.Random(0)
    rows = [Document(f"d{n}", " ".join(rng.choices(WORDS, k=60)) + ".\n", "books", {}) for n in range(40)]
    tokenizer, folder = place / "tokenizer", place / "tokens"
    tokenizer.mkdir()
    train_tokenizer([" ".join(WORDS)] * 20, tokenizer, TokenizerSettings(vocab_size=320))
    folder.mkdir()
    writer = TokenWriter(folder, tokenizer)
    writer.write_split("train", rows[8:], 1, lambda done: None)
    writer.write_split("valid", rows[:8], 1, lambda done: None)
    writer.close()
    write_manifest(folder, "tokens", config={})
    return folder


def settings(tokens: Path, output: Path, lr: float = 0.01, **train: Any) -> dict[str, Any]:
    return {
        "output_dir": str(output),
        "device": "cpu",
        "precision": "fp32",
        "model": {"preset": "tiny", "hidden_size": 32, "num_hidden_layers": 1},
        "data": {"sources": [{"name": "made", "path": str(tokens)}], "seq_len": 32},
        "train": {"micro_batch_size": 4, "max_steps": 12, "log_every": 3, "save_every": 4, "compile": False, **train},
        "optimizer": {"name": "adamw", "lr": lr},
        "scheduler": {"name": "constant", "warmup_steps": 0},
    }


def train(values: dict[str, Any], resume: str = "auto", allow: tuple[str, ...] = ()) -> dict[str, Any]:
    return run(PretrainConfig.model_validate(values), Console(quiet=True, json=True), resume, allow)


def metrics(output: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCKED} for row in rows]


@pytest.fixture(scope="module")
def finished(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished") / "run"
    train(settings(tokens, output, keep_last=3))
    return output


def copied(finished: Path, tmp_path: Path, *without: int) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    for step in without:
        shutil.rmtree(tmp_path / "copy" / "checkpoints" / f"step-{step}")
    return tmp_path / "copy"


def test_a_key_that_is_named_may_change(finished: Path, tokens: Path, tmp_path: Path) -> None:
    """From step 8 on with another rate: refused, then allowed by name, its parent's name, and the same once more."""
    copy = copied(finished, tmp_path, 12)
    changed = settings(tokens, copy, lr=0.005)
    with pytest.raises(UsageError, match=r"optimizer.lr: 0.01 then, 0.005 now.*--allow-changed optimizer.lr"):
        train(changed)
    with pytest.raises(UsageError, match="optimizer.lr: 0.01 then"):
        train(changed, allow=("optimizer.eps",))
    with pytest.raises(UsageError, match="no such key of the config: optimiser.lr"):
        train(changed, allow=("optimiser.lr",))
    train(changed, allow=("optimizer",))
    rates = {row["step"]: row["lr"] for row in metrics(copy) if "lr" in row}
    assert rates == {3: 0.01, 6: 0.01, 9: 0.005, 12: 0.005}
    assert "goes on with what was changed: optimizer.lr: 0.01 then, 0.005 now" in (copy / "log.txt").read_text()
    assert train(changed, allow=("optimizer.lr",))["steps"] == 12
    assert train(changed)["steps"] == 12  # the newest state was saved under this config


def test_an_architecture_is_not_changed_by_name(finished: Path, tokens: Path, tmp_path: Path) -> None:
    changed = settings(tokens, copied(finished, tmp_path))
    changed["model"]["hidden_size"] = 64
    with pytest.raises(DataError, match="another architecture"):
        train(changed, allow=("model.hidden_size",))


@pytest.mark.parametrize(("before", "after"), [("adamw", "muon"), ("muon", "adamw")])
def test_an_optimizer_does_not_go_on_from_the_moments_of_another(
    before: str, after: str, tokens: Path, tmp_path: Path
) -> None:
    values = settings(tokens, tmp_path / "run", max_steps=4)
    values["optimizer"]["name"] = before
    train(values)
    changed = settings(tokens, tmp_path / "run", max_steps=6)
    changed["optimizer"]["name"] = after
    with pytest.raises(DataError, match=f"state is that of {before}, which {after} cannot go on from.*model folder"):
        train(changed, allow=("optimizer",))


def test_a_refusal_leaves_the_record_of_the_run(finished: Path, tokens: Path, tmp_path: Path) -> None:
    copy = copied(finished, tmp_path)
    names = ("config.yaml", "run.json", "metrics.jsonl", "manifest.json", "model/model.safetensors")
    before = {name: digest_file(copy / name) for name in names}
    with pytest.raises(UsageError):
        train(settings(tokens, copy, lr=0.5))
    assert {name: digest_file(copy / name) for name in names} == before


def test_going_on_from_another_runs_state(finished: Path, tokens: Path, tmp_path: Path) -> None:
    """Its lines of metrics come along up to the state; those of the own folder, of another course, do not stay."""
    output = tmp_path / "branch"
    train(settings(tokens, output, lr=0.02, max_steps=5))
    train(settings(tokens, output), resume=str(finished / "checkpoints" / "step-8"))
    assert metrics(output) == metrics(finished)
    model = Path("model/model.safetensors")
    assert digest_file(output / model) == digest_file(finished / model)


def test_metrics_that_were_cut_are_told(
    finished: Path, tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copied(finished, tmp_path)
    os.truncate(copy / "metrics.jsonl", 10)
    train(settings(tokens, copy))
    assert "lines are missing" in capsys.readouterr().err


@pytest.mark.parametrize("every", [6, 4])
def test_states_that_are_kept_for_good(every: int, tokens: Path, tmp_path: Path) -> None:
    values = settings(tokens, tmp_path / "run", max_steps=20, keep_every=every)
    if every % 4:
        with pytest.raises(ValueError, match="keep_every must be a multiple of save_every, which is 4"):
            train(values)
        return
    train(values)
    found = {path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")}
    assert found == {f"step-{step}" for step in range(4, 21, 4)}


def test_the_best_ones_state_is_kept(tokens: Path, tmp_path: Path) -> None:
    """The newest two, and that of the best validation, which was the first."""
    early = {"patience": 4, "min_delta": 100.0}  # none after the first validation is better
    values = settings(tokens, tmp_path / "run", max_steps=40, eval_every=4, early_stopping=early)
    result = train(values)
    assert (result["best_step"], result["steps"]) == (4, 20)
    found = {path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")}
    assert found == {"step-4", "step-16", "step-20"}


def test_what_decides_by_validations_is_refused_where_they_decide(tokens: Path, tmp_path: Path) -> None:
    stops = {"early_stopping": {"patience": 3}, "eval_every": 4, "eval_tokens": 1024}
    train(settings(tokens, tmp_path / "stops", **stops))
    for key, value in (("eval_every", 6), ("eval_tokens", 512)):
        with pytest.raises(UsageError, match=f"train.{key}: {stops[key]} then, {value} now"):
            train(settings(tokens, tmp_path / "stops", **{**stops, key: value}))
    looks = {"eval_every": 4, "eval_tokens": 1024}
    train(settings(tokens, tmp_path / "looks", **looks))
    assert train(settings(tokens, tmp_path / "looks", eval_every=6, eval_tokens=512))["steps"] == 12


def test_a_batch_that_follows_from_the_length_keeps_the_length(tokens: Path, tmp_path: Path) -> None:
    """Longer at constant rates is the same run, but not when the batch is made of the length."""
    for name, batch in (("given", 128), ("auto", "auto")):
        train(settings(tokens, tmp_path / name, global_batch_tokens=batch, micro_batch_size=1))
    assert train(settings(tokens, tmp_path / "given", global_batch_tokens=128, micro_batch_size=1, max_steps=14))
    with pytest.raises(UsageError, match=r"train.max_steps: 12 then, 5000 now"):
        longer = {"global_batch_tokens": "auto", "micro_batch_size": 1, "max_steps": 5000}
        train(settings(tokens, tmp_path / "auto", **longer))


def test_a_warmup_that_is_the_same_number_goes_on(tokens: Path, tmp_path: Path) -> None:
    """12 steps warm up over 1 where nothing is given; that and 1 are the same run, 20 is another."""
    values = settings(tokens, tmp_path / "run")
    auto = values | {"scheduler": {"name": "constant"}}
    train(values | {"scheduler": {"name": "constant", "warmup_steps": 1}})
    assert train(auto)["steps"] == 12
    assert "auto: scheduler.warmup_steps=1, for a run of 12 steps" in (tmp_path / "run" / "log.txt").read_text()
    with pytest.raises(UsageError, match="scheduler.warmup_steps: 1 then, 20 now"):
        train(values | {"scheduler": {"name": "constant", "warmup_steps": 20}})


def test_a_state_from_elsewhere_lies_here_before_the_first_step(
    finished: Path, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever starts the run again goes on with it; the launch says so from then on, and not before."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "this launch")
    output, elsewhere = tmp_path / "run", str(finished / "checkpoints" / "step-8")
    seen: list[tuple[list[str], bool]] = []

    def first_batch(self: object) -> object:
        states = sorted(path.name for path in (output / "checkpoints").glob("step-*"))
        seen.append((states, has_begun(output)))
        raise KeyboardInterrupt

    assert not has_begun(output)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("llmforge.training.trainer.Trainer._next_batch", first_batch)
        train(settings(tokens, output), resume=elsewhere)
    assert seen == [(["step-8"], True)]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another launch")
    assert not has_begun(output)
    train(settings(tokens, output))
    assert metrics(output) == metrics(finished)


@pytest.mark.parametrize(("resume", "hint"), [("auto", "the same command goes on"), ("never", "without --resume")])
def test_a_stop_says_which_command_goes_on(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: str, hint: str
) -> None:
    monkeypatch.setattr("llmforge.training.trainer.StopSignals", Asked)
    file = tmp_path / "c.yaml"
    file.write_text(json.dumps(settings(tokens, tmp_path / "run")))
    with pytest.raises(StopRequested) as found:
        execute(Request("pretrain", file, (), quiet=True), resume=resume)
    assert hint in str(found.value)


class Asked(StopSignals):
    """A signal has come."""

    @property
    def requested(self) -> bool:
        return True

    @property
    def signal_name(self) -> str:
        return "SIGTERM"


def test_a_finished_run_whose_model_is_lost_publishes_it_again(finished: Path, tokens: Path, tmp_path: Path) -> None:
    output = copied(finished, tmp_path)
    weights = output / "model" / "model.safetensors"
    before = digest_file(weights)
    weights.write_bytes(b"lost")
    assert train(settings(tokens, output))["steps"] == 12
    assert digest_file(weights) == before
