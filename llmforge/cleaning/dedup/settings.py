"""What a config says of duplicates."""

from __future__ import annotations

from pydantic import Field

from llmforge.cleaning.dedup.keep import KeepSettings
from llmforge.cleaning.dedup.near import NearSettings
from llmforge.cleaning.dedup.substring import SubstringSettings


class DedupSettings(KeepSettings):
    """Which duplicates are dropped, and which of the equal ones stays."""

    exact: bool = Field(default=True, description="documents that differ in white space only")
    near: NearSettings | None = Field(default=NearSettings(), description="documents that share most runs of words")
    substring: SubstringSettings | None = Field(
        default=None, description="passages that stand in an earlier document too; null: they stay"
    )
    against: list[str] = Field(
        default=[], description="earlier corpora whose documents do not come again; their index is read, not their text"
    )
    index: bool = Field(default=True, description="leave an index in the corpus, for the `against` of later ones")
