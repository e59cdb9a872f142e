"""A docstring to one or two plain English sentences that start with "It": what an answer to a question says.

    "Return the arithmetic mean of data."          -> "It returns the arithmetic mean of data."
    "Dict subclass for counting hashable items."   -> "It is a dict subclass for counting hashable items."

What does not become a sentence (a table, a formula, a pointer to elsewhere) gives None: few good answers teach a small
model more than many odd ones.
"""

from __future__ import annotations

import re

from llmforge.corpus.python_docs.verbs import third_person

MIN_WORDS = 6
MAX_WORDS = 40
SHORT_WORDS = 9  # a sentence below this takes the next one with it, when that reads as one
MIN_PLAIN_WORDS = 0.75  # share of words that are letters only
_END = re.compile(r"(?<![.\s(])[.!?](?=\s+[A-Z`*\"(]|\s*$)")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.?g|i\.?e|etc|vs|cf|al|resp|approx|Eg|fig|eq|no|St|Dr|incl|w\.r\.t)|\b[A-Z])$")
_REFUSED = re.compile(r"[\\{}|^$~<>@#]|::|>>>|https?:|\.\.\.|==|->|__|--|\[\s*\]|\"\"|''|%[srd(]|&&|=.*=")
_STOPPED = re.compile(
    r"^(?:see\b|deprecated|alias|same as|internal|do not|don't|not implemented|for internal|in-place|out-of-place|"
    r"note\b|unable\b|parameters|args|arguments|examples?|returns?:|warning|usage|default implementation|stub|"
    r"this is an internal|"
    r"functional interface|override|overridden|like\b|similar\b|identical\b|equivalent\b|just like|docstring|"
    r"given\b|if\b|when\b|for\b|in\b|let\b|we\b|you\b|try to guess|subclasses|should|must|may\b)",
    re.IGNORECASE,
)
_POINTER = re.compile(r"\b(?:see|refer to|described in|as above|below|above|this docstring|following)\b", re.IGNORECASE)
_SUBJECT = re.compile(
    r"^(?:this|the)\s+(?:\w+\s+)?(?:function|method|class|module|routine|property|attribute|decorator|object|operator|"
    r"layer|operation|loss)\s+(?:is used to|can be used to|will|simply|just)?\s*",
    re.IGNORECASE,
)
_PAREN = re.compile(r"(?:\s+|^)\([^()]*\)|(?<=\w)\(\)")
_LOOSE_PAREN = re.compile(r"(?<!\w)\(|\((?![\w., *'-]*\))|(?<![\w(., *'-])\)")
_UNFINISHED = re.compile(
    r"(?:^|\b(?:as|follows|of|the|a|an|by|with|to|for|is|are|and|or|in|on|from|that|which|e\.g|i\.e))$"
)
_WORD = re.compile(r"^[\"'(]?[A-Za-z]+(?:['-][A-Za-z]+)*[\"')]?[,.;:]?$")
_ARTICLES = ("a", "an", "the", "one", "any", "all", "each", "every", "some", "no")
_UNIQUE = frozenset("number base name size length shape maximum minimum".split())
_ASKING = frozenset("return get give compute calculate check test tell".split())
_AFTER_VERB = frozenset((*_ARTICLES, "and", "your", "its", "their", "data", "information"))
_STATE = ("a", "an", "the", "true", "false")
_PLURAL_SAFE = ("ss", "axis", "basis", "alias", "status", "series", "bus", "focus", "canvas", "bias", "ius", "ulus")
_STATEMENT = re.compile(r"(?<!\bthat)(?<!\bwhich) (?:is|are|was|were|has|have|can|does) ")
_SECOND_VERB = re.compile(
    r"\b(and then|and|or|then|but) ([a-z]+)"
    r"(,| (?:a|an|the|its|it|all|them|any|each|this|that|None|True|False|self|with|into)\b)"
)
_BREAK = re.compile(
    r"\b(?:for|of|to|that|which|with|in|on|from|used|by|representing|raised|whose|where|as|at|when|containing|using|and|or|"
    r"implementing|providing|into|over|between|is|based|derived|describing|holding)\b|[,;:(]"
)


def answer_from(doc: str, kind: str) -> str | None:
    """The answer that an object's docstring (as prose) gives, or None."""
    sentences = _sentences(doc)
    if not sentences:
        return None
    first = to_sentence(sentences[0], kind)
    if first is None:
        return None
    words = len(first.split())
    if words < SHORT_WORDS and len(sentences) > 1 and re.match(r"(?:The|If|A|An|By default|Each|All)\b", sentences[1]):
        second = _plain(sentences[1])
        if second is not None and len(second.split()) <= MAX_WORDS - words:
            first = f"{first} {second[0].upper()}{second[1:]}."
    return first if len(first.split()) >= MIN_WORDS else None


def to_sentence(summary: str, kind: str) -> str | None:
    """One summary sentence to "It ...", or None when it is no sentence about the object."""
    if _STOPPED.match(summary):
        return None
    text = _plain(summary)
    if text is None or _POINTER.search(text):
        return None
    text = _SUBJECT.sub("", text) if _SUBJECT.match(text) else text
    predicate = _predicate(text, kind)
    if predicate is None:
        return None
    sentence = f"It {predicate}."
    words = sentence.split()
    return sentence if 4 <= len(words) <= MAX_WORDS else None


def _sentences(doc: str) -> list[str]:
    """The sentences of the first paragraph, without their full stops."""
    paragraph = doc.strip().split("\n\n", 1)[0]
    lines = paragraph.split("\n")
    if any(line.lstrip().startswith((">>>", "- ", "* ", "| ", "+-")) or "   " in line.strip() for line in lines):
        lines = lines[:1]
    text = " ".join(line.strip() for line in lines)
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        piece = text[start : end.start()].strip()
        if not _ABBREVIATION.search(piece):
            found.append(piece)
            start = end.end()
    rest = text[start:].strip()
    if rest and not found and not rest.endswith(":"):
        found.append(rest)
    return found


def _plain(text: str) -> str | None:
    """The sentence without markup and asides; None when what is left is not plain English."""
    text = text.replace("`", "").replace("**", "").replace("\u2019", "'").replace("\u2013", "-").replace("\u201c", '"')
    text = re.sub(r"(?<![\w*])\*(\w[\w ]*)\*(?![\w*])", r"\1", text.replace("\u201d", '"'))
    text = _PAREN.sub("", _PAREN.sub("", text))
    head, colon, tail = text.partition(": ")
    if colon and (re.search(r"[=^\\{}]", tail) or len(head.split()) >= MIN_WORDS):
        text = head
    text = re.sub(r"\s+", " ", text).strip().rstrip(" .,;:")
    if text.count("(") != text.count(")"):
        return None
    if _UNFINISHED.search(text) or _REFUSED.search(text) or _LOOSE_PAREN.search(text):
        return None
    if not text.isascii() or text.count('"') % 2 or "todo" in text.lower():
        return None
    words = text.split()
    plain = sum(1 for word in words if _WORD.match(word))
    if plain < MIN_PLAIN_WORDS * len(words) or any(len(word) > 30 for word in words):
        return None
    return text


def _predicate(text: str, kind: str) -> str | None:
    words = text.split()
    first = words[0].rstrip(",")
    lower = first.lower()
    verb = third_person(first)
    if lower.endswith("ly") and len(words) > 1 and third_person(words[1]):
        return " ".join([lower, str(third_person(words[1])), *words[2:]])
    if verb is None:
        return _passive(lower, words) or _noun_phrase(text, words, kind)
    if kind == "property" and verb in ("returns", "gets", "gives") and len(words) > 2 and words[1].lower() in _STATE:
        return " ".join(["is", *words[1:]])
    asks = kind == "property" and lower in _ASKING
    if kind in ("class", "property") and not asks and not _is_verb_use(words):
        return None
    return _with_verb(verb, words)


def _passive(lower: str, words: list[str]) -> str | None:
    """The openings that are no verb of their own: "Raised when ...", "Whether ...", "True if ..."."""
    if lower in ("is", "was", "has", "does", "can"):
        return " ".join([lower, *words[1:]])
    if lower in ("raised", "called", "used", "thrown", "invoked", "emitted") and len(words) > 3:
        return " ".join(["is", lower, *words[1:]])
    if lower == "whether":
        return " ".join(["tells", "whether", *words[1:]])
    if lower == "true" and len(words) > 2 and words[1] in ("if", "when", "iff"):
        return " ".join(["is true if", *words[2:]])
    return None


def _is_verb_use(words: list[str]) -> bool:
    """For classes: "Process pool executor" is a noun, "Process the input" is not."""
    if words[0].lower().endswith("s") and third_person(words[0]) == words[0].lower():
        return True
    return words[0].endswith(",") or len(words) > 1 and words[1].lower() in _AFTER_VERB


def _with_verb(verb: str, words: list[str]) -> str | None:
    rest = words[1:]
    if not rest or rest[0].lower() in ("is", "are", "of", "was"):
        return None
    if rest[0] in ("and", "or") and len(rest) > 1 and (other := third_person(rest[1])):
        rest = [rest[0], other, *rest[2:]]
    if words[0].endswith(",") and (other := third_person(rest[0].rstrip(","))):
        rest = [f"{other}{',' if rest[0].endswith(',') else ''}", *rest[1:]]
        verb += ","
    elif words[0].endswith(","):
        verb += ","
    return _SECOND_VERB.sub(_conjugated, " ".join([verb, *rest]))


def _conjugated(found: re.Match[str]) -> str:
    """ "and apply the" -> "and applies the", where the first verb of the sentence was changed too."""
    verb = third_person(found.group(2)) if not found.group(2).endswith("s") else None
    return f"{found.group(1)} {verb}{found.group(3)}" if verb else found.group(0)


def _noun_phrase(text: str, words: list[str], kind: str) -> str | None:
    """ "Dict subclass for counting" -> "is a dict subclass for counting"; only for what surely is one thing."""
    lower = words[0].lower()
    if _STATEMENT.search(text) or len(words) < 3:
        return None
    head = _BREAK.split(text, maxsplit=1)[0].split()
    if ":" in text or " - " in text or any(third_person(word) == word.lower() for word in head[2:]):
        return None
    if lower in ("a", "an", "the"):
        return " ".join(["is", lower, *words[1:]])
    if kind not in ("class", "property") or lower in _ARTICLES or not words[0][0].isalpha():
        return None
    if not head or len(head) > 6 or third_person(lower) == lower or lower == "found":
        return None
    last = head[-1].lower()
    if last.endswith("s") and not last.endswith(_PLURAL_SAFE):
        return None
    if last.endswith(("ed", "ly")) or (last.endswith("ing") and len(head) == 1):
        return None
    if any(third_person(word) == word.lower() for word in head[1:2]):
        return None
    started = words[0] if words[0][1:] != words[0][1:].lower() or words[0].endswith("'s") else lower
    return " ".join(["is", _article(started), started, *words[1:]])


def _article(word: str) -> str:
    if word.lower() in _UNIQUE:
        return "the"
    if word.isupper() and len(word) > 1:
        return "an" if word[0] in "AEFHILMNORSX" else "a"
    vowel = word[0].lower() in "aeiou" and not re.match(r"(?:uni(?!m|n)|use|usu|eu|one|uti)", word.lower())
    return "an" if vowel else "a"
