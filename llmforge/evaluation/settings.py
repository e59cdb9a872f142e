"""What a person may set about the tasks of an evaluation; torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from llmforge.config.schema import Config
from llmforge.evaluation.extraction import check_pattern

Limit = Annotated[int, Field(ge=1)]
Shots = Annotated[int, Field(ge=0, le=1000)]
Pattern = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(check_pattern)]
NAMES = ("bits_per_byte", "multiple_choice", "exact_match")


class _Rows(Config):
    label: str | None = Field(None, min_length=1, description="what the scores are listed under; null: the name")
    limit: Limit | None = Field(None, description="a random sample of so many items; null: as the evaluation says")


class BitsPerByteTask(_Rows):
    """How well the model foresees text: the fewer bits a byte, the better."""

    name: Literal["bits_per_byte"] = "bits_per_byte"
    path: str = Field(min_length=1, description="rows with `text`, or a corpus folder (its valid split is taken)")
    overlap: float = Field(
        0.5, ge=0, le=0.9, description="of a long text's windows: the share that is only read again, not scored"
    )


class MultipleChoiceTask(_Rows):
    """Which of the choices the model finds likeliest, against the right one."""

    name: Literal["multiple_choice"] = "multiple_choice"
    path: str = Field("python-docs:choices", min_length=1, description="rows with `query`, `choices` and `gold`")
    num_fewshot: Shots | None = Field(None, description="solved items in front; null: as the evaluation says")


class ExactMatchTask(_Rows):
    """Whether the likeliest answer, written out, is the right one."""

    name: Literal["exact_match"] = "exact_match"
    path: str = Field(
        "python-docs:questions", min_length=1, description="rows with `query` or `messages`, and `answer`"
    )
    num_fewshot: Shots | None = Field(None, description="solved items in front; null: as the evaluation says")
    max_new_tokens: int = Field(128, ge=1, le=1_048_576, description="most tokens of an answer")
    stop: tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...] = Field(
        (), max_length=64, description="an answer ends before any of these texts"
    )
    answer_pattern: Pattern | None = Field(None, description="a regular expression; its last match is the answer")


TaskSettings = Annotated[BitsPerByteTask | MultipleChoiceTask | ExactMatchTask, Field(discriminator="name")]
