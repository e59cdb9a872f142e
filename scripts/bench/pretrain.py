"""How fast `llmforge pretrain` trains on a CPU, beside transformers' Trainer, litgpt, nanoGPT and nanochat.

    python scripts/bench/pretrain.py [--shapes A,B,C] [--json FILE] [--peers DIR] [--nanogpt DIR] [--nanochat DIR]

Every side runs in turn in a process of its own, round by round; before each round the machine's bf16 and fp32 matrix
products are measured. Ours is the command with logging, clipping and validation, with AdamW, with Muon (its default:
by blocks here) and with Muon on whole matrices, in the Qwen3 shape of the same width, depth and parameters. Peers
get environments of their own in the user's cache folder; nanoGPT and nanochat are measured where a checkout is given.
Peers compute in whichever of bf16 and fp32 multiplies faster on this machine, as `precision: auto` has ours do; beside
them transformers by its defaults. The first run of each side fills the compilers' caches and is not counted.

The share of the peak is tokens/s x (6 x matmul parameters + 12·L·D·T) over the faster products of the same round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import pretrain_ours as ours  # noqa: E402
from bench_machine import machine  # noqa: E402
from pretrain_shapes import SHAPES, Shape  # noqa: E402

ENVIRONMENTS = {
    "transformers": ("torch==2.13.0", "transformers==5.23.0", "accelerate==1.15.0", "tensorboard", "filelock"),
    "litgpt": ("torch==2.13.0", "litgpt==0.5.13"),  # wants an older transformers than the above
}
OPTIMIZERS = ("adamw", "muon", "muon_whole")
Figures = dict[str, Any]


def peers_python(folder: Path, peer: str) -> str:
    """The interpreter of a peer's environment in the folder, made when it is not there."""
    name = "litgpt" if peer == "litgpt" else "transformers"
    python = folder / name / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(ENVIRONMENTS[name])} in {folder / name}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *ENVIRONMENTS[name]], check=True)
    return str(python)


def environment(threads: int) -> dict[str, str]:
    """What every side's process gets: as many threads, nothing from the network."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TOKENIZERS_VERBOSITY": "error",
    }


def program(command: list[str], threads: int) -> Figures:
    """Runs a program that prints one JSON object last."""
    own = {**os.environ, **environment(threads)}
    done = subprocess.run(command, env=own, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


class Bench:
    """The sides of one shape, and their rounds."""

    def __init__(self, arguments: argparse.Namespace, name: str, folder: Path) -> None:
        self.arguments, self.name, self.shape, self.folder = arguments, name, SHAPES[name], folder
        self.runs: dict[str, list[Figures]] = {}
        self.peaks: list[Figures] = []
        self._steps: dict[str, int] = {}
        self.precision: str = arguments.peer_precision
        self._tokens = ours.make_tokens(folder / name, self.shape)
        self.sides: dict[str, Callable[[], Figures]] = {}
        for optimizer in OPTIMIZERS:
            self.sides[f"llmforge_{optimizer}"] = lambda optimizer=optimizer: self._ours(optimizer)  # type: ignore[misc]
        wanted = arguments.only.split(",") if arguments.only else None
        for peer, checkout in self._peers():
            self.sides[peer] = lambda peer=peer, checkout=checkout: self._peer(peer, checkout)  # type: ignore[misc]
        if wanted is not None:
            self.sides = {side: run for side, run in self.sides.items() if side in wanted}

    def _peers(self) -> list[tuple[str, list[str]]]:
        found: list[tuple[str, list[str]]] = [(peer, []) for peer in ("transformers_compiled", "litgpt")]
        for peer in ("nanogpt", "nanochat"):
            if checkout := getattr(self.arguments, peer):
                found.append((peer, [checkout]))
        return [("transformers", []), *found]

    def _ours(self, optimizer: str) -> Figures:
        steps = self._steps.get(optimizer, ours.FIRST_STEPS)
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            config = ours.settings(self.shape, self._tokens, Path(place) / "run", optimizer, steps)
            found = ours.run(config, self.name, environment(self.arguments.threads))
        wanted = self.arguments.seconds * found["tokens_per_second"] / self.shape.tokens
        self._steps.setdefault(optimizer, max(ours.FIRST_STEPS, int(wanted)))
        return found

    def _peer(self, peer: str, checkout: list[str]) -> Figures:
        python = peers_python(Path(self.arguments.peers), peer)
        file = str(Path(__file__).parent / "pretrain_peers.py")
        seconds = str(self.arguments.seconds)
        command = [python, file, peer, self.name, seconds, self.precision, *checkout]
        return program(command, self.arguments.threads)

    def measure(self) -> None:
        """All rounds: the peak, then each side; the round before the first warms up."""
        for number in range(self.arguments.rounds + 1):
            peak = program([sys.executable, str(Path(__file__).parent / "pretrain_peak.py")], self.arguments.threads)
            if self.precision == "auto":
                self.precision = max(("bf16", "fp32"), key=lambda kind: float(peak[f"{kind}_{self.arguments.clock}"]))
            if number:
                self.peaks.append(peak)
            for side, run in self.sides.items():
                found = run()
                print(f"{self.name} {number} {side}: {found['tokens_per_second']:,.0f} tokens/s", file=sys.stderr)
                if number:
                    self.runs.setdefault(side, []).append(found)

    def result(self) -> Figures:
        """Medians over the rounds, ratios within each round, and shares of the round's peak."""
        found = summary(self.shape, self.runs, self.peaks, self.arguments.clock)
        return found | {"peer_precision": self.precision}


def summary(shape: Shape, runs: dict[str, list[Figures]], peaks: list[Figures], unit: str = "second") -> Figures:
    """Each side's medians; ours beside the best peer and beside transformers' defaults, by optimizer.

    All rates, ratios and shares are by `unit`: second, or processor_second.
    """
    sides = {side: _row(shape, found, peaks, unit) for side, found in runs.items()}
    peers = {side: row for side, row in sides.items() if not side.startswith("llmforge_")}
    own = {side.removeprefix("llmforge_"): row for side, row in sides.items() if side not in peers}
    best = max(peers, key=lambda side: peers[side][f"tokens_per_{unit}"], default=None)
    for optimizer, row in own.items():
        row["ratio_to_best_peer"] = _ratio(runs, f"llmforge_{optimizer}", best, unit)
        row["ratio_to_transformers"] = _ratio(runs, f"llmforge_{optimizer}", "transformers", unit)
    first = next(iter(own.values()), {})
    return {
        "ours": own,
        "peers": peers,
        "best_peer": best,
        "ratio_to_best_peer": {name: row["ratio_to_best_peer"] for name, row in own.items()},
        "share_of_matmul_peak": {name: row["share_of_matmul_peak"] for name, row in own.items()},
        "peak_gflops": {kind: _gflops(peaks, f"{kind}_{unit}") for kind in ("bf16", "fp32")},
        "flops_per_token": shape.flops_per_token,
        "parameters": first.get("parameters"),
        "rounds": len(peaks),
    }


def _gflops(peaks: list[Figures], kind: str) -> int:
    return round(statistics.median(peak[kind] for peak in peaks) / 1e9)


def _row(shape: Shape, found: list[Figures], peaks: list[Figures], unit: str) -> Figures:
    rates = [run[f"tokens_per_{unit}"] for run in found]
    best = [max(peak[f"bf16_{unit}"], peak[f"fp32_{unit}"]) for peak in peaks]
    shares = [rate * shape.flops_per_token / peak for rate, peak in zip(rates, best, strict=True)]
    keys = ("tokens_per_second", "tokens_per_processor_second", "first_step_seconds", "first_step_processor_seconds")
    return {
        **{key: round(statistics.median(run[key] for run in found), 2) for key in keys},
        "by_round": [round(rate, 1) for rate in rates],
        "share_of_matmul_peak": round(statistics.median(shares), 4),
        "peak_memory_bytes": max(run["peak_memory_bytes"] for run in found),
        "parameters": found[0]["parameters"],
    }


def _ratio(runs: dict[str, list[Figures]], side: str, other: str | None, unit: str) -> float | None:
    """The median over the rounds of the one's rate over the other's."""
    if other not in runs:
        return None
    pairs, rate = zip(runs[side], runs[other], strict=True), f"tokens_per_{unit}"
    return round(statistics.median(a[rate] / b[rate] for a, b in pairs), 3)


def show(name: str, result: Figures) -> None:
    """One shape as lines for a person."""
    shape, peak = SHAPES[name], result["peak_gflops"]
    print(
        f"\n{name}: {shape.layers} layers, width {shape.width}, T {shape.length}, B {shape.rows}, V {shape.vocabulary}"
        f"; {shape.flops_per_token / 1e6:.1f} MFLOP/token; products {peak['bf16']} GFLOP/s bf16, {peak['fp32']} fp32"
        f"; peers in {result['peer_precision']}"
    )
    print(
        f"{'side':26}{'tokens/s':>10}{'/cpu s':>9}{'of peak':>9}{'MB':>7}{'first s':>9}{'x best':>8}{'x HF':>7}  rounds"
    )
    rows = {f"llmforge, {optimizer}": row for optimizer, row in result["ours"].items()} | result["peers"]
    for side, row in rows.items():
        ratios = "".join(
            f"{row[key]:>{size}.2f}" if row.get(key) else " " * size
            for key, size in (("ratio_to_best_peer", 8), ("ratio_to_transformers", 7))
        )
        print(
            f"{side:26}{row['tokens_per_second']:>10,.0f}{row['tokens_per_processor_second']:>9,.0f}"
            f"{row['share_of_matmul_peak']:>9.1%}"
            f"{row['peak_memory_bytes'] / 1e6:>7,.0f}{row['first_step_seconds']:>9.1f}{ratios}  "
            + " ".join(f"{rate:,.0f}" for rate in row["by_round"])
        )


def measured_on(threads: int) -> Figures:
    """What the numbers were measured on."""
    import torch

    own = {"threads": threads, "isa": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}
    return machine() | own


def main() -> None:
    """Runs the shapes asked for and prints one table each."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES), help="of " + ", ".join(SHAPES))
    parser.add_argument("--json", help="a file for the same numbers")
    parser.add_argument("--peers", default=str(cache / "llmforge" / "bench-pretrain"), help="the peers' environment")
    parser.add_argument("--nanogpt", help="a checkout of nanoGPT")
    parser.add_argument("--nanochat", help="a checkout of nanochat")
    parser.add_argument("--rounds", type=int, default=3, help="of each side; medians are shown")
    parser.add_argument("--seconds", type=float, default=20.0, help="of steps of each side in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--clock",
        choices=("second", "processor_second"),
        default="second",
        help="what ratios and shares go by; processor seconds (with --threads 1) hold on a machine that does more",
    )
    parser.add_argument(
        "--peer-precision",
        choices=("auto", "bf16", "fp32"),
        default="auto",
        help="what the peers compute in; auto: that in which this machine multiplies faster",
    )
    parser.add_argument("--only", help="these sides alone, for a look: llmforge_adamw,litgpt,...")
    arguments = parser.parse_args()
    names = arguments.shapes.split(",")
    if unknown := set(names) - set(SHAPES):
        parser.error(f"no such shape: {', '.join(sorted(unknown))}; there are {', '.join(SHAPES)}")
    facts, results = measured_on(arguments.threads), {}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            bench = Bench(arguments, name, Path(folder))
            bench.measure()
            results[name] = bench.result()
            show(name, results[name])
            sys.stdout.flush()
            if arguments.json:
                Path(arguments.json).write_text(json.dumps({"machine": facts, "shapes": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
