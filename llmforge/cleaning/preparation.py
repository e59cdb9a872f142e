"""What a run of clean needs before it reads its first document: places checked, key, classifier, chain settings."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from pathlib import Path

from llmforge.cleaning.classify.classifier import KIND
from llmforge.cleaning.classify.examples import check_places, fingerprints
from llmforge.cleaning.classify.settings import ClassifySettings
from llmforge.cleaning.decontaminate.items import build_index, places_of
from llmforge.cleaning.pieces import PARTS
from llmforge.cleaning.pii.key_file import key_path, load_key
from llmforge.cleaning.pii.names import model_folder
from llmforge.cleaning.pipeline import ChainSettings
from llmforge.cleaning.settings import CleanConfig
from llmforge.cleaning.workers import available_cpus
from llmforge.corpus.files import covers
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.sources import check_source, source_fingerprint
from llmforge.errors import UsageError
from llmforge.runtime.manifest import find_artefact, manifest_digest

_BYTES_PER_WORKER = 4 << 20  # a process more pays for its start from about here


def check_inputs(config: CleanConfig) -> int | None:
    """The sources' bytes on disk, None when not known; reads no document.

    Raises:
        UsageError: the output lies in a source or a source in the output.
        DataError: there is nothing to read, or no classifier, evaluation file or earlier corpus where one is named.
    """
    output = Path(config.output_dir).resolve()
    for source in config.sources:
        place = Path(source.place).expanduser().resolve()
        if place.is_relative_to(output) or covers(source.place, output):
            raise _in_each_other(config, source)
    if config.classify is not None:
        if config.classify.train_on is not None:
            check_places(config.classify.train_on)
        elif config.classify.model is not None:
            find_artefact(config.classify.model, KIND)
    for path in _evaluation_files(config):
        check_source(_rows(path))
    for corpus in config.dedup.against:
        find_artefact(corpus, "corpus")
    found = [check_source(source) for source in config.sources]
    for source, size in zip(config.sources, found, strict=True):
        # By a link, or by a pattern that names files of a run and no folder.
        if any(folder.resolve().is_relative_to(output) for folder in size.folders):
            raise _in_each_other(config, source)
    sizes = [size.bytes for size in found]
    return sum(size for size in sizes if size is not None) if None not in sizes else None


def _in_each_other(config: CleanConfig, source: SourceConfig) -> UsageError:
    what = f"output_dir {config.output_dir} and this source lie in each other"
    return UsageError(what, source.place, "name another output_dir")


def inputs_fingerprint(config: CleanConfig) -> dict[str, str]:
    """A digest for each thing that would be read: sources, examples, classifier, evaluation files, earlier corpora."""
    found = {source.label: source_fingerprint(source) for source in config.sources}
    found |= _read_beside(config.classify)
    found |= {f"evaluation {path}": source_fingerprint(_rows(path)) for path in _evaluation_files(config)}
    for place in config.dedup.against:
        found[f"corpus {place}"] = manifest_digest(place, "corpus")
    return found


def _rows(path: str) -> SourceConfig:
    return SourceConfig.model_validate({"path": path})


def _evaluation_files(config: CleanConfig) -> list[str]:
    return config.decontaminate.against if config.decontaminate is not None else []


def _read_beside(classify: ClassifySettings | None) -> dict[str, str]:
    if classify is None:
        return {}
    if classify.train_on is not None:
        return fingerprints(classify.train_on)
    assert classify.model is not None
    return {f"classifier {classify.model}": manifest_digest(classify.model, KIND)}


def chain_settings(
    config: CleanConfig, classify: ClassifySettings | None, say: Callable[[str], None], make_key: bool = True
) -> ChainSettings:
    """What the workers need; makes the secret key of the pseudonyms on first use, or takes one for once.

    `classify` is the config's with the trained model.
    """
    key = None
    path = pseudonym_key_path(config)
    if path is not None and (make_key or path.exists()):
        key, made = load_key(path)
        if made:
            say(f"made the secret key of the pseudonyms: {path} (keep it, and keep it to yourself)")
    elif path is not None:
        key = secrets.token_bytes(32)
    # Not where they lie; but in their order, in which a document's hits name items.
    items = [source_fingerprint(_rows(path), with_path=False) for path in _evaluation_files(config)]
    names = sorted(places_of(_evaluation_files(config)).values())
    beside = [*_read_beside(classify).values(), *items, *names, *_recogniser(config)]
    return ChainSettings(
        repair=config.repair,
        language=config.language,
        rules=config.rules,
        anonymize=config.anonymize,
        key=key,
        dedup=config.dedup,
        classify=classify,
        decontaminate=config.decontaminate,
        items=build_index(config.decontaminate) if config.decontaminate is not None else None,
        read_beside=hashlib.sha256(repr(beside).encode()).hexdigest(),
    )


def _recogniser(config: CleanConfig) -> list[str]:
    """What tells one recogniser of names from another: its name, or that of its folder and the files in it."""
    model = config.anonymize.names_model if config.anonymize is not None else None
    folder = model_folder(model) if model is not None else None
    if model is None or folder is None:
        return [model or ""]
    files = [(path.relative_to(folder), path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return [folder.name, *(f"{name} {facts.st_size} {facts.st_mtime_ns}" for name, facts in files)]


def require_key(config: CleanConfig) -> None:
    """For runs that share their parts: a key that one of them made for itself would part it from the others.

    Raises:
        UsageError: there is no key of the pseudonyms.
    """
    path = pseudonym_key_path(config)
    if path is not None and not path.exists():
        hint = "clean a few documents with it once, which makes it, and name it as anonymize.key_file where all see it"
        raise UsageError("machines that share the work need one key of the pseudonyms, and it is not here", path, hint)


def pseudonym_key_path(config: CleanConfig) -> Path | None:
    """Where the secret of the pseudonyms is kept; None when none is needed."""
    if config.anonymize is None or config.anonymize.action != "pseudonymize":
        return None
    return key_path(config.anonymize.key_file, Path(config.output_dir), ("corpus", PARTS, KIND, "scale"))


def num_workers(config: CleanConfig, size: int | None) -> int:
    """The processes that read and measure: as many as CPUs, but for input of little `size` (bytes) fewer."""
    if isinstance(config.workers, int):
        return config.workers
    wanted = available_cpus() if size is None else 1 + size // _BYTES_PER_WORKER
    return max(1, min(available_cpus(), wanted))
