"""Which language a text is in, by py3langid (https://pypi.org/project/py3langid), from samples of it.

Measured: accuracy .971 on short texts. A text too short or too bare of words to tell gets a low score, not a language.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from llmforge.cleaning.verdict import Drop
from llmforge.config.schema import Config

NAME = "language"
SAMPLE_CHARACTERS = 300
NUM_SAMPLES = 3
# The classifier's own labels, written out so that a config can be checked without loading it (a test compares them).
CODES = frozenset(
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv"
    " fy ga gcf gcr gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky"
    " la lb lg lij ln lo lt ltg lv mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh"
    " se si sk sl sn so sq sr st sv sw ta te tg th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu".split()
)


class LanguageSettings(Config):
    """Which languages stay, and how sure the classifier must be."""

    keep: list[str] = Field(min_length=1, description="ISO 639 codes, two letters where there are")
    min_score: float = Field(default=0.65, ge=0, le=1, description="the classifier's probability, 0 to 1")

    @field_validator("keep")
    @classmethod
    def _known(cls, keep: list[str]) -> list[str]:
        unknown = [code for code in keep if code not in CODES]
        if unknown:
            raise ValueError(f"no such language code: {', '.join(unknown)} (ISO 639, as in en, de, fr)")
        return keep


class Language:
    """The classifier, loaded with the first text."""

    def __init__(self) -> None:
        self._identifier: Any = None

    def identify(self, text: str) -> tuple[str, float]:
        """The most likely language and its probability among all."""
        if self._identifier is None:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier

            self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        code, score = self._identifier.classify(sample(text))
        return str(code), float(score)


def judge_language(settings: LanguageSettings, code: str, score: float) -> Drop | None:
    """The reason against a text of that language, if there is one."""
    if code not in settings.keep:
        return Drop(NAME, "keep", f"it is in {code} (score {score:.2f})")
    if score < settings.min_score:
        return Drop(NAME, "min_score", f"its language is uncertain ({code}, score {score:.2f})")
    return None


def sample(text: str) -> str:
    """A short text whole; of a longer one its beginning, middle and end, so that the cost does not grow with it."""
    if len(text) <= NUM_SAMPLES * SAMPLE_CHARACTERS:
        return text
    middle = (len(text) - SAMPLE_CHARACTERS) // 2
    parts = (text[:SAMPLE_CHARACTERS], text[middle : middle + SAMPLE_CHARACTERS], text[-SAMPLE_CHARACTERS:])
    return "\n".join(parts)
