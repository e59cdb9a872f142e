"""Texts -> a vocabulary in a folder: sentencepiece BPE that loses nothing, with newlines and tabs inside its pieces.

sentencepiece reads one sentence a line, so no piece could hold a newline. The trainer is given short chunks in which
newline and tab are two private-use characters, and the real ones are put back inside the finished model; the model
needs no such change when it is used.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from llmforge.errors import DataError
from llmforge.runtime.files import disk_errors
from llmforge.tokenizer.files import MODEL_FILE
from llmforge.tokenizer.sentencepiece_backend import is_ours, load_processor
from llmforge.tokenizer.sentencepiece_model import replace_in_pieces
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.special_tokens import BYTES, CONTROL, IDS
from llmforge.tokenizer.tokenizer_json import write_hugging_face_files

_NEWLINE, _TAB = "\uf8d0", "\uf8d1"
# Not shown to the trainer: its own space, its own mark for the unknown, NUL, lone surrogates, and the two stand-ins.
# It would misread them or drop the whole chunk. As text they are encoded by their bytes, so nothing is lost.
_RESERVED = re.compile(f"[\u2581\u2585\0\ud800-\udfff{_NEWLINE}{_TAB}]+")
_CHUNK = 1500  # characters, stretched to the next space
_STRETCH = 200
_MAX_PIECE = 24  # characters
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


def train_tokenizer(texts: Iterable[str], folder: Path, settings: TokenizerSettings) -> None:
    """Learns a vocabulary of exactly `settings.vocab_size` ids and writes its four files into `folder`.

    The same texts in the same order give the same bytes.

    Raises:
        DataError: there is no text, or the vocabulary is too large or too small for it; the line says what fits.
    """
    from sentencepiece import SentencePieceTrainer

    stream = _counted(texts)
    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=stream,
            model_writer=model,
            model_type="bpe",
            vocab_size=settings.vocab_size,
            num_threads=1,
            normalization_rule_name="identity",
            byte_fallback=True,
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_by_unicode_script=False,
            split_digits=True,
            max_sentencepiece_length=_MAX_PIECE,
            character_coverage=_COVERAGE,
            max_sentence_length=(_CHUNK + _STRETCH) * 4 + 1,
            unk_id=IDS[CONTROL[0]],
            bos_id=IDS[CONTROL[1]],
            eos_id=IDS[CONTROL[2]],
            pad_id=IDS[CONTROL[3]],
            control_symbols=[*CONTROL[4:], *settings.special_tokens],
            minloglevel=4,
        )
    except (RuntimeError, OSError, StopIteration) as error:
        raise _explained(str(error), settings) from error
    content = replace_in_pieces(model.getvalue(), {_NEWLINE: "\n", _TAB: "\t"})
    processor = load_processor(content, "the trained model")
    assert is_ours(processor), "sentencepiece moved the control symbols"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL_FILE).write_bytes(content)
        write_hugging_face_files(processor, folder)


def _counted(texts: Iterable[str]) -> Iterator[str]:
    empty = True
    for text in texts:
        for chunk in chunks(text):
            empty = False
            yield chunk
    if empty:
        raise DataError("there is no text to learn a vocabulary from", hint="give a corpus with documents in `train`")


def _explained(message: str, settings: TokenizerSettings) -> DataError:
    """sentencepiece's complaint in words that name the key to change."""
    asked = settings.vocab_size
    if found := re.search(r"value <= (\d+)", message):
        hint = f"set vocab_size to {found[1]} or less, or give more text"
        return DataError(f"the text gives no more than {found[1]} pieces, vocab_size is {asked}", hint=hint)
    if found := re.search(r"smaller than required_chars\D+\d+ vs (\d+)", message):
        fixed = len(CONTROL) + len(settings.special_tokens) + BYTES
        what = f"vocab_size {asked} has no room for {fixed} fixed ids and the characters of the text"
        return DataError(what, hint=f"set vocab_size to more than {found[1]}")
    return DataError(f"sentencepiece cannot learn a vocabulary from this text: {message.splitlines()[-1:]}")
