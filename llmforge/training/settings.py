"""What a person may set about training; torch-free. The stages that train compose these classes.

Knows no model, no data and no device.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from llmforge.config.schema import Config

MAX_COUNT = 2**53  # what a float still counts exactly
Count = Annotated[int, Field(gt=0, le=MAX_COUNT)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Compile = bool | Literal["auto", "layers"]
FP8_MULTIPLE = 16  # of what a product sums over, as the kernels want it
BUDGETS = ("max_steps", "max_tokens", "num_epochs", "max_minutes")


class EarlyStopping(Config):
    """Ends a run whose validation loss no longer falls, and puts the best weights back."""

    # evaluations in a row without a better loss before the run ends
    patience: PositiveInt = 3
    # a loss counts as better when it is lower by more than this
    min_delta: NonNegativeFloat = 0.0


class Spikes(Config):
    """Goes back to a saved state when a loss is not finite or leaps up, and leaves out the data that did it."""

    # a loss that leaps up by this many robust standard deviations is a spike
    threshold: Annotated[float, Field(gt=0, le=1e6)] = 12.0
    # steps before whose leaps make the spread; losses are judged when there are so many
    window: Annotated[int, Field(ge=8, le=2**16)] = 64
    # steps whose data is left out, the guilty one last; twice as many where it spikes again at once
    skip_steps: Annotated[int, Field(gt=0, le=2**10)] = 1
    # times that a run may go back before it gives up
    max_rewinds: Annotated[int, Field(gt=0, le=16)] = 5


class Averaging(Config):
    """An exponential moving average of the weights, which is what is validated and published in their place.

    It evens out the noise that a high rate leaves (Polyak and Juditsky 1992, https://doi.org/10.1137/0330046; for
    networks https://arxiv.org/abs/2411.18704). Young averages look back less: a step keeps (1 + step) / (10 + step) of
    them while that is below `decay`.
    """

    # share of the average that each step keeps: it looks back over about 1 / (1 - decay) steps
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.99


class TrainSettings(Config):
    """The loop: how much a step takes, how long the run is, how often it reports and saves."""

    alternatives = (BUDGETS, ("global_batch_size", "global_batch_tokens"))

    # rows that go through the model at once; changes speed and memory, not the result
    micro_batch_size: Annotated[int, Field(gt=0, le=2**20)] = 16
    # rows of one optimizer step over all micro-batches and processes; by default one micro-batch
    global_batch_size: Annotated[int, Field(gt=0, le=2**24)] | None = None
    # the same in tokens, rounded down to whole rows; auto: by the run's tokens (pretrain; training/recipe.py)
    global_batch_tokens: Count | Literal["auto"] | None = None
    # the length of the run: exactly one of these four
    max_steps: Count | None = None
    # auto: 20 tokens for each weight that a token is multiplied with (pretrain)
    max_tokens: Count | Literal["auto"] | None = None
    num_epochs: PositiveFloat | None = None
    # wall-clock budget, evaluations included; how many steps fit depends on the machine, so only the other three give
    # the same weights again
    max_minutes: PositiveFloat | None = None
    # gradients with a larger norm are scaled down to it; null: no clipping
    max_grad_norm: PositiveFloat | None = None
    # steps between two lines of metrics.jsonl
    log_every: Count = 10
    # steps between two validations; null: only before the first and after the last step
    eval_every: Count | None = None
    # tokens that a validation within the run looks at; the last one takes the whole split. null: always the whole
    eval_tokens: Count | None = 65_536
    # steps between two saved states; null: only when stopped and at the end
    save_every: Count | None = 500
    # steps between two samples of text; null: none
    sample_every: Count | None = None
    # saved states that are kept (two are kept at least); with early stopping the best one's too
    keep_last: PositiveInt = 2
    # states of every so many steps are kept for good, a multiple of save_every; null: none
    keep_every: Count | None = None
    early_stopping: EarlyStopping | None = None
    # null: a step that is not finite is not applied, three in a row end the run, and no loss is too high
    spikes: Spikes | None = None
    # adds the norms of gradients and of what a step changes, by group of parameters, to the lines of metrics.jsonl
    log_norms: bool = False
    # [first, last]: a trace of these steps (counted from 1) is written into the run folder
    profile_steps: tuple[Count, Count] | None = None
    # share of what attention and MLP add to the residual stream that is left out by chance: against learning by heart
    # what is seen often (https://jmlr.org/papers/v15/srivastava14a.html). Not part of the model that comes out
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    # the weights averaged over the last steps take the place of the last ones; null: they do not
    average: Averaging | None = None
    # auto compiles the forward and backward pass when the run is long enough to gain from it; one layer for all of a
    # larger model (`layers`) when it is not much longer, since that takes a third of the time and gains a little less
    compile: Compile = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) != 1:
            found = "none is" if not given else " and ".join(given) + " are"
            raise ValueError(f"give exactly one of {', '.join(BUDGETS)}; {found} given")
        if self.global_batch_size is not None and self.global_batch_tokens is not None:
            raise ValueError("give global_batch_size or global_batch_tokens, not both")
        if self.profile_steps is not None and self.profile_steps[0] > self.profile_steps[1]:
            raise ValueError("profile_steps: the first step comes after the last")
        if self.early_stopping is not None and self.eval_every is None:
            raise ValueError("early_stopping needs eval_every: it looks at the validations within the run")
        if self.keep_every is not None and (self.save_every is None or self.keep_every % self.save_every):
            raise ValueError(f"keep_every must be a multiple of save_every, which is {self.save_every}")
        return self

    def batch_rows(self, row_tokens: int) -> int:
        """Rows of one optimizer step, when a row has `row_tokens` tokens."""
        assert self.global_batch_tokens != "auto", "a recipe is completed before it is used"
        if self.global_batch_tokens is not None:
            return max(1, self.global_batch_tokens // row_tokens)
        return self.global_batch_size or self.micro_batch_size


class OptimizerSettings(Config):
    """Muon for matrices and AdamW for the rest, or AdamW for all; what is not given takes the named one's default.

    muon: lr .04, betas (.8, .95), no weight decay, momentum .95, and the ratios below.
    adamw: lr 1e-3, betas (.9, .95), weight decay .1 (on matrices and embeddings only).
    """

    name: Literal["muon", "adamw"] = "muon"
    # rate at the top of the schedule; with muon that of the matrices. auto: by the width (pretrain; training/recipe.py)
    lr: Annotated[float, Field(gt=0, le=100)] | Literal["auto"] | None = None
    weight_decay: Annotated[float, Field(ge=0, le=100)] | None = None
    # AdamW's averages of the gradient and of its square
    betas: tuple[Beta, Beta] | None = None
    eps: PositiveFloat = 1e-8
    # muon only: average of the gradients, reached from .85 over the first 300 steps
    momentum: Beta | None = None
    # muon only: rows of a matrix that are made orthogonal together, 0: all of them; 64 cost a quarter of the time or
    # less. auto: 64 where whole matrices would cost more than they give (training/recipe.py)
    block_rows: Annotated[int, Field(ge=0, le=2**20)] | Literal["auto"] | None = None
    # muon only, with block_rows: steps from one with whole matrices to the next, 0: none is whole
    block_period: Annotated[int, Field(ge=0, le=2**20)] | None = None
    # muon only: AdamW's rates for the other parameters, as multiples of lr
    embedding_lr_ratio: NonNegativeFloat | None = None
    head_lr_ratio: NonNegativeFloat | None = None
    vector_lr_ratio: NonNegativeFloat | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("name", "muon")
        foreign = [key for key in _MUON_ONLY if values.get(key) is not None] if name == "adamw" else []
        if foreign:
            raise ValueError(f"{', '.join(foreign)} only with name: muon")
        defaults = _DEFAULTS.get(name, {}) if isinstance(name, str) else {}
        return {**values, **{key: value for key, value in defaults.items() if values.get(key) is None}}


_MUON_ONLY = ("momentum", "block_rows", "block_period", "embedding_lr_ratio", "head_lr_ratio", "vector_lr_ratio")
_DEFAULTS: dict[str, dict[str, object]] = {
    "muon": {
        "lr": 0.04,
        "weight_decay": 0.0,
        "betas": (0.8, 0.95),
        "momentum": 0.95,
        "block_rows": "auto",
        "block_period": 0,
        "embedding_lr_ratio": 7.5,  # .3
        "head_lr_ratio": 0.075,  # .003
        "vector_lr_ratio": 0.5,  # .02
    },
    "adamw": {"lr": 1e-3, "weight_decay": 0.1, "betas": (0.9, 0.95)},
}


class SchedulerSettings(Config):
    """How the rates rise and fall over the run."""

    alternatives = (("warmup_steps", "warmup_ratio"),)

    # wsd: warm-up, constant, then linear down over the last part; cosine and linear: down from the warm-up on
    name: Literal["wsd", "cosine", "linear", "constant"] = "wsd"
    # steps over which the rates rise from zero; or the same as a share of the run. auto: 20, at most a tenth of the run
    warmup_steps: NonNegativeInt | Literal["auto"] | None = None
    warmup_ratio: Ratio | None = None
    # wsd only: the last part of the run, over which the rates fall
    decay_ratio: Ratio | None = None
    # where the rates end, as a share of their top
    min_lr_ratio: Ratio = 0.0

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        if filled.get("warmup_steps") is None and filled.get("warmup_ratio") is None:
            filled["warmup_steps"] = "auto"
        if filled.get("name", "wsd") == "wsd" and filled.get("decay_ratio") is None:
            filled["decay_ratio"] = 0.5
        return filled

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.warmup_steps is not None and self.warmup_ratio is not None:
            raise ValueError("give warmup_steps or warmup_ratio, not both")
        if self.decay_ratio is not None and self.name != "wsd":
            raise ValueError("decay_ratio only with name: wsd")
        if (self.warmup_ratio or 0.0) + (self.decay_ratio or 0.0) > 1:
            raise ValueError("warmup_ratio and decay_ratio together are more than the run")
        return self


class ParallelSettings(Config):
    """How several processes share the work; one process needs none of it."""

    # auto: one process alone, several as ddp (each holds the whole model) or fsdp2 (each holds a share) by what fits
    strategy: Literal["auto", "none", "ddp", "fsdp2"] = "auto"
    # neighbouring processes that share each layer's matrices, for models of which fsdp2's shares alone do not fit
    tensor_parallel: Annotated[int, Field(ge=1, le=1024)] = 1
    # a process that does not answer for so long ends the run, which says which one it was and what each did then
    timeout_seconds: Annotated[float, Field(ge=1, le=7 * 86_400)] = 600.0
    # what the backward pass makes anew instead of keeping it: nothing, all but products (selective), or whole layers
    activation_checkpointing: Literal["none", "selective", "full"] = "none"


def check_budget(train: TrainSettings, scheduler: SchedulerSettings) -> None:
    """Raises ValueError when a budget in minutes meets a schedule, or a batch, that must know how long the run is."""
    if train.max_minutes is None:
        return
    if train.global_batch_tokens == "auto":
        raise ValueError(
            "train.global_batch_tokens: auto must know how long the run is, which train.max_minutes leaves open; "
            "give a number"
        )
    if scheduler.name not in ("wsd", "constant"):
        raise ValueError(
            f"scheduler.name: {scheduler.name} must know the number of steps, which train.max_minutes leaves open; "
            "use wsd or constant, or give train.max_steps"
        )
    if scheduler.warmup_ratio is not None:
        raise ValueError(
            "scheduler.warmup_ratio must know the number of steps; with train.max_minutes give scheduler.warmup_steps"
        )


def check_fp8_rows(precision: str, row_tokens: int, key: str) -> None:
    """Raises ValueError when fp8's kernels do not take a weight's gradient, which sums over all tokens of its rows.

    Whole rows that are multiples go with any number of rows, as when memory runs out.
    """
    if precision == "fp8" and row_tokens % FP8_MULTIPLE:
        raise ValueError(
            f"precision: fp8 takes rows whose tokens are a multiple of {FP8_MULTIPLE}, and {key} is {row_tokens}: "
            f"set {key} to {max(1, row_tokens // FP8_MULTIPLE) * FP8_MULTIPLE}, or precision to bf16"
        )
