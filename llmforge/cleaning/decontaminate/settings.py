"""Which evaluation items are looked for, and what becomes of a document that holds one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmforge.config.schema import Config


class DecontaminateSettings(Config):
    """Evaluation items to keep out of the corpus.

    The parts of an item are its text fields, long ones in pieces of up to 64 words. Runs of `ngram` words find where a
    part may stand (of 3 words, if `ngram` is more, for a part of fewer than 16); it stands there when `min_share` of
    its telling words follow each other in its order. Words that are only in runs of more than `max_parts` different
    parts (the prompt that a task puts around each item) do not tell, and a part with fewer telling words than
    `min_words` is too short to be told from others.
    """

    against: list[str] = Field(
        min_length=1,
        description="evaluation files: .jsonl, .json, .csv, .parquet; folders, patterns, archives of them",
    )
    fields: list[str] | None = Field(default=None, min_length=1, description="fields to look for; null: all with text")
    ngram: int = Field(default=5, ge=2, le=50, description="words in a row that point to an item; fewer find more")
    min_words: int = Field(default=8, ge=2, le=64, description="telling words of a part, at least")
    min_share: float = Field(default=0.8, gt=0, le=1, description="share of a part's words found, in their order")
    max_parts: int = Field(default=10, ge=1, description="runs of words in more different parts than this do not tell")
    action: Literal["drop_document", "cut"] = Field(
        default="drop_document", description="drop documents that hold an item, or cut the item out"
    )
