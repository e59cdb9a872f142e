"""Several processes as one run: who I am, and sums over all. One process is a world of one, with nothing to talk to.

Reads what torchrun puts into the environment; knows no model and no data.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from llmforge.errors import LlmforgeError, MachineError, StopRequested, UsageError
from llmforge.runtime.launch import die_with_the_agent
from llmforge.runtime.watch import Watch, open_store

TIMEOUT_SECONDS = 600.0
# What gloo, NCCL and the store say when another process is gone or silent.
_OF_THE_GROUP = re.compile(r"gloo|NCCL|[Tt]imed out|[Tt]imeout|Connection (closed|reset|refused)|Broken pipe|recvValue")


class PeerLost(MachineError):
    """Another process of the group was killed, hangs, or left with an error, whose exit code this one takes over."""

    def __init__(self, what: str, code: int, quiet: bool) -> None:
        super().__init__(what, hint="the same command goes on from the newest saved state")
        self.exit_code = code
        self.quiet = quiet


@dataclass(frozen=True)
class World:
    """This process's place among all: `rank` of `size`, and `local_rank` of `local_size` on its machine.

    `tensor` neighbours share each layer's matrices and so work on the same rows: to the data they are one.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    tensor: int = 1
    watch: Watch | None = field(default=None, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def data_rank(self) -> int:
        """Which share of the rows is this process's, of `data_size`."""
        return self.rank // self.tensor

    @property
    def data_size(self) -> int:
        """Into how many shares the rows go."""
        return self.size // self.tensor

    def total(self, values: Tensor) -> Tensor:
        """The elementwise sum over all shares of the rows; the tensor itself when there is one process."""
        if self.size > 1:
            if self.rank % self.tensor:
                values.zero_()  # its neighbours have the same
            dist.all_reduce(values)
        return values

    def everywhere(self, flag: Tensor) -> Tensor:
        """Whether a bool on the device is true in every process, the same everywhere; nothing waits for the device."""
        if self.size == 1:
            return flag
        shared = flag.to(torch.float32)
        dist.all_reduce(shared, op=dist.ReduceOp.MIN)
        return shared > 0

    def largest(self, values: list[float]) -> list[float]:
        """The elementwise maximum over all processes, the same everywhere."""
        if self.size == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return [float(value) for value in shared]

    def agree(self, value: object) -> object:
        """The first process's value, everywhere."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns what is felt here of another process's end into a line that says which process, and why.

        Raises:
            PeerLost: another process is gone or hangs.
        """
        try:
            yield
        except (StopRequested, PeerLost):
            raise
        except Exception as error:
            if self.watch is None:
                raise
            found = _explained(error, self.watch)
            if found is error:
                raise
            raise found from error

    def wait(self) -> None:
        """Returns when every process is here."""
        if self.size > 1:
            dist.all_reduce(torch.zeros(1))


def world_of_environment(tensor: int = 1) -> World:
    """The place that torchrun gave this process; a world of one without it.

    Raises:
        UsageError: the processes cannot be grouped by `tensor`.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        world = World(tensor=tensor)
    else:
        world = World(
            rank=int(os.environ["RANK"]),
            size=int(os.environ["WORLD_SIZE"]),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])),
            tensor=tensor,
        )
    if world.size % tensor:
        what = f"{world.size} processes do not go into groups of parallel.tensor_parallel = {tensor}"
        raise UsageError(what, hint=f"start a multiple of {tensor} (--nproc), or set parallel.tensor_parallel=1")
    return world


@contextmanager
def process_group(
    world: World, timeout_seconds: float = TIMEOUT_SECONDS, stacks: Path | None = None
) -> Iterator[World]:
    """Joins the group of a world of more than one for the time of a `with`.

    CPU tensors (control, counts) go over gloo and CUDA tensors over NCCL. A process that does not answer for
    `timeout_seconds` ends the group; what each was doing then is written into `stacks` (a folder).

    Raises:
        PeerLost: another process is gone or hangs.
    """
    die_with_the_agent()
    if world.size == 1:
        yield world
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    timeout = timedelta(seconds=timeout_seconds)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        store = open_store("group", timeout)
        dist.init_process_group(backend, timeout=timeout, store=store, rank=world.rank, world_size=world.size)
    else:
        dist.init_process_group(backend, timeout=timeout)
    watch = Watch(world.rank, world.size, timeout_seconds, stacks or Path(tempfile.gettempdir()) / "llmforge-stacks")
    try:
        joined = replace(world, watch=watch)
        with joined.explained():
            yield joined
            joined.wait()
    except StopRequested:
        # All leave together, the first one last with its files: the agent ends the others as soon as one is gone.
        with suppress(RuntimeError):
            world.wait()
        raise
    finally:
        watch.close()
        dist.destroy_process_group()


def _explained(error: Exception, watch: Watch) -> Exception:
    """The error itself, told to the others first; or, where it is their leaving that is felt here, that."""
    if not (isinstance(error, RuntimeError) and _OF_THE_GROUP.search(str(error))):
        line = " ".join(str(error).split()) or type(error).__name__
        first = watch.announce(getattr(error, "exit_code", 1), line)
        if isinstance(error, LlmforgeError):
            error.quiet = not first
        return error
    if threading.current_thread() is threading.main_thread():
        # The agent ends the others as soon as one is gone; this one is leaving, and has something to say first.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    told = watch.announced()
    blamed = "" if told else watch.blame(error)
    told = told or watch.announced()  # the other may still have been about to tell
    quiet = not watch.speaks()
    if told:
        rank, code, line = told
        return PeerLost(f"rank {rank} ended: {line}", code, quiet)
    what = blamed or "a process of the group did not answer in time, though all give signs of life"
    return PeerLost(f"{what}; stacks: {watch.stacks}", MachineError.exit_code, quiet)
