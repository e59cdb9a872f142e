"""What a corpus leaves behind so that later ones can be compared with it without reading it again.

    <corpus>/dedup/index.json       {"version": 1, "documents": 2, "words": 2, "near": {"ngram": 5, ...} | null}
    <corpus>/dedup/keys.npy         (documents, 16) uint8: `exact_key`
    <corpus>/dedup/signatures.npy   (documents, bands * rows) uint32; not there when near is null
    <corpus>/dedup/sizes.npy        (documents,) uint64: UTF-8 bytes of the text
    <corpus>/dedup/ids.npy          (bytes,) uint8: the ids in UTF-8, one after the other
    <corpus>/dedup/id_ends.npy      (documents,) uint64: where each id ends

All files are mapped, but the signatures, which are read row by row; none is loaded. The texts stay in the corpus's
shards: of the documents that may be the same as a new one they are read once, in one pass over the shards, and checked
by their key.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmforge.cleaning.dedup.exact import KEY_BYTES, exact_key
from llmforge.cleaning.dedup.near import SEED, NearSettings
from llmforge.cleaning.dedup.row_file import RowFile
from llmforge.cleaning.dedup.shingles import WORDS_VERSION
from llmforge.corpus.folder import read_corpus
from llmforge.errors import DamagedError, DataError, UsageError
from llmforge.runtime.files import disk_errors, write_atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "dedup"
VERSION = 1
_HELD_OUT = "#valid"  # behind the id of a document's end that is held out; its beginning is in the training split


def _made_with(near: NearSettings | None) -> dict[str, object]:
    settings = None if near is None else {"ngram": near.ngram, "bands": near.bands, "rows": near.rows, "seed": SEED}
    return {"version": VERSION, "words": WORDS_VERSION, "near": settings}


def write_index(
    corpus: Path, ids: Iterable[str], keys: Any, signatures: Iterable[Any], sizes: Any, near: NearSettings | None
) -> None:
    """Writes the index of the documents that stay into `corpus`/dedup.

    Args:
        corpus: the corpus folder, before it is published.
        ids: of each document, as in the corpus's rows.
        keys: (documents, 16) uint8, the rows of `exact_key` of each text as it is in the corpus.
        signatures: blocks of (some documents, bands * rows) uint32 of the same texts; not looked at without `near`.
        sizes: UTF-8 bytes of each text.
        near: the settings that the signatures were made with.
    """
    import json

    import numpy as np

    folder = Path(corpus) / FOLDER
    names, ends = bytearray(), array("Q")
    for name in ids:
        names += name.encode("utf-8", "surrogatepass")
        ends.append(len(names))
    arrays: dict[str, NDArray[Any]] = {
        "keys": np.asarray(keys, dtype=np.uint8).reshape(-1, KEY_BYTES),
        "sizes": np.asarray(sizes, dtype=np.uint64),
        "ids": np.frombuffer(names, dtype=np.uint8),
        "id_ends": np.asarray(ends, dtype=np.uint64),
    }
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", values, allow_pickle=False)
        if near is not None:
            _save_blocks(folder / "signatures.npy", signatures, (len(ends), near.width))
    facts = {**_made_with(near), "documents": len(ends)}
    write_atomic(folder / "index.json", json.dumps(facts, indent=2) + "\n")


def _save_blocks(path: Path, blocks: Iterable[Any], shape: tuple[int, int]) -> None:
    """One uint32 array of `shape` from its blocks of rows; memory holds one of them."""
    import numpy as np

    with path.open("wb") as out:
        facts = {"descr": np.dtype(np.uint32).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, facts)
        for block in blocks:
            out.write(np.ascontiguousarray(block, dtype=np.uint32).data)


class CorpusIndex:
    """The index of one earlier corpus, its arrays mapped; `name` is its place as the config has it."""

    def __init__(self, name: str, folder: Path, arrays: dict[str, Any]) -> None:
        self.name, self.folder = name, folder
        self.keys: NDArray[np.uint8] = arrays["keys"]
        self.signatures: RowFile | None = arrays.get("signatures")
        self._ids, self._ends = arrays["ids"], arrays["id_ends"]

    def __len__(self) -> int:
        return len(self.keys)

    def id(self, number: int) -> str:
        """The id of a document."""
        begin = int(self._ends[number - 1]) if number else 0
        return bytes(self._ids[begin : int(self._ends[number])]).decode("utf-8", "surrogatepass")


def open_index(place: str, near: NearSettings | None) -> CorpusIndex:
    """The index of the corpus at `place`: its folder, or the run folder that holds it as corpus/.

    Raises:
        DataError: there is no index.
        UsageError: it was made with other settings, each named.
        DamagedError: a file of it is missing, cut or of another shape.
    """
    folder = Path(place).expanduser()
    if not (folder / FOLDER / "index.json").is_file():
        folder = folder / "corpus"
    if not (folder / FOLDER / "index.json").is_file():
        hint = "name a corpus folder that llmforge clean made with dedup on"
        raise DataError("has no index of its documents (dedup/index.json)", place, hint)
    facts = _facts(folder / FOLDER / "index.json")
    _check_settings(facts, near, place)
    count = facts["documents"]
    shapes: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "keys": ("uint8", (count, KEY_BYTES)),
        "sizes": ("uint64", (count,)),
        "ids": ("uint8", (None,)),
        "id_ends": ("uint64", (count,)),
    }
    if near is not None:
        shapes["signatures"] = ("uint32", (count, near.width))
    arrays = {name: _mapped(folder / FOLDER / f"{name}.npy", dtype, shape) for name, (dtype, shape) in shapes.items()}
    if near is not None:
        offset = getattr(arrays["signatures"], "offset", 0)
        arrays["signatures"] = RowFile(folder / FOLDER / "signatures.npy", count, near.width, offset)
    if count and int(arrays["id_ends"][-1]) != len(arrays["ids"]):
        raise DamagedError("does not fit id_ends.npy beside it", folder / FOLDER / "ids.npy", "clean that corpus again")
    return CorpusIndex(place, folder, arrays)


def _facts(path: Path) -> dict[str, Any]:
    import orjson

    try:
        facts = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedError(f"cannot be read ({error})", path, "clean that corpus again") from error
    if not isinstance(facts, dict) or not isinstance(facts.get("documents"), int) or facts["documents"] < 0:
        raise DamagedError("does not say how many documents there are", path, "clean that corpus again")
    return facts


def _check_settings(facts: dict[str, Any], near: NearSettings | None, place: str) -> None:
    wanted = _made_with(near)
    if near is None:
        wanted.pop("near")
    differences = []
    for name, value in wanted.items():
        had = facts.get(name)
        if isinstance(value, dict) and isinstance(had, dict):
            differences += [(f"near.{key}", had.get(key), value[key]) for key in value if had.get(key) != value[key]]
        elif had != value:
            differences.append((name, "no" if had is None else had, "set" if name == "near" else value))
    if differences:
        made = ", ".join(f"{name} {had}" for name, had, _ in differences)
        now = ", ".join(f"{name} {value}" for name, _, value in differences)
        hint = "clean both with the same dedup settings"
        raise UsageError(f"its index was made with {made}, and this config has {now}", place, hint)


def _mapped(path: Path, dtype: str, shape: tuple[int | None, ...]) -> Any:
    import numpy as np

    try:
        values = np.load(path, mmap_mode=None if 0 in shape else "r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DamagedError(f"cannot be read ({error})", path, "clean that corpus again") from error
    fits = isinstance(values, np.ndarray) and values.dtype == dtype and values.ndim == len(shape)
    if not fits or any(want not in (None, has) for want, has in zip(shape, values.shape, strict=True)):
        raise DamagedError("is not of the shape that index.json tells", path, "clean that corpus again")
    return values


class EarlierCorpora:
    """All earlier corpora of a config as one row of documents, numbered from 0; follows `near.Earlier`.

    `scratch` is a folder for the texts that are read again; `told_id` gives a document's id as it may be written.
    Usable as a context manager.
    """

    def __init__(
        self, indexes: Sequence[CorpusIndex], scratch: Path | None = None, told_id: Callable[[str], str] = str
    ) -> None:
        self._indexes = list(indexes)
        self._told_id = told_id
        self._spill = tempfile.TemporaryFile(dir=scratch)
        self._places: dict[int, tuple[int, int]] = {}
        self._starts = array("q", [0])
        for index in self._indexes:
            self._starts.append(self._starts[-1] + len(index))

    def __len__(self) -> int:
        return self._starts[-1]

    def __enter__(self) -> EarlierCorpora:
        return self

    def __exit__(self, *_: object) -> None:
        self._spill.close()

    @property
    def signatures(self) -> Sequence[Any]:
        """One (documents, bands * rows) matrix a corpus."""
        return [index.signatures for index in self._indexes]

    @property
    def keys(self) -> Any:
        """(documents, 16) uint8 of all corpora."""
        import numpy as np

        return np.concatenate([np.empty((0, KEY_BYTES), dtype=np.uint8), *(index.keys for index in self._indexes)])

    def id(self, number: int) -> str:
        """The id of a document, with the place of its corpus before it."""
        corpus, own = self._find(number)
        return f"{self._indexes[corpus].name}: {self._told_id(self._indexes[corpus].id(own))}"

    def _find(self, number: int) -> tuple[int, int]:
        from bisect import bisect_right

        corpus = bisect_right(self._starts, number) - 1
        return corpus, number - self._starts[corpus]

    def fetch(self, numbers: Sequence[int]) -> None:
        """Reads the texts of these documents, in one pass over each corpus that has some of them.

        Raises:
            DamagedError: a corpus does not hold a document of its index.
        """
        wanted: dict[int, dict[bytes, list[int]]] = {}
        for number in numbers:
            if number not in self._places:
                corpus, own = self._find(number)
                same = wanted.setdefault(corpus, {}).setdefault(bytes(self._indexes[corpus].keys[own]), [])
                same.append(number)
        for corpus, by_key in wanted.items():
            self._fetch_from(self._indexes[corpus], by_key)

    def _fetch_from(self, index: CorpusIndex, by_key: dict[bytes, list[int]]) -> None:
        missing = dict(by_key)
        for text in _whole_texts(index.folder):
            numbers = missing.pop(exact_key(text), None)
            if numbers is not None:
                data = text.encode("utf-8", "surrogatepass")
                with disk_errors(Path(tempfile.gettempdir())):
                    place = (self._spill.seek(0, os.SEEK_END), len(data))
                    self._spill.write(data)
                self._places.update(dict.fromkeys(numbers, place))
            if not missing:
                break
        if missing:
            own = self._find(next(iter(missing.values()))[0])[1]
            what = f"does not hold {index.id(own)} as its index has it"
            raise DamagedError(what, index.folder, "clean that corpus again, or leave it out of dedup.against")

    def text(self, number: int) -> str:
        """The text of a document that was fetched."""
        begin, size = self._places[number]
        self._spill.seek(begin)
        return self._spill.read(size).decode("utf-8", "surrogatepass")


def _whole_texts(folder: Path) -> Iterable[str]:
    """The texts of a corpus; of a document whose end is held out both parts as one, behind the others."""
    ends = {row.id: row.text for row in read_corpus(folder, "valid") if row.id.endswith(_HELD_OUT)}
    for row in read_corpus(folder, "train"):
        yield row.text + ends.get(row.id + _HELD_OUT, "")
    for row in read_corpus(folder, "valid"):
        yield row.text
