"""A small corpus as token shards, several shards to a split."""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from llmforge.corpus.document import Document
from llmforge.runtime.manifest import write_manifest
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.train import train_tokenizer
from llmforge.tokens import encoding
from llmforge.tokens.folder import TokenFolder
from llmforge.tokens.write import TokenWriter


def documents(count: int, offset: int = 0) -> list[Document]:
    """Documents of very different lengths from three sources."""
    whole = "\n".join(inspect.getsource(module) for module in (argparse, textwrap, inspect))
    made, start = [], offset
    for number in range(count):
        size = (number * 37) % 400 + 1
        made.append(Document(f"doc-{offset}-{number}", whole[start : start + size], f"source{number % 3}"))
        start = (start + size) % 100_000
    return made


def write_tokens(folder: Path, tokenizer: Path, splits: dict[str, list[Document]], workers: int = 1) -> TokenFolder:
    """A whole tokens artefact with shards of about 2,000 tokens."""
    folder.mkdir(parents=True)
    writer = TokenWriter(folder, tokenizer, shard_tokens=2000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_BATCH_BYTES", 3000)
        for split, rows in splits.items():
            writer.write_split(split, rows, workers, lambda _: None)
    writer.close()
    write_manifest(folder, "tokens", config={})
    return TokenFolder.open(folder)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vocabulary."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer([document.text for document in documents(150)], folder, TokenizerSettings(vocab_size=600))
    return folder


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> TokenFolder:
    """The artefact."""
    place = tmp_path_factory.mktemp("tokens") / "tokens"
    return write_tokens(place, tokenizer_folder, {"train": documents(120), "valid": documents(25, 7000)})


@pytest.fixture(scope="session", name="documents")
def documents_fixture() -> Callable[..., list[Document]]:
    """`documents(count, offset=0)`."""
    return documents


@pytest.fixture(scope="session", name="write_tokens")
def write_tokens_fixture() -> Callable[..., TokenFolder]:
    """`write_tokens(folder, tokenizer, splits, workers=1)`."""
    return write_tokens
