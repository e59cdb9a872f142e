"""What a config leaves to `auto`: the length of the run, the batch and the rate, from the size of the model.

`complete` makes settings with numbers of settings with `auto`; each rule is a function of its own with its source.
Torch-free, so that a dry run shows what a run would take. Knows no model: it is told its `Size`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llmforge.training.settings import OptimizerSettings, TrainSettings

# Tokens for each weight at which a fixed number of FLOP gives the lowest loss (https://arxiv.org/abs/2203.15556).
TOKENS_PER_PARAMETER = 20
# The anchor: 4,096 tokens a step is what the recipes for runs of about two million tokens were found with (half of it
# costs .016 of loss on tinyshakespeare; more than it was not tried).
BATCH_TOKENS, BATCH_AT = 4096, 2_000_000
# How the best batch grows with the tokens of a run (https://arxiv.org/abs/2505.13738, "Power Lines").
BATCH_EXPONENT = 0.383
# The defaults' rates; scripts/bench/lr_sweep.py shows how they carry over to other widths.
MUON_RATE = 0.04
ADAMW_RATE, ADAMW_WIDTH = 1e-3, 256
# Muon's iteration takes about 20 FLOP for each weight and unit of width, the passes 6 for each weight and token.
MUON_FLOPS, TOKEN_FLOPS = 20, 6
BLOCK_ROWS, BLOCKS_FROM = 64, 0.25


@dataclass(frozen=True)
class Size:
    """What the rules look at: the width (`hidden_size`), weights that a token is multiplied with, tokens of a row."""

    width: int
    parameters: int
    row_tokens: int


@dataclass(frozen=True)
class Completed:
    """Settings with numbers, and what was chosen, by the keys' dotted names."""

    train: TrainSettings
    optimizer: OptimizerSettings
    chosen: dict[str, float] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """What was chosen, as key=value."""
        shown = (
            (key, f"{value:,}" if isinstance(value, int) else f"{value:.6g}") for key, value in self.chosen.items()
        )
        return [f"{key}={value}" for key, value in shown]


def run_tokens(parameters: int) -> int:
    """Tokens of a run that makes the most of its FLOP: 20 a parameter."""
    return TOKENS_PER_PARAMETER * parameters


def batch_tokens(tokens: float, row_tokens: int) -> int:
    """Tokens of a step for a run of so many: 4,096 at two million, growing as tokens^.383; a power of two of rows.

    The exponent is published, the anchor our own: at a billion tokens the rule gives 45,000, where the published fit
    says 170,000. A smaller batch costs speed on many GPUs, and not loss.
    """
    wanted = BATCH_TOKENS * (tokens / BATCH_AT) ** BATCH_EXPONENT / row_tokens
    rows = 1
    while rows * 2**0.5 < wanted:
        rows *= 2
    return rows * row_tokens


def batch_tokens_of_steps(steps: int, row_tokens: int) -> int:
    """The same for a run of so many steps: the batch B with B = rule(steps x B)."""
    alone = BATCH_TOKENS * (steps / BATCH_AT) ** BATCH_EXPONENT  # B = alone * B^.383
    return batch_tokens(steps * alone ** (1 / (1 - BATCH_EXPONENT)), row_tokens)


def rate(name: str, width: int) -> float:
    """The rate at the top of the schedule.

    muon: .04 at every width. Its update is orthogonal, of size 1 in every direction, and is multiplied with
    sqrt(max(1, rows / columns)), which makes the change of a layer's output independent of the width
    (https://kellerjordan.github.io/posts/muon/, https://arxiv.org/abs/2410.21265).
    adamw: 1e-3 at width 256 and falling as 1 / width, as muP has it for matrices (https://arxiv.org/abs/2203.03466).
    """
    return MUON_RATE if name == "muon" else ADAMW_RATE * ADAMW_WIDTH / width


def block_rows(width: int, tokens: int) -> int:
    """Rows that Muon makes orthogonal together when a step has so many tokens: 64, or 0 for whole matrices.

    Whole matrices learn a little more a step and blocks take more steps a minute. Where the iteration would add more
    than a quarter to the FLOP of a step the losses after equal minutes are equal (README, decisions), and blocks have
    read more text by then.
    """
    return BLOCK_ROWS if MUON_FLOPS * width > BLOCKS_FROM * TOKEN_FLOPS * tokens else 0


def with_blocks(optimizer: OptimizerSettings, width: int, tokens: int) -> OptimizerSettings:
    """The settings with a number for `block_rows: auto`, for a model of a width and steps of so many tokens."""
    if optimizer.block_rows != "auto":
        return optimizer
    return optimizer.model_copy(update={"block_rows": block_rows(width, tokens)})


def complete(train: TrainSettings, optimizer: OptimizerSettings, size: Size, epoch: Callable[[], int]) -> Completed:
    """The settings with a number for every `auto`; `epoch` says the tokens of one, and is asked only when needed."""
    chosen: dict[str, float] = {}
    if train.max_tokens == "auto":
        chosen["train.max_tokens"] = run_tokens(size.parameters)
        train = train.model_copy(update={"max_tokens": run_tokens(size.parameters)})
    if train.global_batch_tokens == "auto":
        batch = _batch(train, size.row_tokens, epoch)
        chosen["train.global_batch_tokens"] = batch
        train = train.model_copy(update={"global_batch_tokens": batch})
    if optimizer.lr == "auto":
        chosen["optimizer.lr"] = rate(optimizer.name, size.width)
        optimizer = optimizer.model_copy(update={"lr": rate(optimizer.name, size.width)})
    if optimizer.block_rows == "auto":
        optimizer = with_blocks(optimizer, size.width, train.batch_rows(size.row_tokens) * size.row_tokens)
        assert isinstance(optimizer.block_rows, int)
        chosen["optimizer.block_rows"] = optimizer.block_rows
    return Completed(train, optimizer, chosen)


def _batch(train: TrainSettings, row_tokens: int, epoch: Callable[[], int]) -> int:
    if train.max_steps is not None:
        return batch_tokens_of_steps(train.max_steps, row_tokens)
    if train.max_tokens is not None:
        assert train.max_tokens != "auto", "the length is completed first"
        return batch_tokens(train.max_tokens, row_tokens)
    assert train.num_epochs is not None, "check_budget refuses a batch of auto with minutes"
    return batch_tokens(train.num_epochs * epoch(), row_tokens)


def refuse_auto(train: TrainSettings, optimizer: OptimizerSettings) -> None:
    """Raises ValueError where `auto` stands in settings that are not for pre-training, which its rules are for."""
    named = {
        "train.max_tokens": train.max_tokens,
        "train.global_batch_tokens": train.global_batch_tokens,
        "optimizer.lr": optimizer.lr,
    }
    found = [key for key, value in named.items() if value == "auto"]
    if found:
        raise ValueError(f"{', '.join(found)}: auto is for pretrain only; give a number")
