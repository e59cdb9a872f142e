"""What loss a minute buys: `llmforge pretrain` by its shipped recipes beside nanoGPT and transformers' Trainer.

    python scripts/bench/quality.py [--shapes a60,a180,b] [--json FILE] [--peers DIR] [--nanogpt DIR] [--seeds 3]
                                    [--first-seed 0] [--peer-seeds 1] [--peer-rates 1e-3] [--scale auto] [--data DIR]
                                    [--dry-run]

a60 and a180: tinyshakespeare by characters, the whole last tenth held out, 60 and 180 s. b: books with 4,096 pieces,
10 minutes, bits per byte of held-out pieces and BLiMP accuracy. The seconds are those of a machine with 820 GFLOP/s of
matrix products: `--scale auto` measures this one's in bf16 and fp32, stretches them by the better and lets the peers
compute in it, as `precision: auto` has ours do; a number takes the seconds times that.

Ours is the command with a shipped config, its budget the wall-clock of the whole training loop, validations included.
A peer's budget is that of its training steps alone; it takes the best of three rates (or of `--peer-rates`) by its
held-out loss, each with the whole budget. The peers run in this Python where it has transformers and accelerate, else
in an environment of their own in the user's cache folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import quality_data as data_of  # noqa: E402
from bench_machine import machine  # noqa: E402
from quality_shapes import REFERENCE_PEAK, SHAPES, PeerModel, Shape  # noqa: E402

PEERS = ("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0", "numpy")
Row = dict[str, Any]


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def matmul_peaks(seconds: float = 2.0) -> dict[str, float]:
    """FLOP/s of the best product of square matrices in bf16 and in fp32, measured for so many seconds."""
    import torch

    from llmforge.runtime.device import matmul_rate

    cpu, part = torch.device("cpu"), seconds / 3
    bf16 = max(matmul_rate(torch.bfloat16, cpu, size, part) for size in (1024, 2048))
    return {"bf16": bf16, "fp32": matmul_rate(torch.float32, cpu, 1024, part)}


def peers_python(folder: Path) -> str:
    """An interpreter with the peers: this one if it has them, else that of an environment, made when not there."""
    if all(importlib.util.find_spec(name) for name in ("transformers", "accelerate")):
        return sys.executable
    python = folder / "transformers" / "bin" / "python"
    if not python.exists():
        say(f"installing {', '.join(PEERS)} in {python.parents[1]}")
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return str(python)


class Bench:
    """One shape: its text, its budget on this machine, and a run of a side."""

    def __init__(self, arguments: argparse.Namespace, name: str, scale: float, precision: str, folder: Path) -> None:
        self.arguments, self.name, self.shape, self.folder = arguments, name, SHAPES[name], folder / name
        self.seconds, self.precision = self.shape.seconds * scale, precision
        self.folder.mkdir(parents=True, exist_ok=True)

    def prepare(self) -> data_of.Prepared:
        """The shape's text as ids."""
        say(f"{self.name}: making its text ready")
        data = Path(self.arguments.data)
        if self.shape.text == "characters":
            return data_of.characters(data / "tinyshakespeare.txt", self.folder / "text")
        pairs = data / "blimp.zip"
        files = (data / "books-train.jsonl", data / "books-valid.jsonl", pairs if pairs.exists() else None)
        return data_of.books(*files, self.folder / "text")

    def ours(self, text: data_of.Prepared, seed: int) -> Row:
        """One run of the command, and of `evaluate` on the minimal pairs."""
        output = self.folder / f"ours-{seed}"
        settings = [f"data.sources=[{{path: {json.dumps(str(text.tokens))}}}]", f"data.valid={text.valid}"]
        settings += [f"train.max_minutes={self.seconds / 60:.5f}", f"seed={seed}", f"output_dir={output}"]
        result = data_of.llmforge("pretrain", "--config", self.shape.recipe, *settings)
        keys = (
            "valid_loss",
            "valid_bits_per_byte",
            "train_loss",
            "steps",
            "tokens",
            "seconds",
            "best_step",
            "parameters",
        )
        row = {key: result[key] for key in keys} | {"seed": seed, "compile_seconds": result["compile_seconds"]}
        if text.pairs is not None:
            task = f"multiple_choice={text.pairs}"
            scores = data_of.llmforge(
                "evaluate", "--model", str(output), "--tasks", task, f"output_dir={self.folder / f'blimp-{seed}'}", "-q"
            )
            row["blimp"] = next(iter(scores["tasks"].values()))["acc"]
        return row

    def peer(self, name: str, model: PeerModel, rate: float, seed: int, text: data_of.Prepared) -> Row:
        """One run of a peer."""
        job = {"peer": name, "model": asdict(model), "rate": rate, "seed": seed, "seconds": self.seconds}
        job |= {"text": str(text.peers), "checkout": self.arguments.nanogpt, "precision": self.precision}
        path = self.folder / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        program = Path(__file__).parent / "quality_peers.py"
        command = [peers_python(Path(self.arguments.peers)), str(program), str(path)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
        found: Row = json.loads(done.stdout.splitlines()[-1])
        return found

    def peers(self) -> dict[str, PeerModel]:
        """Those that take part: nanoGPT where a checkout is given."""
        wanted = self.shape.peers if self.arguments.peers != "none" else {}
        there = {name: model for name, model in wanted.items() if name != "nanogpt" or self.arguments.nanogpt}
        if not self.arguments.peer_rates:
            return there
        rates = tuple(float(rate) for rate in self.arguments.peer_rates.split(","))
        return {name: replace(model, rates=rates) for name, model in there.items()}


def spread(rows: list[Row], key: str) -> Row:
    """Mean, and the standard deviation where there are several."""
    values = [row[key] for row in rows]
    return {"mean": statistics.fmean(values), "spread": statistics.stdev(values) if len(values) > 1 else None}


def measure(bench: Bench) -> Row:
    """All sides of a shape."""
    text = bench.prepare()
    ours = []
    first = bench.arguments.first_seed
    for seed in range(first, first + bench.arguments.seeds):
        ours.append(bench.ours(text, seed))
        say(f"{bench.name}: llmforge, seed {seed}: {told(ours[-1])}")
    peers = {}
    for name, model in bench.peers().items():
        tried = []
        for rate in model.rates:
            tried.append(bench.peer(name, model, rate, 0, text))
            say(f"{bench.name}: {name} at {rate:g}: {told(tried[-1])}")
        best = min(tried, key=lambda row: float(row["valid_loss"]))
        more = [bench.peer(name, model, best["rate"], seed, text) for seed in range(1, bench.arguments.peer_seeds)]
        peers[name] = {"best_rate": best["rate"], "rates": tried, **figures([best, *more])}
    result: Row = {"seconds": round(bench.seconds, 1), "ours": figures(ours), "peers": peers}
    if peers:
        key = metric(bench.shape)
        name = min(peers, key=lambda peer: float(peers[peer][key]["mean"]))
        result["best_peer"] = name
        result["below_best_peer"] = round(peers[name][key]["mean"] - result["ours"][key]["mean"], 4)
        result["ratio_to_best_peer"] = round(result["ours"][key]["mean"] / peers[name][key]["mean"], 4)
    return result


def metric(shape: Shape) -> str:
    """What is compared: the loss a character, or bits a byte of text in pieces."""
    return "valid_loss" if shape.text == "characters" else "valid_bits_per_byte"


def figures(rows: list[Row]) -> Row:
    """Means and spreads over the seeds, and the runs themselves."""
    keys = [key for key in ("valid_loss", "valid_bits_per_byte", "blimp", "tokens", "steps") if key in rows[0]]
    return {key: spread(rows, key) for key in keys} | {"runs": rows}


def told(row: Row) -> str:
    """A run in a line."""
    blimp = f", BLiMP {row['blimp']:.1%}" if "blimp" in row else ""
    bits = f"loss {row['valid_loss']:.4f}, {row['valid_bits_per_byte']:.4f} bits a byte{blimp}"
    return f"{bits} after {row['steps']:,} steps, {row['tokens']:,} tokens, {row['seconds']:.0f} s"


def show(name: str, result: Row) -> None:
    """The shape's table."""
    print(f"\n{name}: {SHAPES[name].text}, {result['seconds']:.0f} s a run")
    print(f"{'':24}{'loss':>18}{'bits a byte':>20}{'BLiMP':>18}{'tokens':>14}{'rate':>8}")
    sides = {"llmforge": result["ours"], **result["peers"]}
    for side, row in sides.items():
        cells = [_cell(row[key], ".4f") for key in ("valid_loss", "valid_bits_per_byte")]
        blimp = _cell(row["blimp"], ".1%") if "blimp" in row else "-"
        rate = f"{row['best_rate']:g}" if "best_rate" in row else "recipe"
        print(f"{side:24}{cells[0]:>18}{cells[1]:>20}{blimp:>18}{row['tokens']['mean']:>14,.0f}{rate:>8}")
    if "below_best_peer" in result:
        print(f"below the best peer ({result['best_peer']}): {result['below_best_peer']:.4f} of {metric(SHAPES[name])}")


def _cell(figure: Row, form: str) -> str:
    """A mean with its spread, which one seed does not have."""
    known = figure["spread"] is not None
    return f"{figure['mean']:{form}}" + (f" ± {figure['spread']:{form}}" if known else "")


def measured_on(peaks: dict[str, float], scale: float) -> Row:
    """The facts that the numbers depend on."""
    import torch

    own = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    rates = {f"{name}_gflops": round(rate / 1e9, 1) for name, rate in peaks.items()}
    return machine() | own | rates | {"scale": round(scale, 3)}


def plan(bench: Bench) -> str:
    """What would be run, and for how long."""
    seeds, again, peers = bench.arguments.seeds, bench.arguments.peer_seeds - 1, bench.peers()
    runs = seeds + sum(len(model.rates) + again for model in peers.values())
    named = ", ".join(f"{name} at {' '.join(f'{rate:g}' for rate in model.rates)}" for name, model in peers.items())
    minutes = runs * bench.seconds / 60
    return (
        f"{bench.name}: {bench.shape.recipe}, {seeds} seeds of {bench.seconds:.0f} s; peers: {named or 'none'}, the "
        f"best rate with {again} seeds more; {runs} runs, {minutes:.0f} minutes and what compiling and scoring take"
    )


def main() -> None:
    """Reads the options, measures the machine and each shape, prints tables and writes JSON after each."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--json", help="a file for the same numbers")
    parser.add_argument(
        "--peers", default=str(cache / "llmforge" / "bench-pretrain"), help="their environment, or none"
    )
    parser.add_argument("--nanogpt", help="a checkout of nanoGPT; without it nanoGPT takes no part")
    parser.add_argument("--data", default=str(data_of.ROOT.parent / "shared" / "data"), help="the folder of real text")
    parser.add_argument("--seeds", type=int, default=3, help="of ours")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them, to add to an earlier run's")
    parser.add_argument("--peer-seeds", type=int, default=1, help="of a peer at its best rate")
    parser.add_argument("--peer-rates", help="these learning rates instead of the three, where time is short")
    parser.add_argument("--scale", default="auto", help="what the budgets are multiplied with; auto: 820 over the peak")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run, and run nothing")
    arguments = parser.parse_args()
    names = arguments.shapes.split(",")
    if unknown := set(names) - set(SHAPES):
        parser.error(f"no such shape: {', '.join(sorted(unknown))}; there are {', '.join(SHAPES)}")
    peaks = matmul_peaks()
    faster = max(peaks, key=lambda name: peaks[name])
    scale = REFERENCE_PEAK / peaks[faster] if arguments.scale == "auto" else float(arguments.scale)
    facts, shapes = measured_on(peaks, scale), {}
    print(", ".join(f"{key} {value}" for key, value in facts.items()), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            bench = Bench(arguments, name, scale, faster, Path(folder))
            if arguments.dry_run:
                print(plan(bench))
                continue
            started = time.monotonic()
            shapes[name] = measure(bench)
            show(name, shapes[name])
            say(f"{name} took {(time.monotonic() - started) / 60:.1f} minutes")
            if arguments.json:
                Path(arguments.json).write_text(json.dumps({"machine": facts, "shapes": shapes}, indent=2) + "\n")


if __name__ == "__main__":
    main()
