"""Texts -> a vocabulary in a folder: sentencepiece BPE that loses nothing, with newlines and tabs inside its pieces.

sentencepiece reads one sentence a line, so no piece could hold a newline. The trainer is given short chunks in which
newline and tab are two private-use characters, and the real ones are put back inside the finished model; the model
needs no such change when it is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_letters

from llmforge.errors import DataError
from llmforge.runtime.files import disk_errors
from llmforge.tokenizer.chat_formats import FORMATS
from llmforge.tokenizer.files import BYTES_FILE, MODEL_FILE
from llmforge.tokenizer.learning import LearnerError, Watch, learn
from llmforge.tokenizer.sentencepiece_backend import SentencePieceBackend, is_ours, load_processor
from llmforge.tokenizer.sentencepiece_model import append_pieces, replace_in_pieces
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.special_tokens import BYTES, CONTROL, IDS
from llmforge.tokenizer.tokenizer_json import write_hugging_face_files

_NEWLINE, _TAB = "\uf8d0", "\uf8d1"
# Not shown to the trainer: its own space, its own mark for the unknown, NUL, lone surrogates, and the two stand-ins.
# It would misread them or drop the whole chunk. As text they are encoded by their bytes, so nothing is lost.
_RESERVED = re.compile(f"[\u2581\u2585\0\ud800-\udfff{_NEWLINE}{_TAB}]+")
_CHUNK = 1500  # characters, stretched to the next space
_STRETCH = 200
_NO_PHRASES_BELOW = 1024  # ids
_PHRASE_BYTES = 4_000_000  # of the text, in which phrases are counted
_MAX_PIECE = 24  # characters
_WRITTEN = "".join(sorted({*"".join(CONTROL), *"<>|_.-0123456789", *ascii_letters}))
_COVERAGE = 0.9995  # share of the text's characters that get a piece of their own


def chunks(text: str) -> Iterator[str]:
    """The text as the trainer sees it: pieces of about 1,500 characters, cut before a space where there is one."""
    for part in _RESERVED.split(text):
        seen = part.replace("\n", _NEWLINE).replace("\t", _TAB)
        start = 0
        while start < len(seen):
            stop = start + _CHUNK
            if stop < len(seen):
                space = seen.find(" ", stop, stop + _STRETCH)
                stop = space if space > 0 else stop
            yield seen[start:stop]
            start = stop


def train_tokenizer(
    texts: Sequence[str], folder: Path, settings: TokenizerSettings, watch: Watch = lambda merges, note: None
) -> None:
    """Learns a vocabulary of exactly `settings.vocab_size` ids and writes its files into `folder`.

    Pieces inside words come first, phrases of them behind. The same texts in the same order give the same bytes.
    With `model_type: char` the vocabulary is the text's alphabet, the commonest characters where it is too large.
    `watch` is told how far the learning is: merges so far, and a note.

    Raises:
        DataError: there is no text, or the vocabulary is too large or too small for it; the line says what fits.
        MachineError: the trainer's process was ended from outside.
    """
    wanted = phrase_room(settings)
    model = _learn_pieces(texts, settings, wanted, watch)
    phrases = _learn_phrases(texts, model, wanted)
    if len(phrases) < wanted:  # the text has fewer: the ids go to pieces inside words
        model = _learn_pieces(texts, settings, len(phrases), watch)
    content = append_pieces(model, phrases)
    processor = load_processor(content, "the trained model")
    assert is_ours(processor), "sentencepiece moved the control symbols"
    table = SentencePieceBackend.of_model(content).token_bytes
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL_FILE).write_bytes(content)
        (folder / BYTES_FILE).write_text(json.dumps(list(map(len, table))) + "\n", encoding="utf-8")
        write_hugging_face_files(processor, folder, FORMATS[settings.chat_template], settings.model_type == "unigram")


def phrase_room(settings: TokenizerSettings) -> int:
    """How many ids of a vocabulary are kept for phrases: none of the first 1,024, which words need more."""
    if settings.model_type != "bpe":
        return 0
    return int(settings.phrase_share * max(0, settings.vocab_size - _NO_PHRASES_BELOW))


def _learn_phrases(texts: Sequence[str], model: bytes, most: int) -> list[str]:
    from llmforge.tokenizer.phrase_training import id_stream, learn_phrases

    if not most:
        return []
    backend = SentencePieceBackend.of_model(model)
    first = backend.token_bytes.index(b"\xff") + 1  # behind control symbols and bytes
    pieces = [
        table.decode("utf-8", "replace") if number >= first else "" for number, table in enumerate(backend.token_bytes)
    ]
    return learn_phrases(id_stream(backend, _some(texts, _PHRASE_BYTES)), pieces, most)


def _some(texts: Sequence[str], budget: int) -> Iterator[str]:
    """Texts spread evenly over all, of about `budget` characters."""
    size = sum(map(len, texts))
    taken = seen = 0
    for text in texts:
        seen += len(text)
        if taken * size <= budget * seen:
            taken += len(text)
            yield text


def _learn_pieces(texts: Sequence[str], settings: TokenizerSettings, without: int, watch: Watch) -> bytes:
    """A sentencepiece model of `vocab_size - without` ids, line breaks and tabs inside its pieces."""
    options = {
        "model_type": settings.model_type,
        "vocab_size": settings.vocab_size - without,
        "num_threads": 1,
        "normalization_rule_name": "identity",
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "split_by_unicode_script": False,
        "split_digits": True,
        "max_sentencepiece_length": _MAX_PIECE,
        "character_coverage": 1.0 if settings.model_type == "char" else _COVERAGE,
        "max_sentence_length": (_CHUNK + _STRETCH) * 4 + 1,
        "unk_id": IDS[CONTROL[0]],
        "bos_id": IDS[CONTROL[1]],
        "eos_id": IDS[CONTROL[2]],
        "pad_id": IDS[CONTROL[3]],
        "control_symbols": [*CONTROL[4:], *settings.control_symbols()],
        # What control symbols and bytes are written with: tokenizer.json of a unigram model needs these as pieces.
        "required_chars": _WRITTEN if settings.model_type == "unigram" else "",
    }
    try:
        model = learn(_counted(texts), options, watch)
    except LearnerError as error:
        raise _explained(str(error), settings, without) from error
    return replace_in_pieces(model, {_NEWLINE: "\n", _TAB: "\t"})


def _counted(texts: Sequence[str]) -> Iterator[str]:
    empty = True
    for text in texts:
        for chunk in chunks(text):
            empty = False
            yield chunk
    if empty:
        raise DataError("there is no text to learn a vocabulary from", hint="give a corpus with documents in `train`")


def _explained(message: str, settings: TokenizerSettings, without: int) -> DataError:
    """sentencepiece's complaint in words that name the key to change."""
    asked = settings.vocab_size
    if found := re.search(r"value <= (\d+)", message):
        most = int(found[1])  # words alone: a vocabulary of so many leaves less room for phrases, and never fails
        hint = f"set vocab_size to at most {most}, or give more text"
        return DataError(f"the text gives no more than {most} pieces, vocab_size is {asked}", hint=hint)
    if found := re.search(r"smaller than required_chars\D+\d+ vs (\d+)", message):
        fixed = len(CONTROL) + len(settings.control_symbols()) + BYTES
        what = f"vocab_size {asked} has no room for {fixed} fixed ids and the characters of the text"
        return DataError(what, hint=f"set vocab_size to more than {int(found[1]) + without}")
    return DataError(f"sentencepiece cannot learn a vocabulary from this text: {message.splitlines()[-1:]}")
