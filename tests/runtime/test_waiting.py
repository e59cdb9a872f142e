"""A worker that is stopped is named on stderr while its result is waited for, and nothing is said of one that works."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from llmforge.runtime import waiting
from llmforge.runtime.waiting import result_of, shut_down


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessPoolExecutor]:
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "REPEAT_SECONDS", 0.3)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as made:
        yield made


def test_a_stopped_worker_is_named_until_it_goes_on(
    pool: ProcessPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = pool.submit(os.getpid).result()
    os.kill(pid, signal.SIGSTOP)
    go_on = threading.Timer(1.5, os.kill, (pid, signal.SIGCONT))
    go_on.start()
    assert result_of(pool.submit(os.getpid)) == pid
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if f"worker process {pid} is stopped (SIGSTOP)" in line]
    assert said.splitlines() == lines and 2 <= len(lines) <= 6  # again every so often, not at each look
    assert all(f"kill -CONT {pid}" in line for line in lines)


def test_a_stopped_worker_is_named_when_the_pool_ends(
    pool: ProcessPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = pool.submit(os.getpid).result()
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(1.0, os.kill, (pid, signal.SIGCONT)).start()
    shut_down(pool)
    assert f"worker process {pid} is stopped (SIGSTOP)" in capsys.readouterr().err


def test_nothing_is_said_of_work_that_takes_long_and_its_error_comes_through(
    pool: ProcessPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert result_of(pool.submit(time.sleep, 0.5)) is None
    with pytest.raises(TimeoutError, match="its own"):
        result_of(pool.submit(_fails))
    assert capsys.readouterr().err == ""


def _fails() -> None:
    raise TimeoutError("its own")
