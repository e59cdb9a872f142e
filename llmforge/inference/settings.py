"""How tokens are drawn and when an answer ends. Loads no torch, so that a config can be checked without it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from llmforge.config.schema import Config

# Beyond any context of the supported families: a larger number is a slip of the hand, not a wish.
LARGEST_NEW_TOKENS = 1_048_576

Precision = Literal["auto", "fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
StopString = Annotated[str, Field(min_length=1, max_length=1024)]


class SamplingSettings(Config):
    """The chain from logits to an id (in this order: repetition penalty, temperature, top-k, top-p, min-p) and the end.

    `temperature: 0` or `do_sample: false` takes the likeliest token. The same prompt, seed and settings give the same
    answer, alone or in a batch.
    """

    max_new_tokens: int = Field(default=256, ge=1, le=LARGEST_NEW_TOKENS, description="most tokens of one answer")
    do_sample: bool = Field(default=True, description="false: always the likeliest token")
    temperature: float = Field(
        default=0.7, ge=0.0, le=100.0, description="below 1 sharper, above 1 flatter, 0 the likeliest"
    )
    top_k: int | None = Field(default=None, ge=1, description="draw among this many likeliest tokens only")
    top_p: float = Field(
        default=1.0, gt=0.0, le=1.0, description="draw among the fewest tokens with this much probability"
    )
    min_p: float = Field(
        default=0.0, ge=0.0, le=1.0, description="leave out tokens below this share of the likeliest one"
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0.0, le=100.0, description="above 1: seen tokens become less likely"
    )
    stop: tuple[StopString, ...] = Field(
        default=(), max_length=64, description="an answer ends before any of these texts"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="another seed, another draw")
    num_samples: int = Field(default=1, ge=1, le=4096, description="answers for each prompt")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken and nothing is drawn."""
        return not self.do_sample or self.temperature == 0.0

    @model_validator(mode="after")
    def _greedy_gives_one_answer(self) -> SamplingSettings:
        if self.greedy and self.num_samples > 1:
            raise ValueError(f"num_samples is {self.num_samples}, but without sampling all of them would be the same")
        return self
