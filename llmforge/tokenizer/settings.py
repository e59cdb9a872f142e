"""What a tokenizer is trained with; loads neither sentencepiece nor numpy."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from llmforge.config.schema import Config
from llmforge.tokenizer.chat_formats import FORMATS, FormatName
from llmforge.tokenizer.special_tokens import BYTES, CONTROL

MIN_VOCAB = len(CONTROL) + BYTES + 1
MAX_VOCAB = 1 << 20
_NAME = re.compile(r"<\|[A-Za-z0-9_.-]{1,64}\|>")


class TokenizerSettings(Config):
    """Settings of `train_tokenizer`."""

    vocab_size: int = Field(
        8192,
        ge=MIN_VOCAB,
        le=MAX_VOCAB,
        description="ids in all: control symbols, the 256 bytes, single characters, and what merging makes of them",
    )
    model_type: Literal["bpe", "unigram", "char"] = Field(
        "bpe",
        description="bpe: pieces by merging, ids equal in all tools; unigram: the likeliest cut, fewer tools read it; "
        "char: single characters only, vocab_size being the most ids there may be",
    )
    phrase_share: float = Field(
        0.06,
        ge=0.0,
        le=0.5,
        allow_inf_nan=False,
        description="share of the ids beyond 1,024 for pieces over word borders, as ' of the' (bpe only)",
    )
    special_tokens: tuple[str, ...] = Field(
        (), description="further control symbols such as <|think|>, put in by id and never made out of text"
    )
    chat_template: FormatName = Field(
        "own",
        description="how conversations are written: own (<|user|>text<|end|>), chatml, llama3 or plain (User: text)",
    )
    sample_bytes: int = Field(
        50_000_000,
        ge=1,
        description="bytes of text to learn from, evenly by source; about ten times that in memory",
    )

    @field_validator("special_tokens")
    @classmethod
    def _well_formed(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not of the form <|name|> (letters, digits, _ . -)")
            if name in CONTROL:
                raise ValueError(f"{name} is there already")
        if len(set(names)) != len(names):
            raise ValueError("a special token stands here twice")
        return names

    def control_symbols(self) -> tuple[str, ...]:
        """All names beyond the nine of every vocabulary: the chat format's, then `special_tokens`."""
        form = FORMATS[self.chat_template].control
        return (*form, *(name for name in self.special_tokens if name not in form))
