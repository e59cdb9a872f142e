"""Evaluation files to an index of their items' words.

One raw row, of any names: {"question": "Janet's ducks lay 16 eggs per day. ...", "answer": "... #### 18"}

Memory: 9 bytes a word, 16 a run of words and 16 to 32 of filter a run: about 50 bytes a word of the evaluation files,
in each process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmforge.cleaning.decontaminate.settings import DecontaminateSettings
from llmforge.cleaning.dedup.shingles import run_hashes, word_hashes
from llmforge.corpus.files import ARCHIVES, find_files, root_of
from llmforge.corpus.rows import TABLES, is_built_in, read_rows
from llmforge.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PART_WORDS = 64  # a longer field is looked for in pieces, so that a copy of a piece of it is found too
_MIX = 0x94D049BB133111EB
_FILTER_SLOTS_PER_RUN = 16
_CHANGED = 0.15  # share of a part's words that may be changed before fewer runs than `least_runs` are left
SHORT_WORDS = 16  # a part of fewer is pointed to by shorter runs: one changed word can leave it no longer one
_SHORT_NGRAM = 3


@dataclass(frozen=True)
class Pointers:
    """Runs of `ngram` words that point to parts.

    hashes: (runs,) uint64, sorted; parts and words: (runs,) int32, the part and the place in it.
    least: (all parts,) int64, how many of its runs point to a part where it is looked at more closely.
    filter: (a power of two,) bool, True at the low bits of each run's hash.
    """

    ngram: int
    hashes: NDArray[np.uint64]
    parts: NDArray[np.int32]
    words: NDArray[np.int32]
    least: NDArray[np.int64]
    filter: NDArray[np.bool_]


@dataclass(frozen=True)
class ItemIndex:
    """The parts of all items; equal parts are one.

    words: (words,) uint64, the parts one behind the other; telling: (words,) bool; starts: (parts + 1,) int64.
    pointers: what points to the long parts and to the short ones, each where there are such.
    owners: for each part, the items that have it, as "file:row".
    untold: the items that have no part with enough telling words.
    items: how many there are.
    """

    words: NDArray[np.uint64]
    telling: NDArray[np.bool_]
    starts: NDArray[np.int64]
    pointers: tuple[Pointers, ...]
    owners: list[tuple[str, ...]]
    untold: list[str]
    items: int


def item_runs(words: Any, ngram: int) -> Any:
    """(len(words) - ngram + 1,) uint64, mixed: the runs of words that the index and the documents are compared by."""
    import numpy as np

    runs = run_hashes(words, ngram)
    runs ^= runs >> np.uint64(32)
    runs *= np.uint64(_MIX)
    return runs ^ (runs >> np.uint64(29))


def _texts(value: object) -> Iterator[str]:
    """All text below a value, without recursion; rows are at most 32 deep."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, str):
            yield top
        elif isinstance(top, dict):
            stack.extend(reversed(list(top.values())))
        elif isinstance(top, list):
            stack.extend(reversed(top))


def read_items(settings: DecontaminateSettings) -> Iterator[tuple[str, list[str]]]:
    """("file:row", its texts) of every row of the evaluation files; the file with its folder where two paths have
    files of one name.

    Raises:
        DataError: a file cannot be read, holds no rows, or no row has one of `fields`.
    """
    places = places_of(settings.against)
    for path in settings.against:
        missing = set(settings.fields or ())
        seen: set[str] = set()
        rows = 0
        for row, where in read_rows(path):
            rows += 1
            seen.update(row)
            missing.difference_update(row)
            chosen = row if settings.fields is None else {name: row.get(name) for name in settings.fields}
            yield f"{places.get(path, '')}{where}", list(_texts(chosen))
        if not rows:
            raise DataError("holds no rows", path, "leave it out of decontaminate.against")
        if missing:
            hint = f"its fields are {', '.join(sorted(seen))}"
            raise DataError(f"no row has the field {', '.join(sorted(missing))}", path, hint)


def places_of(paths: Iterable[str]) -> dict[str, str]:
    """What names of items begin with, for paths that have files of one name: as many folders as tell them apart.

    How a path is written makes no difference to it: other machines see other paths of the same files.
    """
    roots = {path: root_of(path).resolve().parts for path in _with_equal_names(paths)}
    count = 1
    while len({parts[-count:] for parts in roots.values()}) < len(roots) and count < max(map(len, roots.values())):
        count += 1
    return {path: "".join(f"{part}/" for part in parts[-count:]) for path, parts in roots.items()}


def _with_equal_names(paths: Iterable[str]) -> set[str]:
    """Those paths that have a file whose name below its path is that of a file of another path."""
    owners: dict[str, set[str]] = {}
    listed = [path for path in paths if not is_built_in(path)]
    for path in listed if len(listed) > 1 else ():  # a path alone has no other to be told from
        for file in find_files(path).files:
            if file.format in TABLES or file.format in ARCHIVES:
                owners.setdefault(file.name, set()).add(path)
    return {path for found in owners.values() if len(found) > 1 for path in found}


def _parts(text: str) -> Iterator[Any]:
    """The words of a text in pieces of about the same length, none longer than PART_WORDS."""
    words = word_hashes(text)
    pieces = -(-len(words) // PART_WORDS)
    for piece in range(pieces):
        yield words[len(words) * piece // pieces : len(words) * (piece + 1) // pieces]


def build_index(settings: DecontaminateSettings) -> ItemIndex:
    """The index of all evaluation files of the settings.

    Raises:
        DataError: a file cannot be read, or no item has enough telling words.
    """
    numbers: dict[bytes, int] = {}
    parts: list[Any] = []
    owners: list[list[str]] = []
    names: list[str] = []
    for where, texts in read_items(settings):
        names.append(where)
        for text in texts:
            for part in _parts(text):
                if len(part) < max(settings.min_words, settings.ngram):
                    continue
                number = numbers.setdefault(part.tobytes(), len(parts))
                if number == len(parts):
                    parts.append(part)
                    owners.append([])
                if not owners[number] or owners[number][-1] != where:
                    owners[number].append(where)
    index = _indexed(parts, owners, names, settings)
    if len(index.untold) == len(names):
        what = f"no item has a text of {settings.min_words} words that tell it from the others"
        raise DataError(what, ", ".join(settings.against), "lower decontaminate.min_words, or leave the files out")
    return index


def _indexed(parts: list[Any], owners: list[list[str]], names: list[str], settings: DecontaminateSettings) -> ItemIndex:
    import numpy as np

    starts = np.concatenate(([0], np.cumsum([len(part) for part in parts], dtype=np.int64)))
    runs = _Runs(parts, settings.ngram, settings.max_parts)
    telling = np.zeros(int(starts[-1]), dtype=bool)
    for place in range(settings.ngram):
        telling[starts[runs.parts[runs.tells]] + runs.words[runs.tells] + place] = True
    told_words = np.add.reduceat(telling, starts[:-1], dtype=np.int64) if parts else np.zeros(0, dtype=np.int64)
    enough = told_words >= settings.min_words
    told = {name for owner, good in zip(owners, enough, strict=True) if good for name in owner}
    untold = [name for name in names if name not in told]
    short = enough & (np.diff(starts) < SHORT_WORDS) & (settings.ngram > _SHORT_NGRAM)
    pointers = [runs.pointers(enough & ~short, 1)]
    if short.any():
        pointers.append(_Runs(parts, _SHORT_NGRAM, settings.max_parts).pointers(short, 2))
    words = np.concatenate([np.empty(0, dtype=np.uint64), *parts])
    by_part = [tuple(owner) for owner in owners]
    found = tuple(one for one in pointers if len(one.hashes))
    return ItemIndex(words, telling, starts, found, by_part, untold, len(names))


class _Runs:
    """All runs of `ngram` words of the parts, sorted: `hashes`, the `parts` and `words` (places in them) of each, and
    whether a run `tells`: it is in at most `max_parts` different parts.
    """

    def __init__(self, parts: list[Any], ngram: int, max_parts: int) -> None:
        import numpy as np

        self.ngram = ngram
        self.lengths = np.array([len(part) for part in parts], dtype=np.int64)
        hashes = np.concatenate([np.empty(0, dtype=np.uint64), *(item_runs(part, ngram) for part in parts)])
        counts = self.lengths - ngram + 1
        of_parts = np.repeat(np.arange(len(parts), dtype=np.int32), counts)
        words = (np.arange(len(hashes)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)
        order = np.lexsort((words, of_parts, hashes))
        self.hashes, self.parts, self.words = hashes[order], of_parts[order], words[order]
        is_new = np.append(True, self.hashes[1:] != self.hashes[:-1])[: len(hashes)]
        self.is_new_part = is_new | np.append(True, self.parts[1:] != self.parts[:-1])[: len(hashes)]
        group = np.cumsum(is_new) - 1
        self.tells = (np.bincount(group, weights=self.is_new_part) <= max_parts)[group] if len(group) else is_new

    def pointers(self, wanted: Any, least: int) -> Pointers:
        """Those of the parts `wanted`, (parts,) bool; at least `least` of them have to point to one place."""
        import numpy as np

        use = self.tells & wanted[self.parts] & self.is_new_part  # of one that a part has again the first will do
        hashes, parts, words = self.hashes[use], self.parts[use], self.words[use]
        bits = 1 << max(10, (len(hashes) * _FILTER_SLOTS_PER_RUN).bit_length())
        mask = np.zeros(bits, dtype=bool)
        mask[(hashes & np.uint64(bits - 1)).astype(np.int64)] = True
        # A change takes `ngram` runs at most (Ukkonen 1992, the q-gram lemma); half of what is left has to be there.
        there = np.bincount(parts, minlength=len(self.lengths))
        left = there - self.ngram * np.ceil(_CHANGED * self.lengths).astype(np.int64)
        return Pointers(self.ngram, hashes, parts, words, np.maximum(np.minimum(least, there), left // 2), mask)
