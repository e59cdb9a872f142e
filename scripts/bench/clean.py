"""How fast `llmforge clean` is beside datatrove and presidio.

    python scripts/bench/clean.py [--shapes A,B] [--json FILE] [--peers DIR] [--data DIR]

Shapes: rules (FineWeb's chain of filters), near (near duplicates, with recall), patterns (personal data, with recall),
chain (the whole command, end to end), workers (two against one), floor (reading, hashing and writing alone), memory
(peak of each process on 1 GB), verdicts (every rule set's verdicts beside datatrove's, each difference explained).

The peers get an environment of their own in the user's cache folder, made on the first run. Both sides run in turns on
the same text; what is compared is processor seconds, so ratios are per core and hold on a machine that does more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import clean_texts as texts_of  # noqa: E402
from bench_machine import machine  # noqa: E402
from clean_rounds import Side, in_turns  # noqa: E402
from clean_verdicts import compare_verdicts  # noqa: E402

ROOT = Path(__file__).parents[2]
PEERS = (
    "datatrove==0.10.1",
    "spacy>=3.8",
    "ftfy",
    "nltk",
    "regex",
    "xxhash<4",
    "orjson",
    "zstandard",
    "presidio-analyzer",
    "tokenizers",  # datatrove.pipeline.dedup asks for it and does not bring it
)
MB = 1e6
Table = dict[str, Any]


def peers_python(folder: Path) -> str:
    """The interpreter of the peers' environment, made when it is not there or of other packages."""
    python, stamp, packages = folder / "bin" / "python", folder / "packages.txt", "\n".join(PEERS)
    if not stamp.exists() or stamp.read_text() != packages:
        print(f"installing {', '.join(PEERS)} in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEERS], check=True)
        stamp.write_text(packages)
    return str(python)


def side_by_side(bench: Bench, shape: str, texts: list[str], ours: Iterable[str], peer: str) -> dict[str, Side]:
    """Rounds in turns of our sides (by their shape's name) and the peer's, on these texts."""
    data = bench.folder / f"{shape}.json"
    data.write_text(json.dumps(texts), encoding="utf-8")
    sides = [Side(name, sys.executable, "clean_ours.py", name, data) for name in ours]
    sides.append(Side(peer, bench.peers, "clean_peers.py", shape, data))
    in_turns(sides, bench.rounds)
    return {side.name: side for side in sides}


class Bench:
    """Where things lie, and how often each is measured."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.data, self.folder, self.rounds = Path(arguments.data), folder, arguments.rounds
        self.megabytes: float = arguments.megabytes
        self._peers = Path(arguments.peers)

    @property
    def peers(self) -> str:
        """The peers' interpreter."""
        return peers_python(self._peers)


def rates(texts: list[str], sides: dict[str, Side], ours: str, peer: str) -> Table:
    """MB of UTF-8 text per processor second (one core), and the seconds of a round."""
    size = texts_of.size_of(texts) / MB
    found = {name: round(size / side.median("cpu_seconds"), 3) for name, side in sides.items()}
    seconds = {name: round(side.median("seconds"), 3) for name, side in sides.items()}
    others = {name: rate for name, rate in found.items() if name != ours and name != peer}
    ratio = round(found[ours] / found[peer], 2)
    row: Table = {
        "unit": "MB/s per core",
        "ours": found[ours],
        "peers": {peer: found[peer]},
        "ratio_to_best_peer": ratio,
    }
    return {**row, **others, "seconds": seconds, "megabytes": round(size, 2), "documents": len(texts)}


def rules(bench: Bench) -> Table:
    """FineWeb's chain: Gopher's repetition and quality, C4 without end marks, FineWeb's own rules."""
    texts = texts_of.up_to(texts_of.books(bench.data), int(bench.megabytes * MB))
    sides = side_by_side(bench, "rules", texts, ("rules", "rules_punctuation"), "datatrove")
    row = rates(texts, sides, "rules", "datatrove")
    return {**row, "kept": {name: side.rounds[0]["result"]["kept"] for name, side in sides.items()}}


def near(bench: Bench) -> Table:
    """MinHash and what follows from it, to the list of documents to drop; recall of pairs at Jaccard .8 or more."""
    texts = texts_of.with_near_duplicates(texts_of.up_to(texts_of.books(bench.data), int(bench.megabytes * MB)))
    pairs = texts_of.similar_pairs(texts)
    similar = [pair for pair, share in pairs.items() if share >= 0.8]
    sides = side_by_side(bench, "near", texts, ("near",), "datatrove")
    row = rates(texts, sides, "near", "datatrove")
    removed = {name: set(side.rounds[0]["result"]) for name, side in sides.items()}
    with_partner = {number for pair in similar for number in pair}
    row["recall"] = {
        name: round(sum(bool(set(pair) & gone) for pair in similar) / max(len(similar), 1), 4)
        for name, gone in removed.items()
    }
    row["removed_without_a_partner"] = {name: len(gone - with_partner) for name, gone in removed.items()}
    return {**row, "pairs": len(similar), "removed": {name: len(gone) for name, gone in removed.items()}}


def patterns(bench: Bench) -> Table:
    """E-mail and IP addresses, telephone and card numbers, in marked sentences and prose; presidio without a model."""
    kinds = {"EMAIL_ADDRESS": "email", "IP_ADDRESS": "ip", "PHONE_NUMBER": "phone", "CREDIT_CARD": "card"}
    path = bench.data / "pii-presidio-large.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    texts = [row["full_text"] for row in rows]
    texts += texts_of.up_to(texts_of.books(bench.data), int(0.2 * MB))
    sides = side_by_side(bench, "patterns", texts, ("patterns",), "presidio") if rows else None
    if sides is None:
        return {"skipped": f"needs {path}"}
    row = rates(texts, sides, "patterns", "presidio")
    gold = [
        [
            (span["start_position"], span["end_position"], kinds[span["entity_type"]])
            for span in own["spans"]
            if span["entity_type"] in kinds
        ]
        for own in rows
    ]
    for name, side in sides.items():
        found = side.rounds[0]["result"][: len(rows)]
        row.setdefault("recall", {})[name] = _share_met(gold, found)
        row.setdefault("precision", {})[name] = _share_met(found, gold)
    return row


def _share_met(spans: list[Any], others: list[Any]) -> dict[str, float]:
    """By kind and in all, the share of spans that a span of the same kind in `others` overlaps."""
    met: dict[str, list[bool]] = {}
    for own, other in zip(spans, others, strict=False):
        for start, end, kind in own:
            hit = any(kind == kind2 and start < end2 and start2 < end for start2, end2, kind2 in other)
            met.setdefault(kind, []).append(hit)
    every = [hit for hits in met.values() for hit in hits]
    return {kind: round(statistics.mean(hits), 4) for kind, hits in [*sorted(met.items()), ("all", every)] if hits}


def write_rows(path: Path, texts: Iterable[str], size: int) -> int:
    """JSONL of the texts, again and again with a number in front so that none is the same, until so many bytes."""
    texts, total, number = list(texts), 0, 0
    with path.open("w", encoding="utf-8") as rows:
        while total < size:
            for text in texts:
                text = text if number < len(texts) else f"{number}. {text}"
                rows.write(json.dumps({"id": str(number), "text": text}, ensure_ascii=False) + "\n")
                total, number = total + len(text.encode()), number + 1
                if total >= size:
                    break
    return total


class Command:
    """A program run to its end: seconds, processor seconds of it and its children, and each process's peak memory."""

    def __init__(self, command: list[str], watch_memory: bool = False) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        start, before = time.perf_counter(), os.times()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
            self.peaks: dict[int, int] = {}
            while watch_memory and process.poll() is None:
                self._look(process.pid)
                time.sleep(0.2)
            code = process.wait()
            self.seconds = time.perf_counter() - start
            after = os.times()
            self.cpu_seconds = (
                after.children_user + after.children_system - before.children_user - before.children_system
            )
            output.seek(0)
            errors.seek(0)
            self.output = output.read().decode()
            if code:
                raise RuntimeError(f"{' '.join(command)} ended with {code}: {errors.read().decode()[-2000:]}")

    def _look(self, pid: int) -> None:
        """Peak resident bytes of a process and its children so far, as Linux tells them."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return
        peak = next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM")), 0)
        self.peaks[pid] = max(self.peaks.get(pid, 0), peak)
        for child in children:
            self._look(int(child))


def clean_command(source: Path, output: Path, *overrides: str) -> list[str]:
    """`llmforge clean` of one JSONL file by its defaults."""
    own = [f"output_dir={output}", f"sources=[{{name: bench, path: {source}, id_key: id}}]", *overrides]
    return [sys.executable, "-m", "llmforge", "clean", *own, "--json", "--quiet"]


def chain(bench: Bench) -> Table:
    """The whole command by its defaults, one worker, against the same steps of datatrove; start of both included."""
    source = bench.folder / "chain" / "rows.jsonl"
    source.parent.mkdir()
    texts = texts_of.with_near_duplicates(texts_of.up_to(texts_of.books(bench.data), int(bench.megabytes * MB)))
    size = write_rows(source, texts, texts_of.size_of(texts)) / MB
    program = str(Path(__file__).parent / "clean_peers.py")
    ours, theirs = [], []
    for number in range(bench.rounds):
        output = bench.folder / f"chain-{number}"
        ours.append(Command(clean_command(source, output, "workers=1")))
        theirs.append(Command([bench.peers, program, "--chain", str(source.parent), f"{output}-peer"]))
    seconds = {
        name: {
            key: round(statistics.median(getattr(run, key) for run in runs), 2) for key in ("seconds", "cpu_seconds")
        }
        for name, runs in (("ours", ours), ("datatrove", theirs))
    }
    rate = {name: round(size / own["cpu_seconds"], 3) for name, own in seconds.items()}
    answer = json.loads(ours[0].output)
    ratio = round(rate["ours"] / rate["datatrove"], 2)
    row: Table = {"unit": "MB/s per core", "ours": rate["ours"], "peers": {"datatrove": rate["datatrove"]}}
    row |= {"ratio_to_best_peer": ratio, "seconds": seconds, "megabytes": round(size, 2), "documents": len(texts)}
    return {**row, "kept": answer["kept"]["documents"], "work_seconds": answer["seconds"]}


def workers(bench: Bench) -> Table:
    """Two workers against one, ours alone, on ten times the text; seconds of the work as the command tells them."""
    source = bench.folder / "workers.jsonl"
    size = write_rows(source, texts_of.books(bench.data), int(bench.megabytes * 10 * MB)) / MB
    found: dict[int, list[float]] = {1: [], 2: []}
    for number in range(bench.rounds):
        for count, seconds in found.items():
            output = bench.folder / f"workers-{number}-{count}"
            seconds.append(json.loads(Command(clean_command(source, output, f"workers={count}")).output)["seconds"])
    one, two = (statistics.median(found[count]) for count in (1, 2))
    row: Table = {"unit": "MB/s", "ours": round(size / two, 3), "one_worker": round(size / one, 3), "peers": {}}
    return {**row, "ratio_to_one": round(one / two, 3), "megabytes": round(size, 2), "cpus": os.cpu_count()}


def floor(bench: Bench) -> Table:
    """Reading, hashing for exact duplicates and writing alone, on fifty times the text; the start is not counted.

    `fastest` is the same without parts to keep and with zstd's level 1.
    """
    source = bench.folder / "floor.jsonl"
    size = write_rows(source, texts_of.books(bench.data), int(bench.megabytes * 50 * MB)) / MB
    alone = ("workers=1", "repair=null", "rules=[]", "dedup.near=null")
    little = bench.folder / "little.jsonl"
    write_rows(little, texts_of.books(bench.data), 1000)
    start = Command(clean_command(little, bench.folder / "floor-start", *alone)).cpu_seconds
    output = bench.folder / "floor"
    runs, fast = [], []
    for _ in range(bench.rounds):
        for found, more in ((runs, ()), (fast, ("keep_parts=false", "output.level=1"))):
            found.append(Command(clean_command(source, output, *alone, *more)))
            shutil.rmtree(output)  # parts of an earlier round would be used again
    speeds = [size / (statistics.median(run.cpu_seconds for run in found) - start) for found in (runs, fast)]
    seconds = [json.loads(run.output)["seconds"] for run in runs]
    row: Table = {"unit": "MB/s per core", "ours": round(speeds[0], 1), "peers": {}, "megabytes": round(size, 1)}
    clock = round(size / statistics.median(seconds), 1)
    return {**row, "fastest": round(speeds[1], 1), "by_the_clock": clock, "seconds": seconds}


def memory(bench: Bench) -> Table:
    """Peak memory of the command's processes on a quarter of a GB and on one GB, two workers."""
    row: Table = {"unit": "MB", "peers": {}}
    for size in (250, 1000):
        source = bench.folder / f"memory-{size}.jsonl"
        write_rows(source, texts_of.books(bench.data), int(size * MB))
        run = Command(clean_command(source, bench.folder / f"memory-{size}", "workers=2"), watch_memory=True)
        row[f"peaks_of_{size}_mb"] = sorted((round(peak / MB) for peak in run.peaks.values()), reverse=True)
        source.unlink()
    row["ours"] = row["peaks_of_1000_mb"][0]
    return row


def verdicts(bench: Bench) -> Table:
    """Each rule set's verdicts beside datatrove's on real documents of six kinds."""
    documents = list(texts_of.kinds_of_text(bench.data))
    data = bench.folder / "verdicts.json"
    data.write_text(json.dumps([text for _, text in documents]), encoding="utf-8")
    side = Side("datatrove", bench.peers, "clean_peers.py", "verdicts", data)
    theirs = side.round()["result"]
    side.close()
    return compare_verdicts(documents, theirs)


SHAPES: dict[str, Callable[[Bench], Table]] = {
    function.__name__: function for function in (rules, near, patterns, chain, workers, floor, memory, verdicts)
}


def show(shape: str, row: Table) -> None:
    """One shape as lines for a person."""
    if "skipped" in row:
        print(f"{shape:10} skipped: {row['skipped']}")
        return
    peers = ", ".join(f"{name} {value}" for name, value in row.get("peers", {}).items())
    ratio = row.get("ratio_to_best_peer", row.get("ratio_to_one", ""))
    print(f"{shape:10} {row.get('unit', ''):14} ours {row.get('ours', '')!s:>9}   {peers:24} ratio {ratio}")
    told = {"unit", "ours", "peers", "ratio_to_best_peer", "ratio_to_one", "lines"}
    print("           " + "; ".join(f"{key} {value}" for key, value in row.items() if key not in told))
    print("\n".join(f"           {line}" for line in row.get("lines", [])))


def main() -> None:
    """Runs the shapes asked for and prints one table."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES), help="of " + ", ".join(SHAPES))
    parser.add_argument("--json", help="a file for the same numbers")
    parser.add_argument("--peers", default=str(cache / "llmforge" / "bench-peers"), help="the peers' environment")
    parser.add_argument("--data", default=str(ROOT.parent / "shared" / "data"), help="the folder of real text")
    parser.add_argument("--rounds", type=int, default=3, help="of each side; medians are shown")
    parser.add_argument("--megabytes", type=float, default=3.0, help="of text for what peers take part in")
    arguments = parser.parse_args()
    names = arguments.shapes.split(",")
    if unknown := set(names) - set(SHAPES):
        parser.error(f"no such shape: {', '.join(sorted(unknown))}; there are {', '.join(SHAPES)}")
    facts, shapes = machine(), {}
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            shapes[name] = SHAPES[name](Bench(arguments, Path(folder)))
            show(name, shapes[name])
            sys.stdout.flush()
            if arguments.json:
                Path(arguments.json).write_text(json.dumps({"machine": facts, "shapes": shapes}, indent=2) + "\n")


if __name__ == "__main__":
    main()
