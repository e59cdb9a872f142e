"""What a corpus folder knows of documents: their row with its place in the raw input, what cleaning changed, and why
some were dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from llmforge.corpus.document import Document
from llmforge.corpus.folder import SPLITS, Split, read_corpus
from llmforge.corpus.raw_spans import RawSpan, raw_spans
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.sources import source_fingerprint
from llmforge.errors import LlmforgeError
from llmforge.runtime.manifest import read_manifest

Key = tuple[str, str]  # source and id: ids are unique within a source
SIGNALS = "signals.parquet"
_OWN = ("file", "row", "license", "reason", "detail")


@dataclass
class Origin:
    """A document's row: `split` is train, valid or dropped; `measured` is its row of signals.parquet, if any."""

    document: Document
    split: Split
    raw: RawSpan | None = None
    measured: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values: where it came from, its licence, and what cleaning did."""
        metadata = self.document.metadata
        cleaning = {key: value for key, value in metadata.items() if key in ("anonymized", "repaired", "encoding")}
        for key in ("removed", "replaced", "reasons", "language", "language_score"):
            if self.measured.get(key):
                cleaning[key] = self.measured[key]
        others = {key: value for key, value in metadata.items() if key not in (*_OWN, *cleaning)}
        return {
            "file": metadata.get("file"),
            "row": metadata.get("row"),
            "raw": None if self.raw is None else self.raw.as_json(),
            "license": metadata.get("license"),
            "cleaning": cleaning,
            "metadata": others,
        }


class TracedCorpus:
    """An opened corpus folder; `notes` gathers what could not be told and why."""

    def __init__(self, path: Path, run: Path) -> None:
        """Raises DamagedError when a file was cut."""
        self.path, self._run = path, run
        self._manifest = read_manifest(path, "corpus")
        self.notes: list[str] = []

    def find(self, wanted: Iterable[Key], splits: Iterable[Split]) -> dict[Key, Origin]:
        """The rows of documents by (source, id); reads the shards up to the last one that is found."""
        keys = set(wanted)
        return self._scan(splits, lambda document: (document.source, document.id) in keys, len(keys))

    def named(self, identity: str) -> dict[Key, Origin]:
        """All documents of an id, of whichever source and split."""
        return self._scan(SPLITS, lambda document: document.id == identity, None)

    def _scan(self, splits: Iterable[Split], matches: Any, most: int | None) -> dict[Key, Origin]:
        found: dict[Key, Origin] = {}
        for split in splits:
            for document in read_corpus(self.path, split):
                if len(found) == most:
                    break
                if matches(document):
                    document.text = ""  # only its place is wanted, and it may be long
                    found.setdefault((document.source, document.id), Origin(document, split))
        self._add_raw(found)
        self._add_measured(found)
        return found

    @cached_property
    def _originals(self) -> dict[str, SourceConfig]:
        """The sources of the raw input by their names; those of the built-in corpus carry other names."""
        found = {}
        listed = self._manifest.config.get("sources")
        for values in listed if isinstance(listed, list) else []:
            try:
                source = SourceConfig.model_validate(values)
            except ValueError:
                self.notes.append(f"a source of {self.path} was written by another version: no places in its raw files")
                continue
            found[source.label] = source
        return found

    def _beside(self, source: SourceConfig) -> SourceConfig:
        """The source with its path as seen from here or from a folder above the run."""
        if source.path is None:
            return source
        given = Path(source.path).expanduser()
        above = [] if given.is_absolute() else [parent / given for parent in self._run.resolve().parents]
        place = next((place for place in (given, *above) if place.exists()), given)
        return source.model_copy(update={"path": str(place), "name": source.label})

    def _add_raw(self, found: Mapping[Key, Origin]) -> None:
        by_source: dict[str, list[Origin]] = {}
        for origin in found.values():
            if isinstance(origin.document.metadata.get("file"), str):
                by_source.setdefault(origin.document.source, []).append(origin)
        for label, origins in by_source.items():
            original = self._originals.get(label)
            if original is None or original.path is None:
                continue
            source = self._beside(original)
            places = [(str(o.document.metadata["file"]), int(str(o.document.metadata.get("row", 1)))) for o in origins]
            try:
                self._say_changed(label, source)
                spans = raw_spans(source, places)
            except LlmforgeError as error:
                self.notes.append(f"the raw input of {label} cannot be read: {error}")
                continue
            for origin, place in zip(origins, places, strict=True):
                origin.raw = spans.get(place)
                if origin.raw is None:
                    self.notes.append(f"{place[0]} of {label} is no longer in {source.path}")

    def _say_changed(self, label: str, source: SourceConfig) -> None:
        known, original = self._manifest.made_from.get(label), self._originals[label]
        if original.path == source.path and known is not None and source_fingerprint(original) != known:
            self.notes.append(f"the raw input of {label} has changed since it was cleaned: {source.path}")

    def _add_measured(self, found: Mapping[Key, Origin]) -> None:
        path = self.path / SIGNALS
        if not found or not path.is_file():
            return
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        table = pq.ParquetFile(path)
        columns = [name for name in table.schema_arrow.names if name not in ("id", "source")]
        names = [identity for _, identity in found]
        for batch in table.iter_batches():
            chosen = batch.filter(pc.is_in(batch.column("id"), value_set=_strings(names)))
            for row in chosen.to_pylist():
                origin = found.get((row["source"], row["id"]))
                if origin is not None:
                    origin.measured = {name: _plain(row[name]) for name in columns if row[name] is not None}


def _strings(names: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(names, pa.string())


def _plain(value: Any) -> Any:
    """JSON in a text column as what it stands for."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
