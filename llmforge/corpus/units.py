"""A source to units of work, and a unit to documents: one process plans, any number of others read.

    for unit in plan_units(source):          # in the parent: reads and unpacks large files, opens no small one
        documents = read_unit(unit, source)  # in a worker: parses, decodes, extracts

The units and their order depend on the input alone. One huge file is many units; what is large is never in memory
whole, except formats that can only be read so (JSON, HTML, PDF, EPUB, DOCX), which have limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from llmforge.corpus.archives import MAX_MEMBER_BYTES, Archive, Member
from llmforge.corpus.compressed import bytes_taken, compression_of, open_bytes
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.file_pieces import BLOCK_FORMATS, Piece, pieces_of, unit_of
from llmforge.corpus.files import ARCHIVES, FoundFile, find_files
from llmforge.corpus.hf_dataset import DatasetName, local_folder, read_dataset
from llmforge.corpus.parquet_rows import read_parquet, row_groups
from llmforge.corpus.row_documents import RowDocuments
from llmforge.corpus.rows import is_built_in
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.unit_kinds import (
    Blob,
    Blobs,
    FileGroup,
    ReadyDocuments,
    RowGroups,
    Unit,
    key_of_block,
    key_of_documents,
    key_of_files,
    printable,
)
from llmforge.corpus.unit_reading import damaged, reading_of
from llmforge.errors import DataError

BLOCK_BYTES = 1 << 20
GROUP_FILES = 256
PACKED_FACTOR = 4  # a packed file counts as so many times its size
LARGE_TEXT_BYTES = 32 << 20  # from here on a text has parts
LARGE_GROUP_BYTES = 64 << 20  # a Parquet row group beyond this is streamed by the parent
BATCH_DOCUMENTS = 1024
PAGES = frozenset(["html", "warc"])

SKIPPED = "files of unknown kind are skipped"
OnNote = Callable[[str], None]


@dataclass(frozen=True)
class Slot:
    """A part of the input that is planned without reading it: a group of small files, or one large file.

    `units` reads what has to be read when it is gone through, once.
    """

    key: str
    bytes: int
    units: Iterator[Unit]


def plan_slots(source: SourceConfig, on_note: OnNote | None = None, forgiving: bool = False) -> Iterator[Slot]:
    """The slots of a source in stable order; `on_note` gets what is passed over.

    `forgiving` makes of a damaged file a bad row in its place, behind what could be read of it.

    Raises:
        DataError: there is nothing to read; in going through units: a file is damaged or a bomb.
        MachineError: a library that a file needs is not installed.
    """
    plan = _Plan(source, on_note, forgiving)
    if source.path is None:
        slots = plan.single(plan.dataset())
    elif is_built_in(source.path):
        from llmforge.corpus.python_docs.built_in import read_documents

        slots = plan.single(plan.ready(read_documents(source.path, on_note)))
    else:
        slots = plan.files()
    yield from slots


def plan_units(source: SourceConfig, on_note: OnNote | None = None, forgiving: bool = False) -> Iterator[Unit]:
    """The units of all slots of a source; see `plan_slots`."""
    for slot in plan_slots(source, on_note, forgiving):
        yield from slot.units


class _Plan:
    """One pass over a source."""

    def __init__(self, source: SourceConfig, on_note: OnNote | None, forgiving: bool) -> None:
        self._source, self._forgiving = source, forgiving
        self._say = on_note or _ignore
        self._maker = RowDocuments(source)
        self._reading = reading_of(source)

    def single(self, units: Iterator[Unit]) -> Iterator[Slot]:
        """What can only be read by one process, a slot each unit: its key is known when it has been read."""
        for unit in units:
            yield Slot(unit.key, unit.bytes, iter([unit]))

    def files(self) -> Iterator[Slot]:
        """A slot for each large file and for each group of small ones."""
        listing = find_files(self._source.place, self._source.format)
        self._note(SKIPPED, listing.skipped)
        if self._source.html.extractor == "auto" and self._reading.extractor == "fast":
            if any(file.format in PAGES for file in listing.files):
                hint = "pip install 'llmforge[html]' brings one that is right more often"
                self._say(f"{self._source.label}: web pages are read by the fast extractor; {hint}")
        group: list[FoundFile] = []
        size = 0
        passed: Counter[str] = Counter()
        for file in listing.files:
            large = self._large(file, passed)
            if large is None:
                group.append(file)
                size += _weight(file)
            if group and (large is not None or size >= BLOCK_BYTES or len(group) >= GROUP_FILES):
                yield _group(group)
                group, size = [], 0
            if large is not None:
                units = self._forgiven(file, large) if self._forgiving else large
                yield Slot(key_of_files([file]), file.size, units)
        if group:
            yield _group(group)
        self._note("passed over in archives", passed)

    def _forgiven(self, file: FoundFile, units: Iterator[Unit]) -> Iterator[Unit]:
        read = 0
        try:
            for unit in units:
                read += unit.bytes
                yield unit
        except DataError as error:
            row = damaged(error, printable(file.name), max(0, file.size - read))
            yield ReadyDocuments(key_of_documents([row]), row.size, (row,))

    def dataset(self) -> Iterator[Unit]:
        source = self._source
        folder = local_folder(source.place)
        # Not the way to a folder: seen from another one, its documents are the same.
        file = f"{source.place if folder is None else folder.name}/{source.split}"
        rows = read_dataset(DatasetName(source.place, source.subset, source.split, source.streaming))
        yield from self.ready(self._maker.document(row, file, number) for number, row in rows)

    def ready(self, documents: Iterable[Document | BadRow]) -> Iterator[Unit]:
        batch: list[Document | BadRow] = []
        size = 0
        try:
            for document in documents:
                batch.append(document)
                size += len(document.text) if isinstance(document, Document) else document.size
                if size >= BLOCK_BYTES or len(batch) >= BATCH_DOCUMENTS:
                    yield ReadyDocuments(key_of_documents(batch), size, tuple(batch))
                    batch, size = [], 0
        except DataError:
            if batch:
                yield ReadyDocuments(key_of_documents(batch), size, tuple(batch))
            raise
        if batch:
            yield ReadyDocuments(key_of_documents(batch), size, tuple(batch))

    def _large(self, file: FoundFile, passed: Counter[str]) -> Iterator[Unit] | None:
        """The units of a file that is more than one; None for one that goes into a group."""
        if file.format in ARCHIVES:
            return self._archive(file, passed)
        limit = LARGE_TEXT_BYTES if file.format in ("text", "markdown") else BLOCK_BYTES
        if file.format in BLOCK_FORMATS and _weight(file) > limit:
            return self._blocks(file)
        if file.format == "parquet" and _weight(file) > BLOCK_BYTES:
            return self._parquet(file)
        return None

    def _blocks(self, file: FoundFile) -> Iterator[Unit]:
        name = printable(file.name)
        taken = 0
        with open_bytes(file.path, name) as stream:
            for piece in pieces_of(stream, name, file.format, self._reading, BLOCK_BYTES):
                now = bytes_taken(stream)
                yield unit_of(name, file.format, piece, now - taken)
                taken = now

    def _parquet(self, file: FoundFile) -> Iterator[Unit]:
        name = printable(file.name)
        if compression_of(file.path) is not None:
            rows = read_parquet(file.path, name)
            yield from self.ready(self._maker.document(row, name, number) for number, row in rows)
            return
        first = 1
        chosen: list[int] = []
        rows_chosen = size = packed = 0
        groups = row_groups(file.path, name)
        for index, group in enumerate(groups):
            if group.bytes <= LARGE_GROUP_BYTES:
                chosen.append(index)
                rows_chosen += group.rows
                size += group.bytes
                packed += group.packed
            following = groups[index + 1].bytes if index + 1 < len(groups) else LARGE_GROUP_BYTES + 1
            if chosen and (size >= BLOCK_BYTES or following > LARGE_GROUP_BYTES):
                yield RowGroups(key_of_files([file], *chosen), packed, file, tuple(chosen), first)
                first += rows_chosen
                chosen, rows_chosen, size, packed = [], 0, 0, 0
            if group.bytes > LARGE_GROUP_BYTES:
                rows = read_parquet(file.path, name, (index,), first)
                yield from self.ready(self._maker.document(row, name, number) for number, row in rows)
                first += group.rows

    def _archive(self, file: FoundFile, passed: Counter[str]) -> Iterator[Unit]:
        name = printable(file.name)
        archive = Archive(file, name, self._source.format, passed)
        items: list[Blob | BadRow] = []
        size = taken = 0
        try:
            for member in archive.members():
                pieces = self._member_pieces(member)
                if not isinstance(pieces, Blob | BadRow):
                    if items:
                        yield _blobs(items, archive.taken - taken)
                        items, size, taken = [], 0, archive.taken
                    assert isinstance(member, Member), "only a member has pieces"
                    for piece in pieces:
                        yield unit_of(member.name, member.format, piece, archive.taken - taken)
                        taken = archive.taken
                    continue
                items.append(pieces)
                size += len(pieces.data) if isinstance(pieces, Blob) else 0
                if size >= BLOCK_BYTES or len(items) >= GROUP_FILES:
                    yield _blobs(items, archive.taken - taken)
                    items, size, taken = [], 0, archive.taken
        except DataError:
            if items:
                yield _blobs(items, archive.taken - taken)
            raise
        if items:
            yield _blobs(items, archive.taken - taken)

    def _member_pieces(self, member: Member | BadRow) -> Blob | BadRow | Iterator[Piece]:
        """A small member's bytes, a large one's pieces, or why neither."""
        if isinstance(member, BadRow):
            return member
        if member.format in BLOCK_FORMATS and not 0 <= member.size <= BLOCK_BYTES:
            return self._large_member(member)
        try:
            data = member.stream.read(MAX_MEMBER_BYTES + 1)
        except DataError as error:
            return self._damaged_member(error, member)
        if len(data) > MAX_MEMBER_BYTES:
            reason = f"it is larger than {MAX_MEMBER_BYTES >> 20} MiB and has to be read whole: unpack it first"
            return BadRow(member.name, reason, len(data))
        return Blob(member.name, member.format, data)

    def _large_member(self, member: Member) -> Iterator[Piece]:
        try:
            yield from pieces_of(member.stream, member.name, member.format, self._reading, BLOCK_BYTES)
        except DataError as error:
            yield 0, self._damaged_member(error, member), None, None

    def _damaged_member(self, error: DataError, member: Member) -> BadRow:
        """A member that is damaged while the archive is not; else the error goes on."""
        if not self._forgiving or not (error.where or "").startswith(member.name):
            raise error
        return damaged(error, member.name, max(0, member.size))

    def _note(self, what: str, counts: dict[str, int]) -> None:
        if counts:
            self._say(counted(self._source, what, counts))


def counted(source: SourceConfig, what: str, counts: dict[str, int]) -> str:
    """A note on files of a source, by suffix."""
    said = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
    return f"{source.label}: {what}: {said}"


def _group(files: list[FoundFile]) -> Slot:
    unit = FileGroup(key_of_files(files), sum(one.size for one in files), tuple(files))
    return Slot(unit.key, unit.bytes, iter([unit]))


def _weight(file: FoundFile) -> int:
    return file.size * PACKED_FACTOR if compression_of(file.path) is not None else file.size


def _blobs(items: list[Blob | BadRow], size: int) -> Unit:
    digests = [
        key_of_block(item.name, item.format, 0, item.data) if isinstance(item, Blob) else key_of_documents([item])
        for item in items
    ]
    return Blobs(key_of_files((), *digests), max(0, size), tuple(items))


def _ignore(_: str) -> None:
    return
