"""The words of many texts at once by gigatoken, where it is installed: same ids as sentencepiece, several times faster.

gigatoken reads the same model, here without its phrases so that words are independent. It takes control symbols and
sentencepiece's own space out of text, so texts that hold these are left to the caller. Whether its ids are equal is
checked on hard and random texts before it is used at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llmforge.tokenizer.word_cache import LOW_BLOCK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HARD = (
    "",
    " ",
    "  \n\t \r\n",
    "\0a\0\0",
    "".join(map(chr, range(32))),
    "\ufeffe\u0301\u00e9 \ufb01\u2460",
    "\u65e5\u672c\u8a9e \u0627\u0644 \U0001f468\u200d\U0001f469",
    "\uf8d0\uf8d1\ue000\ufdda\ufffe\U0010ffff\u2585\u2047",
    "0123456789 3.14159",
    " " * 333 + "-=" * 99 + "\n" * 77,
    "a" * 700 + "\u00e9" * 300,
    "<0x41><0x0A>",
)
_TRIALS = 500
_MOST_PIECES = 12


class FastWords:
    """Encodes texts in batches; `usable` says of a text whether it may be given."""

    def __init__(self, model: bytes, control: Sequence[str]) -> None:
        from gigatoken import Tokenizer

        self._tokenizer: Any = Tokenizer.from_sentencepiece(model)
        self._names = tuple(control)

    def usable(self, text: str) -> bool:
        """False for a text with the name of a control symbol, or with U+2581."""
        # All names begin with "<", which most texts do not hold: the quick look first.
        return LOW_BLOCK not in text and ("<" not in text or not any(name in text for name in self._names))

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The ids of all texts one after another (N,), and how many each has (D,).

        Raises:
            UnicodeEncodeError: a text holds half a surrogate pair.
        """
        import numpy as np

        if not texts:
            return np.zeros(0, dtype=np.uint32), np.zeros(0, dtype=np.int64)
        encoded = self._tokenizer.encode_batch(list(texts), parallel=False).layout
        offsets = np.asarray(encoded.offsets.data).astype(np.int64)
        return np.asarray(encoded.content.data)[offsets[0] : offsets[-1]].astype(np.uint32), np.diff(offsets)


def open_fast_words(
    model: Callable[[], bytes], control: Sequence[str], pieces: Sequence[str], words: Callable[[str], bytes]
) -> FastWords | None:
    """gigatoken for this model; None when it is not installed or does not give the ids of `words` (packed uint32)."""
    rng = random.Random(0)
    trials = ["".join(rng.choices(pieces, k=rng.randint(1, _MOST_PIECES))) for _ in range(_TRIALS)]
    # Whatever it answers, a word cache gives the same ids: any fault, another release's shapes among them, means that.
    try:
        fast = FastWords(model(), control)
        trials = [text for text in (*_HARD, *trials, "".join(pieces)) if fast.usable(text)]
        ids, lengths = fast.encode(trials)
    except Exception:
        return None
    expected = [words(text) for text in trials]
    equal = ids.tobytes() == b"".join(expected) and [4 * size for size in lengths.tolist()] == list(map(len, expected))
    return fast if equal else None
