"""A corpus and a tokenizer -> the tokens artefact: shards of whole documents, their index, and the tokenizer beside.

The bytes depend on the corpus and the tokenizer only, not on the number of workers or the machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.corpus.document import Document
from llmforge.runtime.files import write_atomic
from llmforge.tokenizer.files import copy_tokenizer
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokens.encoding import LABEL, Encoded, encode_documents
from llmforge.tokens.folder import FACTS_FILE, TOKENIZER_FOLDER
from llmforge.tokens.shard import ShardContent, width_of, write_shard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHARD_TOKENS = 1 << 25


@dataclass
class SplitCounts:
    """What a split holds."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass
class _Gathered:
    """Documents of the shard that is being filled."""

    tokens: list[NDArray[np.unsignedinteger]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    text_bytes: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    size: int = 0


class TokenWriter:
    """Fills an empty folder with the shards of one split after another."""

    def __init__(
        self, folder: Path, tokenizer_folder: Path, shard_tokens: int = _SHARD_TOKENS, label_key: str = LABEL
    ) -> None:
        """`label_key` is the metadata field that holds a document's label, where it has one."""
        self._folder, self._shard_tokens, self._label_key = folder, shard_tokens, label_key
        self._tokenizer_folder = tokenizer_folder
        tokenizer = Tokenizer.load(tokenizer_folder)
        self._vocab_size, self._digest = tokenizer.vocab_size, tokenizer.digest
        self._sources: dict[str, int] = {}
        self._labels: dict[str, int] = {"": 0}
        self._shards: dict[str, int] = {}
        self.counts: dict[str, SplitCounts] = {}
        copy_tokenizer(tokenizer_folder, folder / TOKENIZER_FOLDER)

    def write_split(
        self, split: str, documents: Iterable[Document], workers: int, after_batch: Callable[[int], None]
    ) -> None:
        """Writes all documents of a split; `after_batch` is called with the bytes of text done since the last call."""
        self._shards[split], self.counts[split] = 0, SplitCounts()
        gathered = _Gathered()
        for encoded in encode_documents(documents, self._tokenizer_folder, workers, self._label_key):
            self._gather(gathered, encoded)
            counts = self.counts[split]
            counts.documents += len(encoded.lengths)
            counts.tokens += len(encoded.tokens)
            counts.bytes += sum(encoded.text_bytes)
            after_batch(sum(encoded.text_bytes))
            if gathered.size >= self._shard_tokens:
                self._write_shard(split, gathered)
                gathered = _Gathered()
        if gathered.lengths:
            self._write_shard(split, gathered)

    def close(self) -> None:
        """Writes the facts that `TokenFolder` reads."""
        facts = {
            "format": 1,
            "vocab_size": self._vocab_size,
            "tokenizer_digest": self._digest,
            "dtype": f"uint{8 * width_of(self._vocab_size)}",
            "sources": list(self._sources),
            "labels": list(self._labels),
            "shards": self._shards,
            "counts": {split: vars(counts) for split, counts in self.counts.items()},
        }
        write_atomic(self._folder / FACTS_FILE, json.dumps(facts, indent=2) + "\n")

    def _gather(self, gathered: _Gathered, encoded: Encoded) -> None:
        gathered.tokens.append(encoded.tokens)
        gathered.lengths += encoded.lengths
        gathered.text_bytes += encoded.text_bytes
        gathered.names += encoded.names
        gathered.sources += [self._sources.setdefault(name, len(self._sources)) for name in encoded.sources]
        gathered.labels += [self._labels.setdefault(name, len(self._labels)) for name in encoded.labels]
        gathered.size += len(encoded.tokens)

    def _write_shard(self, split: str, gathered: _Gathered) -> None:
        import numpy as np

        number = self._shards[split]
        tokens = np.concatenate(gathered.tokens)
        gathered.tokens.clear()
        rows = (gathered.lengths, gathered.text_bytes, gathered.names, gathered.sources, gathered.labels)
        write_shard(self._folder / f"{split}-{number:05d}", number, ShardContent(tokens, *rows), self._digest)
        self._shards[split] = number + 1
