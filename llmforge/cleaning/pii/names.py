"""Names of persons, by a recogniser of the user's: an optional extra, because no pattern can know a name.

The recogniser is a spaCy pipeline with an entity recogniser, installed on the machine already; nothing is fetched. It
finds what its model was trained to find: expect misses, and words that are no names. A name is replaced wherever the
recogniser sees one, in one pass; the promise that a second pass finds nothing holds for patterns only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

from llmforge.cleaning.pii.match import Match
from llmforge.cleaning.pii.pseudonyms import NAME_STAND_IN
from llmforge.errors import MachineError

_LABELS = frozenset({"PERSON", "PER"})
_MAX_CHARACTERS = 200_000  # spaCy needs about 1 GB of memory for a million characters, and refuses more


def model_folder(model: str) -> Path | None:
    """The folder that a pipeline lies in; None for one that is installed as a package, which comes first."""
    try:
        metadata.distribution(model)
    except (metadata.PackageNotFoundError, ValueError):
        return Path(model).absolute() if Path(model).is_dir() else None
    return None


def load_recogniser(model: str) -> Callable[[str], Iterable[tuple[int, int]]]:
    """A function that gives (start, end) of each person's name in a text, by a spaCy pipeline.

    Raises:
        MachineError: spaCy or the pipeline is not installed.
    """
    try:
        import spacy
    except ImportError as error:
        raise MachineError("the kind name needs spaCy", "anonymize.names_model", "pip install spacy") from error
    try:
        pipeline = spacy.load(model)
    except OSError as error:
        hint = "install the pipeline first, or give its folder; nothing is fetched here"
        raise MachineError(f"there is no spaCy pipeline {model!r} on this machine", None, hint) from error

    def recognise(text: str) -> Iterator[tuple[int, int]]:
        for first in range(0, len(text), _MAX_CHARACTERS):
            for entity in pipeline(text[first : first + _MAX_CHARACTERS]).ents:
                if entity.label_ in _LABELS:
                    yield first + entity.start_char, first + entity.end_char

    return recognise


def find_names(text: str, recogniser: Callable[[str], Iterable[tuple[int, int]]]) -> Iterator[Match]:
    """The names that a recogniser sees, but for our own stand-ins."""
    for start, end in recogniser(text):
        written = text[start:end]
        if written.strip() and not NAME_STAND_IN.search(written):
            yield Match(start, end, "name", " ".join(written.split()))
