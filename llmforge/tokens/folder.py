"""The tokens artefact: splits made of shards, one stream of ids each, with the document behind every position.

`TokenFolder.open(path)` checks sizes, headers and the vocabulary; nothing is read into memory.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.errors import DamagedError, DataError
from llmforge.runtime.manifest import find_artefact, read_manifest
from llmforge.tokens.shard import Shard

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FACTS_FILE = "tokens.json"
TOKENIZER_FOLDER = "tokenizer"


@dataclass(frozen=True)
class TokenDocument:
    """A document of a split: its id, source and label ("": none), where its ids begin in the stream, and how many they
    are."""

    id: str
    source: str
    start: int
    length: int
    text_bytes: int
    label: str = ""


@dataclass(frozen=True)
class Names:
    """What the numbers of sources and labels in the shards stand for; label 0 is none."""

    sources: list[str]
    labels: list[str]


class TokenSplit:
    """All documents of a split as one stream of ids, shard after shard."""

    def __init__(self, name: str, shards: list[Shard], names: Names, vocab_size: int, place: Path) -> None:
        self.name, self.vocab_size, self.path = name, vocab_size, place
        self.source_names, self.label_names = names.sources, names.labels
        self._shards = shards
        self._token_bases, self._document_bases = [0], [0]
        for shard in shards:
            self._token_bases.append(self._token_bases[-1] + len(shard.tokens))
            self._document_bases.append(self._document_bases[-1] + len(shard.text_bytes))
        self.num_tokens, self.num_documents = self._token_bases[-1], self._document_bases[-1]

    @property
    def token_bytes_total(self) -> int:
        """Bytes of the documents' texts."""
        return sum(int(shard.text_bytes.sum()) for shard in self._shards)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each document begins in the stream, and the stream's end: documents + 1 positions."""
        import numpy as np

        parts = [
            shard.starts[:-1].astype(np.int64) + base
            for shard, base in zip(self._shards, self._token_bases, strict=False)
        ]
        return np.concatenate([*parts, np.asarray([self.num_tokens], dtype=np.int64)])

    @cached_property
    def document_sources(self) -> NDArray[np.int32]:
        """The number of each document's source in `source_names`."""
        import numpy as np

        parts = [shard.sources.astype(np.int32) for shard in self._shards]
        return np.concatenate([*parts, np.zeros(0, dtype=np.int32)])

    @cached_property
    def document_labels(self) -> NDArray[np.int32]:
        """The number of each document's label in `label_names`; 0 is none."""
        import numpy as np

        parts = [shard.labels.astype(np.int32) for shard in self._shards]
        return np.concatenate([*parts, np.zeros(0, dtype=np.int32)])

    @cached_property
    def text_bytes(self) -> NDArray[np.int64]:
        """Bytes of each document's text."""
        import numpy as np

        parts = [shard.text_bytes.astype(np.int64) for shard in self._shards]
        return np.concatenate([*parts, np.zeros(0, dtype=np.int64)])

    def stream(self, start: int, count: int) -> NDArray[np.int64]:
        """`count` ids from position `start` on (fewer at the end).

        Raises:
            DamagedError: an id lies beyond the vocabulary; the line names the shard.
        """
        import numpy as np

        stop = min(start + count, self.num_tokens)
        parts = [np.zeros(0, dtype=np.int64)]
        while start < stop:
            number = bisect_right(self._token_bases, start) - 1
            base, shard = self._token_bases[number], self._shards[number]
            part = shard.tokens[start - base : min(stop - base, len(shard.tokens))].astype(np.int64)
            if part.max() >= self.vocab_size:
                what = f"id {part.max()} lies beyond the vocabulary of {self.vocab_size}"
                raise DamagedError(what, shard.path, "run llmforge tokenize again")
            parts.append(part)
            start += len(part)
        return np.concatenate(parts)

    def document_at(self, position: int) -> int:
        """The number of the document that holds a position of the stream."""
        import numpy as np

        assert 0 <= position < self.num_tokens, "a position outside the stream"
        return int(np.searchsorted(self.starts, position, side="right")) - 1

    def document(self, number: int) -> TokenDocument:
        """A document by its number."""
        assert 0 <= number < self.num_documents, "a document outside the split"
        where = bisect_right(self._document_bases, number) - 1
        shard, inner = self._shards[where], number - self._document_bases[where]
        start, stop = int(self.starts[number]), int(self.starts[number + 1])
        source = self.source_names[int(shard.sources[inner])]
        label = self.label_names[int(shard.labels[inner])]
        return TokenDocument(shard.name(inner), source, start, stop - start, int(shard.text_bytes[inner]), label)


class TokenFolder:
    """An opened tokens artefact."""

    def __init__(self, path: Path, facts: dict[str, object], digest: str) -> None:
        self.path, self.digest = path, digest
        self._facts = facts
        self.tokenizer_folder = path / TOKENIZER_FOLDER
        try:
            self.vocab_size = int(str(facts["vocab_size"]))
            self.tokenizer_digest = str(facts["tokenizer_digest"])
            self.source_names = [str(name) for name in _list(facts["sources"])]
            self.label_names = [str(name) for name in _list(facts.get("labels", [""]))]
            self._counts = {str(k): int(str(v)) for k, v in _dict(facts["shards"]).items()}
        except (KeyError, ValueError, TypeError) as error:
            hint = "run llmforge tokenize again"
            raise DamagedError("the facts of the token shards cannot be read", path / FACTS_FILE, hint) from error

    @classmethod
    def open(cls, path: Path | str) -> TokenFolder:
        """Opens a tokens folder, or the run folder that holds one.

        Raises:
            DataError: there is none.
            DamagedError: a file is missing, has another size or is not what the manifest says.
        """
        folder = find_artefact(path, "tokens")
        manifest = read_manifest(folder, "tokens")
        try:
            facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedError("cannot be read", folder / FACTS_FILE, "run llmforge tokenize again") from error
        return cls(folder, facts if isinstance(facts, dict) else {}, manifest.digest)

    @property
    def split_names(self) -> list[str]:
        """The splits that hold documents."""
        return [name for name, count in self._counts.items() if count]

    def split(self, name: str) -> TokenSplit:
        """A split, its shards opened and checked.

        Raises:
            DataError: the folder has no such split, or it is empty.
            DamagedError: a shard is cut, foreign or misplaced.
        """
        if not self._counts.get(name):
            have = ", ".join(self.split_names) or "nothing"
            raise DataError(f"no documents in the split `{name}`, it holds {have}", self.path)
        shards = [
            Shard(self.path / f"{name}-{number:05d}", number, self.tokenizer_digest)
            for number in range(self._counts[name])
        ]
        return TokenSplit(name, shards, Names(self.source_names, self.label_names), self.vocab_size, self.path)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _dict(value: object) -> dict[object, object]:
    if not isinstance(value, dict):
        raise TypeError("not a mapping")
    return dict(value)
