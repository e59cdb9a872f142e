"""Which device a run uses, in which number format it computes, and the process settings that pay on a CPU.

Makes of `auto | cpu | cuda | mps` a device and of `auto | fp32 | bf16 | fp8` a dtype, with the reason in words;
measures where no rule is known. Knows no model.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import time
from pathlib import Path
from typing import Literal

import torch

from llmforge.errors import MachineError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp8"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

# bf16 must win clearly, since fp32 needs no second thought
_WORTH = 1.15
# Ada and Hopper have fp8 tensor cores
_FLASH_FROM = (8, 0)
_FP8_FROM = (8, 9)
_MATMUL = 512

# Dense bf16 FLOP/s, summed in fp32, from NVIDIA's data sheets, for the MFU that a run prints. A row is a whole name as
# torch reports it but for the words below; what has no row (laptop chips, parts of a GPU) has no MFU.
_PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H200 NVL": 835e12,
    "GH200": 989e12,
    "H100": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIE": 756e12,
    "A100": 312e12,
    "A100 SXM4": 312e12,
    "A100 PCIE": 312e12,
    "A40": 150e12,
    "A30": 165e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A6000": 155e12,
    "6000 ADA GENERATION": 364e12,
    "4090": 165e12,
    "3090": 71e12,
}
_NOT_A_VARIANT = re.compile(r"NVIDIA|GEFORCE|RTX|\d+GB|HBM\d\w*")


def choose_device(name: DeviceName, local_rank: int = 0) -> torch.device:
    """The device of this process; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        MachineError: the machine has no such device, or fewer than there are processes.
    """
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            hint = "set device=cpu, or install a CUDA build of torch"
            raise MachineError("device=cuda, but torch sees no CUDA device", hint=hint)
        if local_rank >= count:
            hint = f"start at most {count} processes a machine (--nproc {count})"
            raise MachineError(f"process {local_rank + 1} of this machine needs a GPU and there are {count}", hint=hint)
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    if name == "mps" or (name == "auto" and torch.backends.mps.is_available()):
        if not torch.backends.mps.is_available():
            raise MachineError("device=mps, but torch sees no Apple GPU", hint="set device=cpu")
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(precision: PrecisionName, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype that matrices are multiplied in, and why.

    `auto` takes bf16 on a GPU that has it; on a CPU it measures one matrix product in both and takes the faster.

    Raises:
        MachineError: bf16 or fp8 is asked for and the device has none.
    """
    if precision == "fp8":
        if device.type != "cuda" or torch.cuda.get_device_capability(device) < _FP8_FROM:
            what = f"precision=fp8 needs an NVIDIA GPU of compute capability {'.'.join(map(str, _FP8_FROM))} or newer"
            raise MachineError(what, hint="set precision=bf16")
        return torch.bfloat16, "with the layers' products in fp8, as configured"
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        if precision == "bf16":
            raise MachineError("precision=bf16, but this GPU has no bf16", hint="set precision=fp32")
        return torch.float32, "this GPU has no bf16"
    if precision != "auto":
        return DTYPES[precision], "as configured"
    if device.type != "cpu":
        return torch.bfloat16, f"the default on {device.type}"
    fast, plain = matmul_rate(torch.bfloat16, device), matmul_rate(torch.float32, device)
    words = f"matrix products run at {fast / 1e9:.0f} GFLOP/s in bf16 and {plain / 1e9:.0f} in fp32"
    return (torch.bfloat16 if fast > _WORTH * plain else torch.float32), words


def matmul_rate(dtype: torch.dtype, device: torch.device, size: int = _MATMUL, seconds: float = 0.1) -> float:
    """FLOP/s of a square matrix product: the best of those that fit into `seconds`, after two to warm up.

    On a CPU by the processor time of this thread, which works or waits briefly while the others do their part: on a
    machine that does other things the clock once gave fp32 a fifth of its rate.
    """
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=generator).to(device, dtype) for _ in range(2))
    best, end, runs = float("inf"), clock() + seconds, 0
    while runs < 3 or clock() < end:
        start = clock()
        left @ right
        synchronize(device)
        if runs >= 2:
            best = min(best, clock() - start)
        runs += 1
    return 2 * size**3 / best


def peak_rate(device: torch.device, dtype: torch.dtype) -> float | None:
    """FLOP/s that MFU is counted against: a GPU's data sheet, a CPU's measured matrix product, None where unknown.

    The data sheets' figures are those of bf16: a GPU that computes in fp32 has none.
    """
    if device.type == "cuda":
        words = re.split(r"[ -]+", torch.cuda.get_device_name(device).upper())
        name = " ".join(word for word in words if not _NOT_A_VARIANT.fullmatch(word))
        return _PEAKS.get(name) if dtype == torch.bfloat16 else None
    return matmul_rate(dtype, device, size=1024) if device.type == "cpu" else None


def has_varlen_attention(device: torch.device) -> bool:
    """Whether flash attention's kernel for rows of several documents runs there: NVIDIA GPUs from Ampere on."""
    if device.type != "cuda" or torch.version.cuda is None or not torch.backends.cuda.is_flash_attention_available():
        return False
    return torch.cuda.get_device_capability(device) >= _FLASH_FROM


def synchronize(device: torch.device) -> None:
    """Waits until the device has done all that was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process has held: on a GPU by torch's allocator, else the resident set of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        # Linux's getrusage has the size of the process that started this one in it, if that was larger.
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size * 1024


def share_cores(processes: int) -> int:
    """Gives each of the machine's `processes` its share of the cores as threads; returns the number of threads.

    torchrun sets OMP_NUM_THREADS=1 when nothing is set, which would leave cores idle; one process keeps what torch or
    the user's OMP_NUM_THREADS chose.
    """
    if processes > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // processes))
    return torch.get_num_threads()


def be_deterministic(wanted: bool) -> None:
    """Makes every operation give the same bits each time, or lets the fastest do; for the whole process.

    cuBLAS also needs its workspace fixed, which is set before its first use here.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # `use_deterministic_algorithms` would load the compiler too, to tell it; it is told where something is compiled.
    torch.set_deterministic_debug_mode("error" if wanted else "default")
    # Filling new memory with NaN finds reads of uninitialised memory; it costs a pass over each and finds none here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
