"""What a low-rank adapter is made of; torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat

from llmforge.config.schema import Config

TargetModule = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ALL_LINEAR: tuple[TargetModule, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraSettings(Config):
    """Two thin matrices beside each target: W x + alpha / r · B A x (https://arxiv.org/abs/2106.09685)."""

    # rank: rows of A and columns of B
    r: Annotated[int, Field(gt=0, le=4096)] = 16
    # the adapter's part is multiplied with alpha / r
    alpha: PositiveFloat = 32.0
    # share of the adapter's inputs set to zero in training
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[tuple[TargetModule, ...], Field(min_length=1)] = ALL_LINEAR

    @property
    def scale(self) -> float:
        """What B A x is multiplied with."""
        return self.alpha / self.r
