"""What a pre-training tells: that it memorises or not, traces, norms, trackers, and how well it used the machine."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from small_pretrain import config, metrics, train, write_tokens

from llmforge.config.load import load_config
from llmforge.errors import ConfigError, MachineError
from llmforge.runtime.console import Console
from llmforge.stages.closing import closing_lines
from llmforge.stages.pretrain import PretrainConfig, run

STEPS = 160
QUICKSTART = Path(__file__).parents[2] / "configs" / "pretrain" / "quickstart.yaml"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("data") / "tokens", documents=40)


def by_heart(tokens: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Random words have nothing to learn but their order in the few documents: what follows is memorising."""
    limits = {"max_steps": STEPS, "eval_every": 20, "log_every": 20, "micro_batch_size": 16}
    found = config(tokens, output, limits | changes)
    found["optimizer"] = {"name": "adamw", "lr": 1e-2, "weight_decay": 0.0}
    found["scheduler"] = {"name": "constant"}
    return found | {"model": {"preset": "tiny"}}


def test_a_run_that_memorises_says_so_and_since_when(tokens: Path, tmp_path: Path) -> None:
    result = train(by_heart(tokens, tmp_path / "run"))
    found = result["overfitting"]
    assert found is not None and found["train_loss"] < found["valid_loss"] > found["best_valid_loss"]
    assert 0 < found["rising_since"] < STEPS and found["epochs"] > 5
    assert found["note"] in closing_lines(result) and found["note"].startswith("it memorises: training loss")
    lines = metrics(tmp_path / "run")
    assert found["valid_loss"] == result["valid_loss"]
    gaps = [line["loss_gap"] for line in lines if "loss_gap" in line]
    assert len(gaps) == 7 and gaps[-1] > gaps[0]
    assert [line["epoch"] for line in lines] == sorted(line["epoch"] for line in lines)
    assert lines[-1]["epoch"] == pytest.approx(found["epochs"], rel=1e-3)


def test_early_stopping_keeps_the_best_and_nothing_is_said(tokens: Path, tmp_path: Path) -> None:
    result = train(by_heart(tokens, tmp_path / "run", early_stopping={"patience": 2}))
    assert result["state"] == "stopped early" and result["best_step"] is not None and result["steps"] < STEPS
    assert result["overfitting"] is None


def test_a_run_that_is_well_says_nothing(tokens: Path, tmp_path: Path) -> None:
    result = train(config(tokens, tmp_path / "run", {"max_steps": 24, "eval_every": 6}))
    assert result["overfitting"] is None
    (line,) = closing_lines(result)
    assert line == result["mfu_formula"] and line.startswith("MFU ") and 0 < result["mfu"] < 1


def test_a_trace_and_norms_where_they_were_asked_for(tokens: Path, tmp_path: Path) -> None:
    wanted = {"max_steps": 4, "log_norms": True, "profile_steps": [2, 3]}
    train(config(tokens, tmp_path / "run", wanted, parallel={"activation_checkpointing": "full"}))
    assert json.loads((tmp_path / "run" / "trace-2-3.json").read_text())["traceEvents"]
    lines = [line for line in metrics(tmp_path / "run") if "lr" in line]
    groups = {"matrix", "embedding", "head", "vector"}
    for line in lines:
        assert set(line["gradient_norm"]) == set(line["update_norm"]) == groups
        parts = line["split_seconds"]
        assert set(parts) == {"data", "forward", "backward", "optimizer", "logging"}
        assert parts["forward"] > 0 and parts["backward"] > 0 and parts["optimizer"] > 0


def test_what_is_watched_may_change_between_a_run_and_its_continuation(tokens: Path, tmp_path: Path) -> None:
    limits = {"max_steps": 4, "save_every": 2}
    train(config(tokens, tmp_path / "run", limits))
    again = train(
        config(
            tokens,
            tmp_path / "run",
            limits | {"log_norms": True, "profile_steps": [1, 2]},
            parallel={"activation_checkpointing": "selective"},
        )
    )
    assert again["steps"] == 4


def test_tensorboard_beside_metrics(tokens: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that are not ours
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        settings = config(tokens, tmp_path / "run", {"max_steps": 3}, tracking=[{"name": "tensorboard"}])
        train(settings)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("valid_loss")] == [0, 3]


@pytest.mark.parametrize(("seq_len", "fits"), [(32, True), (40, False)])
def test_rows_that_fp8_does_not_take_are_refused_at_the_start(tmp_path: Path, seq_len: int, fits: bool) -> None:
    values = config(tmp_path, tmp_path / "run", {"max_steps": 1, "micro_batch_size": 3}, precision="fp8")
    values["data"]["seq_len"] = seq_len
    if fits:
        assert PretrainConfig.model_validate(values)
        return
    with pytest.raises(ValueError, match="precision: fp8 .*data.seq_len is 40: set data.seq_len to 32"):
        PretrainConfig.model_validate(values)


def test_fp16_is_answered_with_bf16() -> None:
    with pytest.raises(ConfigError, match="not 'fp16'; did you mean `bf16`"):
        load_config(PretrainConfig, QUICKSTART, ["precision=fp16"])


def test_fp8_without_such_a_gpu_ends_with_what_is_needed(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="precision=fp8 needs an NVIDIA GPU"):
        train(config(tokens, tmp_path / "run", {"max_steps": 1}, precision="fp8"))


def test_a_missing_tracker_is_found_before_anything_is_removed(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = config(tokens, tmp_path / "run", {"max_steps": 1})
    train(values)
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    wanted = PretrainConfig.model_validate(values | {"tracking": [{"name": "tensorboard"}]})
    with pytest.raises(MachineError, match=r"llmforge\[tensorboard\]"):
        run(wanted, Console(quiet=True, json=True), resume="never")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == kept


def test_a_run_that_was_at_its_end_tells_the_rate_that_it_had(tokens: Path, tmp_path: Path) -> None:
    values = config(tokens, tmp_path / "run", {"max_steps": 3})
    first, again = train(values), train(values)
    for key in ("tokens_per_second", "mfu"):
        assert again[key] == pytest.approx(first[key], rel=0.01) and again[key] > 0


@pytest.mark.parametrize("tracking", [[{"name": "csv"}], [{"name": "tensorboard", "project": "x"}]])
def test_trackers_that_are_none(tokens: Path, tmp_path: Path, tracking: list[dict[str, str]]) -> None:
    with pytest.raises(ValueError, match="tracking"):
        PretrainConfig.model_validate(config(tokens, tmp_path / "run", {"max_steps": 1}, tracking=tracking))
