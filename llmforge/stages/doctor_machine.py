"""The machine under `doctor`'s eyes: what it has, how fast it multiplies, and whether a config fits."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from llmforge.runtime.console import quantity
from llmforge.stages.doctor_findings import Diagnosis

# Versions below have known holes: CVE-2025-32434, CVE-2026-24747 and PYSEC-2026-139 (torch), CVE-2026-1260
# (sentencepiece), CVE-2023-47248 (pyarrow), CVE-2026-1839 and CVE-2026-4372 (transformers).
_FLOORS = {"torch": (2, 11), "sentencepiece": (0, 2, 2), "pyarrow": (14, 0, 1), "transformers": (5, 3)}
_COMPILERS = ("g++", "clang++", "c++")
_TRAINING_BYTES = 16  # a parameter: weight, gradient and two averages, fp32
_LEAST_FREE = 1 << 30


def check_machine(found: Diagnosis) -> None:
    """Everything that a run depends on, measured where no rule is known."""
    _versions(found)
    _cores(found)
    _speed(found)
    _compiler(found)
    memory = free_memory()
    if memory is not None:
        found.facts["free_memory_bytes"] = memory
        found.add("note", "memory", f"{quantity(memory, 'B')} are free")
    for name, place in (("here", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(place).free
        found.facts.setdefault("free_disk_bytes", free)
        found.add("note" if free > _LEAST_FREE else "lacking", f"disk ({name}, {place})", f"{quantity(free, 'B')} free")
    found.next = ["llmforge init (a project for your own folder of text)"] if _has("init") else []
    found.next.append("llmforge run -c configs/quickstart.yaml")


def _has(command: str) -> bool:
    from importlib.util import find_spec

    return find_spec(f"llmforge.stages.{command}") is not None


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdecimal())


def _versions(found: Diagnosis) -> None:
    from importlib import metadata

    found.facts["python"] = platform.python_version()
    found.add("note", "python", f"{platform.python_version()} on {platform.platform()}")
    for name, floor in _FLOORS.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.facts[name] = version
        wanted = ".".join(map(str, floor))
        if _numbers(version) < floor:
            found.add("lacking", name, f"{version}, which has known holes: pip install '{name}>={wanted}'")
        else:
            found.add("whole", name, version)


def _cores(found: Diagnosis) -> None:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads, set_to = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    found.facts |= {"cores": cores, "threads": threads}
    why = f"OMP_NUM_THREADS={set_to}" if set_to else "OMP_NUM_THREADS is not set"
    idle = f"; {cores - threads} cores stay idle" if threads < cores else ""
    busy = f"; more threads than cores: unset it or set {cores}" if threads > cores else ""
    found.add("note", "cores", f"{cores}, of which torch uses {threads} ({why}){idle}{busy}")


def _speed(found: Diagnosis) -> None:
    import torch

    from llmforge.runtime.device import choose_device, matmul_rate

    device = choose_device("auto")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    rates = {"fp32": matmul_rate(torch.float32, device), "bf16": matmul_rate(torch.bfloat16, device)}
    found.facts |= {"device": str(device), "flops_per_second": {key: round(rate) for key, rate in rates.items()}}
    words = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {key}" for key, rate in rates.items())
    found.add("note", f"device {name}", f"matrix products of 512 x 512 run at {words}")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        found.facts["free_gpu_bytes"] = free
        found.add("note", "gpu memory", f"{quantity(free, 'B')} of {quantity(total, 'B')} are free")


def _compiler(found: Diagnosis) -> None:
    """torch.compile needs a C++ compiler for code on a CPU (torch/_inductor/cpp_builder.py looks for these)."""
    names = [os.environ["CXX"], *_COMPILERS] if os.environ.get("CXX") else list(_COMPILERS)
    there = next((path for name in names if (path := shutil.which(name))), None)
    found.facts["compiler"] = there
    if there:
        found.add("whole", "compiler", f"{there}: torch.compile can work")
    else:
        found.add(
            "note", "compiler", "no g++ and no clang++: torch.compile does not work here; set train.compile=false"
        )


def free_memory() -> int | None:
    """Bytes that a new process may take: what the kernel calls available, or what a container's limit leaves."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):
        return free
    return min(free, max(0, limit - used))


def judge_memory(found: Diagnosis, purpose: str, needed: int) -> None:
    """Adds whether `needed` bytes fit into the memory that is free now."""
    free = free_memory()
    found.facts["memory_bytes_needed"] = needed
    if free is None:
        found.add("note", "memory", f"{quantity(needed, 'B')} are needed {purpose}")
    elif needed > free:
        found.add("lacking", "memory", f"{quantity(needed, 'B')} are needed {purpose}, {quantity(free, 'B')} are free")
    else:
        found.add("whole", "memory", f"{quantity(needed, 'B')} of {quantity(free, 'B')} free are needed {purpose}")


def judge_disk(found: Diagnosis, place: Path, needed: int) -> None:
    """Adds whether `needed` bytes fit on the disk that holds `place`, which need not exist yet."""
    there = next(path for path in (place.resolve(), *place.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    found.facts |= {"disk_bytes_needed": needed, "free_disk_bytes": free}
    if needed > free:
        found.add(
            "lacking", f"disk {there}", f"{quantity(needed, 'B')} would be written, {quantity(free, 'B')} are free"
        )
    else:
        found.add("whole", f"disk {there}", f"{quantity(needed, 'B')} of {quantity(free, 'B')} free would be written")


def free_gpu_memory() -> tuple[int, int] | None:
    """Bytes that are free on the GPU that a run would take, and how many GPUs there are; None: there is none."""
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        free = int(torch.cuda.mem_get_info()[0])
    except RuntimeError:  # so full that not even this process fits
        free = 0
    return free, torch.cuda.device_count()


def judge_training(found: Diagnosis, config: Any, parameters: int) -> None:
    """Adds whether weights, gradients and optimizer of a training config fit; activations come on top."""
    adapters = getattr(config, "method", "full") != "full"
    needed = 4 * parameters if adapters else _TRAINING_BYTES * parameters
    what = f"for {'frozen weights' if adapters else 'weights, gradients and two averages'}; activations come on top"
    gpu = free_gpu_memory() if config.device in ("auto", "cuda") else None
    if gpu is not None:
        _judge_gpu_memory(found, what, needed, gpu, config.parallel.strategy in ("auto", "fsdp2"))
    elif config.device == "cuda":
        found.facts["memory_bytes_needed"] = needed
        found.add("note", "gpu memory", f"{quantity(needed, 'B')} are needed {what}; there is no GPU here")
    else:
        judge_memory(found, what, needed)


def _judge_gpu_memory(found: Diagnosis, what: str, needed: int, gpu: tuple[int, int], shared: bool) -> None:
    """`shared`: several processes may each hold a part of the model."""
    free, gpus = gpu
    found.facts |= {"memory_bytes_needed": needed, "free_gpu_bytes": free}
    said = f"{quantity(needed, 'B')} are needed {what}; {quantity(free, 'B')} are free"
    if needed <= free:
        found.add("whole", "gpu memory", said)
    elif shared and needed <= free * gpus:
        found.add("note", "gpu memory", f"{said} on one GPU: the {gpus} here hold it together, with --nproc {gpus}")
    else:
        found.add("lacking", "gpu memory", said)
