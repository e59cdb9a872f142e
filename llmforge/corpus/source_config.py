"""The settings of one source of text: where it lies and how it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from llmforge.config.schema import Config
from llmforge.corpus.html_extractors import HtmlSettings

Format = Literal[
    "auto", "text", "markdown", "html", "jsonl", "json", "csv", "tsv", "parquet", "warc", "pdf", "epub", "docx"
]


class SourceConfig(Config):
    """Where text comes from: exactly one of `path` and `dataset`."""

    name: str = Field("", description="what documents of this source are called; the path's last part when empty")
    path: str | None = Field(None, description="a file, folder or pattern, or python-docs, the built-in corpus")
    dataset: str | None = Field(None, description="a Hugging Face dataset: a local folder or a name on the hub")
    format: Format = Field("auto", description="how files are read; auto goes by each file's suffix")
    text_key: str = Field("text", min_length=1, description="the field of a row that holds the text")
    id_key: str | None = Field(None, description="the field that holds a row's own id; file and row when not given")
    license: str | None = Field(None, description="kept with each document that names none of its own")
    delimiter: str | None = Field(None, description="between the fields of CSV files; found by looking when not given")
    html: HtmlSettings = Field(default=HtmlSettings(), description="how HTML pages become text")
    subset: str | None = Field(None, description="of a dataset on the hub")
    split: str = Field("train", min_length=1, description="of a dataset")
    streaming: bool = Field(False, description="read a dataset on the hub row by row, without a download first")

    @model_validator(mode="after")
    def _one_place(self) -> SourceConfig:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("needs exactly one of path and dataset")
        if not (self.path or self.dataset):
            raise ValueError("path or dataset is empty")
        return self

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, delimiter: str | None) -> str | None:
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
            raise ValueError("delimiter is one character, and no quote or line end")
        return delimiter

    @property
    def place(self) -> str:
        """The path or the dataset's name."""
        return self.path or self.dataset or ""

    @property
    def label(self) -> str:
        """`name`, or the last part of the place."""
        return self.name or Path(self.place).name or self.place
