"""How well one GPU is used by `llmforge pretrain`, beside transformers' Trainer and litgpt at the same shapes.

    python scripts/bench/gpu.py [--shapes 124m,350m,1.3b,8b] [--minutes 8] [--json FILE] [--peers DIR]

MFU = tokens/s x (6 x matmul parameters + 12·L·D·T) / the data sheet's dense bf16 FLOP/s. Ours runs first at every
shape, then the peers as far as the minutes go; what was not measured says why. 8b is left out where weights, gradients
and averages do not fit (16 bytes a parameter). fp8 is measured from 1.3b on where torchao is there.

A peer that our own environment lacks gets one in the user's cache folder, made on the first run and not counted.
`--device cpu --shapes tiny` shows on any machine that all sides run; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from gpu_shapes import SHAPES, Shape  # noqa: E402

PEERS = ("transformers", "litgpt")
NEEDS = {"transformers": ("transformers>=5.3", "accelerate"), "litgpt": ("litgpt[all]>=0.5.11",)}
_FP8_FROM = 1_000_000_000
_MEMORY_SHARE = 0.97
_NO_GPU = 4
Side = dict[str, Any]


@dataclass
class Bench:
    """The machine, how long each run is timed, and when all must be over."""

    device: str
    peak: float | None
    memory: int | None
    seconds: float
    peers: Path
    end: float
    python: dict[str, str | None] = field(default_factory=dict)

    def interpreter(self, side: str) -> str | None:
        """The Python that has this side; None where it could not be installed."""
        if side.startswith("llmforge") or importlib.util.find_spec(side) is not None:
            return sys.executable
        if side not in self.python:
            self.python[side] = _environment(self.peers / side, NEEDS[side])
        return self.python[side]

    def run(self, side: str, name: str) -> Side:
        """One side at one shape, with half the rows for as long as memory runs out; or why there is no figure."""
        python, rows = self.interpreter(side), SHAPES[name].rows
        if python is None:
            return {"not_measured": "the package could not be installed"}
        script = str(Path(__file__).parent / "gpu_sides.py")
        while rows:
            left = self.end - time.monotonic()
            if left < self.seconds:
                return {"not_measured": "the minutes were over"}
            command = [python, script, side, name, str(self.seconds), self.device, str(rows)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=left)
            except subprocess.TimeoutExpired:
                return {"not_measured": "the minutes were over"}
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no word"])[-1]
                return {"not_measured": f"it ended with {done.returncode}: {last[:160]}"}
            found: Side = json.loads(done.stdout)
            if not found.get("out_of_memory"):
                return found | self.share(found, SHAPES[name])
            rows //= 2
        return {"not_measured": "not one row fits into memory"}

    def share(self, found: Side, shape: Shape) -> Side:
        """MFU, reckoned the same for every side; null where the data sheet is not known."""
        return {"mfu": found["tokens_per_second"] * shape.flops_per_token / self.peak if self.peak else None}

    def fits(self, shape: Shape) -> bool:
        """Whether the training state leaves room for anything else."""
        return self.memory is None or shape.state_bytes < _MEMORY_SHARE * self.memory


def _environment(folder: Path, packages: tuple[str, ...]) -> str | None:
    python = folder / "bin" / "python"
    if (folder / ".made").exists():
        return str(python)
    print(f"installing {', '.join(packages)} in {folder}", file=sys.stderr)
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    except subprocess.CalledProcessError:
        return None
    (folder / ".made").touch()
    return str(python)


def measure(bench: Bench, names: list[str]) -> dict[str, Any]:
    """Every shape's sides: ours everywhere first, since it is what the bench is about."""
    found: dict[str, Any] = {name: {"target_mfu": SHAPES[name].target, "peers": {}} for name in names}
    for name in names:
        if bench.fits(SHAPES[name]):
            found[name]["ours"] = bench.run("llmforge", name)
        else:
            needed = f"{SHAPES[name].state_bytes / 1e9:.0f} GB of weights, gradients and averages"
            found[name]["ours"] = {"not_measured": f"{needed} do not fit into {(bench.memory or 0) / 1e9:.0f} GB"}
    for name in names:
        if "not_measured" in found[name]["ours"]:
            continue
        for peer in PEERS:
            found[name]["peers"][peer] = bench.run(peer, name)
        if SHAPES[name].parameters >= _FP8_FROM and importlib.util.find_spec("torchao") is not None:
            found[name]["ours_fp8"] = bench.run("llmforge_fp8", name)
        rates = [side["tokens_per_second"] for side in found[name]["peers"].values() if "tokens_per_second" in side]
        ours = found[name]["ours"]["tokens_per_second"]
        found[name]["ratio_to_best_peer"] = ours / max(rates) if rates else None
    return found


def table(shapes: dict[str, Any]) -> str:
    """A line for each side of each shape."""
    lines = [f"{'shape':<6} {'side':<14} {'tokens/s':>10} {'MFU':>7} {'rows':>5} {'memory':>9} {'to best peer':>13}"]
    for name, entry in shapes.items():
        sides = {"llmforge": entry["ours"], **entry["peers"]}
        if "ours_fp8" in entry:
            sides["llmforge fp8"] = entry["ours_fp8"]
        for side, found in sides.items():
            if "not_measured" in found:
                lines.append(f"{name:<6} {side:<14} not measured: {found['not_measured']}")
                continue
            share = "" if found["mfu"] is None else f"{found['mfu']:.1%}"
            ratio = entry.get("ratio_to_best_peer") if side == "llmforge" else None
            lines.append(
                f"{name:<6} {side:<14} {found['tokens_per_second']:>10,.0f} {share:>7} {found['rows']:>5}"
                f" {found['peak_memory_bytes'] / 1e9:>6.1f} GB {f'{ratio:.2f}' if ratio else '':>13}"
            )
    return "\n".join(lines)


def facts(device: str) -> dict[str, Any]:
    """The machine: the GPU, its memory, the data sheet's peak, and the best matrix product measured now."""
    import torch

    from llmforge.runtime.device import matmul_rate, peak_rate

    found: dict[str, Any] = {"python": platform.python_version(), "torch": torch.__version__, "device": device}
    if device == "cuda":
        place = torch.device("cuda", 0)
        properties = torch.cuda.get_device_properties(place)
        found |= {"name": properties.name, "memory_bytes": properties.total_memory}
        found["peak_flops"] = peak_rate(place, torch.bfloat16)
        found["measured_matmul_flops"] = matmul_rate(torch.bfloat16, place, size=8192, seconds=1.0)
    return found


def main() -> int:
    """Measures, prints one table, writes FILE; 4 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="124m,350m,1.3b,8b")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seconds", type=float, default=6.0, help="timed seconds of each run, after its first steps")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument("--peers", type=Path, default=cache / "llmforge" / "bench-gpu")
    arguments = parser.parse_args()
    names = arguments.shapes.split(",")
    if unknown := sorted(set(names) - set(SHAPES)):
        parser.error(f"no such shape: {', '.join(unknown)}; there are {', '.join(SHAPES)}")
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(
            "gpu.py: this machine has no GPU that torch can use, so nothing is measured; run it where there is one"
            " (or see that all sides run: --device cpu --shapes tiny)",
            file=sys.stderr,
        )
        return _NO_GPU
    machine = facts(arguments.device)
    bench = Bench(
        arguments.device,
        machine.get("peak_flops"),
        machine.get("memory_bytes"),
        arguments.seconds,
        arguments.peers,
        end=float("inf"),
    )
    for peer in PEERS:
        bench.interpreter(peer)
    bench.end = time.monotonic() + 60 * arguments.minutes
    shapes = measure(bench, names)
    print(json.dumps(machine))
    print(table(shapes))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "shapes": shapes}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
