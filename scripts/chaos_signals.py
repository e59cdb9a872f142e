"""F7 to F10: signals, stopped ranks, NaN and loss spikes, two owners of a folder, jumping clocks."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from chaos_lab import SAVE_EVERY, STEPS, Budget, Child, Lab, Outcome

# Beyond the timeout: five beats of a second to see who is silent, the stacks, and the ends of the ranks.
_NOTICE_SECONDS = 15
_NAMES = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")


def signals(lab: Lab, budget: Budget) -> Outcome:
    """F7: each signal at random steps, twice, within a save and a validation, in clean and tokenize, and to ranks."""
    done = Outcome("F7", "SIGTERM, SIGINT, SIGUSR1, SIGHUP; twice; in a save, a validation, other stages, ranks")
    for name in _NAMES:
        for _ in range(budget.tries(10)):
            _asked(lab, done, name, lab.rng.randrange(1, STEPS - 1))
        _within(lab, done, name, "a validation", {"signal_in": ["validation", name]})
    _twice(lab, done)
    _in_saves(lab, done, budget)
    for stage in ("clean", "tokenize"):
        _other_stage(lab, done, stage)
    for size in (2,) if budget.scale < 0.1 else (2, 3):
        _to_group(lab, done, size)
    return done


def _goes_on(lab: Lab, done: Outcome, output: Path, what: str, straight: Path | None = None, *flags: str) -> None:
    child = lab.run("pretrain", lab.pretrain(output), *flags, real=bool(flags))
    difference = lab.compare(output, straight) if child.returncode == 0 else f"{child.returncode} {child.last_line}"
    if done.check(difference is None, f"{what}, then gone on with: {difference}"):
        lab.drop(output)


def _asked(lab: Lab, done: Outcome, name: str, step: int) -> None:
    """One signal at a step: code 75, a state of that moment, the same bits in the end."""
    output, what = lab.place("asked"), f"{name} after step {step}"
    child = lab.start("pretrain", lab.pretrain(output))
    lab.wait_for_step(child, output, step)
    child.signal(getattr(signal, name))
    code = lab.finish(child)
    if code == 0:
        done.notes.append(f"{what}: the run was over")
        return
    if done.check(code == 75, f"{what}: exit code {code}: {child.last_line}"):
        status = json.loads((output / "run.json").read_text())["status"]
        done.check(status == "stopped", f"{what}: run.json says {status}")
    _goes_on(lab, done, output, what)


def _within(lab: Lab, done: Outcome, name: str, where: str, hook: dict[str, Any]) -> None:
    output, what = lab.place("within"), f"{name} in {where}"
    child = lab.run("pretrain", lab.pretrain(output), hook=hook)
    done.check(child.returncode == 75, f"{what}: exit code {child.returncode}: {child.last_line}")
    _goes_on(lab, done, output, what)


def _in_saves(lab: Lab, done: Outcome, budget: Budget) -> None:
    """A signal at boundaries of the first save: it is finished, and the run stops behind it."""
    record, counted = lab.place("events"), lab.place("counted")
    values = lab.pretrain(counted)
    lab.must("pretrain", values, hook={"below": str(counted / "checkpoints"), "record": str(record)})
    events = record.read_text().splitlines()
    first = next((n for n, event in enumerate(events, start=1) if event == "after replace latest"), len(events))
    lab.drop(counted)
    for number in range(budget.tries(20, 2)):
        at, name = lab.rng.randrange(1, first + 1), _NAMES[number % len(_NAMES)]
        output = lab.place("in-save")
        hook = {"below": str(output / "checkpoints"), "signal_at": [at, name]}
        child = lab.run("pretrain", lab.pretrain(output), hook=hook)
        what = f"{name} in a save ({events[at - 1]})"
        done.check(child.returncode == 75, f"{what}: exit code {child.returncode}: {child.last_line}")
        _goes_on(lab, done, output, what)


def _twice(lab: Lab, done: Outcome) -> None:
    """The second signal ends it at once with 130; what was saved last is whole."""
    from chaos_kills import _newest_whole

    output = lab.place("twice")
    child = lab.start("pretrain", lab.pretrain(output, train__max_steps=4000))
    lab.wait_for_step(child, output, 2 * SAVE_EVERY)
    saved = _newest_whole(output)
    # Stopped for a moment, so that the second comes before the first is answered.
    child.signal(signal.SIGSTOP)
    child.signal(signal.SIGTERM)
    child.signal(signal.SIGINT)
    child.signal(signal.SIGCONT)
    code = lab.finish(child)
    done.check(code == 130, f"two signals: exit code {code}: {child.last_line}")
    done.check(_newest_whole(output) >= saved, f"two signals: the newest whole state is {_newest_whole(output)}")
    lab.drop(output)


def _other_stage(lab: Lab, done: Outcome, stage: str) -> None:
    """SIGTERM while a stage of the data works: 75 or 0, and the same command then makes the same artefact."""
    whole, _ = lab.whole
    output = lab.place(stage)
    values: dict[str, Any]
    if stage == "clean":
        values = lab.clean(output)
    else:
        values = {"output_dir": str(output), "corpus": str(whole / "clean"), "tokenizer": str(whole / "tokenizer")}
    child = lab.start(stage, values)
    while child.poll() is None and not (output / "run.json").exists():
        time.sleep(0.002)
    time.sleep(lab.rng.random() * 0.2)
    child.signal(signal.SIGTERM)
    code = lab.finish(child)
    done.check(code in (0, 75), f"SIGTERM in {stage}: exit code {code}: {child.last_line}")
    again = lab.run(stage, values)
    kind = {"clean": "corpus", "tokenize": "tokens"}[stage]
    files = [
        json.loads((run / kind / "manifest.json").read_text())["files"] if (run / kind).is_dir() else None
        for run in (whole / stage, output)
    ]
    done.check(again.returncode == 0 and files[0] == files[1], f"{stage} after SIGTERM: {again.last_line}")
    lab.drop(output)


def _to_group(lab: Lab, done: Outcome, size: int) -> None:
    """SIGTERM to the command that holds several ranks, and to one rank alone: all of them stop, with one state."""
    straight, flags = lab.place(f"ranks{size}"), ("--nproc", str(size))
    lab.must("pretrain", lab.pretrain(straight), *flags, real=True)
    for target in ("command", "rank"):
        output, what = lab.place("group"), f"SIGTERM to the {target} of {size} ranks"
        child = lab.start("pretrain", lab.pretrain(output), *flags, real=True)
        if not lab.wait_for_step(child, output, STEPS // 3):
            done.check(False, f"{what}: it ended before with {child.returncode}: {child.last_line}")
            continue
        if target == "command":
            child.signal(signal.SIGTERM)
        else:
            os.kill(child.ranks()[size - 1], signal.SIGTERM)
        code = lab.finish(child, 120)
        done.check(code == 75, f"{what}: exit code {code}: {child.last_line}")
        child.kill()
        _goes_on(lab, done, output, what, straight, *flags)
    lab.drop(straight)


def stopped_rank(lab: Lab, budget: Budget) -> Outcome:
    """F8: SIGSTOP to one of two ranks; the others notice within the timeout, with stacks, and a restart works."""
    done = Outcome("F8", "a stopped rank of two")
    timeout, straight, flags = 20, lab.place("two"), ("--nproc", "2")
    lab.must("pretrain", lab.pretrain(straight), *flags, real=True)
    for rank in (1,) if budget.scale < 0.1 else (0, 1):
        output = lab.place("stuck")
        values = lab.pretrain(output, parallel={"timeout_seconds": timeout})
        child = lab.start("pretrain", values, *flags, real=True)
        if not lab.wait_for_step(child, output, STEPS // 3):
            done.check(False, f"it ended before with {child.returncode}: {child.last_line}")
            continue
        os.kill(child.ranks()[rank], signal.SIGSTOP)
        began = time.monotonic()
        code = lab.finish(child, 6 * timeout)
        seconds = time.monotonic() - began
        done.check(code not in (0, 1000), f"rank {rank} stopped: exit code {code} after {seconds:.0f} s")
        late = f"rank {rank} stopped: noticed after {seconds:.0f} s, not within {timeout} + {_NOTICE_SECONDS} s"
        done.check(seconds < timeout + _NOTICE_SECONDS, late)
        done.check(code == 4, f"rank {rank} stopped: exit code {code}, not that of the machine: {child.last_line}")
        stacks = [path for path in (output / "stacks").glob("rank-*.txt") if "File " in path.read_text()]
        done.check(bool(stacks), f"rank {rank} stopped: no stacks were written: {child.last_line}")
        done.notes.append(f"rank {rank}: noticed after {seconds:.0f} s of a timeout of {timeout} s")
        child.kill()
        _goes_on(lab, done, output, f"rank {rank} stopped", straight, *flags)
    lab.drop(straight)
    return done


def not_finite(lab: Lab, budget: Budget) -> Outcome:
    """F9: gradients of one batch are NaN (on one rank of two): not applied, told, and the same when it is replayed.

    With `train.spikes` the run goes back and leaves the batch out, and does so again after a kill.
    """
    done = Outcome("F9", "NaN gradients of one batch, alone and on one rank of two")
    trace, plain = lab.place("trace"), lab.place("plain")
    lab.must("pretrain", lab.pretrain(plain), hook={"trace": str(trace)})
    rows = [json.loads(line) for line in Path(f"{trace}.0").read_text().splitlines()]
    at = STEPS // 2 + 2
    poison = next(row["sha256"] for row in rows if row["what"] == "batch" and row["step"] == at)
    for size, rank, where in ((1, 0, "loss"), (2, 1, "loss"), (2, 1, "gradient")):
        flags = ("--nproc", str(size)) if size > 1 else ()
        hook, runs = {"nan_rows": poison, "rank": rank, "nan_in": where}, [lab.place("nan"), lab.place("nan")]
        children = [lab.run("pretrain", lab.pretrain(run), *flags, hook=hook, real=size > 1) for run in runs]
        _judge_nan(lab, done, children, runs, (f"{where}, {size} ranks", at))
        lab.drop(*runs)
    batches = {row["step"]: row["sha256"] for row in rows if row["what"] == "batch"}
    _rewinds(lab, done, batches, at)
    lab.drop(plain)
    return done


def _rewinds(lab: Lab, done: Outcome, batches: dict[int, str], at: int) -> None:
    """One poisoned batch with `train.spikes` on; `batches` are those of an undisturbed run by step (from 0)."""
    trace, runs = lab.place("trace"), [lab.place("spiked"), lab.place("spiked")]
    hook = {"nan_rows": batches[at], "rank": 0, "nan_in": "loss"}
    values = [lab.pretrain(run, train__spikes={"max_rewinds": 2}) for run in runs]
    first = lab.run("pretrain", values[0], hook={**hook, "trace": str(trace)})
    second = lab.start("pretrain", values[1], hook=hook)
    lab.wait_for_step(second, runs[1], at + 1)  # it has gone back by then, or just does
    second.kill()
    again = lab.run("pretrain", values[1], hook=hook)
    for child in (first, again):
        if not done.check(child.returncode == 0, f"spikes: exit code {child.returncode}: {child.last_line}"):
            return
    told = [json.loads((run / "run.json").read_text())["rewinds"] for run in runs]
    left_out = [(skip["step"], skip["data"], skip["reason"]) for skip in told[0]]
    done.check(
        left_out == [(at + 1, [at], "not_finite")], f"spikes: left out {left_out}, the batch of {at} was poisoned"
    )
    done.check(told[0] == told[1], f"spikes: after a kill it left out {told[1]}, not {told[0]}")
    rows = [json.loads(line) for line in Path(f"{trace}.0").read_text().splitlines()]
    trained = {row["step"]: row["sha256"] for row in rows if row["what"] == "batch"}  # the last time round
    wanted = {step: batches[step + (step >= at)] for step in range(STEPS - 1)}
    wrong = [step for step, digest in wanted.items() if trained.get(step) != digest]
    done.check(not wrong, f"spikes: other batches than the undisturbed ones without that of {at}, at steps {wrong[:5]}")
    difference = lab.compare(runs[1], runs[0])
    if done.check(difference is None, f"spikes, killed after it went back: {difference}"):
        done.notes.append("spikes: went back and left the batch out, and the same after a kill")
        lab.drop(*runs)


def _judge_nan(lab: Lab, done: Outcome, children: list[Child], runs: list[Path], what: tuple[str, int]) -> None:
    name, at = what
    for child in children:
        fine = child.returncode == 0
        if not done.check(fine, f"{name}: exit code {child.returncode}: {child.last_line}"):
            return
    text = "".join((runs[0] / file).read_text() for file in ("metrics.jsonl", "run.json", "log.txt"))
    told = any(word in text for word in ("steps_not_applied", "rewind", "went back", "skipped"))
    done.check(told, f"{name}: neither metrics.jsonl nor run.json nor log.txt tells of the step at {at}")
    done.check("NaN" not in (runs[0] / "metrics.jsonl").read_text(), f"{name}: a NaN stands in metrics.jsonl")
    difference = lab.compare(runs[1], runs[0])
    done.check(difference is None, f"{name}: the replay differs: {difference}")
    rewound = any(word in text for word in ("rewind", "went back"))
    became = "went back and skipped" if rewound else "the step was left out" if told else "nothing was told"
    done.notes.append(f"{name}: {became}")


def owners(lab: Lab, budget: Budget) -> Outcome:
    """F10: a second process on a run folder is refused with 7, a killed owner's lock is gone; clocks may jump."""
    done = Outcome("F10", "two owners of a run folder, a killed owner, jumping clocks")
    for _ in range(budget.tries(10, 1)):
        output = lab.place("owned")
        first = lab.start("pretrain", lab.pretrain(output))
        lab.wait_for_step(first, output, 2)
        first.signal(signal.SIGSTOP)
        second = lab.run("pretrain", lab.pretrain(output))
        first.signal(signal.SIGCONT)
        done.check(second.returncode == 7, f"a second owner: exit code {second.returncode}: {second.last_line}")
        code = lab.finish(first)
        difference = lab.compare(output) if code == 0 else f"{code} {first.last_line}"
        done.check(difference is None, f"the first owner: {difference}")
        lab.drop(output)
    output = lab.place("orphaned")
    child = lab.start("pretrain", lab.pretrain(output))
    lab.wait_for_step(child, output, SAVE_EVERY + 1)
    child.kill()
    _goes_on(lab, done, output, "the owner was killed")
    _clock(lab, done, budget)
    return done


def _clock(lab: Lab, done: Outcome, budget: Budget) -> None:
    for _ in range(budget.tries(5, 1)):
        output = lab.place("clock")
        child = lab.start("pretrain", lab.pretrain(output), hook={"clock_jumps": True})
        lab.wait_for_step(child, output, lab.rng.randrange(2, STEPS - 2))
        child.kill()
        for path in output.rglob("*"):  # as after a restore from a backup, or with a clock that was wrong then
            moment = time.time() + lab.rng.choice((-1, 1)) * 1e8
            os.utime(path, (moment, moment), follow_symlinks=False)
        again = lab.run("pretrain", lab.pretrain(output), hook={"clock_jumps": True})
        difference = lab.compare(output) if again.returncode == 0 else f"{again.returncode} {again.last_line}"
        if done.check(difference is None, f"jumping clocks: {difference}"):
            lab.drop(output)
