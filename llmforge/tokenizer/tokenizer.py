"""Text to ids and back: one face for vocabularies of our own and of Hugging Face folders.

`Tokenizer.load(folder)` -> `.encode(text)`, `.decode(ids)`, `.token_bytes`, the ids of the control symbols, and a
stream that turns ids into whole characters. Control symbols are only ever put in by id, never found in text.
"""

from __future__ import annotations

import codecs
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.errors import DamagedError, DataError
from llmforge.runtime.manifest import NAME as MANIFEST
from llmforge.runtime.manifest import read_manifest
from llmforge.tokenizer.backend import Backend
from llmforge.tokenizer.chat_formats import FORMATS
from llmforge.tokenizer.files import JSON_FILE, MODEL_FILE, find_tokenizer, read_json
from llmforge.tokenizer.huggingface_backend import HuggingFaceBackend
from llmforge.tokenizer.sentencepiece_backend import SentencePieceBackend, is_ours, load_processor
from llmforge.tokenizer.surrogates import surrogate_fault

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TextStream:
    """Ids one by one -> text that is safe to show: never half a character."""

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._table = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, number: int) -> str:
        """The characters that this id completes; "" while one is still open."""
        return self._decoder.decode(self._table[number] if number < len(self._table) else b"")

    def finish(self) -> str:
        """What is left: U+FFFD for bytes that never became a character."""
        return self._decoder.decode(b"", True)


class Tokenizer:
    """A vocabulary in a folder; `foreign` is None for one that llmforge trained, whose chat format is `form`."""

    def __init__(self, folder: Path, backend: Backend) -> None:
        self.folder = folder
        self._backend = backend
        self.foreign = backend if isinstance(backend, HuggingFaceBackend) else None
        self.form = backend.form if isinstance(backend, SentencePieceBackend) else FORMATS["own"]
        self.digest = backend.digest
        self.token_bytes = backend.token_bytes
        self.special_ids = dict(backend.names)
        self.bos_id, self.eos_id, self.pad_id = backend.bos_id, backend.eos_id, backend.pad_id
        self.stop_ids = set(backend.stop_ids)
        self.prefix_ids = list(backend.prefix_ids)

    @classmethod
    def load(cls, path: Path | str) -> Tokenizer:
        """Opens a tokenizer folder, a model folder, or a run folder that holds one.

        Raises:
            DataError: there is none, or it is of a kind that cannot be read.
            DamagedError: its files were cut or changed.
        """
        folder = find_tokenizer(path)
        if (folder / MANIFEST).is_file() and read_json(folder / MANIFEST).get("kind") == "tokenizer":
            read_manifest(folder, "tokenizer")
        if _trained_by_us(folder):
            return cls(folder, SentencePieceBackend(folder))
        return cls(folder, HuggingFaceBackend(folder))

    @property
    def vocab_size(self) -> int:
        """Ids in all, control symbols included."""
        return len(self.token_bytes)

    @property
    def works_outside_lock(self) -> bool:
        """Whether several threads gain from `encode_documents`: most of it is done without Python's lock."""
        return isinstance(self._backend, SentencePieceBackend) and self._backend.is_fast

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without any control symbol, even where the text looks like one.

        For our own vocabularies `decode(encode(text)) == text` for every text; raises DataError on a lone surrogate.
        """
        return self._backend.encode(text).tolist()

    def encode_array(self, text: str) -> array[int]:
        """`encode` as unsigned 4-byte integers: less memory for long texts, and a buffer that numpy reads."""
        return self._backend.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def encode_documents(
        self, texts: Sequence[str], names: Sequence[str] = ()
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Texts as [bos] ids [eos], as far as the vocabulary has these: all ids (N,) and how many each text has (D,).

        The fastest way to encode a corpus, in batches of about four megabytes of text.

        Raises:
            DataError: a text holds half a surrogate pair; the line names it by its entry in `names`.
        """
        import numpy as np

        try:
            if self.foreign is None and isinstance(self._backend, SentencePieceBackend):
                return self._backend.encode_documents(texts)
            first = [] if self.bos_id is None else [self.bos_id]
            last = [] if self.eos_id is None else [self.eos_id]
            ids = array("I")
            lengths = np.zeros(len(texts), dtype=np.int64)
            for number, text in enumerate(texts):
                before = len(ids)
                ids.extend(first)
                ids.extend(self._backend.encode(text))
                ids.extend(last)
                lengths[number] = len(ids) - before
            return np.frombuffer(ids, dtype=np.uint32), lengths
        except DataError:
            for number, text in enumerate(texts):
                if fault := surrogate_fault(text):
                    named = f"document {names[number]}" if len(names) > number else f"text {number + 1}"
                    raise DataError(fault.what, named, fault.hint) from None
            raise

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a text as the beginning of a document: what transformers gives by default (our own: bos in front)."""
        return self.prefix_ids + self.encode(text)

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of ids; an id beyond the vocabulary (a padded row of an embedding) has none.

        Raises:
            DataError: a negative id.
        """
        return self._backend.decode(_checked(ids), skip_special)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids, control symbols left out."""
        table, size = self.token_bytes, len(self.token_bytes)
        return b"".join(table[number] for number in _checked(ids) if number < size)

    def stream(self) -> TextStream:
        """A decoder for ids that come one by one."""
        return TextStream(self.token_bytes)


def _checked(ids: Iterable[int]) -> list[int]:
    numbers = [int(number) for number in ids]
    if numbers and min(numbers) < 0:
        raise DataError(f"id {min(numbers)} is negative and stands for no token")
    return numbers


def _trained_by_us(folder: Path) -> bool:
    path = folder / MODEL_FILE
    if not path.is_file():
        return False
    try:
        return is_ours(load_processor(path.read_bytes(), path))
    except DamagedError:
        if (folder / JSON_FILE).is_file() and not (folder / MANIFEST).is_file():
            return False
        raise
