"""Device, dtype and process settings."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from llmforge.errors import MachineError
from llmforge.runtime import device

CPU = torch.device("cpu")


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.choose_device("auto") == CPU and device.choose_device("cpu") == CPU
    with pytest.raises(MachineError, match="no CUDA device"):
        device.choose_device("cuda")
    with pytest.raises(MachineError, match="no Apple GPU"):
        device.choose_device("mps")


def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(MachineError, match="there are 2"):
        device.choose_device("cuda", local_rank=2)


@pytest.mark.parametrize(("fast", "wanted"), [(300e9, torch.bfloat16), (100e9, torch.float32), (110e9, torch.float32)])
def test_precision_auto_takes_what_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, fast: float, wanted: torch.dtype
) -> None:
    monkeypatch.setattr(device, "matmul_rate", lambda dtype, where: fast if dtype == torch.bfloat16 else 100e9)
    dtype, why = device.choose_dtype("auto", CPU)
    assert dtype == wanted and "GFLOP/s" in why
    assert device.choose_dtype("bf16", CPU)[0] == torch.bfloat16
    assert device.choose_dtype("fp32", CPU)[0] == torch.float32


@pytest.mark.skipif(sys.platform != "linux", reason="Linux hands the size of a process on to those that it starts")
def test_the_size_of_who_started_it_is_not_its_own() -> None:
    child = "from llmforge.runtime import device; import torch; print(device.peak_memory_bytes(torch.device('cpu')))"
    parent = (
        "import subprocess, sys; held = bytearray(b'x') * (800 << 20);"
        "done = subprocess.run([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE, text=True);"
        "print(done.stdout, len(held))"
    )
    ran = subprocess.run([sys.executable, "-c", parent, child], stdout=subprocess.PIPE, text=True, check=True)
    own, held = map(int, ran.stdout.split())
    assert 0 < own < held


def test_a_measured_rate_is_a_rate() -> None:
    assert 1e8 < device.matmul_rate(torch.float32, CPU, size=128, seconds=0.01) < 1e15


def test_memory_is_counted() -> None:
    before = device.peak_memory_bytes(CPU)
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert device.peak_memory_bytes(CPU) >= before and device.peak_memory_bytes(CPU) > 64 << 20


FAULTS = """
import resource, sys, torch
torch.set_num_threads(1)
from llmforge.runtime.malloc import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    print(-1); sys.exit()
def work():
    return torch.ones(8 << 20).add_(1)
for _ in range(20):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_kept() -> None:
    def faults(how: str) -> int:
        return int(
            subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout
        )

    kept = faults("keep")
    if kept < 0:
        pytest.skip("not glibc's malloc")
    assert kept < 0.2 * faults("plain")


GIVEN_BACK = """
import sys, torch
from pathlib import Path
from llmforge.runtime.malloc import give_back_freed_memory, keep_freed_memory
def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20
assert not give_back_freed_memory()
if not keep_freed_memory():
    print(-1); sys.exit()
before = held()
blocks = [torch.ones(1 << 20) for _ in range(64)]
stays = torch.ones(1 << 20)
del blocks
kept = held() - before
assert give_back_freed_memory()
print(kept - (held() - before))
"""


def test_kept_memory_can_be_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True)
    given = int(done.stdout)
    if given < 0:
        pytest.skip("not glibc's malloc")
    assert given > 128  # of 256 MiB


def test_determinism_is_switched() -> None:
    try:
        device.be_deterministic(True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        device.be_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_cpu_is_measured_by_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 2.0, 3.0, 3.5, 9.0])  # the end, three starts, the third's end, and past the end
    monkeypatch.setattr(device.time, "thread_time", lambda: next(times))
    assert device.matmul_rate(torch.float32, CPU, size=64) == 2 * 64**3 / 0.5


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA L40", 181),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA RTX A6000", 155),
        ("NVIDIA RTX 6000 Ada Generation", 364),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", None),
        ("AMD Instinct MI300X", None),
    ],
)
def test_the_peak_of_a_gpu_is_that_of_its_whole_name(
    monkeypatch: pytest.MonkeyPatch, name: str, tera: int | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: name)
    cuda = torch.device("cuda", 0)
    assert device.peak_rate(cuda, torch.bfloat16) == (None if tera is None else tera * 1e12)
    assert device.peak_rate(cuda, torch.float32) is None
