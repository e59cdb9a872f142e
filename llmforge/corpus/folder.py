"""The corpus artefact: documents in shards of JSONL.zst or Parquet, by split.

    train-00000.jsonl.zst  valid-00000.jsonl.zst  dropped-00000.jsonl.zst  ...
    {"id": "a1", "text": "...", "source": "books", "metadata": {"file": "b.txt", "row": 1}}

Dropped documents carry metadata "reason". The manifest beside them is written by the stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from llmforge.corpus.compressed import open_bytes
from llmforge.corpus.document import Document
from llmforge.errors import DamagedError, DataError
from llmforge.runtime.files import disk_errors

Split = Literal["train", "valid", "dropped"]
CorpusFormat = Literal["jsonl.zst", "parquet"]
SPLITS: tuple[Split, ...] = ("train", "valid", "dropped")
ZSTD_LEVEL = 3
PARQUET_GROUP_BYTES = 16 << 20
WRITE_BYTES = 1 << 17  # of lines that are compressed together


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document whose text is JSON already (quotes included), and that text's UTF-8 bytes: written without a parse."""

    id: str
    text: bytes
    source: str
    metadata: dict[str, object]
    text_bytes: int

    def line(self) -> bytes:
        """What `document_line` makes of the document."""
        start, rest = around_text(self.id, self.source, self.metadata)
        return b"".join((start, self.text, rest))

    def document(self) -> Document:
        """The same with its text decoded."""
        import orjson

        return Document(self.id, orjson.loads(self.text), self.source, self.metadata)


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A document that is JSON already, but for its text, which lies apart: nothing of it is parsed to be written.

    `start` is the line as far as the text, `rest` what comes behind the text.
    """

    start: bytes
    text: bytes
    rest: bytes
    text_bytes: int

    def line(self) -> bytes:
        """What `document_line` makes of the document."""
        return b"".join((self.start, self.text, self.rest))

    def document(self) -> Document:
        """The same as a document."""
        import orjson

        row = orjson.loads(self.line())
        return Document(row["id"], row["text"], row["source"], row["metadata"])


def around_text(identity: str, source: str, metadata: dict[str, object]) -> tuple[bytes, bytes]:
    """What stands before and behind the text in a document's line: `start` and `rest` of a StoredLine."""
    import orjson

    rest = orjson.dumps({"source": source, "metadata": metadata})
    return b'{"id":%b,"text":' % orjson.dumps(identity), b",%b\n" % rest[1:]


class _Shard(Protocol):
    def add(self, document: Document) -> int: ...

    def add_stored(self, document: StoredDocument | StoredLine) -> int: ...

    def close(self) -> None: ...


class _JsonShard:
    """One zstd file of JSON lines, with a checksum over each frame; a thread of `aside` packs and writes them."""

    def __init__(self, path: Path, level: int, aside: Executor | None) -> None:
        import zstandard

        self._raw = path.open("xb")
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
        self._out = compressor.stream_writer(self._raw)
        self._frame_end = zstandard.FLUSH_FRAME
        self._lines: list[bytes] = []
        self._size = 0
        self._aside = aside
        self._writing: Future[int] | None = None

    def add(self, document: Document) -> int:
        return self._write(document_line(document))

    def add_stored(self, document: StoredDocument | StoredLine) -> int:
        return self._write(document.line())

    def _write(self, line: bytes) -> int:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= WRITE_BYTES:
            self._flush()
        return len(line)

    def _flush(self) -> None:
        lines = b"".join(self._lines)
        self._lines, self._size = [], 0
        self._wait()
        if self._aside is None:
            self._out.write(lines)
        else:
            self._writing = self._aside.submit(self._out.write, lines)

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def close(self) -> None:
        self._flush()
        self._wait()
        self._out.flush(self._frame_end)
        self._raw.close()


class _ParquetShard:
    """One Parquet file of four text columns; `metadata` is JSON."""

    def __init__(self, path: Path, level: int, aside: Executor | None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._arrow = pa
        self._schema = pa.schema([(name, pa.large_string()) for name in ("id", "text", "source", "metadata")])
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd", compression_level=level)
        self._rows: list[tuple[str, str, str, str]] = []
        self._bytes = 0

    def add(self, document: Document) -> int:
        import orjson

        metadata = orjson.dumps(document.metadata).decode()
        self._rows.append((document.id, document.text, document.source, metadata))
        size = len(document.text.encode()) + len(metadata)
        self._bytes += size
        if self._bytes >= PARQUET_GROUP_BYTES:
            self._flush()
        return size

    def add_stored(self, document: StoredDocument | StoredLine) -> int:
        return self.add(document.document())

    def _flush(self) -> None:
        if self._rows:
            columns = [list(column) for column in zip(*self._rows, strict=True)]
            self._writer.write_table(self._arrow.table(columns, schema=self._schema))
        self._rows, self._bytes = [], 0

    def close(self) -> None:
        self._flush()
        self._writer.close()


def document_line(document: Document) -> bytes:
    """The document as one JSON line, newline included."""
    import orjson

    row = {"id": document.id, "text": document.text, "source": document.source, "metadata": document.metadata}
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        raise DataError(f"cannot be written as JSON ({error})", document.id) from None


class CorpusWriter:
    """Writes documents into `folder`, which exists and is empty; a new shard every `shard_bytes` of rows.

    `level` is zstd's; with `aside` a thread of its own packs and writes JSON lines, which makes the same bytes.
    `documents` and `text_bytes` count what was written, by split. Usable as a context manager.
    """

    def __init__(
        self,
        folder: Path,
        shard_bytes: int,
        format: CorpusFormat = "jsonl.zst",
        level: int = ZSTD_LEVEL,
        aside: bool = False,
    ) -> None:
        self._folder = Path(folder)
        self._shard_bytes = shard_bytes
        self._format = format
        self._level = level
        self._aside = ThreadPoolExecutor(1, "llmforge-corpus") if aside else None
        self._open: dict[str, _Shard] = {}
        self._filled: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self.documents: dict[str, int] = dict.fromkeys(SPLITS, 0)
        self.text_bytes: dict[str, int] = dict.fromkeys(SPLITS, 0)

    def write(self, split: Split, document: Document) -> None:
        """Append one document to the split's current shard."""
        with disk_errors(self._folder):
            self._count(split, len(document.text.encode()), self._shard(split).add(document))

    def write_stored(self, split: Split, document: StoredDocument | StoredLine) -> None:
        """The same for a document that is JSON already; the shards have the same bytes."""
        with disk_errors(self._folder):
            self._count(split, document.text_bytes, self._shard(split).add_stored(document))

    def _count(self, split: Split, text_bytes: int, row_bytes: int) -> None:
        self._filled[split] += row_bytes
        if self._filled[split] >= self._shard_bytes:
            self._open.pop(split).close()
        self.documents[split] += 1
        self.text_bytes[split] += text_bytes

    def _shard(self, split: Split) -> _Shard:
        """The one that is written now."""
        shard = self._open.get(split)
        if shard is None:
            number = self._numbers.get(split, 0)
            path = self._folder / f"{split}-{number:05d}.{self._format}"
            kind = _JsonShard if self._format == "jsonl.zst" else _ParquetShard
            shard = self._open[split] = kind(path, self._level, self._aside)
            self._numbers[split] = number + 1
            self._filled[split] = 0
        return shard

    def close(self) -> None:
        """Finish all shards."""
        with disk_errors(self._folder):
            while self._open:
                self._open.popitem()[1].close()
        if self._aside is not None:
            self._aside.shutdown()

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def corpus_files(folder: Path, split: Split) -> list[Path]:
    """The shards of a split in order; empty when the split has no document. DataError when no corpus is there."""
    folder = Path(folder)
    found = sorted(path for format in ("jsonl.zst", "parquet") for path in folder.glob(f"{split}-*.{format}"))
    if not found and not any(folder.glob("*-00000.jsonl.zst")) and not any(folder.glob("*-00000.parquet")):
        raise DataError("is not a corpus folder", str(folder), "make one with llmforge clean")
    return found


def read_corpus(folder: Path, split: Split) -> Iterator[Document]:
    """The documents of a split in the order written. DamagedError names a shard that cannot be read."""
    for path in corpus_files(folder, split):
        rows = _json_documents(path) if path.name.endswith(".jsonl.zst") else _parquet_documents(path)
        try:
            yield from rows
        except (DataError, ValueError, KeyError, TypeError) as error:
            raise DamagedError("is damaged", str(path), "run llmforge clean again") from error


def _json_documents(path: Path) -> Iterator[Document]:
    import orjson

    with open_bytes(path) as stream:
        for line in stream:
            row = orjson.loads(line)
            yield Document(row["id"], row["text"], row["source"], row["metadata"])


def _parquet_documents(path: Path) -> Iterator[Document]:
    import orjson

    from llmforge.corpus.parquet_rows import read_parquet

    for _, row in read_parquet(path, path.name):
        fields: dict[str, Any] = row if isinstance(row, dict) else {}
        yield Document(fields["id"], fields["text"], fields["source"], orjson.loads(fields["metadata"]))
