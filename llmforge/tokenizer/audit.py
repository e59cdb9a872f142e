"""What a vocabulary does to text, in numbers: losses, compression by source, numbers, code, white space, idle pieces.

Works for our own vocabularies and for any Hugging Face folder. Unreachable and under-trained pieces are found as in
Land and Bartolo, "Fishing for Magikarp" (https://arxiv.org/abs/2405.05417): pieces that their own text does not give
back, and embeddings that training hardly moved.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmforge.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
_SHOWN = 60  # examples of a kind
_PLANES = ((0x20, 0x7F), (0x20, 0x250), (0x370, 0x600), (0x900, 0xE80), (0x3040, 0xD7A4), (0xE000, 0x10000))
_HARD = (
    "\0",
    "a\0b",
    "".join(map(chr, range(32))),
    "\u2581",
    " \u2581a \u2581",
    "\u2585\u2047",
    "\uf8d0\n\uf8d1",
    "\ufeffbom",
    "\ufffe\uffff\U0010ffff",
    "e\u0301 \u00e9 \ufb01 \u2460 \u00bd",
    " leading and trailing ",
    "\r\n\t a  b   c",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u202eright\u202c",
    " " * 333 + "\n" * 77,
    "<0x41><0x0A>",
)
CODE = (
    'def area(radius: float) -> float:\n    """Of a circle."""\n    if radius < 0:\n'
    '        raise ValueError(f"{radius=}")\n    return 3.14159 * radius**2\n'
)


@dataclass
class Share:
    """Text of one source or language, and what became of it."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    words: int = 0

    def facts(self) -> dict[str, object]:
        """The counts, bytes a token, and tokens a word."""
        return {
            **vars(self),
            "bytes_per_token": round(self.bytes / max(1, self.tokens), 4),
            "tokens_per_word": round(self.tokens / max(1, self.words), 4),
        }


@dataclass
class Reading:
    """A vocabulary's ids of a sample of a corpus."""

    sources: dict[str, Share] = field(default_factory=dict)
    languages: dict[str, Share] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)  # how often each id came up
    lost: list[str] = field(default_factory=list)  # texts that did not come back, the first few
    lossy_texts: int = 0
    texts: int = 0

    def add(self, tokenizer: Tokenizer, text: str, source: str, language: str | None) -> None:
        """Counts one document."""
        ids = tokenizer.encode(text)
        content = text.encode("utf-8")
        for shares, name in ((self.sources, source), (self.languages, language)):
            if name is not None:
                share = shares.setdefault(name, Share())
                share.documents += 1
                share.bytes += len(content)
                share.tokens += len(ids)
                share.words += len(_WORD.findall(text))
        for number in ids:
            self.used[number] = self.used.get(number, 0) + 1
        self.check(text, same=tokenizer.decode(ids) == text)

    def check(self, text: str, same: bool) -> None:
        """Counts a text that came back as it was, or did not."""
        self.texts += 1
        if not same:
            self.lossy_texts += 1
            if len(self.lost) < _SHOWN:
                self.lost.append(text[:200])


def fuzz_texts(count: int, seed: int) -> Iterable[str]:
    """Hard strings, then random ones of all planes of Unicode; the same for a seed."""
    yield from _HARD
    rng = random.Random(seed)
    for _ in range(count):
        low, high = rng.choice(_PLANES)
        signs = [chr(rng.randrange(low, high)) if rng.random() < 0.8 else rng.choice(" \n\t  .") for _ in range(40)]
        text = "".join(sign for sign in signs if not "\ud800" <= sign <= "\udfff")
        yield text[: rng.randint(1, 40)]


def fuzz(tokenizer: Tokenizer, count: int, seed: int) -> dict[str, object]:
    """Whether hard and random texts come back, and whether the names of control symbols stay text in them."""
    found = Reading()
    special = set(tokenizer.special_ids.values())
    typed = []
    for text in fuzz_texts(count, seed):
        found.check(text, same=tokenizer.decode(tokenizer.encode(text)) == text)
    for name in tokenizer.special_ids:
        if special & set(tokenizer.encode(f"a {name} b{name}")):
            typed.append(name)
    return {"texts": found.texts, "lost": found.lossy_texts, "examples": found.lost, "typed_control_symbols": typed}


def handling(tokenizer: Tokenizer) -> dict[str, object]:
    """How numbers, code and white space are cut."""

    def count(text: str) -> int:
        return len(tokenizer.encode(text))

    numbers = {
        f"{digits}_digits": round(sum(count(str(number)) for number in sampled) / len(sampled), 3)
        for digits in (1, 2, 3, 4, 6)
        for sampled in [random.Random(digits).choices(range(10 ** (digits - 1), 10**digits), k=200)]
    }
    lengths = {len(tokenizer.token_bytes[number]) for number in tokenizer.encode("1234567890" * 3)}
    return {
        "tokens_of_numbers": numbers,
        "one_digit_a_token": lengths == {1},
        "code_bytes_per_token": round(len(CODE) / count(CODE), 3),
        "tokens_of_spaces": {str(width): count(" " * width + "x") for width in (1, 2, 4, 8, 16)},
        "tokens_of_line_break_and_indent": {str(width): count("\n" + " " * width + "x") for width in (0, 4, 8)},
        "tokens_of_tabs": {str(width): count("\t" * width + "x") for width in (1, 2, 4)},
    }


def _shown(tokenizer: Tokenizer, ids: Iterable[int]) -> list[dict[str, object]]:
    table = tokenizer.token_bytes
    return [{"id": number, "text": table[number].decode("utf-8", "replace")} for number in list(ids)[:_SHOWN]]


def pieces(tokenizer: Tokenizer, used: Mapping[int, int]) -> dict[str, object]:
    """Pieces that their own text does not give back, and pieces that the sample never used.

    Single bytes and parts of characters cannot be written alone and are counted as `partial`. A piece is tried by
    itself, behind a line break, and without the space in front that a vocabulary may put before every text.
    """
    unreachable, unused, partial = [], [], 0
    special = set(tokenizer.special_ids.values())
    for number, content in enumerate(tokenizer.token_bytes):
        if number in special or not content:
            continue
        if number not in used:
            unused.append(number)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            partial += 1
            continue
        if number not in used and not _reachable(tokenizer, text, number):
            unreachable.append(number)
    return {
        "ids": tokenizer.vocab_size,
        "partial": partial,
        "unused": {"count": len(unused), "examples": _shown(tokenizer, unused)},
        "unreachable": {"count": len(unreachable), "examples": _shown(tokenizer, unreachable)},
    }


def _reachable(tokenizer: Tokenizer, text: str, number: int) -> bool:
    if tokenizer.encode(text) == [number]:
        return True
    behind = tokenizer.encode("\n")
    if tokenizer.encode("\n" + text) == [*behind, number]:
        return True
    return text.startswith(" ") and tokenizer.encode(text[1:]) == [number]


def undertrained(tokenizer: Tokenizer, embedding: NDArray[np.float32], used: Mapping[int, int]) -> dict[str, object]:
    """Ids whose rows of the embedding (V, C) are the shortest: below half the median length, the shortest first."""
    import numpy as np

    norms = np.linalg.norm(embedding[: tokenizer.vocab_size], axis=1)
    low = float(np.median(norms)) / 2
    order = [int(number) for number in np.argsort(norms, kind="stable") if norms[number] < low]
    listed = [
        {**row, "norm": round(float(norms[number]), 5), "used": used.get(number, 0)}
        for row, number in zip(_shown(tokenizer, order), order, strict=False)
    ]
    edges = np.histogram(norms, bins=40)
    return {
        "median_norm": round(float(np.median(norms)), 5),
        "below": round(low, 5),
        "count": len(order),
        "examples": listed,
        "histogram": {"counts": edges[0].tolist(), "edges": [round(float(edge), 5) for edge in edges[1]]},
    }


def spread(shares: Mapping[str, Share]) -> dict[str, object] | None:
    """The best and the worst served by tokens a word, and their ratio; None for fewer than two."""
    rated = sorted((share.tokens / share.words, name) for name, share in shares.items() if share.words)
    if len(rated) < 2:
        return None
    return {"best": rated[0][1], "worst": rated[-1][1], "ratio": round(rated[-1][0] / rated[0][0], 3)}
