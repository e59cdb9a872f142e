"""A memory for words in front of sentencepiece: a text is cut at its spaces and most words are looked up.

Holds for vocabularies whose pieces have spaces in front only; the caller merges pieces over word borders afterwards.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

# sentencepiece writes a space as this character and cannot tell the two apart; it is encoded as its three bytes.
LOW_BLOCK = "\u2581"
_WORDS = re.compile(rf"{LOW_BLOCK}| *[^ {LOW_BLOCK}]+| +")
_SPACE_RUNS = re.compile("( {2,}[^ ]*)")  # several spaces and the word behind them
_CACHED_WORD = 32  # characters
_CACHE_SIZE = 400_000  # words of each kind; about 200 bytes each
_LONG_WORD = 2048  # characters; sentencepiece slows down on long strings


def pack(ids: Sequence[int]) -> bytes:
    """Ids as unsigned 4-byte integers."""
    return array("I", ids).tobytes()


class _Known(dict[str, bytes]):
    """Packed ids by word; a word that is not there is encoded on the way. `before` stands in front of each key."""

    def __init__(self, cache: WordCache, before: str) -> None:
        super().__init__()
        self._encode, self._before = cache.encode_word, before

    def __missing__(self, word: str) -> bytes:
        ids = self._encode(self._before + word)
        if len(word) <= _CACHED_WORD:
            if len(self) >= _CACHE_SIZE:
                self.clear()
            self[word] = ids
        return ids


class WordCache:
    """Words of a text -> packed ids. `pieces` are the vocabulary's pieces that reach over no word border."""

    def __init__(self, processor: SentencePieceProcessor, pieces: Iterable[str]) -> None:
        self._encode = processor.encode
        self._inside = {piece[at : at + 2] for piece in pieces for at in range(len(piece) - 1)}
        offset = processor.piece_to_id("<0x00>")
        self._low_block = pack([offset + byte for byte in LOW_BLOCK.encode("utf-8")])
        self._bare, self._spaced = _Known(self, ""), _Known(self, " ")

    def words(self, text: str) -> list[bytes]:
        """The packed ids of the words of a text, in order.

        Raises:
            UnicodeEncodeError, RuntimeError: the text holds half a surrogate pair.
        """
        if not text:
            return []
        if LOW_BLOCK in text:
            found = _WORDS.findall(text)
            return [self._low_block if word == LOW_BLOCK else self._bare[word] for word in found]
        if "  " not in text:
            return self._plain(text)
        out: list[bytes] = []
        # Every other part is a run of spaces with its word; the parts between are empty or begin with one space.
        parts = _SPACE_RUNS.split(text)
        for at, part in enumerate(parts):
            if at & 1:
                out.append(self._bare[part])
            elif part:
                out += self._plain(part)
        return out

    def _plain(self, text: str) -> list[bytes]:
        """Words of a text with single spaces only. Splitting at spaces costs a third of what a pattern would."""
        first, *others = text.split(" ")
        found = list(map(self._spaced.__getitem__, others))
        if first:
            found.insert(0, self._bare[first])
        return found

    def encode_word(self, word: str) -> bytes:
        """Packed ids of one word, which may be very long."""
        if len(word) <= _LONG_WORD:
            return pack(self._encode(word))
        return b"".join(pack(self._encode(part)) for part in self._parts(word))

    def _parts(self, word: str) -> list[str]:
        """A long word cut between characters that stand side by side in no piece."""
        parts, start, at = [], 0, _LONG_WORD
        while at < len(word):
            if word[at - 1 : at + 1] in self._inside:
                at += 1
                continue
            parts.append(word[start:at])
            start, at = at, at + _LONG_WORD
        parts.append(word[start:])
        return parts
