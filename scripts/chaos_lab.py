"""Where chaos happens: a small text, configs over it, processes that run llmforge on them, and what they must equal.

A forked child runs the command line in a process that has imported torch already: it is killed as any other, and starts
in a tenth of the time. `real=True` starts `python -m llmforge` instead, as ranks need.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import chaos_hooks

from llmforge.runtime.process_tree import descendants, kill_tree
from llmforge.stages.verify_resume_compare import Compared, compare_runs

ROOT = Path(__file__).resolve().parent.parent
STEPS, SAVE_EVERY = 40, 5
PATIENCE = 300.0
_SUBJECTS = "the river|an old clock|her brother|the engine|a letter|this valley|the captain|every morning"
_VERBS = "carries|opens|forgets|follows|measures|breaks|answers|keeps|explains|remembers|crosses|turns"
_OBJECTS = "the heavy door|a quiet street|the second winter|its own shadow|what was said|a list of names"
_ENDS = "before dawn|without a word|for many years|as in the story|near the bridge|and then stops|at number {n}"
_PARTS = [text.split("|") for text in (_SUBJECTS, _VERBS, _OBJECTS, _ENDS)]


@dataclass
class Outcome:
    """What became of one fault: how often it was tried and survived, and every failure in words."""

    begun: ClassVar[list[Outcome]] = []

    fault: str
    what: str
    tried: int = 0
    survived: int = 0
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.begun.append(self)

    def check(self, fine: object, failure: str) -> bool:
        """Counts one try."""
        self.tried += 1
        self.survived += bool(fine)
        if not fine:
            self.failures.append(failure)
        return bool(fine)


@dataclass
class Budget:
    """How many tries of a fault, and until when."""

    scale: float
    end: float

    def tries(self, full: int, least: int = 1) -> int:
        """The number of tries at this scale."""
        return max(least, round(full * self.scale))

    def over(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() > self.end


class Child:
    """A running llmforge: a forked child or a process of its own."""

    def __init__(self, pid: int, errors: Path, process: subprocess.Popen[bytes] | None) -> None:
        self.pid, self.errors, self._process = pid, errors, process
        self.returncode: int | None = None
        self.began = time.monotonic()

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        if self.returncode is None:
            if self._process is not None:
                self.returncode = self._process.poll()
            else:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float | None = PATIENCE) -> int:
        """Its exit code."""
        end = time.monotonic() + (timeout or PATIENCE)
        while self.poll() is None:
            if time.monotonic() > end:
                raise TimeoutError(f"process {self.pid} still runs")
            time.sleep(0.003)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """SIGKILL to it and all below it."""
        if self.poll() is None:
            kill_tree(self)

    def signal(self, number: int) -> None:
        """Sends a signal to it alone."""
        with contextlib.suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)

    def ranks(self) -> dict[int, int]:
        """Rank -> process number of the training processes below it."""
        found: dict[int, int] = {}
        for pid in descendants(self.pid):
            with contextlib.suppress(OSError):
                environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                for entry in environment:
                    if entry.startswith(b"RANK="):
                        found[int(entry[5:])] = pid
        return found

    @property
    def said(self) -> str:
        """All that it wrote to stderr."""
        return self.errors.read_text(encoding="utf-8", errors="replace")

    @property
    def last_line(self) -> str:
        """The last line of it."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        return lines[-1][-300:] if lines else "(it said nothing)"


@dataclass
class Lab:
    """A temporary folder with the text, the configs and the undisturbed runs."""

    root: Path
    rng: random.Random
    _number: int = 0

    def place(self, name: str) -> Path:
        """A new path that does not exist."""
        self._number += 1
        return self.root / f"{name}-{self._number}"

    # ------------------------------------------------------------------ text and configs

    @cached_property
    def text(self) -> Path:
        """A JSONL file of made-up English."""
        path, rng = self.root / "text.jsonl", random.Random(7)
        with path.open("w", encoding="utf-8") as stream:
            for number in range(400):
                sentences = [" ".join(map(rng.choice, _PARTS)) + "." for _ in range(rng.randrange(6, 30))]
                body = " ".join(s[0].upper() + s[1:].format(n=rng.randrange(100)) for s in sentences)
                stream.write(json.dumps({"id": f"t{number}", "text": body}) + "\n")
        return path

    def pretrain(self, output: Path, **changes: Any) -> dict[str, Any]:
        """The values of a tiny pretrain config."""
        return self._pretrain(str(self.tokens), output, changes)

    def _pretrain(self, tokens: str, output: Path | None, changes: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {
            "device": "cpu",
            "precision": "fp32",
            "model": {"preset": "tiny", "hidden_size": 48, "num_hidden_layers": 2},
            "data": {"sources": [{"name": "made", "path": tokens}], "seq_len": 64},
            "train": {
                "micro_batch_size": 4,
                "global_batch_size": 8,
                "max_steps": STEPS,
                "log_every": 1,
                "eval_every": 10,
                "eval_tokens": 2048,
                "save_every": SAVE_EVERY,
                "sample_every": 20,
                "compile": False,
            },
        }
        if output is not None:
            values["output_dir"] = str(output)
        for key, value in changes.items():
            *path, last = key.split("__")
            part = values
            for name in path:
                part = part.setdefault(name, {})
            part[last] = value
        return values

    def clean(self, output: Path | None, workers: int = 1) -> dict[str, Any]:
        """The values of a clean config."""
        rules = [{"name": "gopher_quality", "min_words": 20, "min_stop_words": 0}]
        source = {"name": "made", "path": str(self.text), "format": "jsonl", "text_key": "text", "id_key": "id"}
        values: dict[str, Any] = {"sources": [source], "rules": rules, "workers": workers}
        values["split"] = {"valid_fraction": 0.1}
        return values if output is None else {**values, "output_dir": str(output)}

    def pipeline(self, output: Path) -> dict[str, Any]:
        """The values of a pipeline: clean, tokenizer, tokenize, pretrain."""
        steps: list[dict[str, Any]] = [
            {"clean": self.clean(None)},
            {"tokenizer": {"corpus": "${clean}", "vocab_size": 400}},
            {"tokenize": {"corpus": "${clean}", "tokenizer": "${tokenizer}", "workers": 1}},
            {"pretrain": self._pretrain("${tokenize}", None, {})},
        ]
        return {"name": "chaos", "output_dir": str(output), "steps": steps}

    # ------------------------------------------------------------------ processes

    def start(
        self,
        command: str,
        values: dict[str, Any],
        *flags: str,
        hook: dict[str, Any] | None = None,
        real: bool = False,
        file_bytes: int | None = None,
    ) -> Child:
        """Starts `llmforge COMMAND -c CONFIG FLAGS`; `file_bytes` is the largest file that it may write."""
        config = self.place("config").with_suffix(".json")
        config.write_text(json.dumps(values), encoding="utf-8")
        arguments = [*command.split(), "-c", str(config), "--quiet", *flags]
        errors = self.place("stderr").with_suffix(".txt")
        return self._real(arguments, errors, hook) if real else _fork(arguments, errors, hook, file_bytes)

    def _real(self, arguments: list[str], errors: Path, hook: dict[str, Any] | None) -> Child:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        if hook is not None:
            environment["PYTHONPATH"] = f"{ROOT / 'scripts' / 'chaos_site'}:{ROOT}"
            environment["CHAOS_SPEC"] = json.dumps(hook)
        with errors.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "llmforge", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=stream,
                env=environment,
                start_new_session=True,
            )
        return Child(process.pid, errors, process)

    def run(self, command: str, values: dict[str, Any], *flags: str, **options: Any) -> Child:
        """The same to its end."""
        child = self.start(command, values, *flags, **options)
        self.finish(child)
        return child

    def finish(self, child: Child, seconds: float = PATIENCE) -> int:
        """Waits for a child; one that does not end is killed and fails."""
        try:
            return child.wait(seconds)
        except TimeoutError:
            child.kill()
            return 1000

    def must(self, command: str, values: dict[str, Any], *flags: str, **options: Any) -> Child:
        """A run that the lab itself needs."""
        child = self.run(command, values, *flags, **options)
        assert child.returncode == 0, f"llmforge {command} failed undisturbed: {child.said}"
        return child

    # ------------------------------------------------------------------ undisturbed runs

    @cached_property
    def whole(self) -> tuple[Path, float]:
        """An undisturbed pipeline, and its seconds; made where the disturbed ones lie, since states tell the places of
        their data, and then moved."""
        output = self.root / "whole"
        child = self.must("run", self.pipeline(self.pipelines))
        self.pipelines.rename(output)
        return output, time.monotonic() - child.began

    @property
    def pipelines(self) -> Path:
        """The folder of every pipeline, one after the other."""
        return self.root / "pipeline"

    @property
    def tokens(self) -> Path:
        """Its tokens folder."""
        return self.whole[0] / "tokenize" / "tokens"

    @cached_property
    def straight(self) -> tuple[Path, float]:
        """An undisturbed pretrain, and its seconds."""
        output = self.root / "straight"
        child = self.must("pretrain", self.pretrain(output))
        return output, time.monotonic() - child.began

    def compare(self, output: Path, straight: Path | None = None) -> str | None:
        """The first difference of a pretrain run from the undisturbed one; None when they are equal."""
        try:
            compared: Compared = compare_runs(straight or self.straight[0], output)
        except Exception as error:  # whatever is wrong with the folder is the answer
            return f"{type(error).__name__}: {error}"
        return None if compared.tensors and compared.metric_lines else "nothing was there to compare"

    def compare_pipelines(self, output: Path) -> str | None:
        """The same for whole pipelines: every artefact's files by their digests, then the training."""
        for step, kind in (("clean", "corpus"), ("tokenizer", "tokenizer"), ("tokenize", "tokens")):
            bodies = [json.loads((run / step / kind / "manifest.json").read_text()) for run in (self.whole[0], output)]
            for key in ("files", "made_from"):
                if bodies[0][key] != bodies[1][key]:
                    return f"{step}: {key} of the manifest differ"
        return self.compare(output / "pretrain", self.whole[0] / "pretrain")

    def partial(self, steps: int = STEPS // 2, **changes: Any) -> Path:
        """A run folder that was stopped on request near `steps`, to be gone on with."""
        output = self.place("partial")
        child = self.start("pretrain", self.pretrain(output, **changes))
        self.wait_for_step(child, output, steps)
        child.signal(signal.SIGTERM)
        code = self.finish(child)
        assert code == 75, f"SIGTERM gave {code}: {child.said}"
        return output

    def wait_for_step(self, child: Child, output: Path, step: int) -> bool:
        """Returns when a step's line is written (True) or the child ended (False)."""
        path = output / "metrics.jsonl"
        while child.poll() is None:
            if newest_step(path) >= step:
                return True
            time.sleep(0.002)
        return False

    def copy(self, folder: Path) -> Path:
        """A copy under a new name."""
        target = self.place(folder.name)
        shutil.copytree(folder, target, symlinks=True)
        return target

    def drop(self, *folders: Path) -> None:
        """Removes what is no longer needed."""
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def newest_step(metrics: Path) -> int:
    """The step of the last whole line; -1 without one."""
    try:
        lines = metrics.read_bytes().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["step"]) if lines else -1
    except (OSError, ValueError, KeyError):
        return -1


def _fork(arguments: list[str], errors: Path, hook: dict[str, Any] | None, file_bytes: int | None) -> Child:
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, errors, None)
    code = 99
    try:  # from here on this process is the command
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        out = os.open(os.devnull, os.O_RDWR)
        err = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for source, target in ((out, 0), (out, 1), (err, 2)):
            os.dup2(source, target)
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        if hook is not None:
            chaos_hooks.install(hook)
        sys.argv = ["llmforge", *arguments]
        code = _command_line()
    finally:
        os._exit(code)


def _command_line() -> int:
    from llmforge import cli

    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    return 0


@contextlib.contextmanager
def small_disk(place: Path, size: str = "64m", inodes: int | None = None) -> Iterator[Callable[[str], None] | None]:
    """A small tmpfs at `place` for the time of a `with`; gives what remounts it with other options, or None where this
    user may not mount."""
    place.mkdir(parents=True, exist_ok=True)
    options = ",".join([f"size={size}", *([f"nr_inodes={inodes}"] if inodes else [])])
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True)
    if made.returncode != 0:
        yield None
        return

    def remount(changed: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{changed}", str(place)], check=True, capture_output=True)

    try:
        yield remount
    finally:
        subprocess.run(["umount", "-l", str(place)], capture_output=True)
