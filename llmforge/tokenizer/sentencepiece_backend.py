"""Our own vocabularies: a sentencepiece model, encoded exactly and fast.

The text is cut where no piece inside words can reach across, and the ids of each part are remembered. Merging happens
between neighbours only, so cutting between two characters that stand side by side in no piece changes no id. Phrases,
the pieces over word borders, rank behind all others and are merged over the ids at the end (phrases.py).
Knows nothing of files beside `tokenizer.model`, nor of chats.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.errors import DamagedError, DataError
from llmforge.runtime.files import digest_file
from llmforge.tokenizer.chat_formats import FORMATS
from llmforge.tokenizer.fast_words import FastWords, open_fast_words
from llmforge.tokenizer.files import CONFIG_FILE, FORMAT_KEY, MODEL_FILE, read_json
from llmforge.tokenizer.phrases import PhraseMerger, is_mergeable, is_phrase
from llmforge.tokenizer.sentencepiece_model import without_pieces
from llmforge.tokenizer.special_tokens import BOS, BYTES, CONTROL, END, EOS, IDS, PAD
from llmforge.tokenizer.surrogates import surrogate_fault
from llmforge.tokenizer.word_cache import LOW_BLOCK, WordCache, pack

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentencepiece import SentencePieceProcessor

_AT_ONCE = 1 << 17  # ids whose phrases are merged at once: their tables stay in the processor's cache


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
        model = path.read_bytes()
        self._set_up(model, path)
        self.form = FORMATS.get(str(read_json(folder / CONFIG_FILE).get(FORMAT_KEY, "own")), FORMATS["own"])
        if missing := set(self.form.control) - set(self.names):
            raise DamagedError(f"the chat format needs {', '.join(sorted(missing))}", path, "train the tokenizer again")
        self.stop_ids = frozenset({IDS[EOS], IDS[END], self.names[self.form.end]})
        self.digest = digest_file(path)

    @classmethod
    def of_model(cls, model: bytes) -> SentencePieceBackend:
        """The same of a serialised model that lies in no folder yet."""
        made = cls.__new__(cls)
        made._set_up(model, "the model")
        made.digest = hashlib.sha256(model).hexdigest()
        return made

    def _set_up(self, model: bytes, where: Path | str) -> None:
        processor = load_processor(model, where)
        self._model = model
        if not is_ours(processor):
            raise DataError(
                "the sentencepiece model was not trained by llmforge", where, "add its tokenizer.json to the folder"
            )
        size = processor.get_piece_size()
        try:
            pieces = [processor.id_to_piece(number) for number in range(size)]
        except UnicodeDecodeError as error:
            raise DamagedError(
                "the sentencepiece model has a piece that is not UTF-8", where, "get it again"
            ) from error
        self._normal = normal = normal_pieces(processor)
        phrases = [number for number, text in normal.items() if is_phrase(text)]
        if not all(is_mergeable(normal[number]) for number in phrases):
            raise DamagedError("pieces reach across words in a way that is not llmforge's", where, "train it again")
        phrases.sort(key=lambda number: (-processor.get_score(number), number))
        self._phrases = PhraseMerger(normal, phrases, size) if phrases else None
        self._words = WordCache(processor, [text for text in normal.values() if not is_phrase(text)])
        self.names = {pieces[number]: number for number in range(size) if _is_special(processor, number)}
        self.token_bytes = [_bytes_of(processor, number, piece) for number, piece in enumerate(pieces)]
        self.bos_id: int | None = IDS[BOS]
        self.eos_id: int | None = IDS[EOS]
        self.pad_id: int | None = IDS[PAD]
        self.form = FORMATS["own"]
        self.stop_ids = frozenset({IDS[EOS], IDS[END]})
        self.prefix_ids = [IDS[BOS]]
        self._by_id = {number: name for name, number in self.names.items()}

    def encode(self, text: str) -> array[int]:
        """Ids whose bytes are the text's, exactly.

        Raises:
            DataError: the text holds half a surrogate pair, which no UTF-8 can carry.
        """
        try:
            packed = self._packed(text)
        except (UnicodeEncodeError, RuntimeError) as error:
            raise surrogate_fault(text) or error from error
        if self._phrases is None:
            return array("I", packed)
        import numpy as np

        return array("I", self._with_phrases(np.frombuffer(packed, dtype=np.uint32)).tobytes())

    def encode_documents(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """All texts as [bos] ids [eos] one after another (N,), and the number of ids of each.

        Batches of about four megabytes are fastest.

        Raises:
            DataError: a text holds half a surrogate pair; it does not say which text.
        """
        import numpy as np

        try:
            words = self._document_words(texts)
        except (UnicodeEncodeError, RuntimeError, TypeError) as error:
            raise next(filter(None, map(surrogate_fault, texts)), None) or error from error
        if self._phrases is not None and len(words) > _AT_ONCE:
            ends = np.flatnonzero(words == IDS[EOS]) + 1
            cuts = np.unique(ends[np.searchsorted(ends, np.arange(_AT_ONCE, len(words), _AT_ONCE))])
            ids = np.concatenate([self._phrases.merge(part) for part in np.split(words, cuts)])
        else:
            ids = self._with_phrases(words)
        ends = np.flatnonzero(ids == IDS[EOS])  # never made out of text
        return ids, np.diff(ends, prepend=-1)

    @property
    def is_fast(self) -> bool:
        """Whether a faster encoder of the same ids does the words of `encode_documents`."""
        return self._fast is not None

    @cached_property
    def _fast(self) -> FastWords | None:
        """A faster way to the ids of words; None where there is none."""
        words = [text for text in self._normal.values() if not is_phrase(text)]
        behind = len(self.token_bytes) - len(self._normal) + len(words)
        if any(number < behind for number, text in self._normal.items() if is_phrase(text)):
            return None  # without its phrases the model would have other ids
        return open_fast_words(
            lambda: without_pieces(self._model, is_phrase), list(self.names), words, lambda text: self._packed(text)
        )

    def _packed(self, text: str) -> bytes:
        return b"".join(self._words.words(text))

    def _document_words(self, texts: Sequence[str]) -> NDArray[np.uint32]:
        """The ids of the words of each text between bos and eos."""
        import numpy as np

        first, last = pack([IDS[BOS]]), pack([IDS[EOS]])
        fast = self._fast
        fit = [fast is not None and fast.usable(text) for text in texts]
        if fast is None or not all(fit):
            parts = [part for text in texts for part in (first, *self._words.words(text), last)] if fast is None else []
            if fast is not None:
                ids, lengths = fast.encode([text for text, good in zip(texts, fit, strict=True) if good])
                rows = iter(np.split(ids, np.cumsum(lengths)[:-1]))
                for text, good in zip(texts, fit, strict=True):
                    parts += [first, next(rows).tobytes() if good else self._packed(text), last]
            return np.frombuffer(b"".join(parts), dtype=np.uint32)
        ids, lengths = fast.encode(texts)
        starts = np.cumsum(lengths + 2) - (lengths + 2)
        out = np.empty(len(ids) + 2 * len(texts), dtype=np.uint32)
        inside = np.ones(len(out), dtype=bool)
        ends = starts + lengths + 1
        inside[starts] = inside[ends] = False
        out[starts], out[ends], out[inside] = IDS[BOS], IDS[EOS], ids
        return out

    def _with_phrases(self, ids: NDArray[np.uint32]) -> NDArray[np.uint32]:
        return ids if self._phrases is None else self._phrases.merge(ids)

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


def normal_pieces(processor: SentencePieceProcessor) -> dict[int, str]:
    """The texts of all pieces but control symbols and bytes, by id."""
    return {
        number: processor.id_to_piece(number).replace(LOW_BLOCK, " ")
        for number in range(processor.get_piece_size())
        if not (processor.is_byte(number) or _is_special(processor, number))
    }


def _is_special(processor: SentencePieceProcessor, number: int) -> bool:
    return bool(processor.is_control(number) or processor.is_unknown(number))


def _bytes_of(processor: SentencePieceProcessor, number: int, piece: str) -> bytes:
    if _is_special(processor, number):
        return b""
    if processor.is_byte(number):
        return bytes([int(piece[3:5], 16)])
    return piece.replace(LOW_BLOCK, " ").encode("utf-8")
