"""Our sentencepiece model in the form that `tokenizers` and `transformers` read, with the same ids.

A space stays a space in its vocabulary (sentencepiece's U+2581 would swallow a literal one), unknown characters fall
back to bytes, and every way to put a piece together from two pieces is a merge, ranked by the piece's own rank.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.tokenizer.chat_formats import ChatFormat
from llmforge.tokenizer.chat_template import chat_template, unescape_rules
from llmforge.tokenizer.files import CONFIG_FILE, FORMAT_KEY, JSON_FILE, SPECIAL_MAP_FILE
from llmforge.tokenizer.special_tokens import BOS, EOS, IDS, PAD, UNK

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

_SPACE = "\u2581"
_NEVER = -1e5
_UNLIMITED = 1_000_000_000_000_000_019_884_624_838_656  # what transformers writes for "no limit known"


def write_hugging_face_files(processor: SentencePieceProcessor, folder: Path, form: ChatFormat, unigram: bool) -> None:
    """Writes tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    control = [
        processor.id_to_piece(number)
        for number in range(processor.get_piece_size())
        if processor.is_control(number) or processor.is_unknown(number)
    ]
    _write(folder / JSON_FILE, tokenizer_json(processor, control, unigram))
    _write(folder / CONFIG_FILE, tokenizer_config(control, form))
    _write(folder / SPECIAL_MAP_FILE, _special_tokens())


def tokenizer_json(processor: SentencePieceProcessor, control: list[str], unigram: bool) -> dict[str, object]:
    """The content of tokenizer.json."""
    size = processor.get_piece_size()
    vocabulary = {processor.id_to_piece(number).replace(_SPACE, " "): number for number in range(size)}
    assert len(vocabulary) == size, "two pieces have one text"
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": vocabulary[name],
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for name in control
        ],
        "normalizer": {"type": "Sequence", "normalizers": unescape_rules()},
        "pre_tokenizer": None,
        "post_processor": _bos_in_front(),
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": _unigram(processor) if unigram else _bpe(processor, vocabulary),
    }


def _bpe(processor: SentencePieceProcessor, vocabulary: dict[str, int]) -> dict[str, object]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": UNK,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": _merges(processor, vocabulary),
    }


def _unigram(processor: SentencePieceProcessor) -> dict[str, object]:
    """Ids equal sentencepiece's but for cuts of the same likelihood, as in long runs of one sign.

    `tokenizers` would find control symbols and bytes in text as pieces, so these get a score that loses to any other
    way; it is not lower, since what is added to a very large number is lost.
    """
    pieces = []
    for number in range(processor.get_piece_size()):
        found = processor.is_control(number) or processor.is_unknown(number) or processor.is_byte(number)
        score = _NEVER if found else processor.get_score(number)
        pieces.append([processor.id_to_piece(number).replace(_SPACE, " "), score])
    return {"type": "Unigram", "unk_id": IDS[UNK], "byte_fallback": True, "vocab": pieces}


def _merges(processor: SentencePieceProcessor, vocabulary: dict[str, int]) -> list[list[str]]:
    """Pairs in the order in which they are merged: sentencepiece merges by the rank of the result alone."""
    size = processor.get_piece_size()
    plain = [
        number
        for number in range(size)
        if not (processor.is_control(number) or processor.is_unknown(number) or processor.is_byte(number))
    ]
    normal = {processor.id_to_piece(number).replace(_SPACE, " ") for number in plain}
    plain.sort(key=lambda number: (-processor.get_score(number), number))
    merges = []
    for number in plain:
        piece = processor.id_to_piece(number).replace(_SPACE, " ")
        pairs = [(piece[:at], piece[at:]) for at in range(1, len(piece))]
        found = [pair for pair in pairs if pair[0] in normal and pair[1] in normal]
        found.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        merges += [list(pair) for pair in found]
    return merges


def _bos_in_front() -> dict[str, object]:
    start = {"SpecialToken": {"id": BOS, "type_id": 0}}
    first: dict[str, object] = {"Sequence": {"id": "A", "type_id": 0}}
    second: dict[str, object] = {"Sequence": {"id": "B", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [start, first],
        "pair": [start, first, second],
        "special_tokens": {BOS: {"id": BOS, "ids": [IDS[BOS]], "tokens": [BOS]}},
    }


def _special_tokens() -> dict[str, object]:
    return {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, "unk_token": UNK}


def tokenizer_config(control: list[str], form: ChatFormat) -> dict[str, object]:
    """The content of tokenizer_config.json."""
    return {
        **_special_tokens(),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": _UNLIMITED,
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
        "padding_side": "left",
        "additional_special_tokens": [name for name in control if name not in _special_tokens().values()],
        "chat_template": chat_template(control, form),
        FORMAT_KEY: form.name,
    }


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
