"""The input in order, cut into pieces that workers turn into parts, and what is remembered of a finished stretch.

A stretch is what can be planned without reading it: a group of small files, or one large file. When all its parts are
made, a small file beside them says so (`<digest>.done`: the names of the parts, one a line), so that neither a run that
goes on, nor one with other thresholds, nor the merge of what many machines made reads that input again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmforge.cleaning.parts import SUFFIX
from llmforge.corpus.hf_dataset import local_folder
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.unit_kinds import Unit
from llmforge.corpus.unit_reading import read_by
from llmforge.corpus.units import Slot, plan_slots
from llmforge.runtime.files import write_atomic

PIECE_BYTES = 1 << 20  # the last ones are short enough for no worker to wait long for another
PARTS, DONE = "parts", ".done"


@dataclass(frozen=True)
class Piece:
    """Units of one source that are read together and make one part, at `path`."""

    source: SourceConfig
    units: tuple[Unit, ...]
    path: Path


@dataclass(frozen=True)
class Stretch:
    """One slot of the input: `record` is where its finished parts are written down."""

    source: SourceConfig
    slot: Slot
    record: Path

    @property
    def bytes(self) -> int:
        """As they lie in the input."""
        return self.slot.bytes

    def finished(self) -> list[Path] | None:
        """The parts that were made before, in order; None when not all of them are there."""
        try:
            names = self.record.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            return None
        paths = [self.record.parent / name for name in names]
        return paths if all(path.is_file() for path in paths) else None

    def finish(self, paths: Iterable[Path]) -> None:
        """Writes down that these are all parts."""
        write_atomic(self.record, "".join(f"{path.name}\n" for path in paths))

    def pieces(self) -> Iterator[Piece]:
        """Reads what has to be read to plan, and cuts it into pieces; the same for any number of workers."""
        units: list[Unit] = []
        size = 0
        for unit in self.slot.units:
            if units and size + unit.bytes > PIECE_BYTES:
                yield self.piece(units)
                units, size = [], 0
            units.append(unit)
            size += unit.bytes
        if units:
            yield self.piece(units)

    def piece(self, units: list[Unit]) -> Piece:
        """These units as a piece, under a name that says what is read."""
        state = hashlib.sha256(self.record.stem.encode())
        for unit in units:
            state.update(f"\0{unit.key}".encode())
        return Piece(self.source, tuple(units), self.record.parent / f"{state.hexdigest()[:32]}{SUFFIX}")


def plan_stretches(
    sources: Iterable[SourceConfig], measured: str, folder: Path, say: Callable[[str], None]
) -> Iterator[Stretch]:
    """The input in order; parts lie in `folder` under names that depend on the input and on `measured`, a digest."""
    for source in sources:
        # Not the place: the same files in another one, or seen from another folder, are the same input. But the label,
        # which stands in the parts and tells sources apart whose files have equal names, sizes and times.
        place = {"path", "name"} | ({"dataset"} if source.dataset and local_folder(source.dataset) else set())
        settings = f"{measured}\0{source.label}\0{read_by(source)}\0{source.model_dump_json(exclude=place)}"
        for slot in plan_slots(source, say, forgiving=True):
            name = hashlib.sha256(f"{settings}\0{slot.key}".encode()).hexdigest()[:32]
            yield Stretch(source, slot, folder / f"{name}{DONE}")
