"""How well and how fast llmforge's tokenizer is beside sentencepiece, `tokenizers` and tiktoken.

    python scripts/bench/tokenizer.py [--shapes A,B] [--json FILE] [--peers DIR] [--data DIR] [--corpus-bytes N]

Shapes: 8k, 16k, 32k (bytes per token on text not trained on: books-valid, and held-out documents of the built-in corpus
of Python documentation; all trained on the same text), speed (encoding on one core, MB of UTF-8 a processor second),
workers (`llmforge tokenize` as a whole command, a corpus to shards, with one worker and with two, by the clock).

Peers: sentencepiece with its usual lossless settings (identity normalisation, byte fallback, no dummy prefix, white
space kept; also with pieces of white space only and split digits, whichever is better), byte-level BPE with GPT-4's
splitting trained by `tokenizers`, and tiktoken with that vocabulary (speed). They get an environment of their own in
the user's cache folder, made on the first run. Sides are measured in turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from bench_machine import machine  # noqa: E402

ROOT = Path(__file__).parents[2]
SIDES = Path(__file__).with_name("tokenizer_sides.py")
PEERS = ("sentencepiece==0.2.3", "tokenizers==0.23.3", "tiktoken==0.14.0")
SIZES = {"8k": 8192, "16k": 16384, "32k": 32768}
SPEED_SIZE = 16384
Table = dict[str, Any]


def peers_python(folder: Path) -> str:
    """The interpreter of the peers' environment, made when it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(PEERS)} in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS], check=True, stderr=subprocess.DEVNULL)
    return str(python)


class Bench:
    """The texts, and the programs of both sides."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.folder, self.rounds, self.corpus_bytes = folder, arguments.rounds, arguments.corpus_bytes
        self._peers = Path(arguments.peers)
        texts = self._docs()
        for split in ("train", "valid"):
            path = Path(arguments.data) / f"books-{split}.jsonl"
            if path.exists():
                rows = path.read_text(encoding="utf-8").splitlines()
                texts[split]["books"] = [json.loads(row)["text"] for row in rows]
        self.facts = {
            f"{split}_bytes": {name: sum(len(text.encode()) for text in found) for name, found in texts[split].items()}
            for split in texts
        }
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")

    def _docs(self) -> dict[str, dict[str, list[str]]]:
        """The built-in corpus as the quickstart cleans and splits it."""
        output = self.folder / "clean"
        self.llmforge("clean", "-c", str(ROOT / "configs/clean/python-docs.yaml"), f"output_dir={output}", "-q")
        sys.path.insert(0, str(ROOT))
        from llmforge.corpus.folder import read_corpus

        return {
            split: {"docs": [document.text for document in read_corpus(output / "corpus", split)]}
            for split in ("train", "valid")
        }

    def llmforge(self, *command: str) -> None:
        """Runs a command of ours."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        program = [sys.executable, "-m", "llmforge", *command]
        subprocess.run(program, check=True, env=environment, cwd=self.folder, capture_output=True)

    def corpus(self) -> tuple[Path, int]:
        """A cleaned corpus of the training texts, over and over, and its bytes of text."""
        texts = json.loads((self.folder / "texts.json").read_text(encoding="utf-8"))["train"]
        found = [(source, text) for source, rows in texts.items() for text in rows]
        raw, size, number = self.folder / "raw.jsonl", 0, 0
        with raw.open("w", encoding="utf-8") as stream:
            while size < self.corpus_bytes:
                source, text = found[number % len(found)]
                stream.write(json.dumps({"id": str(number), "text": text, "from": source}) + "\n")
                size, number = size + len(text.encode()), number + 1
        keep_all = ["dedup.exact=false", "dedup.near=null", "rules=[]", "split.valid_fraction=0.01"]
        sources = f"sources=[{{name: bench, path: {raw}}}]"
        self.llmforge("clean", sources, f"output_dir={self.folder / 'corpus'}", *keep_all, "-q")
        return self.folder / "corpus", size

    def side(self, name: str, size: int, task: str, rounds: int = 1) -> Table:
        """What one side answers, in a process of its own."""
        python = sys.executable if name.startswith("ours") else peers_python(self._peers)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment["TOKENIZERS_PARALLELISM"] = "false"
        command = [python, str(SIDES), name, str(size), task, str(self.folder), str(rounds)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        found: Table = json.loads(done.stdout.splitlines()[-1])
        return found


def compression(bench: Bench, size: int) -> Table:
    """Bytes per token of a vocabulary of `size` ids, by text."""
    names = ("ours", "sentencepiece", "sentencepiece_ws", "byte_bpe")
    found = {name: bench.side(name, size, "compression") for name in names}
    row: Table = {"unit": "bytes per token", "ours": found["ours"]["bytes_per_token"], "peers": {}, "ratios": {}}
    usual = {
        text: max(found[name]["bytes_per_token"][text] for name in ("sentencepiece", "sentencepiece_ws"))
        for text in row["ours"]
    }
    row["peers"] = {"sentencepiece": usual, "byte_bpe": found["byte_bpe"]["bytes_per_token"]}
    row["ratios"] = {
        peer: {text: round(row["ours"][text] / value, 3) for text, value in values.items()}
        for peer, values in row["peers"].items()
    }
    row["ratio_to_best_peer"] = min(ratio for values in row["ratios"].values() for ratio in values.values())
    row["train_seconds"] = {name: own["train_seconds"] for name, own in found.items()}
    return row


def speed(bench: Bench) -> Table:
    """Encoding documents on one core; sentencepiece encodes with our own model, so its ids must be ours."""
    names = ("ours", "ours_words", "sentencepiece_our_model", "byte_bpe", "tiktoken")
    runs: dict[str, list[Table]] = {name: [] for name in names}
    for _ in range(bench.rounds):
        for name in names:
            runs[name].append(bench.side(name, SPEED_SIZE, "speed"))
    rates = {name: round(statistics.median(run["mb_per_second"] for run in found), 2) for name, found in runs.items()}
    equal = runs["ours"][0]["digest"] == runs["sentencepiece_our_model"][0]["digest"] == runs["ours_words"][0]["digest"]
    peers = {name: rate for name, rate in rates.items() if name not in ("ours", "ours_words")}
    row: Table = {"unit": "MB/s", "ours": rates["ours"], "ours_words": rates["ours_words"], "peers": peers}
    row["ratio_to_best_peer"] = round(rates["ours"] / max(peers.values()), 2)
    row["ratio_to_sentencepiece"] = round(rates["ours"] / rates["sentencepiece_our_model"], 2)
    return {**row, "ids_equal_sentencepiece": equal, "encoder": runs["ours"][0]["encoder"]}


def workers(bench: Bench) -> Table:
    """Whole `tokenize` commands of one corpus in turns, with one worker and with two; whether the shards are equal."""
    bench.side("ours", SPEED_SIZE, "compression")  # trains the vocabulary
    corpus, size = bench.corpus()
    seconds: dict[int, list[float]] = {1: [], 2: []}
    made = set()
    for _ in range(bench.rounds):
        for count in seconds:
            output = bench.folder / "tokens"
            shutil.rmtree(output, ignore_errors=True)
            config = bench.folder / "tokenize.yaml"
            places = {"corpus": corpus, "tokenizer": bench.folder / f"ours-{SPEED_SIZE}", "output_dir": output}
            config.write_text("".join(f"{key}: {value}\n" for key, value in places.items()))
            start = time.monotonic()
            bench.llmforge("tokenize", "-c", str(config), f"workers={count}", "-q")
            seconds[count].append(round(time.monotonic() - start, 2))
            shards = sorted((output / "tokens").glob("*.*"))
            made.add(tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in shards if path.suffix == ".bin"))
    medians = {count: statistics.median(found) for count, found in seconds.items()}
    row: Table = {"unit": "MB/s with two workers", "ours": round(size / 1e6 / medians[2], 2)}
    row["peers"] = {"one worker": round(size / 1e6 / medians[1], 2)}
    row["ratio_to_best_peer"] = round(medians[1] / medians[2], 2)
    return {**row, "seconds": seconds, "corpus_bytes": size, "same_shards": len(made) == 1}


def show(shape: str, row: Table) -> None:
    """One shape as lines for a person."""
    if "ratios" in row:
        for text, ours in row["ours"].items():
            peers = "  ".join(f"{name} {v[text]} ({row['ratios'][name][text]}x)" for name, v in row["peers"].items())
            print(f"{shape:6} {text:6} ours {ours:7}   {peers}")
    else:
        peers = "  ".join(f"{name} {value}" for name, value in row["peers"].items())
        ratio = row.get("ratio_to_sentencepiece")
        told = f"{ratio}x sentencepiece" if ratio else f"{row['ratio_to_best_peer']}x"
        print(f"{shape:6} {row['unit']} ours {row['ours']}   {peers}   {told}")
    told = {"ours", "peers", "ratios", "unit"}
    print("       " + "; ".join(f"{key} {value}" for key, value in row.items() if key not in told))


def main() -> None:
    """Runs the shapes asked for and prints one table."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    shapes = [*SIZES, "speed", "workers"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(shapes), help="of " + ", ".join(shapes))
    parser.add_argument("--json", help="a file for the same numbers")
    parser.add_argument("--peers", default=str(cache / "llmforge" / "bench-tokenizer"), help="the peers' environment")
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data"), help="the folder of real text")
    parser.add_argument("--rounds", type=int, default=3, help="of the speed of each side; medians are shown")
    parser.add_argument("--corpus-bytes", type=int, default=1_000_000_000, help="of text, for the shape workers")
    arguments = parser.parse_args()
    names = arguments.shapes.split(",")
    if unknown := set(names) - set(shapes):
        parser.error(f"no such shape: {', '.join(sorted(unknown))}; there are {', '.join(shapes)}")
    found: Table = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, Path(folder))
        facts = {**machine(), **bench.facts}
        print(", ".join(f"{key} {value}" for key, value in facts.items()))
        for name in names:
            made = {"speed": speed, "workers": workers}.get(name)
            found[name] = made(bench) if made else compression(bench, SIZES[name])
            show(name, found[name])
            sys.stdout.flush()
            if arguments.json:
                Path(arguments.json).write_text(json.dumps({"machine": facts, "shapes": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
