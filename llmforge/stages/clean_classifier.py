"""The classifier of a clean run: trained into the run folder, and again only when its examples change."""

from __future__ import annotations

from collections.abc import Callable

from llmforge.cleaning.classify.classifier import KIND, Classifier
from llmforge.cleaning.classify.examples import fingerprints
from llmforge.cleaning.classify.scores import as_text
from llmforge.cleaning.classify.settings import ClassifySettings
from llmforge.cleaning.classify.train import train
from llmforge.errors import LlmforgeError
from llmforge.runtime.code import code_digest
from llmforge.runtime.console import Console
from llmforge.runtime.manifest import read_manifest
from llmforge.runtime.run_folder import RunFolder


def trained(
    settings: ClassifySettings | None, run: RunFolder, console: Console, on_progress: Callable[[], None]
) -> ClassifySettings | None:
    """The settings with a model: the one that they name, or one trained on their examples.

    Raises:
        DataError: the examples cannot be read or are too few.
        MachineError: scikit-learn is not installed.
    """
    if settings is None or settings.train_on is None:
        return settings
    folder = run.path / KIND
    made_from = {
        **fingerprints(settings.train_on),
        "settings": settings.train_on.model_dump_json(),
        "code": code_digest("cleaning", "corpus"),
    }
    if not _is_there(run, made_from):
        temporary = run.temporary(KIND)
        try:
            with run.phase("classifier"):
                found = train(settings.train_on, on_progress).classifier
                found.save(temporary)
                run.publish(temporary, KIND, made_from=made_from, facts={"report": found.report})
        finally:
            run.discard(temporary)
    report = Classifier.load(folder).report
    console.say(as_text(report))
    return settings.model_copy(update={"model": str(folder), "train_on": None})


def _is_there(run: RunFolder, made_from: dict[str, str]) -> bool:
    try:
        return bool(read_manifest(run.path / KIND, KIND).made_from == made_from)
    except LlmforgeError:
        return False
