"""Faults inside a process that is tested, installed before the product's own code runs; nothing of this is in it.

A spec is a plain dict, put in by a forked child (chaos_lab) or, for ranks and real commands, by chaos_site's
sitecustomize from the variable CHAOS_SPEC:

    {"below": "/run/checkpoints"}    which paths count as boundaries: opens for writing, fsync, rename, mkdir, remove
    {"record": FILE}                 one line for each boundary, in order
    {"kill_at": 7}                   SIGKILL to itself at the 7th boundary
    {"signal_at": [7, "SIGTERM"]}    a signal to itself there
    {"error_at": [7, "EIO"]}         that boundary fails as the operating system would
    {"clock_jumps": true}            time.time() jumps by up to a year back and forth
    {"nan_rows": "HASH", "rank": 1, "nan_in": "loss"}  a batch with this content has a NaN loss on this rank; with
                                     "gradient" its gradients become NaN there after the ranks have added theirs up
    {"trace": FILE}                  a line for each restored state and each batch: rank, step, SHA-256
    {"signal_in": ["validation", "SIGTERM"]}  a signal to itself when a validation begins (the second one)
"""

from __future__ import annotations

import errno
import hashlib
import importlib.abc
import importlib.machinery
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

TRAINER = "llmforge.training.trainer"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def install(spec: dict[str, Any]) -> None:
    """Puts the faults of a spec into this process."""
    if "below" in spec:
        _Boundaries(spec).install()
    if spec.get("clock_jumps"):
        _jump_clock()
    if {"nan_rows", "trace", "signal_in"} & set(spec):
        _after_import(TRAINER, lambda module: _patch_trainer(module, spec))


class _Boundaries:
    """Counts what touches files below a folder, and acts at one of them."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec, self._count = spec, 0
        self._below = os.path.realpath(spec["below"])
        self._lock = threading.RLock()
        self._busy = False
        self._record = os.open(spec["record"], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if "record" in spec else None

    def install(self) -> None:
        sys.addaudithook(self._audit)
        for name in ("rename", "replace", "fsync"):
            setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name == "fsync":
                self._meet("before fsync", self._path_of(arguments[0]))
            done = original(*arguments, **options)
            self._meet(f"after {name}", self._path_of(arguments[0 if name == "fsync" else 1]))
            return done

        return call

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            self._meet("before open", arguments[0])
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"):
            self._meet(f"before {event.removeprefix('os.')}", arguments[1] if event == "os.rename" else arguments[0])

    def _path_of(self, target: object) -> object:
        if not isinstance(target, int):
            return target
        try:
            return os.readlink(f"/proc/self/fd/{target}")
        except OSError:
            return None

    def _meet(self, what: str, target: object) -> None:
        if self._busy or not isinstance(target, (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(target)
        if not os.path.abspath(path).startswith(self._below):
            return
        with self._lock:
            self._busy = True
            try:
                self._count += 1
                if self._record is not None:
                    os.write(self._record, f"{what} {os.path.basename(path)}\n".encode())
                self._act(what, path)
            finally:
                self._busy = False

    def _act(self, what: str, path: str) -> None:
        if self._count == self._spec.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        at, name = self._spec.get("signal_at", (None, ""))
        if self._count == at:
            os.kill(os.getpid(), getattr(signal, name))
        at, name = self._spec.get("error_at", (None, ""))
        if self._count == at:
            number = getattr(errno, name)
            # The real fsync works on a number and knows no name.
            raise OSError(number, os.strerror(number), *([] if "fsync" in what else [path]))


def _jump_clock() -> None:
    real, rng = time.time, random.Random(0)

    def jumping() -> float:
        return real() + rng.choice((-1, 1)) * rng.random() * 365 * 86400

    time.time = jumping


def digest_of_batch(batch: Any) -> str:
    """SHA-256 of a batch's ids."""
    return hashlib.sha256(batch.input_ids.numpy().tobytes()).hexdigest()


def _patch_trainer(module: ModuleType, spec: dict[str, Any]) -> None:
    trainer: Any = module.Trainer  # type: ignore[attr-defined]
    backward, begin, validate = trainer._backward, trainer._begin, trainer._validate
    rank = int(os.environ.get("RANK", "0"))
    seen: list[str] = []
    poisoned = {"now": False}
    parallel: Any = module.Parallel  # type: ignore[attr-defined]
    compute = parallel.__call__

    def new_compute(self: Any, batch: Any) -> Any:
        loss = compute(self, batch)
        return loss * float("nan") if poisoned["now"] else loss

    parallel.__call__ = new_compute

    def traced(what: str, step: int, digest: str) -> None:
        if "trace" in spec:
            with open(f"{spec['trace']}.{rank}", "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"what": what, "rank": rank, "step": step, "sha256": digest}) + "\n")

    def new_backward(self: Any, batch: Any) -> Any:
        digest = digest_of_batch(batch)
        traced("batch", self.progress.step, digest)
        guilty = spec.get("nan_rows") == digest and rank == spec.get("rank", 0)
        poisoned["now"] = guilty and spec.get("nan_in", "loss") == "loss"
        loss = backward(self, batch)
        if guilty and spec.get("nan_in") == "gradient":
            for value in self.optimizer.parameters.values():
                if value.grad is not None:
                    value.grad.fill_(float("nan"))
                    break
        return loss

    def new_begin(self: Any, saved: Any, *rest: Any) -> Any:
        done = begin(self, saved, *rest)
        if "trace" in spec and saved is not None:
            traced("state", self.progress.step, _digest_of_state(self))
        return done

    def new_validate(self: Any, *arguments: Any, **options: Any) -> Any:
        seen.append("validation")
        if spec.get("signal_in", ("",))[0] == "validation" and len(seen) == 2:
            os.kill(os.getpid(), getattr(signal, spec["signal_in"][1]))
        return validate(self, *arguments, **options)

    trainer._backward, trainer._begin, trainer._validate = new_backward, new_begin, new_validate


def _digest_of_state(trainer: Any) -> str:
    """SHA-256 over the names and values of weights and optimizer as this process holds them."""
    from llmforge.training.optimizer import trainable
    from llmforge.training.shares import whole

    moments, _ = trainer.optimizer.state()
    tensors = {f"model.{n}": whole(v.detach()) for n, v in trainable(trainer.objective.model).items()} | moments
    return digest_of_tensors(tensors)


def digest_of_tensors(tensors: Mapping[str, Any]) -> str:
    """SHA-256 over names and values."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _After(importlib.abc.MetaPathFinder):
    """Calls a function with a module right after it was imported."""

    def __init__(self, name: str, then: Callable[[ModuleType], None]) -> None:
        self._name, self._then = name, then

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_patch(module: ModuleType) -> None:
            execute(module)
            self._then(module)

        spec.loader.exec_module = execute_and_patch  # type: ignore[method-assign]
        return spec


def _after_import(name: str, then: Callable[[ModuleType], None]) -> None:
    if name in sys.modules:
        then(sys.modules[name])
    else:
        sys.meta_path.insert(0, _After(name, then))
