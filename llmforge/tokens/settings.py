"""What a person may set about the text of pre-training: sources, their weights over the run, how rows are filled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)

from llmforge.config.schema import Config


class TokenSource(Config):
    """One folder of token shards in the mixture."""

    name: str = Field(
        "text",
        min_length=1,
        description="how messages, stages and trace call it; the folder's documents keep the sources they came with",
    )
    path: str = Field(min_length=1, description="a tokens folder, or the run folder of `tokenize`")
    label: Annotated[str, Field(min_length=1)] | Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        None, description="only its documents with this label, or one of these, from `clean`'s classify; null: all"
    )
    weight: NonNegativeFloat = Field(1.0, description="its share of the rows is its weight over the sum of all weights")
    max_repetition: PositiveFloat | None = Field(
        None, description="how often each row of it may come at most; null: no limit"
    )

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels to take; None for all documents."""
        return (self.label,) if isinstance(self.label, str) else self.label


class StageWeights(Config):
    """Other weights from a step on."""

    start_step: NonNegativeInt = Field(description="the first step with these weights, counted from 0")
    weights: dict[str, NonNegativeFloat] = Field(
        min_length=1, description="source name -> weight; a source that is not named gives no rows in this stage"
    )

    @field_validator("weights")
    @classmethod
    def _something_is_left(cls, weights: dict[str, float]) -> dict[str, float]:
        if not any(weights.values()):
            raise ValueError("every weight is 0: no source would be left")
        return weights


class PretrainDataSettings(Config):
    """What is read in which pieces."""

    sources: Annotated[tuple[TokenSource, ...], Field(min_length=1, description="folders of token shards to mix")]
    stages: tuple[StageWeights, ...] = Field(
        (), description="weights that change over the run; before the first stage the sources' own weights hold"
    )
    when_exhausted: Literal["redistribute", "refuse"] = Field(
        "redistribute",
        description="when max_repetition ends a source before the run: its share goes to the others, or no run at all",
    )
    packing: Literal["concatenate", "best_fit"] = Field(
        "concatenate",
        description="rows from the stream of all documents, or of whole documents side by side where they fit",
    )
    valid: str | None = Field(
        None,
        description="a tokens folder whose `valid` split (or else `train`) is held out; null: the sources' own",
    )
    seq_len: int = Field(256, gt=0, le=2**24, description="tokens of a row: what the model sees at once")
    document_mask: bool = Field(False, description="attention stays inside a document, and positions restart with each")

    @field_validator("sources")
    @classmethod
    def _told_apart(cls, sources: tuple[TokenSource, ...]) -> tuple[TokenSource, ...]:
        names = [source.name for source in sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are called {', '.join(twice)}: give each its own name")
        return sources

    @field_validator("stages")
    @classmethod
    def _in_order(cls, stages: tuple[StageWeights, ...], info: ValidationInfo) -> tuple[StageWeights, ...]:
        names = [source.name for source in info.data.get("sources", ())]
        for number, stage in enumerate(stages):
            unknown = sorted(set(stage.weights) - set(names))
            if unknown and names:
                known = f"the sources are {', '.join(names)}"
                raise ValueError(f"weights of stage {number} name {', '.join(unknown)}, which is no source; {known}")
        for earlier, later in zip(stages, stages[1:], strict=False):
            if later.start_step <= earlier.start_step:
                raise ValueError(f"start_step {later.start_step} comes behind {earlier.start_step}: they have to rise")
        return stages

    @model_validator(mode="after")
    def _consistent(self) -> PretrainDataSettings:
        own_weights_hold = not self.stages or self.stages[0].start_step > 0
        if own_weights_hold and not any(source.weight for source in self.sources):
            raise ValueError("every source has weight 0: give one of sources.*.weight, or a stage with start_step 0")
        return self

    def stage_weights(self, stage: StageWeights) -> tuple[float, ...]:
        """A stage's weights in the order of the sources."""
        return tuple(stage.weights.get(source.name, 0.0) for source in self.sources)
