"""F1 to F4 and F13: kills at random moments, of one process, of ranks, at every boundary of a save, and every 30 s."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos_hooks import digest_of_tensors
from chaos_lab import SAVE_EVERY, STEPS, Budget, Child, Lab, Outcome, newest_step

from llmforge.checkpoint.train_state import TENSORS, latest_state

_REAL_EVERY = 10  # of the kills, one hits a process started from scratch


def random_kills(lab: Lab, budget: Budget) -> Outcome:
    """F1: whole pipelines under random kills until each comes to its end; then every byte must be as undisturbed."""
    done = Outcome("F1", "SIGKILL at random times over clean, tokenizer, tokenize, pretrain")
    _, seconds = lab.whole
    wanted, kills, where = budget.tries(200, 3), 0, {"clean": 0, "tokenizer": 0, "tokenize": 0, "pretrain": 0}
    while kills < wanted and not (kills and budget.over()):
        output, lives, killed = lab.pipelines, 0, True
        while killed and kills < wanted:
            child = lab.start("run", lab.pipeline(output), real=kills % _REAL_EVERY == _REAL_EVERY - 1)
            killed = _kill_within(lab, child, seconds * 1.2)
            if killed:
                kills, lives = kills + 1, lives + 1
                where[_where(output)] += 1
        if killed:
            child = lab.run("run", lab.pipeline(output))
        difference = lab.compare_pipelines(output) if child.returncode == 0 else f"{child.returncode} {child.last_line}"
        for _ in range(lives):
            done.check(difference is None, f"one of {lives} kills of a pipeline: {difference}")
        if difference is None:
            lab.drop(output)
        else:
            output.rename(lab.place("pipeline-that-differs"))
    done.notes.append(f"{kills} kills; the newest step then was " + ", ".join(f"{k} {v}" for k, v in where.items()))
    return done


def _where(output: Path) -> str:
    """Which step of a pipeline had begun last."""
    for step in ("pretrain", "tokenize", "tokenizer"):
        if (output / step / "run.json").exists():
            return step
    return "clean"


def _kill_within(lab: Lab, child: Child, seconds: float) -> bool:
    """Kills at a random time; False when the child was through before."""
    due = time.monotonic() + lab.rng.random() * seconds
    while child.poll() is None:
        if time.monotonic() >= due:
            child.kill()
            return True
        time.sleep(0.002)
    return False


def rank_kills(lab: Lab, budget: Budget) -> Outcome:
    """F2: a random rank of 2, 3 or 4 is killed at a random step; the group must end, and the same command go on."""
    done = Outcome("F2", "SIGKILL of a random rank of 2 to 4")
    wanted, sizes = budget.tries(40, 2), (2, 3, 4)
    for number, size in enumerate(sizes):
        share = len(range(number, wanted, len(sizes)))
        if not share or (done.tried and budget.over()):
            continue
        straight, output = lab.place(f"ranks{size}"), lab.place(f"killed{size}")
        lab.must("pretrain", lab.pretrain(straight), "--nproc", str(size), real=True)
        steps = sorted(lab.rng.randrange(STEPS) for _ in range(share))
        killed = [_kill_rank(lab, output, size, step) for step in steps]
        child = lab.run("pretrain", lab.pretrain(output), "--nproc", str(size), real=True)
        fine = child.returncode == 0
        difference = lab.compare(output, straight) if fine else f"exit code {child.returncode}: {child.last_line}"
        for text in killed:
            done.check(text is None and difference is None, f"{size} ranks: {text or difference}")
        lab.drop(straight, *([output] if difference is None else []))
    return done


def _kill_rank(lab: Lab, output: Path, size: int, step: int) -> str | None:
    """None when the whole group ended after one of its ranks was killed."""
    child = lab.start("pretrain", lab.pretrain(output), "--nproc", str(size), real=True)
    if not lab.wait_for_step(child, output, max(step, newest_step(output / "metrics.jsonl"))):
        return f"it ended by itself with {child.returncode}: {child.last_line}"
    ranks = child.ranks()
    rank = lab.rng.choice(sorted(ranks))
    os.kill(ranks[rank], signal.SIGKILL)
    code = lab.finish(child, 120)
    if code == 1000:
        return f"the group did not end within 120 s after rank {rank} was killed"
    # With restarts of its own it may even come to its end.
    return None


def elastic(lab: Lab, budget: Budget) -> Outcome:
    """F3: 4 -> 1 -> 3 -> 2 -> 4 processes over resumes against one process: states, batches and losses."""
    sizes = (4, 1, 3, 2, 4) if budget.scale >= 0.1 else (2, 1)
    done = Outcome("F3", f"{', '.join(map(str, sizes))} processes over resumes")
    straight, output = lab.place("one"), lab.place("elastic")
    traces = [lab.place("trace") for _ in (*sizes, 0)]
    changes = {"data__document_mask": True}
    lab.must("pretrain", lab.pretrain(straight, **changes), hook={"trace": str(traces[-1])})
    wanted = {row["step"]: row["sha256"] for row in _rows(traces[-1]) if row["what"] == "batch"}
    for number, size in enumerate(sizes):
        saved = _digest_of_saved(output) if number else None
        flags = ["--nproc", str(size)] if size > 1 else []
        child = lab.start(
            "pretrain", lab.pretrain(output, **changes), *flags, hook={"trace": str(traces[number])}, real=True
        )
        last = number == len(sizes) - 1
        if not last:
            lab.wait_for_step(child, output, STEPS * (number + 1) // len(sizes))
            child.signal(signal.SIGTERM)
        code = lab.finish(child)
        if not done.check(code == (0 if last else 75), f"{size} processes: exit code {code}: {child.last_line}"):
            return done
        rows = _rows(traces[number])
        states = {row["sha256"] for row in rows if row["what"] == "state"}
        ranks = {row["rank"] for row in rows}
        done.check(len(ranks) == size, f"{size} processes asked for, ranks seen: {sorted(ranks)}")
        if number:
            done.check(states == {saved}, f"{size} processes: loaded {sorted(map(str, states))}, {saved} was saved")
        wrong = [row["step"] for row in rows if row["what"] == "batch" and wanted.get(row["step"]) != row["sha256"]]
        done.check(not wrong, f"{size} processes: other batches at steps {sorted(set(wrong))[:5]}")
    worst = _worst_loss(straight, output)
    done.check(worst <= 1e-5, f"the largest difference of a loss is {worst:.1e}")
    done.notes.append(f"largest difference of a loss from one process: {worst:.1e}")
    return done


def _digest_of_saved(run: Path) -> str | None:
    """SHA-256 of the weights and the optimizer in the newest state's file, as the hook takes it of a loaded state."""
    from safetensors.torch import load_file

    path, _ = latest_state(run / "checkpoints")
    if path is None:
        return None
    held = {
        name: value for name, value in load_file(path / TENSORS).items() if name.startswith(("model.", "optimizer."))
    }
    return digest_of_tensors({name.removeprefix("optimizer."): value for name, value in held.items()})


def _rows(trace: Path) -> list[dict[str, object]]:
    found = []
    for path in sorted(trace.parent.glob(f"{trace.name}.*")):
        found += [json.loads(line) for line in path.read_text().splitlines()]
    return found


def _worst_loss(first: Path, second: Path) -> float:
    losses = []
    for run in (first, second):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append({row["step"]: row["loss"] for row in rows if "loss" in row})
    if losses[0].keys() != losses[1].keys():
        return float("inf")
    return max(abs(losses[0][step] - losses[1][step]) for step in losses[0])


def save_boundaries(lab: Lab, budget: Budget) -> Outcome:
    """F4: a kill before and after each open, fsync, rename, mkdir and removal of the saves of a run.

    The run begins at a state that is there; after the kill the newest whole state must load, be at least that one, and
    the same command must end with the bits of an undisturbed run.
    """
    done = Outcome("F4", "SIGKILL at each boundary of a save")
    base, record = lab.partial(SAVE_EVERY + 1), lab.place("boundaries")
    lab.straight  # noqa: B018 - made before the clock runs
    counted = lab.copy(base)
    lab.must("pretrain", lab.pretrain(counted), hook={"below": str(counted / "checkpoints"), "record": str(record)})
    events = record.read_text().splitlines()
    ends = [number for number, event in enumerate(events, start=1) if event == "after replace latest"]
    first_two = range(1, (ends[1] if len(ends) > 1 else len(events)) + 2)
    few = max(6, round(len(first_two) * 3 * budget.scale))
    chosen = list(first_two) if budget.scale >= 1 else _spread(first_two, few)
    lab.drop(counted)
    for number in chosen:
        if done.tried >= 3 and budget.over():
            done.notes.append(f"stopped by the clock at {done.tried} of {len(chosen)}")
            break
        _kill_at(lab, base, number, events, done)
    done.notes.append(f"{len(first_two)} boundaries in two saves, {len(chosen)} chosen")
    return done


def _spread(numbers: range, count: int) -> list[int]:
    count = min(count, len(numbers))
    return sorted({numbers[round(at * (len(numbers) - 1) / max(1, count - 1))] for at in range(count)})


def _kill_at(lab: Lab, base: Path, number: int, events: list[str], done: Outcome) -> None:
    name = events[number - 1] if number <= len(events) else "the end"
    output = lab.copy(base)
    before = _newest_whole(base)
    hook = {"below": str(output / "checkpoints"), "kill_at": number}
    values = lab.pretrain(output)
    child = lab.run("pretrain", values, hook=hook)
    if child.returncode != -signal.SIGKILL:
        done.check(False, f"boundary {number} ({name}) was not met: exit code {child.returncode}, {child.last_line}")
        return
    after = _newest_whole(output)
    if not done.check(after >= before, f"boundary {number} ({name}): the newest whole state is {after}, was {before}"):
        return
    child = lab.run("pretrain", values)
    difference = lab.compare(output) if child.returncode == 0 else child.last_line
    if done.check(difference is None, f"boundary {number} ({name}), then resumed: {difference}"):
        lab.drop(output)


def _newest_whole(run: Path) -> int:
    try:
        path, _ = latest_state(run / "checkpoints")
    except Exception:
        return -1
    return int(re.sub(r"\D", "", path.name)) if path is not None else -1


def goodput(lab: Lab, budget: Budget) -> Outcome:
    """F13: a real process killed every 30 s and started again at once, against one that runs on."""
    done = Outcome("F13", "goodput with a SIGKILL every 30 s")
    every, lives = 30.0, 2 if budget.scale < 0.1 else 4 if budget.scale < 1 else 20
    changes = {"train__max_steps": 100_000, "train__save_every": 50, "train__eval_every": None}
    changes |= {"train__log_every": 1, "train__sample_every": None}
    with _running(lab, lab.place("steady"), changes) as (child, output):
        lab.wait_for_step(child, output, 20)
        start_up = time.monotonic() - child.began
        first = newest_step(output / "metrics.jsonl")
        time.sleep(min(every, 15.0))
        pace = (newest_step(output / "metrics.jsonl") - first) / min(every, 15.0)
    if start_up > every / 4:
        done.notes.append(f"a start takes {start_up:.1f} s here, so kills came every {6 * start_up:.0f} s, not 30")
        every = 6 * start_up
    output = lab.place("goodput")
    for _ in range(lives):
        with _running(lab, output, changes) as (child, _):
            while time.monotonic() < child.began + every and child.poll() is None:
                time.sleep(0.01)
            if child.poll() is not None:
                done.check(False, f"it ended by itself: {child.last_line}")
                return done
    steps = newest_step(output / "metrics.jsonl")
    whole = pace * every * lives
    without_start = pace * (every - start_up) * lives
    share, kept = steps / whole, steps / max(1.0, without_start)
    done.check(kept > 0.9, f"{kept:.0%} of the steps that fit between start-ups")
    done.notes.append(
        f"{steps} steps in {lives} lives of {every:.0f} s at {pace:.1f} steps/s: {share:.0%} of an undisturbed run, "
        f"{kept:.0%} when the start-up of {start_up:.1f} s is left out"
    )
    lab.drop(output)
    return done


@contextmanager
def _running(lab: Lab, output: Path, changes: dict[str, object]) -> Iterator[tuple[Child, Path]]:
    child = lab.start("pretrain", lab.pretrain(output, **changes), real=True)
    try:
        yield child, output
    finally:
        child.kill()
