"""The chain of steps that a document goes through alone, and the judge that says from what was measured if it stays.

Order, and why: *repair* first, so that all others see mended text; the *edits* of the rule sets (lines and boilerplate
that go); the *language* and all *signals* of what is left, measured once; *anonymise* last and before duplicates, so
that no personal data reaches a file, the dropped documents' included, and documents are compared as they will be
written; the other fields of their rows and their ids go through it too (pii/fields.py). Nothing here decides: every
document goes the whole way, and the judge reads the measurements, with all reasons against a document and not only the
first. That is what lets other thresholds be tried without a second pass.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmforge.cleaning.classify.settings import ClassifySettings
from llmforge.cleaning.classify.step import Classify
from llmforge.cleaning.decontaminate.items import ItemIndex
from llmforge.cleaning.decontaminate.match import Decontaminate, spans_to_cut
from llmforge.cleaning.decontaminate.settings import DecontaminateSettings
from llmforge.cleaning.dedup.settings import DedupSettings
from llmforge.cleaning.dedup.substring import without
from llmforge.cleaning.language import Language, LanguageSettings, judge_language
from llmforge.cleaning.pii.anonymize import Anonymize, AnonymizeSettings
from llmforge.cleaning.pii.fields import Fields
from llmforge.cleaning.pii.match import Sealed
from llmforge.cleaning.repair import Repair, RepairSettings
from llmforge.cleaning.rules.rule_sets import Rules, RuleSet
from llmforge.cleaning.signals.measure import Signals
from llmforge.cleaning.verdict import KEEP, Drop, Rewrite
from llmforge.corpus.extras import version_of
from llmforge.runtime.code import code_digest

# Where things lie that are read beside the input: `read_beside` says what they are, and the key has its own digest.
_WHERE = {"key_file", "names_model", "against"}


@dataclass(frozen=True)
class ChainSettings:
    """What every worker needs to build the same chain."""

    repair: RepairSettings | None
    language: LanguageSettings | None
    rules: Sequence[RuleSet]
    anonymize: AnonymizeSettings | None
    key: bytes | None
    dedup: DedupSettings
    classify: ClassifySettings | None = None  # with a model
    decontaminate: DecontaminateSettings | None = None
    items: ItemIndex | None = None  # of `decontaminate`, read once and handed to every worker
    read_beside: str = ""  # a digest of the classifier, the evaluation items and the recogniser of names

    def measured(self) -> str:
        """A digest of all that the measurements depend on: the thresholds of the judge are not in it."""
        near, substring = self.dedup.near, self.dedup.substring
        settings = {
            "code": code_digest("cleaning", "corpus"),
            "libraries": [version_of(library) for library in self._libraries()],
            "repair": self.repair.model_dump(mode="json") if self.repair else None,
            "language": self.language is not None,
            "edits": [rule.model_dump(mode="json") for rule in self.rules if hasattr(rule, "edit")],
            "signals": sorted(Rules(self.rules).signals),
            "anonymize": self.anonymize.model_dump(mode="json", exclude=_WHERE) if self.anonymize else None,
            "key": hashlib.sha256(b"parts" + self.key).hexdigest() if self.key else None,
            "near": [near.ngram, near.bands, near.rows] if near else None,
            "substring": substring.min_words if substring else None,
            "classify": self.classify is not None,
            "decontaminate": self.decontaminate.model_dump(mode="json", exclude=_WHERE) if self.decontaminate else None,
            "read_beside": self.read_beside,
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def _libraries(self) -> list[str]:
        """Those whose next version may measure something else."""
        return [
            *(["ftfy"] if self.repair is not None else []),
            *(["py3langid"] if self.language is not None else []),
            *(["phonenumbers", "python-stdnum"] if self.anonymize is not None else []),
        ]


@dataclass(slots=True)
class Examined:
    """A document after the chain: its text as it would be written, and what was measured on the way.

    `removed` has an entry for each step that changed the text, with the characters that it took away (negative: added).
    `reasons` are those that do not follow from the measurements. `labels` has the probability of each label, `telling`
    what spoke for the one that is blamed.
    """

    text: str
    language: tuple[str, float] | None = None
    signals: dict[str, float] | None = None
    removed: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    reasons: list[Drop] = field(default_factory=list)
    sealed: tuple[Sealed, ...] = ()
    labels: dict[str, float] = field(default_factory=dict)
    telling: dict[str, list[str]] = field(default_factory=dict)
    hits: list[list[Any]] = field(default_factory=list)

    def add_replaced(self, counts: Mapping[str, int], sealed: Iterable[Sealed]) -> None:
        """Personal data was replaced, and its originals sealed."""
        if counts:
            self.replaced = dict(sorted((Counter(self.replaced) + Counter(counts)).items()))
            self.add_sealed(sealed)

    def add_sealed(self, sealed: Iterable[Sealed]) -> None:
        """Originals were sealed; each is kept once."""
        self.sealed = tuple(dict.fromkeys([*self.sealed, *sealed]))


class Chain:
    """The steps of a config, built once in each process."""

    def __init__(self, settings: ChainSettings) -> None:
        self._repair = Repair(settings.repair) if settings.repair is not None else None
        self._language = Language() if settings.language is not None else None
        self._rules = Rules(settings.rules) if settings.rules else None
        self._anonymize = Anonymize(settings.anonymize, settings.key) if settings.anonymize is not None else None
        self.fields: Fields | None = None  # what hides personal data beside the text
        if self._anonymize is not None and settings.anonymize is not None and settings.anonymize.metadata:
            self.fields = Fields(self._anonymize)
        self._classify = Classify(settings.classify) if settings.classify is not None else None
        self._decontaminate: Decontaminate | None = None
        if settings.decontaminate is not None:
            self._cut_items = settings.decontaminate.action == "cut"
            assert settings.items is not None, "the items come with the settings"
            self._decontaminate = Decontaminate(settings.items, settings.decontaminate)

    def examine(self, text: str) -> Examined:
        """What the chain makes of a text: a function of the text alone."""
        return self.examine_all([text])[0]

    def examine_all(self, texts: Sequence[str]) -> list[Examined]:
        """The same for each of several texts; the classifier is faster on many."""
        found = [self._seen(text) for text in texts]
        if self._classify is not None:
            told = [one for one in found if _has_text(one.text)]
            for one, labels in zip(told, self._classify.measure([one.text for one in told]), strict=True):
                one.labels = labels
        for one in found:
            if self._decontaminate is not None:
                self._search(one, self._decontaminate)
            if self._anonymize is not None:
                self._hide(one, self._anonymize)
            if self._classify is not None and one.labels and _has_text(one.text):
                self._explain(one, self._classify)
        return found

    def _explain(self, found: Examined, classify: Classify) -> None:
        """Of the text as it would be written: no personal data is told, and a later run can tell of it too."""
        blamed = classify.blamed(found.labels)
        if blamed is not None:
            found.telling[blamed] = classify.telling(found.text, blamed)

    def _seen(self, text: str) -> Examined:
        found = Examined(text)
        if self._repair is not None:
            verdict = self._repair(text)
            if isinstance(verdict, Rewrite):
                self._rewrite(found, "repair", verdict.text)
        if self._rules is not None:
            self._measure(found, self._rules)
        if self._language is not None and _has_text(found.text):
            found.language = self._language.identify(found.text)
        return found

    def _search(self, found: Examined, decontaminate: Decontaminate) -> None:
        """Looks for evaluation items; their places are those in the text before anything of them is cut."""
        hits = decontaminate(found.text)
        if not hits:
            return
        for hit in hits:
            text = self._told(hit.text, found)
            found.hits.append([list(hit.items), hit.begin, hit.end, round(hit.share, 4), text])
        if self._cut_items:
            self._rewrite(found, "decontaminate", without(found.text, spans_to_cut(hits)))
            return
        first = hits[0]
        others = f" and {len(hits) - 1} more" if len(hits) > 1 else ""
        because = f"it holds {first.share:.0%} of the evaluation item {first.items[0]}{others}"
        found.reasons.append(Drop("decontaminate", "", because))

    def _told(self, text: str, found: Examined) -> str:
        """What is told of a text, without personal data; the originals are sealed, for it may be cut out."""
        verdict = self._anonymize.hidden(text) if self._anonymize is not None else KEEP
        if not isinstance(verdict, Rewrite):
            return text
        found.add_sealed(verdict.sealed)
        return verdict.text

    def _measure(self, found: Examined, rules: Rules) -> None:
        before = found.text
        edited = rules.edit(before)
        found.text = edited.text
        found.removed.update(edited.removed)
        if _has_text(found.text):
            found.signals = rules.measure(found.text, before).as_row()

    def _hide(self, found: Examined, anonymize: Anonymize) -> None:
        verdict = anonymize(found.text)
        if isinstance(verdict, Drop):
            found.reasons.append(verdict)
            found.text = anonymize.hide(found.text)
        elif isinstance(verdict, Rewrite):
            self._rewrite(found, "anonymize", verdict.text)
            found.replaced = dict(verdict.counts)
            found.add_sealed(verdict.sealed)

    def _rewrite(self, found: Examined, step: str, text: str) -> None:
        if text != found.text:
            found.removed[step] = found.removed.get(step, 0) + len(found.text) - len(text)
            found.text = text


class Judge:
    """The reasons against a document, from what was measured of it."""

    def __init__(self, settings: ChainSettings) -> None:
        self._language = settings.language
        self._rules = Rules(settings.rules) if settings.rules else None
        self.classify = Classify(settings.classify) if settings.classify is not None else None
        if self.classify is not None:
            self.classify.load()  # what it is asked to keep may be new, and measured before

    def reasons(
        self, is_empty: bool, language: Sequence[Any] | None, signals: Mapping[str, float] | None
    ) -> list[Drop]:
        """Those of language and rules, in the order of the chain; an empty document has that one only."""
        if is_empty:
            return [Drop("empty", "", "it has no text")]
        found = []
        if self._language is not None and language is not None:
            drop = judge_language(self._language, language[0], language[1])
            found += [drop] if drop is not None else []
        if self._rules is not None and signals is not None:
            found += self._rules.judge_all(Signals.from_row(signals))
        return found

    def label_reasons(
        self, labels: Mapping[str, float], telling: Mapping[str, Sequence[str]], text: Callable[[], str]
    ) -> list[Drop]:
        """That of the classifier, if there is one.

        `telling` is what was found when the text was measured; `text` is asked when another label was blamed then.
        """
        if self.classify is None:
            return []
        blamed = self.classify.blamed(labels)
        if blamed is None:
            return []
        told = telling[blamed] if blamed in telling else self.classify.telling(text(), blamed)
        return [self.classify.drop(labels, blamed, told)]


def signal_names(settings: ChainSettings) -> list[str]:
    """The signals that are measured of a text."""
    return list(Rules(settings.rules).measure("a", "a").as_row()) if settings.rules else []


def signature_width(settings: ChainSettings) -> int:
    """The numbers of one document's signature; 0 where near duplicates are not looked for."""
    return settings.dedup.near.width if settings.dedup.near is not None else 0


def num_bytes(text: str) -> int:
    """UTF-8 bytes of a text; half a surrogate pair counts three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _has_text(text: str) -> bool:
    return bool(text) and not text.isspace()
