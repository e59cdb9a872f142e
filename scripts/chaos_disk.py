"""F5: full disks, files that may not grow, read-only folders, used-up inodes and I/O errors, at every stage.

Each time the command must end with code 4 (or 2: not allowed there) and one line that names the path, keep the last
good state, leave no half artefact, and, when there is room again, end with the bits of an undisturbed run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chaos_lab import SAVE_EVERY, Budget, Child, Lab, Outcome, small_disk

from llmforge.stages.doctor import examine

_STAGES = ("clean", "tokenizer train", "tokenize", "pretrain")
_KINDS = {"clean": "corpus", "tokenizer train": "tokenizer", "tokenize": "tokens", "pretrain": "model"}


def disk(lab: Lab, budget: Budget) -> Outcome:
    """F5 as a whole."""
    done = Outcome("F5", "disk full, file limit, read-only, inodes, I/O errors at each stage")
    few = budget.scale < 0.1
    for stage in _STAGES:
        # Not less: the line on stderr goes to a file of the experiment, which may become no larger either.
        for size in (4 << 10,) if few else (1 << 10, 4 << 10, 16 << 10, 40 << 10):
            _limited(lab, done, stage, size)
    if not _mounts(lab, done, few):
        done.notes.append("this user may not mount: no full disk, no read-only one, no inodes")
    _io_errors(lab, done, budget)
    return done


def _values(lab: Lab, stage: str, output: Path) -> dict[str, Any]:
    whole, _ = lab.whole
    if stage == "clean":
        return lab.clean(output)
    if stage == "tokenizer train":
        return {"output_dir": str(output), "corpus": str(whole / "clean"), "vocab_size": 400}
    if stage == "tokenize":
        makings = {"corpus": str(whole / "clean"), "tokenizer": str(whole / "tokenizer")}
        return {"output_dir": str(output), **makings, "workers": 1}
    return lab.pretrain(output)


def _refused(child: Child, place: Path, codes: tuple[int, ...] = (4,)) -> str | None:
    """None when it ended as it should; else what is wrong with its end."""
    said = child.said
    if child.returncode not in codes:
        return f"exit code {child.returncode}: {child.last_line}"
    if "Traceback" in said:
        return "a traceback"
    lines = [line for line in said.splitlines() if line.startswith("llmforge: ")]
    if len(lines) != 1:
        return f"{len(lines)} lines instead of one: {said[-200:]!r}"
    return None if str(place) in lines[0] else f"the path is not named: {lines[0]}"


def _judge(lab: Lab, done: Outcome, stage: str, output: Path, child: Child, what: str, codes: tuple[int, ...]) -> None:
    """The refusal, no half artefact, and the same command when there is room again."""
    name = f"{stage}, {what}"
    if child.returncode == 0:
        done.notes.append(f"{name}: did not bite")
        return
    wrong = _refused(child, output, codes)
    done.check(wrong is None, f"{name}: {wrong}")
    artefact = output / _KINDS[stage]  # whole where only the last flush of its folder failed
    half = artefact.exists() and bool(examine(artefact).of("damaged"))
    done.check(not half, f"{name}: a half artefact is there")


def _again(lab: Lab, done: Outcome, stage: str, output: Path, what: str) -> None:
    child = lab.run(stage, _values(lab, stage, output))
    name = f"{stage}, {what}, then with room"
    if not done.check(child.returncode == 0, f"{name}: exit code {child.returncode}: {child.last_line}"):
        return
    _as_undisturbed(lab, done, stage, output, name)


def _as_undisturbed(lab: Lab, done: Outcome, stage: str, output: Path, name: str) -> None:
    whole, _ = lab.whole
    if stage == "pretrain":
        difference = lab.compare(output)
    else:
        ours = (output / _KINDS[stage] / "manifest.json").read_text()
        theirs = (whole / stage.split()[0] / _KINDS[stage] / "manifest.json").read_text()
        difference = None if _files(ours) == _files(theirs) else "other files than undisturbed"
    done.check(difference is None, f"{name}: {difference}")


def _files(manifest: str) -> object:
    import json

    return json.loads(manifest)["files"]


def _limited(lab: Lab, done: Outcome, stage: str, size: int) -> None:
    """RLIMIT_FSIZE: no file may become larger."""
    output, what = lab.place("limited"), f"files of {size} bytes at most"
    child = lab.run(stage, _values(lab, stage, output), file_bytes=size)
    _judge(lab, done, stage, output, child, what, (4,))
    if child.returncode != 0:
        _again(lab, done, stage, output, what)
    lab.drop(output)


def _mounts(lab: Lab, done: Outcome, few: bool) -> bool:
    for stage in _STAGES:
        for size in ("40k",) if few else ("8k", "40k", "120k"):
            if not _full(lab, done, stage, f"size={size}", f"a disk of {size}", {"size": size}):
                return False
        _full(lab, done, stage, "nr_inodes=1000", "no inode left", {"inodes": 5})
    _read_only(lab, done)
    _fills_up(lab, done)
    return True


def _full(lab: Lab, done: Outcome, stage: str, room: str, what: str, options: dict[str, Any]) -> bool:
    """A small tmpfs that is given room afterwards."""
    place = lab.place("disk")
    with small_disk(place, **options) as remount:
        if remount is None:
            return False
        output = place / "run"
        child = lab.run(stage, _values(lab, stage, output))
        _judge(lab, done, stage, output, child, what, (4,))
        if child.returncode != 0:
            remount("size=64m" if room.startswith("size") else room)
            _again(lab, done, stage, output, what)
    return True


def _read_only(lab: Lab, done: Outcome) -> None:
    """A file system that becomes read-only before the start, with a stopped run on it."""
    base, place = lab.partial(), lab.place("read-only")
    with small_disk(place) as remount:
        assert remount is not None
        output = place / "run"
        shutil.copytree(base, output)
        remount("ro")
        child = lab.run("pretrain", lab.pretrain(output))
        wrong = _refused(child, output, (2, 4))
        done.check(wrong is None, f"pretrain on a read-only disk: {wrong}")
        remount("rw")
        _again(lab, done, "pretrain", output, "a read-only disk")
    lab.drop(base)


def _fills_up(lab: Lab, done: Outcome) -> None:
    """A disk that somebody else fills while a run goes on: the earlier states stay whole, the run goes on later."""
    place = lab.place("fills")
    with small_disk(place, size="24m") as remount:
        assert remount is not None
        output = place / "run"
        child = lab.start("pretrain", lab.pretrain(output))
        lab.wait_for_step(child, output, SAVE_EVERY + 2)
        _fill(place / "ballast")
        lab.finish(child)
        if child.returncode == 0:
            done.notes.append("the run was over before its disk was full")
            return
        _judge(lab, done, "pretrain", output, child, "a disk that fills up", (4,))
        found = _newest(output)
        done.check(found >= SAVE_EVERY, f"a disk that fills up: the newest whole state is {found}")
        (place / "ballast").unlink()
        _again(lab, done, "pretrain", output, "a disk that fills up")


def _newest(run: Path) -> int:
    from chaos_kills import _newest_whole

    return _newest_whole(run)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as stream:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    stream.write(bytes(size))
            except OSError:
                continue


def _io_errors(lab: Lab, done: Outcome, budget: Budget) -> None:
    """One open, fsync, rename or mkdir of each stage fails with EIO or ENOSPC, as a dying disk has it."""
    for stage in _STAGES:
        record, counted = lab.place("events"), lab.place("counted")
        lab.must(stage, _values(lab, stage, counted), hook={"below": str(counted), "record": str(record)})
        events = record.read_text().splitlines()
        lab.drop(counted)
        before = [number for number, event in enumerate(events, start=1) if _can_fail(event)]
        for number in sorted(lab.rng.sample(before, min(len(before), budget.tries(40, 2)))):
            if budget.over():
                done.notes.append(f"{stage}: stopped by the clock")
                break
            _one_error(lab, done, stage, number, events[number - 1])


def _can_fail(event: str) -> bool:
    """Errors while removing or after the fact leave nothing to be said; the lock's and log's opens are not retried."""
    wanted: Callable[[str], bool] = event.startswith
    return any(map(wanted, ("before open", "before fsync", "before rename", "before mkdir")))


def _one_error(lab: Lab, done: Outcome, stage: str, number: int, event: str) -> None:
    name = lab.rng.choice(("EIO", "ENOSPC"))
    output, what = lab.place("failing"), f"{name} at boundary {number} ({event})"
    child = lab.run(stage, _values(lab, stage, output), hook={"below": str(output), "error_at": [number, name]})
    if child.returncode == 0:  # a write that could be done again, or one that nothing depends on
        _as_undisturbed(lab, done, stage, output, f"{stage}, {what}, which did not end it")
    else:
        _judge(lab, done, stage, output, child, what, (4,))
        _again(lab, done, stage, output, what)
    lab.drop(output)
