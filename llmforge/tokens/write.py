"""A corpus and a tokenizer -> the tokens artefact: shards of whole documents, their index, and the tokenizer beside.

The bytes depend on the corpus and the tokenizer only, not on the number of workers or the machine, nor on how often the
work was stopped: it goes on behind the last whole shard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.corpus.document import Document
from llmforge.runtime.files import digest_file, write_atomic
from llmforge.tokenizer.files import copy_tokenizer
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokens.encoding import LABEL, Encoded, encode_documents
from llmforge.tokens.folder import FACTS_FILE, TOKENIZER_FOLDER
from llmforge.tokens.progress import PROGRESS_FILE, SplitCounts, find_progress
from llmforge.tokens.shard import ShardContent, width_of, write_shard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHARD_TOKENS = 1 << 23  # what a killed run does again at most: about 30 MB of text


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
    """Fills a folder with the shards of one split after another; goes on with what an earlier run left there."""

    def __init__(
        self,
        folder: Path,
        tokenizer_folder: Path,
        shard_tokens: int | None = None,
        label_key: str = LABEL,
        makings: Mapping[str, str] | None = None,
    ) -> None:
        """`label_key` is the metadata field that holds a document's label, where it has one.

        `makings` are digests of all that decides the bytes; what was left is only used when it is of the same.
        """
        self._folder, self._label_key = folder, label_key
        self._shard_tokens = shard_tokens or SHARD_TOKENS
        self._tokenizer = tokenizer = Tokenizer.load(tokenizer_folder)
        self._vocab_size, self._digest = tokenizer.vocab_size, tokenizer.digest
        made_of = {**(makings or {}), "shard_tokens": str(self._shard_tokens), "vocabulary": self._digest}
        self._progress = find_progress(folder, made_of)
        self._sources = {name: at for at, name in enumerate(self._progress.names.get("sources", []))}
        self._labels = {name: at for at, name in enumerate(self._progress.names.get("labels", [""]))}
        self._shards, self.counts = self._progress.shards, self._progress.counts
        copy_tokenizer(tokenizer_folder, folder / TOKENIZER_FOLDER)

    def write_split(
        self, split: str, documents: Iterable[Document], workers: int, after_batch: Callable[[int], None]
    ) -> None:
        """Writes all documents of a split; `after_batch` is called with the bytes of text done since the last call.

        Documents of shards that are already whole are passed over; `after_batch` is told of their bytes at once.
        """
        if split in self._progress.finished:
            return after_batch(self.counts[split].bytes)
        self._shards.setdefault(split, 0)
        counts = self.counts.setdefault(split, SplitCounts())
        gathered, done = _Gathered(), counts.documents
        if done:
            after_batch(counts.bytes)
        for encoded in encode_documents(_behind(documents, done), self._tokenizer, workers, self._label_key):
            self._gather(gathered, encoded)
            counts.documents += len(encoded.lengths)
            counts.tokens += len(encoded.tokens)
            counts.bytes += sum(encoded.text_bytes)
            after_batch(sum(encoded.text_bytes))
            if gathered.size >= self._shard_tokens:
                self._write_shard(split, gathered)
                gathered = _Gathered()
        self._progress.finished.append(split)
        if gathered.lengths:
            self._write_shard(split, gathered)
        else:
            self._progress.save(self._folder)

    def workers_for_little(self, workers: int) -> int:
        """How many of the workers a small split is worth: processes would take longer to start than they save."""
        return workers if self._tokenizer.works_outside_lock else 1

    @property
    def done_before(self) -> SplitCounts:
        """What an earlier run has left, all splits together."""
        found = self.counts.values()
        return SplitCounts(*(sum(getattr(c, key) for c in found) for key in ("documents", "tokens", "bytes")))

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
        (self._folder / PROGRESS_FILE).unlink()

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
        stem = self._folder / f"{split}-{number:05d}"
        write_shard(stem, number, ShardContent(tokens, *rows), self._digest)
        self._shards[split] = number + 1
        files = [stem.with_suffix(suffix) for suffix in (".bin", ".idx")]
        self._progress.files |= {path.name: digest_file(path) for path in files}
        self._progress.names = {"sources": list(self._sources), "labels": list(self._labels)}
        self._progress.save(self._folder)


def _behind(documents: Iterable[Document], count: int) -> Iterator[Document]:
    """The documents behind the first `count` that have text."""
    for document in documents:
        if count and document.text:
            count -= 1
        elif not count:
            yield document
