"""The group `dedup` of the cleaning config: which duplicates are looked for, against what, and which document stays."""

from __future__ import annotations

from pydantic import Field

from llmforge.cleaning.dedup.anchors import SubstringSettings
from llmforge.cleaning.dedup.keep import KeepSettings
from llmforge.cleaning.dedup.near import NearSettings


class DedupSettings(KeepSettings):
    """Which duplicates are dropped, and which documents stay."""

    exact: bool = Field(default=True, description="documents that differ in white space only")
    near: NearSettings | None = Field(default=NearSettings(), description="documents that share most runs of words")
    substring: SubstringSettings | None = Field(
        default=None, description="passages that stood in an earlier document; null: not looked for"
    )
    against: list[str] = Field(
        default=[], description="folders of earlier corpora: their documents count as kept, and are not written again"
    )
    index: bool = Field(default=True, description="leave an index in the corpus, for the `against` of later ones")
