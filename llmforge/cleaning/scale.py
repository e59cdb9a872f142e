"""Parts of a corpus on many machines: the same function that makes them here, handed to an engine that exists.

datatrove (https://github.com/huggingface/datatrove) runs a function once for each rank under Ray, Slurm or processes of
its own. Rank i of n makes shard i/n: the parts of every n-th unit of the input, each in a folder named by the unit. Who
made a part, where and when leaves no trace in it, so merging gives the bytes of a run on one machine. All machines see
the folder of parts under the same path.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from llmforge.config.schema import Config
from llmforge.errors import MachineError, UsageError

MakeParts = Callable[[int, int], None]  # (shard, of): makes the parts of units shard, shard + of, shard + 2 of ...


class ScaleSettings(Config):
    """Which engine makes the parts, and what each of its tasks gets."""

    engine: Literal["ray", "slurm", "processes"] = Field(description="what runs the shards")
    shards: int = Field(default=1, ge=1, le=100_000, description="tasks; four for each worker even out their time")
    max_running: int = Field(default=-1, ge=-1, description="tasks at a time; -1: as many as fit")
    cpus_per_task: int = Field(default=1, ge=1, le=1024, description="CPUs that a task gets")
    memory_per_cpu_gb: float = Field(default=2.0, gt=0, le=1024, description="memory that a task gets for each CPU")
    ray_address: str = Field(default="auto", min_length=1, description="of a running cluster, host:port; auto: find it")
    partition: str | None = Field(default=None, description="Slurm's partition; needed for slurm")
    time: str = Field(default="24:00:00", pattern=r"^[0-9:-]+$", description="Slurm's limit for a task")
    sbatch: dict[str, str] = Field(default={}, description="more options of sbatch, by their long names")


@dataclass(frozen=True)
class _MakeShard:
    """A step as datatrove calls it: documents from the step before (none), rank, number of ranks."""

    make_parts: MakeParts

    def __call__(self, data: object, rank: int = 0, world_size: int = 1) -> None:
        self.make_parts(rank, world_size)


def check_engine(settings: ScaleSettings) -> None:
    """Raises MachineError or UsageError when the engine cannot be used from here; loads nothing."""
    from importlib.util import find_spec
    from shutil import which

    needed = ["datatrove", *(["ray"] if settings.engine == "ray" else [])]
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        hint = "install them with pip install 'llmforge[scale]', or use --shard i/n and --merge under any scheduler"
        raise MachineError(f"{settings.engine} needs {' and '.join(missing)}, not installed", "scale.engine", hint)
    if settings.engine == "slurm" and which("sbatch") is None:
        raise MachineError("there is no sbatch here", "scale.engine", "start it on a login node of the cluster")
    if settings.engine == "slurm" and settings.partition is None:
        raise UsageError("slurm needs a partition", "scale.partition", "sinfo lists them")


def make_shards(make_parts: MakeParts, settings: ScaleSettings, log_folder: Path) -> bool:
    """Runs `make_parts(i, n)` for every shard; True when all are done, False when Slurm has taken them.

    `make_parts` must be picklable and importable where it runs. A shard that was made before is called again: it
    finds its parts there and returns. `log_folder` gets the engine's own records.

    Raises:
        MachineError: the engine is not there, or a shard failed; the line names the folder of its log.
    """
    check_engine(settings)
    marks = log_folder / "completions"
    shutil.rmtree(marks, ignore_errors=True)  # of an earlier run
    with _connected(settings):
        try:
            _executor(settings, [_MakeShard(make_parts)], log_folder).run()
        except Exception as error:
            what = f"a shard failed under {settings.engine} ({type(error).__name__})"
            raise MachineError(what, log_folder / "logs", "the same command makes what is missing") from error
    if settings.engine == "slurm":
        return False
    # Ray's executor returns with a warning only when shards fail: its marks tell which are done.
    missing = sorted(set(range(settings.shards)) - {int(path.name) for path in marks.glob("*")})
    if missing:
        shown = ", ".join(map(str, missing[:8]))
        what = f"{len(missing)} of {settings.shards} shards were not made: {shown}"
        raise MachineError(what, log_folder / "logs", "the same command makes what is missing")
    return True


@contextmanager
def _connected(settings: ScaleSettings) -> Iterator[None]:
    if settings.engine != "ray":
        yield
        return
    import ray

    try:
        ray.init(address=settings.ray_address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        hint = "start it with ray start --head, and ray start --address HOST:PORT on the other machines"
        raise MachineError("there is no Ray cluster", settings.ray_address, hint) from error
    try:
        yield
    finally:
        ray.shutdown()


def _executor(settings: ScaleSettings, pipeline: list[Any], log_folder: Path) -> Any:
    """The engine's executor. Old marks of completion are not trusted: a part's own folder says whether it is made."""
    shared: dict[str, Any] = {"logging_dir": str(log_folder), "tasks": settings.shards, "skip_completed": False}
    workers = settings.max_running
    memory = settings.memory_per_cpu_gb if settings.engine == "ray" else math.ceil(settings.memory_per_cpu_gb)
    task = {"cpus_per_task": settings.cpus_per_task, "mem_per_cpu_gb": memory}
    if settings.engine == "ray":
        from datatrove.executor.ray import RayPipelineExecutor

        return RayPipelineExecutor(pipeline, workers=workers, **task, **shared)
    if settings.engine == "processes":
        from datatrove.executor.local import LocalPipelineExecutor

        return LocalPipelineExecutor(pipeline, workers=workers, start_method="spawn", **shared)
    from datatrove.executor.slurm import SlurmPipelineExecutor

    return SlurmPipelineExecutor(
        pipeline,
        time=settings.time,
        partition=settings.partition,
        job_name="llmforge-clean",
        workers=workers,
        sbatch_args=dict(settings.sbatch),
        slurm_logs_folder=str(log_folder / "slurm"),
        **task,
        **shared,
    )
