"""What `auto` becomes, by hand; and that it is refused where its rules do not hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import llmforge
from llmforge.stages.finetune import FinetuneConfig
from llmforge.training import recipe
from llmforge.training.settings import OptimizerSettings, SchedulerSettings, TrainSettings, check_budget

SIZE = recipe.Size(width=512, parameters=10_000_000, row_tokens=256)


def never() -> int:
    raise AssertionError("nobody asked for the epoch")


def settings(**keys: object) -> TrainSettings:
    return TrainSettings.model_validate(keys)


def test_tokens_are_twenty_a_parameter() -> None:
    assert recipe.run_tokens(10_000_000) == 200_000_000


def test_the_batch_grows_as_the_published_power_from_its_anchor() -> None:
    assert recipe.batch_tokens(2_000_000, 256) == 4096
    # 2^(1 / .383) = 6.108: that many times the tokens, twice the batch
    assert recipe.batch_tokens(2_000_000 * 6.108, 256) == 8192
    assert recipe.batch_tokens(2_000_000 / 6.108, 256) == 2048
    # (10^9 / 2 x 10^6)^.383 = 10.81: 44,270 tokens are 43.2 rows of 1,024, nearest to 32 or 64 by ratio: 32
    assert recipe.batch_tokens(1_000_000_000, 1024) == 32 * 1024
    assert recipe.batch_tokens(10, 1024) == 1024


@given(steps=st.integers(1, 1_000_000))
def test_a_batch_for_steps_is_the_batch_for_the_tokens_they_make(steps: int) -> None:
    found = recipe.batch_tokens_of_steps(steps, 1)
    exact = (4096 * (steps / 2_000_000) ** 0.383) ** (1 / 0.617)
    assert max(1, exact) / 2**0.5 * 0.999 <= found <= max(1, exact) * 2**0.5 * 1.001
    assert recipe.batch_tokens(steps * exact, 1) == found


def test_rates() -> None:
    assert [recipe.rate("muon", width) for width in (64, 256, 4096)] == [0.04] * 3
    assert [recipe.rate("adamw", width) for width in (128, 256, 1024)] == [2e-3, 1e-3, 2.5e-4]


def test_everything_left_to_auto() -> None:
    train = settings(max_tokens="auto", global_batch_tokens="auto")
    made = recipe.complete(train, OptimizerSettings(lr="auto"), SIZE, never)
    # (2 x 10^8 / 2 x 10^6)^.383 = 5.83: 23,900 tokens are 93 rows; 64 x sqrt 2 is 90.5, so 128
    assert made.chosen == {
        "train.max_tokens": 200_000_000,
        "train.global_batch_tokens": 128 * 256,
        "optimizer.lr": 0.04,
        "optimizer.block_rows": 0,
    }
    assert made.train.max_tokens == 200_000_000 and made.train.batch_rows(256) == 128 and made.optimizer.lr == 0.04
    lines = ["train.max_tokens=200,000,000", "train.global_batch_tokens=32,768", "optimizer.lr=0.04"]
    assert made.lines == [*lines, "optimizer.block_rows=0"]
    assert train.max_tokens == "auto", "what was given stays as it is"


def test_blocks_where_the_iteration_is_more_than_a_quarter_of_a_step() -> None:
    # 20 x 512 FLOP a weight beside 6 x 4,096: 42 %; at width 256 21 %; 124M on GPUs: half a percent
    assert [recipe.block_rows(width, 4096) for width in (512, 384, 256)] == [64, 64, 0]
    assert recipe.block_rows(768, 524_288) == 0 and recipe.block_rows(128, 768) == 64
    # at width 512, rows of 256 tokens
    for rows, wanted in ((8, 64), (64, 0)):
        made = recipe.complete(
            settings(max_steps=5, micro_batch_size=1, global_batch_size=rows), OptimizerSettings(), SIZE, never
        )
        assert made.optimizer.block_rows == made.chosen["optimizer.block_rows"] == wanted
    given_rows = OptimizerSettings(block_rows=16)
    assert recipe.complete(settings(max_steps=5), given_rows, SIZE, never).optimizer == given_rows


def test_the_length_that_the_batch_follows() -> None:
    def rows(**keys: object) -> int:
        train = settings(global_batch_tokens="auto", **keys)
        return recipe.complete(train, OptimizerSettings(), SIZE, lambda: 1_000_000).train.batch_rows(256)

    assert rows(max_tokens=2_000_000) == rows(num_epochs=2) == 16
    assert rows(max_steps=2_000_000 // 4096) == 16


def test_numbers_stay() -> None:
    train, optimizer = settings(max_steps=5), OptimizerSettings(name="adamw", lr=3e-3)
    made = recipe.complete(train, optimizer, SIZE, never)
    assert (made.train, made.optimizer, made.chosen) == (train, optimizer, {})


def test_minutes_leave_a_batch_open() -> None:
    with pytest.raises(ValueError, match=r"max_minutes leaves open.*give a number"):
        check_budget(settings(max_minutes=1, global_batch_tokens="auto"), SchedulerSettings())


@pytest.mark.parametrize("keys", [{"train": {"max_tokens": "auto"}}, {"optimizer": {"lr": "auto"}}])
def test_fine_tuning_has_no_such_rules(keys: dict[str, dict[str, object]]) -> None:
    config = {
        "output_dir": "x",
        "base_model": "y",
        "data": {"train": ["z.jsonl"]},
        "train": {"max_steps": 5},
        **keys,
    }
    with pytest.raises(ValidationError, match="auto is for pretrain only"):
        FinetuneConfig.model_validate(config)


def test_other_words_are_refused() -> None:
    with pytest.raises(ValidationError):
        OptimizerSettings.model_validate({"lr": "automatic"})


def test_no_torch_is_loaded() -> None:
    code = "import sys; import llmforge.training.recipe; print([n for n in ('torch', 'numpy') if n in sys.modules])"
    root = Path(llmforge.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert ran.stdout.strip() == "[]"
