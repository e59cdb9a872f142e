"""The quality bench's texts, made ready twice: as our token folders by our own commands, and as plain ids for peers.

Characters: the first 90 % of a file trains, the whole last tenth is held out; our vocabulary is `model_type: char`, a
peer's the alphabet alone. Books: 4,096 pieces that we learn, the same ids for all, and BLiMP's pairs where they are.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TRAIN_SHARE = 0.9
BOOKS_VOCAB = 4096
PEER_PAIRS = "pairs.json"


@dataclass(frozen=True)
class Prepared:
    """Where a text lies: our training and held-out tokens, the peers' ids, and minimal pairs as evaluate reads them."""

    tokens: Path
    valid: Path | None
    peers: Path
    pairs: Path | None


def llmforge(*arguments: str) -> dict[str, Any]:
    """Runs a command and returns its JSON answer; what it says goes to standard error."""
    command = [sys.executable, "-m", "llmforge", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _corpus(path: Path, output: Path, fraction: float) -> str:
    settings = [f"sources=[{{name: text, path: {json.dumps(str(path))}}}]", "rules=[]", "repair=null"]
    settings += ["dedup={exact: false, near: null}", f"split.valid_fraction={fraction}", f"output_dir={output}"]
    llmforge("clean", *settings, "-q")
    return str(output)


def _vocabulary(corpus: str, output: Path, *settings: str) -> str:
    llmforge("tokenizer", "train", f"corpus={corpus}", f"output_dir={output}", *settings, "-q")
    return str(output)


def _tokens(corpus: str, tokenizer: str, output: Path) -> Path:
    llmforge("tokenize", f"corpus={corpus}", f"tokenizer={tokenizer}", f"output_dir={output}", "-q")
    return output


def characters(file: Path, folder: Path) -> Prepared:
    """The text of one file by characters."""
    folder.mkdir(parents=True, exist_ok=True)
    text = file.read_text(encoding="utf-8")
    cut = int(len(text) * TRAIN_SHARE)
    parts = {"train": text[:cut], "valid": text[cut:]}
    corpora = {}
    for name, part in parts.items():
        (folder / f"{name}.txt").write_text(part, encoding="utf-8", newline="")
        corpora[name] = _corpus(folder / f"{name}.txt", folder / f"corpus-{name}", 0.0)
    tokenizer = _vocabulary(corpora["train"], folder / "tokenizer", "model_type=char")
    ours = {name: _tokens(corpus, tokenizer, folder / f"tokens-{name}") for name, corpus in corpora.items()}
    alphabet = {sign: number for number, sign in enumerate(sorted(set(text)))}
    peers = folder / "peers"
    ids = {name: [alphabet[sign] for sign in part] for name, part in parts.items()}
    _write_ids(peers, ids, len(alphabet), None, len(parts["valid"].encode()))
    return Prepared(ours["train"], ours["valid"], peers, None)


def books(train: Path, valid: Path, pairs: Path | None, folder: Path) -> Prepared:
    """Two files of documents by pieces, and a zip of BLiMP's files."""
    folder.mkdir(parents=True, exist_ok=True)
    corpora = {
        name: _corpus(path, folder / f"corpus-{name}", 0.0) for name, path in (("train", train), ("valid", valid))
    }
    tokenizer = _vocabulary(corpora["train"], folder / "tokenizer", f"vocab_size={BOOKS_VOCAB}")
    ours = {name: _tokens(corpus, tokenizer, folder / f"tokens-{name}") for name, corpus in corpora.items()}
    listed = None if pairs is None else _pairs(pairs, folder / "blimp.jsonl")
    _peers_ids(ours, folder / "peers", listed)
    return Prepared(ours["train"], ours["valid"], folder / "peers", listed)


def _pairs(archive: Path, target: Path) -> Path:
    """BLiMP's pairs as items of multiple choice without a query; the right one is the first."""
    with zipfile.ZipFile(archive) as files, target.open("w", encoding="utf-8") as out:
        # macOS puts a "._" file beside each, which is no text.
        named = sorted(name for name in files.namelist() if name.endswith(".jsonl"))
        for name in (name for name in named if not Path(name).name.startswith("._")):
            for line in files.read(name).decode("utf-8").splitlines():
                row = json.loads(line)
                choices = [row["sentence_good"], row["sentence_bad"]]
                out.write(json.dumps({"query": "", "choices": choices, "gold": 0}) + "\n")
    return target


def _peers_ids(ours: dict[str, Path], folder: Path, pairs: Path | None) -> None:
    from llmforge.tokenizer.tokenizer import Tokenizer
    from llmforge.tokens.folder import TokenFolder

    opened = {name: TokenFolder.open(path) for name, path in ours.items()}
    tokenizer = Tokenizer.load(opened["train"].tokenizer_folder)
    splits = {name: tokens.split("train") for name, tokens in opened.items()}
    ids = {name: split.stream(0, split.num_tokens).tolist() for name, split in splits.items()}
    size = sum(len(tokenizer.token_bytes[number]) for number in ids["valid"])
    _write_ids(folder, ids, tokenizer.vocab_size, tokenizer.bos_id, size)
    if pairs is not None:
        first = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        rows = [json.loads(line)["choices"] for line in pairs.read_text(encoding="utf-8").splitlines()]
        both = [[[*first, *tokenizer.encode(text)] for text in row] for row in rows]
        (folder / PEER_PAIRS).write_text(json.dumps(both), encoding="utf-8")


def _write_ids(folder: Path, ids: dict[str, list[int]], vocabulary: int, bos: int | None, size: int) -> None:
    import numpy as np

    folder.mkdir(exist_ok=True)
    for name, numbers in ids.items():
        np.asarray(numbers, dtype=np.uint16).tofile(folder / f"{name}.bin")
    facts = {"vocab_size": vocabulary, "bos_id": bos, "valid_bytes": size}
    (folder / "text.json").write_text(json.dumps(facts), encoding="utf-8")
