"""Artefacts under `doctor`'s eyes: every file against its manifest, and damage by file, bytes and tensor.

Reads every byte. All damage is reported, not the first only; the answer to "may I use it?" stays the commands' own.
"""

from __future__ import annotations

import json
from pathlib import Path

from llmforge.checkpoint.tensor_spans import read_spans
from llmforge.errors import DamagedError, DataError, LlmforgeError
from llmforge.runtime.blocks import changed_ranges
from llmforge.runtime.console import quantity
from llmforge.runtime.files import digest_file, files_below
from llmforge.runtime.manifest import NAME, Manifest, load_manifest
from llmforge.stages.doctor_findings import Diagnosis, Finding

ARTEFACTS = ("corpus", "tokenizer", "tokens", "model", "adapter")
_PAGE = 4096
_NAMES_SHOWN = 3
MADE_BY = {"corpus": "clean", "tokenizer": "tokenizer train", "tokens": "tokenize"}


def kind_of(folder: Path) -> str | None:
    """The kind that a folder's manifest gives, whole or not; None without one that can be read."""
    try:
        kind = json.loads((folder / NAME).read_text(encoding="utf-8")).get("kind")
    except (OSError, ValueError, AttributeError):
        return None
    return str(kind) if kind else None


def check_artefact(folder: Path, kind: str, found: Diagnosis) -> bool:
    """Whether every file of an artefact is as it was written; what is not is added to the findings."""
    try:
        manifest = load_manifest(folder, kind)
    except (DamagedError, DataError) as error:
        found.add("damaged", error.where or folder, error.what)
        _check_structure(folder, found)
        return False
    damaged = [finding for name in sorted(manifest.files) if (finding := _check_file(folder, name, manifest))]
    found.findings += damaged
    extra = {path.as_posix() for path in files_below(folder)} - set(manifest.files) - {NAME}
    if extra:
        shown = ", ".join(sorted(extra)[:_NAMES_SHOWN])
        found.add("note", folder, f"{len(extra)} files that the manifest does not name: {shown}")
    if not damaged:
        size = quantity(sum(entry[1] for entry in manifest.files.values()), "B")
        found.add("whole", folder, f"{kind}, {len(manifest.files)} files, {size}, every SHA-256 as written")
    return not damaged


def _check_file(folder: Path, name: str, manifest: Manifest) -> Finding | None:
    sha256, size = manifest.files[name]
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return Finding("damaged", str(folder / NAME), f"names a file outside the folder ({name})")
    if not path.is_file():
        return Finding("damaged", str(path), f"is missing ({size:,} bytes were written)")
    there = path.stat().st_size
    try:
        if there == size and digest_file(path) == sha256:
            return None
        sums = manifest.blocks.get(name)
        ranges = tuple(changed_ranges(path, sums)) if sums else ()
    except OSError as error:
        return Finding("damaged", str(path), f"cannot be read: {error.strerror}")
    words = []
    if there < size:
        words.append(f"is cut off: bytes {there}-{size - 1} of {size:,} are missing")
        # The last block there is a part of what it was, so its sum says nothing of its bytes.
        ranges = tuple((start, stop) for start, stop in ranges if stop < there)
    elif there > size:
        words.append(f"has {there:,} bytes, {size:,} were written")
    else:
        words.append("was changed" if ranges or not sums else "was changed, and the manifest's blocks say not where")
        words += [] if sums else [f"somewhere in its {size:,} bytes (the manifest has no checksums of blocks)"]
    words += _what_lies_there(path, ranges)
    return Finding("damaged", str(path), "; ".join(words), ranges)


def _what_lies_there(path: Path, ranges: tuple[tuple[int, int], ...]) -> list[str]:
    """What a person can recognise in changed bytes: names of tensors, zeroed pages."""
    found = []
    if path.suffix == ".safetensors":
        try:
            spans = read_spans(path)
        except DamagedError as error:
            return [error.what]
        hit = [span.name for span in spans if any(span.start < stop and start < span.stop for start, stop in ranges)]
        if hit:
            found.append(f"in {', '.join(hit[:_NAMES_SHOWN])}" + (f" and {len(hit) - 3} more" if len(hit) > 3 else ""))
    with path.open("rb") as stream:
        for start, stop in ranges:
            stream.seek(start)
            part = stream.read(min(stop - start, _PAGE))
            if len(part) >= min(_PAGE, stop - start) and not any(part):
                found.append(f"zeros from byte {start} on, as a lost page leaves them")
                break
    return found


def _check_structure(folder: Path, found: Diagnosis) -> bool:
    """What can be said of files without a manifest: whether JSON and safetensors can be read at all."""
    fine = True
    for name in files_below(folder):
        path = folder / name
        try:
            if path.suffix == ".safetensors":
                spans = read_spans(path)
                found.add("note", path, f"{len(spans)} tensors; nothing says whether their bytes are right")
            elif path.suffix == ".json" and path.name != NAME:
                json.loads(path.read_text(encoding="utf-8"))
        except DamagedError as error:
            found.add("damaged", path, error.what)
            fine = False
        except (ValueError, OSError, RecursionError) as error:
            found.add("damaged", path, f"is not JSON: {error}")
            fine = False
    return fine


def check_model(folder: Path, found: Diagnosis) -> bool:
    """A model folder, ours or from elsewhere, and whether this machine can hold it."""
    from llmforge.checkpoint.model_folder import read_model_config
    from llmforge.stages.doctor_machine import judge_memory

    ours = (folder / NAME).is_file()
    whole = check_artefact(folder, "model", found) if ours else _check_structure(folder, found)
    try:
        shape = read_model_config(folder)
        if not ours and whole:
            _check_foreign(folder, found)
    except LlmforgeError as error:
        found.add("damaged", error.where or folder, error.what)
        return False
    found.facts["parameters"] = shape.num_parameters
    judge_memory(found, "to use the model (weights in fp32)", 4 * shape.num_parameters)
    return not found.of("damaged")


def _check_foreign(folder: Path, found: Diagnosis) -> None:
    """Names, shapes and finite values of weights that no manifest vouches for, by loading them.

    Raises:
        DataError, DamagedError: as `load_model`.
    """
    from llmforge.checkpoint.model_folder import load_model

    load_model(folder)
    found.add("whole", folder, "loads: every weight has its name and shape and is finite (there is no manifest)")


def check_tokens(folder: Path, found: Diagnosis) -> bool:
    """A tokens folder: its files, then headers, index and ids of every shard."""
    from llmforge.tokens.folder import TokenFolder

    whole = check_artefact(folder, "tokens", found)
    try:
        opened = TokenFolder.open(folder)
        for name in opened.split_names:
            split = opened.split(name)
            for start in range(0, split.num_tokens, 1 << 24):
                split.stream(start, 1 << 24)
            found.add("note", folder, f"{name}: {split.num_documents:,} documents, {split.num_tokens:,} tokens")
    except LlmforgeError as error:
        if whole:
            found.add("damaged", error.where or folder, error.what)
        return False
    return whole


def check_tokenizer(folder: Path, found: Diagnosis) -> bool:
    """A tokenizer folder, ours or from elsewhere."""
    from llmforge.tokenizer.tokenizer import Tokenizer

    ours = (folder / NAME).is_file()
    whole = check_artefact(folder, "tokenizer", found) if ours else _check_structure(folder, found)
    try:
        tokenizer = Tokenizer.load(folder)
    except LlmforgeError as error:
        found.add("damaged", error.where or folder, error.what)
        return False
    lacking = "" if (folder / NAME).is_file() else " (there is no manifest)"
    found.add("note", folder, f"loads: {tokenizer.vocab_size:,} ids{lacking}")
    return whole


def check_folder(folder: Path, kind: str, found: Diagnosis) -> bool:
    """The check for a kind of artefact."""
    special = {"model": check_model, "tokens": check_tokens, "tokenizer": check_tokenizer}
    return special[kind](folder, found) if kind in special else check_artefact(folder, kind, found)
