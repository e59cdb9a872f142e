"""What a person may set about fine-tuning data; torch-free."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from llmforge.config.schema import Config

RowFormat = Literal["auto", "messages", "alpaca", "prompt_completion"]
Place = Annotated[str, Field(min_length=1)]


class ConversationData(Config):
    """Where conversations come from and how they become rows of tokens."""

    train: Annotated[list[Place], Field(min_length=1)] = Field(
        description="files, folders or patterns of .jsonl, .json, .parquet, or python-docs:conversations"
    )
    valid: Place | None = Field(None, description="held-out conversations in the same form")
    valid_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of the train rows that is held out instead, by a hash of the text"
    )
    format: RowFormat = Field("auto", description="auto: by the keys of each row")
    train_on: Literal["assistant", "last", "all"] = Field(
        "assistant", description="every answer and its end token, the last answer only, or every token"
    )
    packing: bool = Field(True, description="several conversations share a row; none sees another")
    max_length: Annotated[int, Field(ge=8, le=2**24)] | None = Field(
        None, description="tokens of a row; null: the model's context"
    )

    @model_validator(mode="after")
    def _one_held_out(self) -> Self:
        if self.valid is not None and self.valid_fraction:
            raise ValueError("give valid or valid_fraction, not both (valid=null takes back what a file says)")
        return self
