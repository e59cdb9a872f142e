"""One side of the tokenizer bench: trains a vocabulary on the bench's text, then measures it.

    python tokenizer_sides.py SIDE SIZE compression|speed FOLDER ROUNDS

A vocabulary is kept in FOLDER, so that it is trained once. Prints one JSON object on the last line.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import resource
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# The splitting of GPT-4 (cl100k_base of tiktoken).
GPT4 = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
SPEED_BYTES = 16_000_000
BATCH = 4 << 20
Encode = Callable[[Sequence[str]], Any]


def usual_sentencepiece(texts: Sequence[str], size: int, folder: Path, **more: Any) -> Encode:
    """sentencepiece's BPE as it is used to lose nothing; one sentence a line, as it reads files."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts for line in text.split("\n") if line),
        model_writer=model,
        model_type="bpe",
        vocab_size=size,
        normalization_rule_name="identity",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        max_sentence_length=1_000_000,
        num_threads=1,
        minloglevel=4,
        **more,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return lambda batch: [processor.encode(text) for text in batch]


def byte_bpe(texts: Sequence[str], size: int, folder: Path) -> Encode:
    """`tokenizers`' byte-level BPE with GPT-4's splitting."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    path = folder / f"byte-bpe-{size}.json"
    if path.exists():
        tokenizer = Tokenizer.from_file(str(path))
    else:
        tokenizer = Tokenizer(models.BPE())
        split = pre_tokenizers.Split(Regex(GPT4), "isolated", invert=False)
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, letters])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        tokenizer.save(str(path))
    return lambda batch: [found.ids for found in tokenizer.encode_batch(list(batch), add_special_tokens=False)]


def tiktoken_side(texts: Sequence[str], size: int, folder: Path) -> Encode:
    """tiktoken with the byte-level vocabulary of `byte_bpe`."""
    import tiktoken

    byte_bpe(texts, size, folder)
    vocabulary = json.loads((folder / f"byte-bpe-{size}.json").read_text())["model"]["vocab"]
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + at): byte for at, byte in enumerate(others)}
    ranks = {bytes(byte_of[letter] for letter in piece): number for piece, number in vocabulary.items()}
    encoding = tiktoken.Encoding("bench", pat_str=GPT4, mergeable_ranks=ranks, special_tokens={})
    return lambda batch: [encoding.encode_ordinary(text) for text in batch]


def our_folder(texts: Sequence[str], size: int, folder: Path) -> Path:
    """llmforge's vocabulary by its defaults."""
    made = folder / f"ours-{size}"
    if not made.exists():
        from llmforge.tokenizer.settings import TokenizerSettings
        from llmforge.tokenizer.train import train_tokenizer

        train_tokenizer(texts, made, TokenizerSettings(vocab_size=size))
    return made


def ours(texts: Sequence[str], size: int, folder: Path, only_words: bool = False) -> Encode:
    """llmforge's way to encode a corpus; `only_words`: without gigatoken."""
    if only_words:
        sys.modules["gigatoken"] = None  # type: ignore[assignment]
    from llmforge.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(our_folder(texts, size, folder))
    return tokenizer.encode_documents


def our_model(texts: Sequence[str], size: int, folder: Path) -> Encode:
    """sentencepiece itself with the model that llmforge trained."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"ours-{size}" / "tokenizer.model"))
    return lambda batch: [processor.encode(text) for text in batch]


SIDES: dict[str, Callable[[Sequence[str], int, Path], Encode]] = {
    "ours": ours,
    "ours_words": lambda texts, size, folder: ours(texts, size, folder, only_words=True),
    "sentencepiece": usual_sentencepiece,
    "sentencepiece_ws": lambda texts, size, folder: usual_sentencepiece(
        texts, size, folder, allow_whitespace_only_pieces=True, split_digits=True
    ),
    "sentencepiece_our_model": our_model,
    "byte_bpe": byte_bpe,
    "tiktoken": tiktoken_side,
}


def count(side: str, encoded: Any) -> int:
    """Ids without the bos and eos that ours puts around each text."""
    return len(encoded[0]) - 2 * len(encoded[1]) if side.startswith("ours") else sum(map(len, encoded))


def digest(side: str, encoded: Any) -> str:
    """A digest of the ids of a batch, each text between 1 and 2."""
    if side.startswith("ours"):
        return hashlib.sha256(encoded[0].tobytes()).hexdigest()
    return hashlib.sha256(b"".join(array("I", [1, *ids, 2]).tobytes() for ids in encoded)).hexdigest()


def measure_speed(side: str, encode: Encode, texts: list[str]) -> dict[str, Any]:
    """MB of text a processor second, after one pass that warms up."""
    random.Random(0).shuffle(texts)
    batches: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if size > SPEED_BYTES:
            break
        if sum(map(len, batches[-1])) > BATCH:
            batches.append([])
        batches[-1].append(text)
        size += len(text.encode())
    first = digest(side, encode(batches[0]))
    for batch in batches[1:]:
        encode(batch)
    start = time.process_time()
    for batch in batches:
        encode(batch)
    seconds = time.process_time() - start
    encoder = "gigatoken" if side == "ours" and sys.modules.get("gigatoken") else side
    return {"mb_per_second": size / 1e6 / seconds, "digest": first, "encoder": encoder}


def processor_seconds() -> float:
    """Of this process and of its children that have ended: ours learns in a child."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def main() -> None:
    """Answers with one JSON line."""
    side, size, task, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    train = [text for found in texts["train"].values() for text in found]
    start = processor_seconds()
    encode = SIDES[side](train, size, folder)
    answer: dict[str, Any] = {"train_seconds": round(processor_seconds() - start, 2)}
    if task == "compression":
        sizes = {name: sum(len(text.encode()) for text in found) for name, found in texts["valid"].items()}
        counts = {name: count(side, encode(found)) for name, found in texts["valid"].items()}
        answer["bytes_per_token"] = {name: round(sizes[name] / counts[name], 4) for name in sizes}
    else:
        answer |= measure_speed(side, encode, train)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
