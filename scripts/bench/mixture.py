"""Opens a mixture of a billion simulated tokens and makes batches of it: seconds to open, seconds a batch.

    python scripts/bench/mixture.py [--tokens 1e9] [--sources 4] [--json FILE]

The shards are sparse files (no disk is filled), with documents of 200 to 2,000 tokens, opened and checked as real ones
are. A batch is 524,288 tokens at seq_len 1,024; a 124M model on one fast GPU takes about a second for it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from llmforge.runtime.manifest import FORMAT, _digest
from llmforge.tokens.folder import TokenFolder
from llmforge.tokens.loader import WindowBatches
from llmforge.tokens.run_rows import Mixing, RunSource, StagedWeights
from llmforge.tokens.shard import ShardContent, write_shard

SHARD_TOKENS = 1 << 25
DIGEST = "ab" * 32


def simulate(folder: Path, tokens: int, seed: int) -> None:
    """A tokens folder whose shards are holes of zeros with a true header and index."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    numbers = range(-(-tokens // SHARD_TOKENS))
    for number in numbers:
        lengths = rng.integers(200, 2001, SHARD_TOKENS // 1100)
        count = len(lengths)
        names = [f"document-{number}-{at}" for at in range(count)]
        zeros = np.zeros(count, dtype=int)
        content = ShardContent(np.zeros(0, dtype=np.uint16), lengths, lengths * 4, names, zeros, zeros)
        stem = folder / f"train-{number:05d}"
        write_shard(stem, number, content, DIGEST)
        total = int(lengths.sum())
        for path in (stem.with_suffix(".bin"), stem.with_suffix(".idx")):
            with path.open("r+b") as stream:
                stream.seek(16)  # the header's count of tokens
                stream.write(total.to_bytes(8, "little"))
        with stem.with_suffix(".bin").open("r+b") as stream:
            stream.truncate(64 + 2 * total)
    facts = {"vocab_size": 50_000, "tokenizer_digest": DIGEST, "sources": ["made"], "shards": {"train": len(numbers)}}
    (folder / "tokens.json").write_text(json.dumps(facts))
    # Hashing holes would take longer than everything else here; opening checks sizes only.
    files = {path.name: ["", path.stat().st_size] for path in folder.iterdir()}
    body: dict[str, object] = {"kind": "tokens", "format": FORMAT, "files": files, "config": {}, "made_from": {}}
    body |= {"seeds": {}, "facts": {}, "digest": _digest({"kind": "tokens", "files": files, "made_from": {}})}
    (folder / "manifest.json").write_text(json.dumps(body))


def measure(folders: list[Path], packing: str, document_mask: bool) -> dict[str, float]:
    """Seconds to open everything, of the first batch, of one by one, and with a new epoch's shuffle."""
    start = time.perf_counter()
    sources = [
        RunSource(TokenFolder.open(path).split("train"), 1.0 + at, 4.0, f"source{at}")
        for at, path in enumerate(folders)
    ]
    stages = (StagedWeights(1000, tuple(1.0 for _ in folders)),)
    mixing = Mixing("best_fit" if packing == "best_fit" else "concatenate", stages)
    batches = WindowBatches(sources, 1024, 512, 0, document_mask, mixing)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    batches(0)
    first = time.perf_counter() - start
    times = []
    for step in range(1, 21):
        start = time.perf_counter()
        batches(step)
        times.append(time.perf_counter() - start)
    waste = [layout.wasted for layout in batches.rows.layouts]
    return {"open_seconds": opened, "first_batch_seconds": first, "batch_seconds": statistics.median(times)} | {
        "rows": batches.num_windows,
        "wasted": statistics.mean(waste),
    }


def main() -> None:
    """Prints a line for each way of packing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=float, default=1e9)
    parser.add_argument("--sources", type=int, default=4)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(at) for at in range(options.sources)]
        for at, folder in enumerate(folders):
            simulate(folder, int(options.tokens) // options.sources, at)
        for packing in ("concatenate", "best_fit"):
            for mask in (False, True):
                key = packing + (", document_mask" if mask else "")
                found[key] = measure(folders, packing, mask)
                shown = ", ".join(f"{what} {value:.4g}" for what, value in found[key].items())
                print(f"{key}: {shown}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
