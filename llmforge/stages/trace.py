"""`llmforge trace`: from a training step to its documents and their origin; from a document to its steps or fate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmforge.errors import DataError, LlmforgeError, UsageError
from llmforge.training.spikes import data_step, run_step

if TYPE_CHECKING:
    from llmforge.stages.trace_corpus import Origin, TracedCorpus
    from llmforge.stages.trace_run import TracedRun
    from llmforge.tokens.folder import TokenFolder
    from llmforge.tokens.run_rows import TracedSpan


def answer(run: Path | None, step: int | None, document: str | None, json: bool) -> None:
    """What was asked of a run folder, shown to a person or as one JSON object.

    Steps count from 1, as in metrics.jsonl.

    Raises:
        UsageError: not exactly one question, no run of pretrain, or a step that it did not take.
        DataError: the tokens are not there, or no document has this id.
        DamagedError: an artefact was changed since.
    """
    from llmforge.runtime.console import Console
    from llmforge.stages.request import say_json
    from llmforge.stages.trace_page import document_page, step_page
    from llmforge.stages.trace_run import open_run

    if run is None:
        raise UsageError("no run was given", "llmforge trace", "give --run DIR, the run folder of a pretrain")
    if (step is None) == (document is None):
        raise UsageError("give exactly one of --step N and --document ID", "llmforge trace")
    console, traced = Console(json=json), open_run(run)
    told = trace_step(traced, step) if step is not None else trace_document(traced, document or "")
    for note in told["notes"]:
        console.warn(note)
    if json:
        say_json(told)
    else:
        console.result("\n".join(step_page(told) if step is not None else document_page(told)))


def trace_step(traced: TracedRun, step: int) -> dict[str, Any]:
    """The documents of a step's batch, each with its parts of the rows.

    A part has `row` and `column` of the batch, `start` and `length` in the document's tokens (its begin symbol
    counts), and `text_bytes`, the bytes of the cleaned text that these tokens stand for.

    Raises:
        UsageError: the run did not take this step.
    """
    if not 1 <= step <= traced.steps:
        what = f"the run took {traced.steps:,} steps, so there is no step {step:,}"
        raise UsageError(what, traced.path, "steps count from 1, as in metrics.jsonl")
    spans = traced.rows.trace(data_step(step - 1, traced.left_out))
    told: dict[str, Any] = {
        "run": str(traced.path),
        "step": step,
        "rows": traced.rows.batch_rows,
        "seq_len": traced.rows.seq_len,
        "documents": [],
        "notes": _notes_on_kept(traced, step),
    }
    for number, source in enumerate(traced.rows.sources):
        told["documents"] += _documents(traced, number, [span for span in spans if span.source == source.name], told)
    told["notes"] = list(dict.fromkeys(told["notes"]))
    return told


def _documents(traced: TracedRun, number: int, spans: list[TracedSpan], told: dict[str, Any]) -> list[dict[str, Any]]:
    """The documents of one source of the mixture, in the order of their first row."""
    from llmforge.tokens.text_bytes import span_bytes

    grouped: dict[tuple[str, str], list[TracedSpan]] = {}
    for span in spans:
        grouped.setdefault((span.document.source, span.document.id), []).append(span)
    folder, split = traced.folders[number], traced.rows.sources[number].split
    corpus = _corpus(traced, folder, told["notes"]) if grouped else None
    origins = corpus.find(grouped, ["train"]) if corpus is not None else {}
    found = []
    for (source, identity), parts in grouped.items():
        entry: dict[str, Any] = {"id": identity, "source": source, "mixture": parts[0].source}
        origin = origins.get((source, identity))
        if origin is not None:
            entry |= origin.as_json()
        elif corpus is not None:
            told["notes"].append(f"{identity} of {source} is not in {corpus.path}")
        entry["spans"] = [
            {
                "row": part.row,
                "column": part.column,
                "start": part.start,
                "length": part.length,
                "text_bytes": span_bytes(split, folder.tokenizer_folder, part),
            }
            for part in parts
        ]
        found.append(entry)
    if corpus is not None:
        told["notes"] += corpus.notes
    return found


def trace_document(traced: TracedRun, identity: str) -> dict[str, Any]:
    """All documents of an id (there may be one in each source): the steps that saw each, or why none did.

    `fate` is one of: seen, not_reached (in the tokens, but no step came to it), left_out (with the data of a step
    whose loss spiked), held_out, dropped, not_in_tokens.

    Raises:
        DataError: no document has this id.
    """
    told: dict[str, Any] = {
        "run": str(traced.path),
        "document": identity,
        "steps_done": traced.steps,
        "found": [],
        "notes": [],
    }
    corpora: dict[Path, TracedCorpus] = {}
    known: dict[Path, dict[tuple[str, str], Origin]] = {}  # two sources may be made of one corpus
    trained: set[tuple[Path, str]] = set()
    for number, (folder, source) in enumerate(zip(traced.folders, traced.rows.sources, strict=True)):
        corpus = _corpus(traced, folder, told["notes"])
        if corpus is not None and corpus.path not in corpora:
            corpora[corpus.path], known[corpus.path] = corpus, corpus.named(identity)
        for at in source.split.find(identity):
            entry = source.split.document(at)
            served = traced.rows.steps_of(number, at, traced.steps + len(traced.left_out))
            taken = (run_step(step, traced.left_out) for step in served)
            steps = Counter(step + 1 for step in taken if step is not None)
            facts = {"source": entry.source, "mixture": source.name, "tokens": entry.length}
            if corpus is not None:
                trained.add((corpus.path, entry.source))
                origin = known[corpus.path].get((entry.source, identity))
                facts |= origin.as_json() if origin is not None else {}
            facts["fate"] = "seen" if steps else "left_out" if served else "not_reached"
            facts["steps"] = [{"step": step, "rows": rows} for step, rows in sorted(steps.items())]
            told["found"].append(facts)
    for path, origins in known.items():
        rest = [origin for (source_name, _), origin in origins.items() if (path, source_name) not in trained]
        told["found"] += [{"source": o.document.source, **o.as_json(), **_fate(o)} for o in rest]
    told["found"] += _held_out(traced, identity, told["found"])
    told["notes"] = list(dict.fromkeys(told["notes"] + [note for c in corpora.values() for note in c.notes]))
    if not told["found"]:
        searched = ", ".join(str(place) for place in [*(f.path for f in traced.folders), *corpora])
        hint = "; ".join(["ids stand in the rows of a corpus; a file's first document is FILE#1", *told["notes"]])
        raise DataError(f"no document has this id in {searched}", identity, hint)
    return told


def _fate(origin: Origin) -> dict[str, Any]:
    """Why a document of the corpus is not among those that are trained on."""
    metadata = origin.document.metadata
    if origin.split == "dropped":
        facts = {"fate": "dropped", "reason": metadata.get("reason"), "detail": metadata.get("detail")}
        return facts | ({"kept": metadata["kept"]} if "kept" in metadata else {})
    return {"fate": "held_out" if origin.split == "valid" else "not_in_tokens"}


def _held_out(traced: TracedRun, identity: str, found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Documents of the held-out splits that the corpus has not told of."""
    known = {entry["source"] for entry in found}
    entries = (split.document(at) for split in traced.valid for at in split.find(identity))
    return [
        {"source": entry.source, "tokens": entry.length, "fate": "held_out"}
        for entry in entries
        if entry.source not in known
    ]


def _corpus(traced: TracedRun, folder: TokenFolder, notes: list[str]) -> TracedCorpus | None:
    """The corpus that a tokens folder was made from; None, with a note, when it is not there any more."""
    from llmforge.runtime.manifest import read_manifest
    from llmforge.stages.trace_corpus import TracedCorpus
    from llmforge.stages.trace_run import locate

    manifest = read_manifest(folder.path, "tokens")
    path, digest = manifest.config.get("corpus"), manifest.made_from.get("corpus")
    if not isinstance(path, str):
        notes.append(f"{folder.path} does not say which corpus it was made from")
        return None
    try:
        return TracedCorpus(locate(path, "corpus", traced.path, digest, "the documents of the corpus"), traced.path)
    except LlmforgeError as error:
        notes.append(f"{error}; without it there is no more to tell than the tokens know")
        return None


def _notes_on_kept(traced: TracedRun, step: int) -> list[str]:
    if traced.kept_step is not None and step > traced.kept_step:
        return [f"the published weights are those of step {traced.kept_step:,}; what later steps learned was not kept"]
    return []
