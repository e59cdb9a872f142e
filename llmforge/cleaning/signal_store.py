"""What was measured of every document, dropped or not, in one Parquet file beside the corpus: each verdict of the rules
can be recomputed from it, and other thresholds tried, without the texts.

Columns: id, source, bytes (as read), language, language_score, a column for each signal, reasons (rule.threshold, all
of them, the deciding one first), removed and replaced (JSON: what each step changed).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llmforge.cleaning.columns import as_numpy, numbers, string_lists, strings
from llmforge.cleaning.parts import Measured
from llmforge.cleaning.verdict import Drop
from llmforge.errors import DamagedError, DataError, UsageError
from llmforge.runtime.files import disk_errors

NAME = "signals.parquet"
GROUP_ROWS = 1 << 14
FIXED = ("id", "source", "bytes", "language", "language_score", "reasons", "removed", "replaced")


class SignalWriter:
    """Writes the file, a group of rows at a time, with a column for each of `signals`.

    Memory holds 8 bytes a signal and the other fields of one group.
    """

    def __init__(self, folder: Path, signals: Sequence[str]) -> None:
        self._path = folder / NAME
        self._rows: list[tuple[Any, ...]] = []
        self._values = array("d")  # of the documents that were measured, one behind the other
        self._measured = bytearray()  # 1 for each that was
        self._columns = list(signals)
        self._file: Any = None

    def add(self, entry: Measured, drops: Sequence[Drop]) -> None:
        """One document and the reasons against it."""
        language, score = entry.language or (None, None)
        names = [drop.name for drop in drops]
        removed, replaced = _json(entry.removed), _json(entry.replaced)
        document = entry.document
        self._rows.append((document.id, document.source, entry.bytes_read, language, score, names, removed, replaced))
        self._measured.append(entry.signals is not None)
        if entry.signals is not None:
            self._values.extend(map(entry.signals.__getitem__, self._columns))
        if len(self._rows) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = (pa.string(), pa.string(), pa.int64(), pa.string(), pa.float64(), pa.list_(pa.string()))
        fields = [*zip(FIXED, (*kinds, pa.string(), pa.string()), strict=True)]
        schema = pa.schema([*fields, *((name, pa.float64()) for name in self._columns)])
        with disk_errors(self._path):
            if self._file is None:
                self._file = pq.ParquetWriter(self._path, schema, compression="zstd")
            if self._rows:
                columns = [*self._fixed(), *self._signals(len(self._columns))]
                self._file.write_table(pa.Table.from_arrays(columns, schema=self._file.schema))
        self._rows, self._values, self._measured = [], array("d"), bytearray()

    def _fixed(self) -> list[Any]:
        """The columns that every file has."""
        import numpy as np

        ids, sources, sizes, languages, scores, reasons, removed, replaced = zip(*self._rows, strict=True)
        known = np.array([score is not None for score in scores])
        return [
            strings(ids),
            strings(sources),
            numbers(np.array(sizes, dtype=np.int64)),
            strings(languages),
            numbers(np.array([score or 0.0 for score in scores]), known),
            string_lists(reasons),
            strings(removed),
            strings(replaced),
        ]

    def _signals(self, width: int) -> Iterator[Any]:
        """A column for each signal; null where a document was not measured."""
        import numpy as np

        if not width:
            return
        measured = np.frombuffer(self._measured, dtype=bool)
        found = np.zeros((width, len(measured)))
        found[:, measured] = np.frombuffer(self._values).reshape(-1, width).T
        for column in found:
            yield numbers(column, measured)

    def close(self) -> None:
        """Writes the rest."""
        self._flush()
        with disk_errors(self._path):
            self._file.close()


def _json(told: dict[str, int]) -> str:
    if not told:
        return ""
    import orjson

    return orjson.dumps(told).decode()


class SignalStore:
    """The file of a finished run.

    Raises:
        DataError: the corpus has none.
        DamagedError: it cannot be read.
    """

    def __init__(self, corpus: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = path = corpus / NAME
        if not path.is_file():
            raise DataError(f"there is no {NAME}", corpus, "run llmforge clean with this config first")
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise DamagedError("is damaged", path, "run llmforge clean again") from error
        self.signals = [name for name in self._file.schema_arrow.names if name not in FIXED]

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def column(self, name: str) -> Any:
        """One column of numbers as a NumPy array in the order read; a missing number is NaN.

        Raises:
            UsageError: the run did not measure this.
        """
        if name not in self._file.schema_arrow.names:
            hint = "run llmforge clean with the rule set that looks at it first"
            raise UsageError(f"the corpus was not measured for the signal {name}", self._path, hint)
        return as_numpy(self._file.read(columns=[name]).column(0), "int64" if name == "bytes" else "float64")

    def ids(self) -> Iterator[str]:
        """The documents' ids in the order read."""
        for batch in self._file.iter_batches(batch_size=4096, columns=["id"]):
            yield from batch.column(0).to_pylist()

    def reasons(self) -> tuple[Any, dict[str, Any]]:
        """How many reasons stand against each document, and for each reason the numbers of those it stands against."""
        import numpy as np

        counts: list[Any] = [np.empty(0, dtype=np.uint16)]
        places: dict[str, array[int]] = {}
        first = 0
        for batch in self._file.iter_batches(batch_size=4096, columns=["reasons"]):
            lists = batch.column(0).to_pylist()
            counts.append(np.fromiter(map(len, lists), dtype=np.uint16, count=len(lists)))
            for number, names in enumerate(lists, first):
                for name in names:
                    places.setdefault(name, array("I")).append(number)
            first += len(lists)
        having = {name: np.frombuffer(found, dtype=np.uint32) for name, found in places.items()}
        return np.concatenate(counts), having

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row as a dict, `signals` among its keys (None where nothing was measured)."""
        for batch in self._file.iter_batches(batch_size=4096):
            for row in batch.to_pylist():
                signals = {name: row.pop(name) for name in self.signals}
                row["signals"] = None if None in signals.values() or not signals else signals
                yield row
