"""Our own vocabularies: a sentencepiece BPE model, encoded exactly and fast.

The text is cut where no piece of the vocabulary can reach across, and the ids of each part are remembered. Merging
happens between neighbours only, so cutting between two characters that stand side by side in no piece changes no id.
Knows nothing of files beside `tokenizer.model`, nor of chats.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.errors import DamagedError, DataError
from llmforge.runtime.files import digest_file
from llmforge.tokenizer.files import MODEL_FILE
from llmforge.tokenizer.special_tokens import BOS, BYTES, CONTROL, END, EOS, IDS, PAD
from llmforge.tokenizer.surrogates import surrogate_fault

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

# sentencepiece writes a space as this character and cannot tell the two apart; it is encoded as its three bytes.
_LOW_BLOCK = "\u2581"
_WORDS = re.compile(rf"{_LOW_BLOCK}| *[^ {_LOW_BLOCK}]+| +")
_CACHED_WORD = 32  # characters
_CACHE_SIZE = 500_000  # words; about 200 bytes each
_LONG_WORD = 2048  # characters; sentencepiece slows down on long strings


class _WordCache(dict[str, bytes]):
    """Ids by word, packed as unsigned 4-byte integers; a word that is not there is encoded on the way."""

    def __init__(self, processor: SentencePieceProcessor) -> None:
        super().__init__()
        self._encode = processor.encode
        self._inside = _pairs(processor)
        offset = processor.piece_to_id("<0x00>")
        self[_LOW_BLOCK] = self._low_block = _packed([offset + byte for byte in _LOW_BLOCK.encode("utf-8")])

    def __missing__(self, word: str) -> bytes:
        if len(word) > _LONG_WORD:
            return b"".join(_packed(self._encode(part)) for part in self._parts(word))
        ids = _packed(self._encode(word))
        if len(word) <= _CACHED_WORD:
            if len(self) >= _CACHE_SIZE:
                self.clear()
                self[_LOW_BLOCK] = self._low_block
            self[word] = ids
        return ids

    def crosses_spaces(self) -> bool:
        """True when a piece has a space behind another character, so that words cannot be told apart by spaces."""
        return any(pair[1] == " " and pair[0] != " " for pair in self._inside)

    def _parts(self, word: str) -> list[str]:
        parts, start, at = [], 0, _LONG_WORD
        while at < len(word):
            if word[at - 1 : at + 1] in self._inside:
                at += 1
                continue
            parts.append(word[start:at])
            start, at = at, at + _LONG_WORD
        parts.append(word[start:])
        return parts


def _packed(ids: Sequence[int]) -> bytes:
    return array("I", ids).tobytes()


def _pairs(processor: SentencePieceProcessor) -> set[str]:
    """All pairs of characters that stand side by side inside a piece."""
    found: set[str] = set()
    for number in range(processor.get_piece_size()):
        if processor.is_byte(number) or processor.is_control(number) or processor.is_unknown(number):
            continue
        piece = processor.id_to_piece(number).replace(_LOW_BLOCK, " ")
        found.update(map("".join, zip(piece, piece[1:], strict=False)))
    return found


def load_processor(model: bytes, where: Path | str) -> SentencePieceProcessor:
    """A sentencepiece processor of a serialised model.

    Raises:
        DamagedError: sentencepiece cannot read it.
    """
    from sentencepiece import SentencePieceProcessor

    try:
        return SentencePieceProcessor(model_proto=model)
    except (RuntimeError, OSError, ValueError) as error:
        raise DamagedError("sentencepiece cannot read the model", where, "train the tokenizer again") from error


class SentencePieceBackend:
    """A vocabulary that llmforge trained: nine control symbols, 256 bytes, then pieces."""

    def __init__(self, folder: Path) -> None:
        path = folder / MODEL_FILE
        processor = load_processor(path.read_bytes(), path)
        if not is_ours(processor):
            raise DataError(
                "the sentencepiece model was not trained by llmforge", path, "add its tokenizer.json to the folder"
            )
        self._words = _WordCache(processor)
        if self._words.crosses_spaces():
            raise DamagedError("pieces reach across words", path, "train the tokenizer again")
        self.digest = digest_file(path)
        size = processor.get_piece_size()
        pieces = [processor.id_to_piece(number) for number in range(size)]
        self.names = {pieces[number]: number for number in range(size) if _is_special(processor, number)}
        self.token_bytes = [_bytes_of(processor, number, piece) for number, piece in enumerate(pieces)]
        self.bos_id: int | None = IDS[BOS]
        self.eos_id: int | None = IDS[EOS]
        self.pad_id: int | None = IDS[PAD]
        self.stop_ids = frozenset({IDS[EOS], IDS[END]})
        self.prefix_ids = [IDS[BOS]]
        self._by_id = {number: name for name, number in self.names.items()}

    def encode(self, text: str) -> array[int]:
        """Ids whose bytes are the text's, exactly.

        Raises:
            DataError: the text holds half a surrogate pair, which no UTF-8 can carry.
        """
        try:
            return array("I", b"".join(map(self._words.__getitem__, _WORDS.findall(text))))
        except (UnicodeEncodeError, RuntimeError) as error:
            raise surrogate_fault(text) or error from error

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """The text of ids; bytes that are not UTF-8 become U+FFFD."""
        table, size = self.token_bytes, len(self.token_bytes)
        if skip_special:
            return b"".join(table[number] for number in ids if number < size).decode("utf-8", "replace")
        named = (self._by_id[n].encode() if n in self._by_id else table[n] for n in ids if n < size)
        return b"".join(named).decode("utf-8", "replace")


def is_ours(processor: SentencePieceProcessor) -> bool:
    """True when the control symbols and the bytes stand where llmforge puts them."""
    if processor.get_piece_size() <= len(CONTROL) + BYTES:
        return False
    return all(
        processor.id_to_piece(number) == name and _is_special(processor, number) for name, number in IDS.items()
    ) and processor.is_byte(processor.piece_to_id("<0x00>"))


def _is_special(processor: SentencePieceProcessor, number: int) -> bool:
    return bool(processor.is_control(number) or processor.is_unknown(number))


def _bytes_of(processor: SentencePieceProcessor, number: int, piece: str) -> bytes:
    if _is_special(processor, number):
        return b""
    if processor.is_byte(number):
        return bytes([int(piece[3:5], 16)])
    return piece.replace(_LOW_BLOCK, " ").encode("utf-8")
