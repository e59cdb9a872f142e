"""States written while the training goes on: copied to the host's memory at once, written by a thread behind.

A GPU's tensors are copied beside the computation, which may go on as long as it changes none of them: `settle` is for
the moment before it does. Without memory for a copy a state is written before `save` returns. Does not know what the
tensors are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from llmforge.checkpoint.train_state import Retention, save_state

_SPARE = 1.5  # free memory that a copy needs, as a multiple of its size


class StateWriter:
    """One save at a time below `folder`; an error of one is raised by the next call of any method.

    `with` waits at its end for what is under way; when it is left by an error, that error stays the one that is told.
    """

    def __init__(self, folder: Path, free_memory: Callable[[], int | None] | None = None) -> None:
        self.folder = folder
        self._free_memory = free_memory or free_host_memory
        self._thread: threading.Thread | None = None
        self._copied = threading.Event()
        self._error: BaseException | None = None
        self._copied.set()

    def __enter__(self) -> StateWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is None:
            self.wait()
        elif self._thread is not None:
            self._thread.join()

    def save(self, step: int, tensors: dict[str, Tensor], meta: dict[str, object], keep: Retention) -> None:
        """Takes a state as it is now; tensors on the CPU may change when this returns, others after `settle`.

        Raises:
            MachineError: the save before this one failed, or this one in the foreground.
        """
        self.wait()
        size = sum(value.numel() * value.element_size() for value in tensors.values())
        free = self._free_memory()
        if free is not None and free < _SPARE * size:
            save_state(self.folder, step, tensors, meta, keep)
            return
        meta, placed = _held(meta), {name: value for name, value in tensors.items() if not value.is_cuda}
        held = {name: value.detach().clone() for name, value in placed.items()}
        away = {name: value.detach() for name, value in tensors.items() if name not in placed}
        ready: Any = torch.cuda.Event() if away else None  # type: ignore[no-untyped-call]
        if ready is not None:
            ready.record()
            self._copied.clear()

        def work() -> None:
            try:
                fetched = _fetched(away, ready) if ready is not None else {}
                self._copied.set()
                save_state(self.folder, step, held | fetched, meta, keep)
            except BaseException as error:
                self._error = error
            finally:
                self._copied.set()

        self._thread = threading.Thread(target=work, name="llmforge-state")
        self._thread.start()

    def settle(self) -> None:
        """Returns when the tensors of the last save may change."""
        self._copied.wait()

    def look(self) -> None:
        """Raises what the last save failed with, as far as that is known."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Returns when the last save is on the disk.

        Raises:
            MachineError: it is not.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.look()


def _fetched(tensors: dict[str, Tensor], ready: Any) -> dict[str, Tensor]:
    """Copies in pinned memory, over a stream of their own, of tensors as they are at the event `ready`."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    found = {}
    with torch.cuda.stream(stream):
        stream.wait_event(ready)
        for name, value in tensors.items():
            found[name] = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            found[name].copy_(value, non_blocking=True)
    stream.synchronize()
    return found


def _held(value: Any) -> Any:
    """The same JSON values, whatever becomes of the lists and dicts; tensors in it are copied."""
    if isinstance(value, dict):
        return {key: _held(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_held(inner) for inner in value]
    return value.detach().cpu().clone() if isinstance(value, Tensor) else value


def free_host_memory() -> int | None:
    """Bytes that this process may still take, by the system and by its control group; None where nobody tells."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
            # what files were read is given back as soon as it is asked for
            cached = int(used["active_file"]) + int(used["inactive_file"])
            found.append(int(limit) - int((group / "memory.current").read_text(encoding="ascii")) + cached)
    except (OSError, ValueError, KeyError):
        pass  # no such group: the system's figure stands
    return min(found, default=None)
