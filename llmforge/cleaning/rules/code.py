"""Rules for source code: StarCoder (https://arxiv.org/abs/2305.06161, appendix A), and StarCoder2's additions
(https://arxiv.org/abs/2402.19173, section 3.1).

Both papers loosen or tighten numbers for single file types (HTML, JSON, TeX...), which a text alone does not tell: give
such files a config of their own. A line is what stands between newlines, blank ones included; a rule about words has
neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from llmforge.cleaning.rules.threshold import Judge, Limit


class Code(Judge):
    """Drops files that are data, generated, or not code."""

    name: Literal["code"] = "code"
    max_line_characters: int | None = Field(default=1000, ge=1, description="characters of the longest line")
    max_mean_line_characters: float | None = Field(default=100.0, ge=0, description="characters a line on average")
    max_lines: int | None = Field(default=100_000, ge=1, description="lines of a file (StarCoder2)")
    min_alphanumeric_ratio: float | None = Field(default=0.25, ge=0, le=1, description="letters and figures")
    min_alphabetic_ratio: float | None = Field(default=0.25, ge=0, le=1, description="letters")
    max_xml_declarations: int | None = Field(default=0, ge=0, description="<?xml version= in the first 100 characters")
    max_generated_marks: int | None = Field(
        default=0, ge=0, description="auto-generated and the like in the first five lines (StarCoder2)"
    )
    max_encoded_run: int | None = Field(
        default=1024, ge=0, description="characters of the longest run of base64, hexadecimal or escapes (StarCoder2)"
    )
    max_encoded_ratio: float | None = Field(default=0.5, ge=0, le=1, description="characters in such runs (StarCoder2)")
    min_characters: int | None = Field(default=100, ge=0, description="characters of a file")
    max_characters: int | None = Field(
        default=None, ge=1, description="characters of a file; the code of StarCoder has 5000, for JSON and YAML"
    )

    def limits(self) -> Sequence[Limit]:
        """What is cheapest to explain first."""
        return (
            Limit("min_characters", "num_characters", "characters"),
            Limit("max_characters", "num_characters", "characters"),
            Limit("max_lines", "num_all_lines", "lines"),
            Limit("max_line_characters", "longest_line", "characters in one line"),
            Limit("max_mean_line_characters", "mean_line_length", "characters a line on average"),
            Limit("min_alphanumeric_ratio", "alphanumeric_ratio", "of it letters and figures"),
            Limit("min_alphabetic_ratio", "alphabetic_ratio", "of it letters"),
            Limit("max_xml_declarations", "num_xml_declarations", "XML declarations at its beginning"),
            Limit("max_generated_marks", "num_generated_marks", "marks of a generated file"),
            Limit("max_encoded_run", "longest_encoded_run", "characters in one run of encoded data"),
            Limit("max_encoded_ratio", "encoded_ratio", "of it in runs of encoded data"),
        )
