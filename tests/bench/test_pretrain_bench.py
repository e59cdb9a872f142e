"""The training bench: shapes that compare, ratios and shares by hand, tokens and a config that the command takes."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from llmforge.model.config import ModelConfig, ModelSettings
from llmforge.stages.pretrain import PretrainConfig
from llmforge.tokens.folder import TokenFolder

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    import pretrain

    return pretrain


def model_of(bench: ModuleType, name: str) -> ModelConfig:
    shape = bench.SHAPES[name]
    config = bench.ours.settings(shape, Path("tokens"), Path("run"), "muon", 50)
    return ModelSettings.model_validate(config["model"]).resolve(shape.vocabulary, shape.length)


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_our_model_costs_what_a_gpt_of_the_shape_costs(bench: ModuleType, name: str) -> None:
    ours, gpt = model_of(bench, name).flops_per_token(bench.SHAPES[name].length), bench.SHAPES[name].flops_per_token
    assert abs(ours / gpt - 1) < 0.02


def test_the_sizes_are_those_of_the_reference(bench: ModuleType) -> None:
    millions = [model_of(bench, name).num_parameters / 1e6 for name in "ABC"]
    assert millions == pytest.approx([0.8, 10.7, 33.6], rel=0.03)


def test_rates_become_shares_and_ratios_within_a_round(bench: ModuleType) -> None:
    shape = bench.Shape(layers=1, width=10, heads=1, length=5, rows=2, vocabulary=20, mlp=27)
    assert shape.flops_per_token == 6 * (1200 + 200) + 600

    def runs(*rates: float) -> list[dict[str, float]]:
        made = {"peak_memory_bytes": 7, "first_step_seconds": 1.0, "first_step_processor_seconds": 1.0, "parameters": 3}
        return [{"tokens_per_second": rate, "tokens_per_processor_second": 7.0, **made} for rate in rates]

    found = {
        "llmforge_muon": runs(100, 60, 90),
        "transformers": runs(20, 20, 30),
        "litgpt": runs(50, 50, 60),
    }
    rest = {"fp32_second": 1e6, "fp32_processor_second": 1e6, "bf16_processor_second": 9e6}
    peaks = [{"bf16_second": rate, **rest} for rate in (9e6, 4.5e6, 9e6)]
    result = bench.summary(shape, found, peaks)
    assert result["best_peer"] == "litgpt"
    assert result["ratio_to_best_peer"] == {"muon": 1.5}  # of 2, 1.2 and 1.5
    assert result["ours"]["muon"]["ratio_to_transformers"] == 3.0  # of 5, 3 and 3
    assert result["share_of_matmul_peak"] == {"muon": 0.1}  # of .1, .12 and .09
    by_processor = bench.summary(shape, found, peaks, "processor_second")
    assert by_processor["ratio_to_best_peer"] == {"muon": 1.0}
    assert result["peak_gflops"]["bf16"] == 0 and result["rounds"] == 3


def test_the_command_takes_what_the_bench_makes(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.ours, "_TRAIN", 3000)
    monkeypatch.setattr(bench.ours, "_VALID", 300)
    shape = bench.SHAPES["A"]
    tokens = TokenFolder.open(bench.ours.make_tokens(tmp_path / "made", shape))
    assert tokens.vocab_size == shape.vocabulary
    assert tokens.split("train").num_tokens >= 3000 and tokens.split("valid").num_tokens >= 300
    config = PretrainConfig.model_validate(
        bench.ours.settings(shape, tmp_path / "made" / "tokens", tmp_path / "run", "adamw", 50)
    )
    assert config.train.compile is True and config.train.log_every == 10 and config.train.eval_every == 25


def test_a_watch_counts_steps_after_the_warm_ones(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import pretrain_watch

    times = [0.0, 9.0, 10.0, 11.0, 13.0, 15.0, 17.0, 20.0]
    wall, processor = iter(times), iter(time / 4 for time in times)
    monkeypatch.setattr(pretrain_watch.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(pretrain_watch.time, "process_time", lambda: next(processor))
    watch = pretrain_watch.Watch(seconds=5.0)
    assert [watch.done() for _ in range(7)] == [False] * 6 + [True]
    found = watch.result(bench.SHAPES["A"], 5)
    assert found["tokens_per_second"] == bench.SHAPES["A"].tokens / 2.0
    assert found["tokens_per_processor_second"] == bench.SHAPES["A"].tokens / 0.5
    assert found["first_step_seconds"] == 7.0
