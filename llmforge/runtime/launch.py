"""Starts a command again on several processes, by torch's elastic agent, and ends with an exit code that tells.

`launch` loads no torch: it becomes (by exec) this file as a program, so that the process that a person, Slurm or
Kubernetes signals is the agent itself. The agent is that of `torchrun`, with three things that torchrun lacks: a signal
reaches every rank and is given as long as a save takes; what a restart cannot mend (a wrong config, a stop on request)
is not started again; and the exit code of the command is that of its ranks.

When the agent dies, however it dies, the kernel kills its ranks: none is left to hold the run folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from llmforge.errors import MachineError, StopRequested, UsageError
from llmforge.runtime.launch_note import TOGETHER

if TYPE_CHECKING:
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
EXIT_AT_ONCE = 130
AGENT = "LLMFORGE_AGENT_PID"
# what the ranks of one start of a group have in common, and no other start has
MEETING = "LLMFORGE_MEETING"
# A bug and the machine may be better luck the next time; a config, data, a gate and a request to stop are not.
_WORTH_A_RESTART = frozenset({1, MachineError.exit_code})
# seconds that the agents of several machines wait for each other at the end
_LAST_WAIT = 60.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Fleet:
    """How many processes: `nproc` on each of `nnodes` machines that meet at `rdzv_endpoint` (host:port)."""

    nproc: int = 1
    nnodes: int = 1
    rdzv_endpoint: str | None = None
    max_restarts: int = 0

    @property
    def alone(self) -> bool:
        """Whether one process that nobody watches is all that is asked for."""
        return self.nproc == 1 and self.nnodes == 1 and self.max_restarts == 0

    def check(self) -> None:
        """Raises UsageError when machines have no place to meet, or a place and nobody to meet."""
        if self.nnodes > 1 and self.rdzv_endpoint is None:
            hint = "name the first machine and a free port there: --rdzv-endpoint HOST:29500"
            raise UsageError(f"--nnodes {self.nnodes} needs a place where the machines meet", "--nnodes", hint)
        if self.nnodes == 1 and self.rdzv_endpoint is not None:
            raise UsageError("one machine has nobody to meet", "--rdzv-endpoint", "give --nnodes N, or leave it out")


def launch(fleet: Fleet, arguments: Sequence[str]) -> None:
    """Runs `python -m llmforge ARGUMENTS` on the fleet's ranks of this machine; does not return.

    Raises:
        UsageError: as `Fleet.check`.
    """
    fleet.check()
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // fleet.nproc)))
    command = [sys.executable, "-m", "llmforge.runtime.launch", json.dumps(asdict(fleet)), *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)


def process_state(pid: int) -> str | None:
    """The kernel's letter for what a process of this machine does (R, S, T, Z, ...); None where it cannot be told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return None


def restarted() -> bool:
    """Whether this rank was started again after one of its group had failed."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def die_with_the_agent() -> None:
    """Asks the kernel to kill this rank when the agent that started it dies (Linux; nothing elsewhere)."""
    agent = os.environ.get(AGENT)
    if agent is None or not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(agent):  # it died before we asked
        os.kill(os.getpid(), signal.SIGKILL)


def exit_code(codes: Mapping[int, int], asked: bool) -> int:
    """The command's exit code from the codes of the ranks that failed (negative: killed by that signal).

    What a rank says of itself counts more than what others suffered by it. A rank that a signal ended before it could
    take one is a stop on request when one was asked for.
    """
    found = set(codes.values())
    if StopRequested.exit_code in found or (asked and found & {-number for number in SIGNALS}):
        return StopRequested.exit_code
    told = sorted(code for code in found if code > 0 and code != MachineError.exit_code)
    return told[-1] if told else MachineError.exit_code


def describe(codes: Mapping[int, int]) -> str:
    """The ranks that were killed from outside, in words; empty when none was."""
    killed = {rank: -code for rank, code in codes.items() if code < 0}
    return ", ".join(f"rank {rank} was killed by {signal.Signals(number).name}" for rank, number in killed.items())


def _say(text: str) -> None:
    sys.stderr.write(f"llmforge: {text}\n")
    sys.stderr.flush()


class _Passing:
    """Hands the first signal on to every rank; at the second the ranks and the agent end at once.

    A thread does it, since the main thread may be inside the rendezvous, where Python's handlers do not run.
    """

    def __init__(self) -> None:
        self.asked = False
        self.agent: LocalElasticAgent | None = None
        self.codes: dict[int, int] = {}  # of the ranks that failed first
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        for number in SIGNALS:
            signal.signal(number, self._nothing)
        signal.set_wakeup_fd(writer)
        threading.Thread(target=self._listen, args=(reader,), daemon=True).start()

    @staticmethod
    def _nothing(number: int, frame: FrameType | None) -> None:
        """There must be a handler for the wake-up to come."""

    def _listen(self, reader: int) -> None:
        while True:
            for number in os.read(reader, 64):
                if number in SIGNALS:
                    self._take(signal.Signals(number))

    def _take(self, number: signal.Signals) -> None:
        if not self.asked:
            self.asked = True
            if not self.send(number):
                self._end(StopRequested.exit_code, f"{number.name}: nothing had begun; the same command starts it")
            return
        self.send(signal.SIGKILL)
        self._end(EXIT_AT_ONCE, "stopped at once; what was saved last is whole")

    @staticmethod
    def _end(code: int, text: str) -> None:
        _say(text)
        os._exit(code)

    def send(self, number: signal.Signals, only_stopped: bool = False) -> bool:
        """Sends a signal to each rank of this machine (that is stopped, as by SIGSTOP); whether there was any."""
        context = None if self.agent is None else self.agent._pcontext
        pids = list(context.pids().values()) if context is not None else []
        for pid in pids if not only_stopped else [pid for pid in pids if process_state(pid) == "T"]:
            try:
                os.killpg(pid, number)  # each rank leads a group of its own
            except ProcessLookupError:
                continue
        return bool(pids)


def _watched(spec: WorkerSpec, logs: object, passing: _Passing) -> LocalElasticAgent:
    """torch's agent, which restarts only what is worth it and hears signals through `passing`."""
    from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

    class Agent(LocalElasticAgent):
        def _rendezvous(self, worker_group: WorkerGroup) -> None:
            super()._rendezvous(worker_group)
            group, store = cast(Any, worker_group), cast(Any, worker_group.store)
            if group.group_rank == 0:
                store.set(MEETING, str(uuid.uuid4()))
            os.environ[MEETING] = store.get(MEETING).decode()  # the ranks inherit it

        def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
            started: dict[int, Any] = super()._start_workers(worker_group)
            if passing.asked:  # while there were none
                passing.send(signal.SIGTERM)
            return started

        def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
            codes = self._first_to_fail()
            if codes:
                passing.send(signal.SIGKILL, only_stopped=True)  # which hear nothing else
            result: RunResult = super()._monitor_workers(worker_group)  # ends the others when one has failed
            if result.is_failed():
                passing.codes = codes or {rank: failure.exitcode for rank, failure in result.failures.items()}
                self._decide(describe(passing.codes))
            return result

        def _first_to_fail(self) -> dict[int, int]:
            handlers = getattr(self._pcontext, "subprocess_handlers", {})
            codes = {local: handler.proc.poll() for local, handler in handlers.items()}
            return {self._worker_group.workers[local].global_rank: code for local, code in codes.items() if code}

        def _decide(self, killed: str) -> None:
            left = self._remaining_restarts
            if passing.asked or exit_code(passing.codes, passing.asked) not in _WORTH_A_RESTART:
                self._remaining_restarts = left = 0
            elif left:
                number = f"restart {spec.max_restarts - left + 1} of {spec.max_restarts}"
                _say(f"{killed or 'a rank failed'}: going on from the newest saved state ({number})")
            elif killed:
                _say(f"{killed}; the same command goes on from the newest saved state")
            if not left:
                self._exit_barrier()  # type: ignore[no-untyped-call]  # the agent that hosts the meeting place must leave last

    return Agent(spec, logs, exit_barrier_timeout=_LAST_WAIT)  # type: ignore[arg-type]


def _spec(fleet: Fleet, arguments: Sequence[str]) -> tuple[WorkerSpec, object]:
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    together = fleet.nnodes > 1
    place = RendezvousParameters(
        backend="c10d",
        endpoint=fleet.rdzv_endpoint or "localhost:0",
        run_id=TOGETHER if together else str(uuid.uuid4()),
        min_nodes=fleet.nnodes,
        max_nodes=fleet.nnodes,
        local_addr=None if together else "localhost",
    )
    spec = WorkerSpec(
        role="llmforge",
        local_world_size=fleet.nproc,
        entrypoint=sys.executable,
        args=("-u", "-m", "llmforge", *arguments),
        rdzv_handler=get_rendezvous_handler(place),
        max_restarts=fleet.max_restarts,
        monitor_interval=0.1,
        local_addr=None if together else "localhost",
    )
    return spec, DefaultLogsSpecs()


def _main(fleet: Fleet, arguments: Sequence[str]) -> int:
    passing = _Passing()
    import logging

    from torch.distributed.elastic.rendezvous import RendezvousError

    # A rank says by itself what went wrong; the agent's tables would bury it.
    for name in ("torch.distributed", "torch.distributed.elastic", "torch.distributed.run"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ[AGENT] = str(os.getpid())
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"  # the others are ours
    spec = None
    try:
        spec, logs = _spec(fleet, arguments)
        passing.agent = _watched(spec, logs, passing)
        result = passing.agent.run()
    except (RendezvousError, RuntimeError, OSError) as error:
        if passing.asked:
            return StopRequested.exit_code
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        _say(f"the machines did not come together: {first}")
        return MachineError.exit_code
    finally:
        if spec is not None:
            spec.rdzv_handler.shutdown()
    # torch gives no result when the rendezvous was closed while it waited there
    return 0 if result is not None and not result.is_failed() else exit_code(passing.codes, passing.asked)


if __name__ == "__main__":
    sys.exit(_main(Fleet(**json.loads(sys.argv[1])), sys.argv[2:]))
