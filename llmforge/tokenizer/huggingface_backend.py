"""Vocabularies that others trained: a Hugging Face folder's tokenizer.json, read by the `tokenizers` library.

Nothing of transformers is loaded and no code of the folder is run.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.errors import DamagedError, DataError
from llmforge.runtime.files import digest_file
from llmforge.tokenizer.files import CONFIG_FILE, JSON_FILE, SPECIAL_MAP_FILE, read_json
from llmforge.tokenizer.surrogates import surrogate_fault

if TYPE_CHECKING:
    from tokenizers import Encoding
    from tokenizers import Tokenizer as Library

_MOST_IDS = 1 << 24  # the largest published vocabularies have about 2**18
# Names that chat models end a turn with, whatever their eos token is called.
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|end_of_turn|>", "<end_of_turn>", "<|end|>", "<|eot|>", "<turn|>")


def _byte_of_letter() -> dict[str, int]:
    """GPT-2's table of 256 printable letters that stand for bytes in byte-level vocabularies."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}


def _components(node: object) -> set[str]:
    """The `type` of every part of a normaliser, pre-tokeniser or decoder."""
    if isinstance(node, list):
        return set().union(*map(_components, node)) if node else set()
    if isinstance(node, dict):
        own = {node["type"]} if isinstance(node.get("type"), str) else set()
        return own.union(*map(_components, node.values()))
    return set()


class HuggingFaceBackend:
    """A foreign vocabulary; its control symbols are the added tokens that are marked special."""

    def __init__(self, folder: Path) -> None:
        path = folder / JSON_FILE
        self._library = _load(path)
        self.digest = digest_file(path)
        content = read_json(path)
        vocabulary = self._library.get_vocab(with_added_tokens=True)
        added = self._library.get_added_tokens_decoder()
        self.names = {token.content: number for number, token in added.items() if token.special}
        plain_added = {token.content for token in added.values() if not token.special}
        most = max(vocabulary.values(), default=-1)
        if most >= _MOST_IDS:
            raise DamagedError(f"a piece has the id {most:,}, beyond any real vocabulary", path, "get the file again")
        self.token_bytes = [b""] * (most + 1)
        byte_level = "ByteLevel" in _components([content.get("decoder"), content.get("pre_tokenizer")])
        letters = _byte_of_letter()
        for piece, number in vocabulary.items():
            if piece not in self.names:
                table = letters if byte_level and piece not in plain_added else None
                self.token_bytes[number] = _piece_bytes(piece, table)
        self._read_config(folder)

    def _read_config(self, folder: Path) -> None:
        config = read_json(folder / SPECIAL_MAP_FILE) | read_json(folder / CONFIG_FILE)
        ends = read_json(folder / "config.json").get("eos_token_id")
        ends = read_json(folder / "generation_config.json").get("eos_token_id", ends)
        self.bos_id = self._named(config.get("bos_token"))
        self.eos_id = self._named(config.get("eos_token"))
        listed = [end for end in (ends if isinstance(ends, list) else [ends]) if isinstance(end, int)]
        if self.eos_id is None and listed:
            self.eos_id = listed[0]
        self.pad_id = self._named(config.get("pad_token"))
        turns = [self.names[name] for name in _END_OF_TURN if name in self.names]
        own = [] if self.eos_id is None else [self.eos_id]
        self.stop_ids = frozenset(listed + turns + own)
        bare = self._library.encode("a", add_special_tokens=False).ids
        whole = self._library.encode("a", add_special_tokens=True).ids
        at = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
        self.prefix_ids = whole[:at]

    def _named(self, token: object) -> int | None:
        name = token.get("content") if isinstance(token, dict) else token
        if not isinstance(name, str):
            return None
        found: int | None = self._library.token_to_id(name)
        return found

    def encode(self, text: str) -> array[int]:
        """Ids of a text; the names of control symbols in it are plain text."""
        self._library.encode_special_tokens = True
        return array("I", self._encode(text).ids)

    def encode_offsets(self, text: str, names: bool) -> list[tuple[int, int]]:
        """(id, first character) of a text; with `names` the names of control symbols in it stand for them."""
        self._library.encode_special_tokens = not names
        found = self._encode(text)
        return [(number, start) for number, (start, _) in zip(found.ids, found.offsets, strict=True)]

    def _encode(self, text: str) -> Encoding:
        try:
            return self._library.encode(text, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            raise surrogate_fault(text) or error from error

    def decode(self, ids: Sequence[int], skip_special: bool) -> str:
        """The text of ids as the folder's own decoder writes it."""
        size = len(self.token_bytes)
        known = [number for number in ids if number < size]
        text: str = self._library.decode(known, skip_special_tokens=skip_special)
        return text


def _load(path: Path) -> Library:
    from tokenizers import Tokenizer as Library

    if not path.is_file():
        hint = "write one with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        raise DataError("the folder has no tokenizer.json", path.parent, hint)
    try:
        library = Library.from_str(json.dumps(read_json(path)))
    except DamagedError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise DamagedError(f"the tokenizer cannot be read: {error}", path, "get the folder again") from error
    library.no_truncation()
    library.no_padding()
    return library


def _piece_bytes(piece: str, letters: dict[str, int] | None) -> bytes:
    if letters is not None:
        try:
            return bytes(letters[letter] for letter in piece)
        except KeyError:
            return piece.encode("utf-8")
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        try:
            return bytes([int(piece[3:5], 16)])
        except ValueError:
            return piece.encode("utf-8")
    return piece.replace("\u2581", " ").encode("utf-8")
