"""`pretrain` and `finetune` on several processes: killed, stopped and signalled ranks, and a group that goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from several_processes import COMMAND, ended, gone, ranks, rows, started, wait_for_step  # noqa: E402
from test_pretrain_stage import digests, metrics, values, write_tokens  # noqa: E402

STEPS = 300
# Each starts up to fourteen processes, one after another.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("data") / "tokens")


def config(tokens: Path, output: Path, **changes: Any) -> str:
    """A config file for a run of a few seconds that can be hit at any of its steps."""
    usual = {"train__max_steps": STEPS, "train__save_every": 25, "train__log_every": 1, "train__eval_every": 100}
    path = output.parent / f"{output.name}.yaml"
    path.write_text(json.dumps(values(tokens, output, **{**usual, **changes})))
    return str(path)


def pretrain(file: str, *flags: str, processes: int = 2) -> list[str]:
    return [*COMMAND, "pretrain", "-c", file, "--quiet", "--nproc", str(processes), *flags]


def finish(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def undisturbed(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(pretrain(config(tokens, output)))
    return output


def same(output: Path, other: Path, steps: int = STEPS) -> None:
    assert digests(output, steps) == digests(other, steps)
    assert metrics(output) == metrics(other)


def status(output: Path) -> tuple[str, int]:
    found = json.loads((output / "run.json").read_text())
    return found["status"], found["exit_code"]


def test_killed_ranks_and_the_run_goes_on_by_itself(undisturbed: Path, tokens: Path, tmp_path: Path) -> None:
    """SIGKILL to rank 1, then to rank 0, which holds the run folder and writes."""
    output = tmp_path / "run"
    with started(pretrain(config(tokens, output), "--max-restarts", "2")) as agent:
        for rank, step in ((1, 30), (0, 160)):
            wait_for_step(output, step, agent)
            os.kill(ranks(agent.pid)[rank], signal.SIGKILL)
            if rank == 1:
                time.sleep(1)
        said = ended(agent, 0)
    assert "rank 1 was killed by SIGKILL" in said and "restart 2 of 2" in said
    same(output, undisturbed)


@pytest.mark.slow
def test_a_stopped_rank_is_noticed_and_named(tokens: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    file = config(tokens, output, parallel={"timeout_seconds": 3}, train__max_steps=20_000)
    with started(pretrain(file)) as agent:
        wait_for_step(output, 30, agent)
        pid = ranks(agent.pid)[1]
        os.kill(pid, signal.SIGSTOP)
        said = ended(agent, 4)
        assert gone([pid])
    assert f"rank 1 (pid {pid}" in said and "is stopped (SIGSTOP)" in said and "goes on from the newest" in said
    stacks = (output / "stacks" / "rank-0.txt").read_text()
    assert "rank 0 of 2" in stacks and "trainer.py" in stacks
    assert status(output) == ("failed", 4)
    assert (output / "checkpoints" / "step-25").is_dir()


@pytest.mark.slow
def test_what_a_restart_cannot_mend_is_said_once_and_not_tried_again(tokens: Path, tmp_path: Path) -> None:
    file = config(tokens, tmp_path / "run", train__global_batch_size=1, train__micro_batch_size=1)
    with started(pretrain(file, "--max-restarts", "3")) as agent:
        said = ended(agent, 2)
    assert said.count("cannot be shared by 2 processes") == 1 and "restart" not in said


@pytest.mark.slow
def test_signals_to_the_agent_to_all_and_to_one_rank(undisturbed: Path, tokens: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = pretrain(config(tokens, output), "--max-restarts", "3")
    for step, number in ((20, signal.SIGTERM), (70, signal.SIGUSR1), (130, signal.SIGHUP)):
        with started(command) as agent:
            wait_for_step(output, step, agent)
            chosen = {20: [agent.pid], 70: [*ranks(agent.pid).values(), agent.pid], 130: [ranks(agent.pid)[1]]}
            for pid in chosen[step]:
                os.kill(pid, number)
            said = ended(agent, 75)
        assert said.count("state saved") == 1 and "restart" not in said
        assert status(output) == ("stopped", 75)
        assert (output / "checkpoints" / f"step-{rows(output)[-1]['step']}").is_dir()
    finish(command)
    same(output, undisturbed)


OFTEN = {"train__max_steps": 60, "train__save_every": 1, "train__eval_every": 1}


@pytest.mark.slow
def test_signals_to_a_group_that_saves_and_evaluates_at_every_step(tokens: Path, tmp_path: Path) -> None:
    output, straight = tmp_path / "run", tmp_path / "straight"
    finish(pretrain(config(tokens, straight, **OFTEN)))
    command = pretrain(config(tokens, output, **OFTEN))
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP, signal.SIGTERM)
    for at, number in enumerate(numbers):
        with started(command) as agent:
            wait_for_step(output, 9 * at + 1, agent)
            time.sleep(0.007 * at)  # so that they come at different places of a step
            os.kill(agent.pid, number)
            said = ended(agent, 75)
        assert said.count("state saved") == 1
    finish(command)
    same(output, straight, 60)


@pytest.mark.slow
def test_a_signal_to_a_group_that_compiles(tokens: Path, tmp_path: Path) -> None:
    """It is answered behind the step that is being compiled, and the resumed run ends as the straight one."""
    compiled = {"train__max_steps": 12, "train__compile": True}
    output, straight = tmp_path / "run", tmp_path / "straight"
    kernels = {"XDG_CACHE_HOME": str(tmp_path / "kernels")}  # a cold cache, so that there is time to hit
    command = pretrain(config(tokens, output, **compiled))
    with started(command, **kernels) as agent:
        end = time.monotonic() + 120
        while "compiling" not in _log(output) and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(3)
        assert not rows(output), "the first step came before the signal"
        os.kill(agent.pid, signal.SIGTERM)
        said = ended(agent, 75)
    assert said.count("state saved") == 1
    finish(command)
    finish(pretrain(config(tokens, straight, **compiled)))
    same(output, straight, 12)


def _log(output: Path) -> str:
    try:
        return (output / "log.txt").read_text()
    except OSError:
        return ""


@pytest.mark.slow
def test_a_second_signal_and_a_killed_agent_leave_nobody_behind(tokens: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = pretrain(config(tokens, output, train__max_steps=20_000))
    with started(command) as agent:
        wait_for_step(output, 30, agent)
        pids = ranks(agent.pid)
        os.kill(pids[1], signal.SIGSTOP)  # so that the first signal cannot be answered
        agent.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        agent.send_signal(signal.SIGTERM)
        assert "what was saved last is whole" in ended(agent, 130)
        assert gone(list(pids.values()))
    with started(command) as agent:
        wait_for_step(output, 60, agent)
        pids = ranks(agent.pid)
        agent.kill()
        assert gone(list(pids.values()))


@pytest.mark.slow
def test_four_one_three_two_four_processes(tokens: Path, tmp_path: Path) -> None:
    """Through the command, each time with another number of processes and another way to share the model."""
    constant = {"scheduler": {"name": "constant", "warmup_steps": 2}, "train__eval_every": None}
    # fp32's sums differ in their last bit by how they are shared; a small rate keeps that from growing.
    quiet = {**constant, "optimizer": {"name": "adamw", "lr": 1e-3, "eps": 1e-4}, "model__num_attention_heads": 4}
    alone = tmp_path / "alone"
    finish(pretrain(config(tokens, alone, **quiet, train__max_steps=20), processes=1))
    output = tmp_path / "run"
    ways = [(4, "fsdp2", 2), (1, "auto", 1), (3, "ddp", 1), (2, "fsdp2", 2), (4, "fsdp2", 1)]
    for number, (count, strategy, tensor) in enumerate(ways):
        shared = {"strategy": strategy, "tensor_parallel": tensor}
        steps = 4 * (number + 1)
        finish(pretrain(config(tokens, output, **quiet, train__max_steps=steps, parallel=shared), processes=count))
        assert f"going on from step {steps - 4}" in (output / "log.txt").read_text() or number == 0
    found = [(row["step"], row["tokens"], row["loss"]) for row in rows(output) if "loss" in row]
    wanted = [(row["step"], row["tokens"], row["loss"]) for row in rows(alone) if "loss" in row]
    assert [row[:2] for row in found] == [row[:2] for row in wanted] and len(found) == 20
    assert [row[2] for row in found] == pytest.approx([row[2] for row in wanted], abs=1e-5)


@pytest.mark.slow
def test_finetune_goes_on_by_itself_too(talking_model: Path, tmp_path: Path) -> None:
    rows_of_talk = [
        {"messages": [{"role": "user", "content": f"{n} and {n}?"}, {"role": "assistant", "content": str(2 * n)}]}
        for n in range(40)
    ]
    talk = tmp_path / "talk.jsonl"
    talk.write_text("".join(json.dumps(row) + "\n" for row in rows_of_talk))
    usual = {
        "base_model": str(talking_model),
        "device": "cpu",
        "precision": "fp32",
        "data": {"train": [str(talk)]},
        "train": {"max_steps": 200, "micro_batch_size": 2, "save_every": 20, "log_every": 1, "compile": False},
    }
    folders = {}
    for name in ("alone", "killed"):
        output = folders[name] = tmp_path / name
        file = tmp_path / f"{name}.yaml"
        file.write_text(json.dumps({**usual, "output_dir": str(output)}))
        command = [*COMMAND, "finetune", "-c", str(file), "--quiet", "--nproc", "2", "--max-restarts", "1"]
        with started(command) as agent:
            if name == "killed":
                wait_for_step(output, 50, agent)
                os.kill(ranks(agent.pid)[1], signal.SIGKILL)
            said = ended(agent, 0)
    assert "restart 1 of 1" in said
    assert digests(folders["killed"], 200) == digests(folders["alone"], 200)


CLUSTER = Path(__file__).parents[2] / "configs" / "cluster"
# Stands in for Slurm: srun starts the command once a machine, all of them this one; scontrol names it and writes down
# what is to queue again.
SRUN = """#!/bin/bash
pids=()
for machine in 1 2; do "$@" & pids+=($!); done
worst=0
for pid in "${pids[@]}"; do wait "$pid"; code=$?; [ "$code" -gt "$worst" ] && worst=$code; done
exit "$worst"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$REQUEUED"; fi
"""


def line_of_kubernetes() -> list[str]:
    import yaml

    job = list(yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text()))[1]
    assert job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [75]
    return [str(word) for word in job["spec"]["template"]["spec"]["containers"][0]["command"]]


def test_both_examples_start_the_same_command() -> None:
    words = (CLUSTER / "slurm.sbatch").read_text().split("srun ")[1].split("\ncode=")[0].replace("\\\n", " ").split()
    cloud = line_of_kubernetes()
    assert [word for word in words if word.startswith("--")] == [word for word in cloud if word.startswith("--")]
    assert words[:2] == cloud[:2] == ["llmforge", "pretrain"]


def test_the_slurm_script_asks_for_whole_machines() -> None:
    """Without it Slurm gives the one task of a machine, and so all its processes, a single core."""
    asked = [line for line in (CLUSTER / "slurm.sbatch").read_text().splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --exclusive" in asked and "#SBATCH --mem=0" in asked and "#SBATCH --ntasks-per-node=1" in asked


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_slurm_script_with_two_agents(tokens: Path, tmp_path: Path) -> None:
    """Two agents of one process each meet, are signalled as Slurm does, queue again, and end as one process does."""
    from several_processes import free_port

    output, tools = tmp_path / "run", tmp_path / "tools"
    tools.mkdir()
    llmforge = f'#!/bin/bash\nexec "{sys.executable}" -m llmforge "$@"\n'
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("llmforge", llmforge)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    script = tmp_path / "slurm.sbatch"
    script.write_text((CLUSTER / "slurm.sbatch").read_text().replace("29500", str(free_port())))
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_GPUS_ON_NODE": "1", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    place = {**slurm, "PATH": f"{tools}:{os.environ['PATH']}", "REQUEUED": str(tmp_path / "requeued")}
    command = ["bash", str(script), config(tokens, output)]
    with started(command, **place) as job:
        wait_for_step(output, 20, job)
        for pid in _agents(str(script), str(output)):
            for each in (pid, *ranks(pid).values()):
                os.kill(each, signal.SIGUSR1)
        said = ended(job, 75)
    assert "state saved" in said and (tmp_path / "requeued").read_text() == "requeue 7\n"
    assert status(output) == ("stopped", 75)
    with started(command, **place) as job:
        ended(job, 0)
    assert status(output) == ("finished", 0) and [row["step"] for row in rows(output) if "loss" in row][-1] == STEPS


def _agents(script: str, output: str) -> list[int]:
    """The agents of a job: whose command is our launcher with the run's config."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_text()
            except OSError:
                continue
            if "llmforge.runtime.launch" in words and f"{output}.yaml" in words:
                found.append(int(folder.name))
    return found
