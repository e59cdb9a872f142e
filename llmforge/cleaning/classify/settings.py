"""What a config says of classification: the examples to learn from or the model to use, and which labels stay."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints, model_validator

from llmforge.config.schema import Config

MAX_LABELS = 1000
LabelName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class FeatureSettings(Config):
    """What of a text is counted; a trained model keeps these with it."""

    words: int = Field(default=2, ge=1, le=3, description="runs of up to so many words or marks in a row are counted")
    characters: int = Field(
        default=0, ge=0, le=6, description="runs of so many bytes are counted too; 0: none, which is three times faster"
    )
    bits: int = Field(default=18, ge=8, le=22, description="runs are hashed into 2 to the power of so many counters")
    max_characters: int = Field(
        default=12_000, ge=100, le=1_000_000, description="of a longer text: its beginning, middle and end, so long"
    )


class TrainOn(Config):
    """The examples: a path for each label, or rows that name their label."""

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("labels", "path"),)

    labels: dict[LabelName, str] | None = Field(
        default=None, description="label: a file, folder or pattern of its texts, or python-docs"
    )
    path: str | None = Field(default=None, description="a file, folder or pattern of rows that name their label")
    text_key: str = Field(default="text", min_length=1, description="the field of a row that holds the text")
    label_key: str = Field(default="label", min_length=1, description="with path: the field that holds the label")
    group_key: str | None = Field(
        default=None, description="rows with the same value here are held out together (a book, a site)"
    )
    max_documents: int = Field(
        default=10_000, ge=20, le=1_000_000, description="of each label; of more, so many are drawn"
    )
    held_out: float = Field(
        default=0.1, ge=0.01, le=0.4, description="share that measures the model, and again so much that calibrates it"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="draws the documents and what is held out")
    features: FeatureSettings = Field(default=FeatureSettings(), description="what of a text is counted")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.labels is None) == (self.path is None):
            raise ValueError("needs exactly one of labels and path")
        if self.labels is not None and len(self.labels) < 2:
            raise ValueError("needs two labels at least: there is nothing to tell apart")
        if self.labels is not None and len(self.labels) > MAX_LABELS:
            raise ValueError(f"has more than {MAX_LABELS} labels")
        if self.path == "" or (self.labels is not None and "" in self.labels.values()):
            raise ValueError("a path is empty")
        return self


class ClassifySettings(Config):
    """A label and a score for each document, and which of them stay."""

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("model", "train_on"),)

    model: str | None = Field(default=None, description="a classifier folder, or the run folder of clean that made one")
    train_on: TrainOn | None = Field(default=None, description="the examples to train one on first")
    keep: list[LabelName] | None = Field(
        default=None, min_length=1, description="labels that stay; null: all, label and score go into the metadata"
    )
    min_score: float = Field(
        default=0.5, ge=0, le=1, description="with keep: how probable the kept labels must be together"
    )
    label: str = Field(
        default="label", min_length=1, max_length=100, description="the metadata field; the score is in <it>_score"
    )

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if (self.model is None) == (self.train_on is None):
            raise ValueError("needs exactly one of model and train_on")
        if self.model == "":
            raise ValueError("model is empty")
        if self.keep is not None and len(set(self.keep)) < len(self.keep):
            raise ValueError("keep names a label twice")
        if self.keep is not None and self.train_on is not None and self.train_on.labels is not None:
            unknown = [label for label in self.keep if label not in self.train_on.labels]
            if unknown:
                raise ValueError(f"keep names {', '.join(unknown)}, which is no label of train_on")
        return self
