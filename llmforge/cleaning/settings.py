"""The config of `llmforge clean`: the settings of its parts, together."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from llmforge.cleaning.classify.settings import ClassifySettings
from llmforge.cleaning.decontaminate.settings import DecontaminateSettings
from llmforge.cleaning.dedup.keep import CLASSIFIER
from llmforge.cleaning.dedup.settings import DedupSettings
from llmforge.cleaning.language import LanguageSettings
from llmforge.cleaning.pii.anonymize import AnonymizeSettings
from llmforge.cleaning.repair import RepairSettings
from llmforge.cleaning.rules.fineweb import FineWeb
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.rules.gopher_repetition import GopherRepetition
from llmforge.cleaning.rules.rule_sets import RuleSet
from llmforge.cleaning.scale import ScaleSettings
from llmforge.cleaning.splits import SplitSettings
from llmforge.config.schema import Config
from llmforge.corpus.folder import ZSTD_LEVEL
from llmforge.corpus.rows import is_built_in
from llmforge.corpus.source_config import SourceConfig


class OutputSettings(Config):
    """How the corpus is stored."""

    format: Literal["jsonl.zst", "parquet"] = Field(default="jsonl.zst", description="of the shards")
    shard_bytes: int = Field(
        default=256 << 20, ge=1 << 10, le=1 << 40, description="rows of so many bytes go in one shard"
    )
    level: int = Field(
        default=ZSTD_LEVEL, ge=1, le=19, description="of zstd: 1 writes fast, 19 takes the least space and far longer"
    )


class CleanConfig(Config):
    """Raw text to a corpus folder."""

    output_dir: str = Field(min_length=1, description="the run folder; the corpus is its subfolder corpus/")
    sources: list[SourceConfig] = Field(min_length=1, description="where text comes from, read in this order")
    workers: Literal["auto"] | int = Field(default="auto", description="processes; the result does not depend on it")
    max_bad_fraction: float = Field(
        default=0.01, ge=0, le=1, description="unreadable rows beyond this share fail the run"
    )
    keep_parts: bool = Field(
        default=True, description="keep what was measured (parts/), so that other thresholds measure nothing again"
    )
    repair: RepairSettings | None = Field(default=RepairSettings(), description="mending of characters; null: none")
    language: LanguageSettings | None = Field(default=None, description="languages to keep; null: all")
    rules: list[RuleSet] = Field(
        default=[GopherQuality(), GopherRepetition(), FineWeb()], description="rule sets, applied in this order"
    )
    anonymize: AnonymizeSettings | None = Field(default=None, description="personal data; null: left as it is")
    dedup: DedupSettings = Field(default=DedupSettings(), description="duplicates")
    decontaminate: DecontaminateSettings | None = Field(
        default=None, description="evaluation items that must not be in the corpus; null: not looked for"
    )
    classify: ClassifySettings | None = Field(
        default=None, description="a label for each document, by a trained classifier; null: none"
    )
    split: SplitSettings = Field(default=SplitSettings(), description="what is held out for validation")
    scale: ScaleSettings | None = Field(default=None, description="other machines that measure; null: this one alone")
    output: OutputSettings = Field(default=OutputSettings(), description="how the corpus is stored")

    @field_validator("workers")
    @classmethod
    def _some(cls, workers: str | int) -> str | int:
        if isinstance(workers, int) and not 1 <= workers <= 256:
            raise ValueError("workers is auto or a number from 1 to 256")
        return workers

    @field_validator("sources")
    @classmethod
    def _told_apart(cls, sources: list[SourceConfig]) -> list[SourceConfig]:
        labels = [source.label for source in sources]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(f"two sources are called {', '.join(twice)}: give each its own name")
        return sources

    @model_validator(mode="after")
    def _policy(self) -> Self:
        labels = [source.label for source in self.sources]
        unknown = [name for name in self.dedup.source_priority if name not in labels]
        # Documents of the built-in corpus name their package as source, which only reading tells.
        if unknown and not any(is_built_in(source.path or "") for source in self.sources):
            named = f"dedup.source_priority names {', '.join(unknown)}, and sources are {', '.join(labels)}"
            raise ValueError(named)
        if self.dedup.score_field == CLASSIFIER and (self.classify is None or self.classify.keep is None):
            raise ValueError("dedup.score_field: classifier needs classify.keep, the labels to be probable")
        return self
