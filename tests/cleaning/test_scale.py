"""Shards under engines that exist: a Ray cluster of two nodes, Slurm's commands, and processes, all with one answer."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parent))

from scale_parts import UNITS, MakeParts, content  # noqa: E402

from llmforge.cleaning.scale import ScaleSettings, check_engine, make_shards  # noqa: E402
from llmforge.errors import MachineError, UsageError  # noqa: E402

ROOT = Path(__file__).parents[2]
PORT = 6479
# Both engines warn of their own insides.
pytestmark = [pytest.mark.filterwarnings("default")]


def needs(*names: str) -> None:
    for name in names:
        pytest.importorskip(name, reason="needs the extra scale")


def settings(engine: str, **more: object) -> ScaleSettings:
    return ScaleSettings.model_validate({"engine": engine, "shards": 4, **more})


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    """What one process makes, without any engine."""
    MakeParts(tmp_path / "alone", tmp_path / "alone-places")(0, 1)
    found = content(tmp_path / "alone")
    assert len(found) == UNITS
    return found


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Ray cluster of two nodes of one CPU, on two addresses of the loopback network."""
    needs("ray", "datatrove")
    if sys.platform != "linux":
        pytest.skip("only Linux answers on 127.0.0.2 as it is")
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    start = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    address = f"127.0.0.1:{PORT}"
    head = ["--head", "--node-ip-address=127.0.0.1", f"--port={PORT}", "--include-dashboard=false"]
    other = [f"--address={address}", "--node-ip-address=127.0.0.2"]
    nodes = []
    log = tmp_path_factory.mktemp("ray") / "log"
    try:
        with log.open("w") as stream:
            for options in (head, other):
                # a session of its own, so that the node and all that it starts can be ended together
                nodes.append(
                    subprocess.Popen(
                        [*start, *options], env=environment, stdout=stream, stderr=stream, start_new_session=True
                    )
                )
                time.sleep(6)
                assert nodes[-1].poll() is None, log.read_text()
        yield address
    finally:
        for node in reversed(nodes):
            node.send_signal(signal.SIGTERM)
        for node in nodes:
            node.wait(timeout=60)
            try:
                os.killpg(node.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.mark.slow
def test_two_ray_nodes_make_the_bytes_of_one_process(
    two_nodes: str, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    parts, places = tmp_path / "parts", tmp_path / "places"
    wanted = settings("ray", ray_address=two_nodes, memory_per_cpu_gb=0.1)
    assert make_shards(MakeParts(parts, places), wanted, tmp_path / "log")
    assert content(parts) == expected
    assert {note.split()[0] for note in content_texts(places)} == nodes_of(two_nodes)
    before = content(places)
    assert make_shards(MakeParts(parts, places), wanted, tmp_path / "log")  # what is there is not made again
    assert content(places) == before


@pytest.mark.slow
def test_a_shard_that_fails_under_ray_is_told(two_nodes: str, tmp_path: Path) -> None:
    wanted = settings("ray", ray_address=two_nodes, memory_per_cpu_gb=0.1)
    with pytest.raises(MachineError, match=r"1 of 4 shards were not made: 1"):
        make_shards(MakeParts(tmp_path / "parts", tmp_path / "places", fails_at=5), wanted, tmp_path / "log")


def content_texts(folder: Path) -> list[str]:
    return [data.decode() for data in content(folder).values()]


def nodes_of(address: str) -> set[str]:
    """The addresses of a cluster's nodes, as the cluster tells them."""
    import ray

    ray.init(address=address, log_to_driver=False)
    try:
        found = {str(node["NodeManagerAddress"]) for node in ray.nodes() if node["Alive"]}
    finally:
        ray.shutdown()
    assert len(found) == 2
    return found


@pytest.mark.slow
def test_processes_make_the_same_bytes(tmp_path: Path, expected: dict[str, bytes]) -> None:
    needs("datatrove")
    parts = tmp_path / "parts"
    wanted = settings("processes", max_running=2)
    assert make_shards(MakeParts(parts, tmp_path / "places"), wanted, tmp_path / "log")
    assert content(parts) == expected
    with pytest.raises(MachineError, match="a shard failed under processes"):
        make_shards(MakeParts(tmp_path / "p", tmp_path / "q", fails_at=5), wanted, tmp_path / "log")


@pytest.mark.slow
def test_slurm_gets_one_task_a_shard(
    tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's commands are stood in for: sbatch runs the array's tasks one after the other, srun its command."""
    needs("datatrove")
    scripts = {
        "sbatch": """
            #!/bin/bash
            script="${@: -1}"
            grep -q merge_stats "$script" && { echo "Submitted batch job 2"; exit; }
            cp "$script" "$FAKE_SLURM/script"
            last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
            for task in $(seq 0 "$last"); do
              SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=localhost bash "$script" >"$FAKE_SLURM/$task.log" 2>&1
            done
            echo "Submitted batch job 1"
        """,
        "scontrol": """
            #!/bin/bash
            echo localhost
        """,
        "srun": """
            #!/bin/bash
            while [ "${1#-}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done
            exec "$@"
        """,
    }
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in scripts.items():
        lines = [line.strip() for line in text.strip().splitlines()]
        (tools / name).write_text("\n".join(lines) + "\n")
        (tools / name).chmod((tools / name).stat().st_mode | stat.S_IXUSR)
    bins = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    monkeypatch.setenv("PATH", bins)
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(Path(__file__).parent)]))
    parts = tmp_path / "parts"
    wanted = settings("slurm", partition="cpu", sbatch={"account": "us"}, max_running=2, time="01:00:00")
    assert not make_shards(MakeParts(parts, tmp_path / "places"), wanted, tmp_path / "log")
    script = (tmp_path / "script").read_text()
    for line in ("--partition=cpu", "--account=us", "--time=01:00:00", "--mem-per-cpu=2G", "--array=0-3%2"):
        assert f"#SBATCH {line}\n" in script
    assert content(parts) == expected, (tmp_path / "0.log").read_text()


def test_an_engine_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MachineError, match=r"ray needs datatrove and ray.*llmforge\[scale\].*--shard i/n"):
        check_engine(settings("ray"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MachineError, match="there is no sbatch here"):
        check_engine(settings("slurm", partition="cpu"))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(UsageError, match="slurm needs a partition"):
        check_engine(settings("slurm"))
    check_engine(settings("slurm", partition="cpu"))


@pytest.mark.parametrize("values", [{"engine": "spark"}, {"engine": "ray", "shards": 0}, {}], ids=str)
def test_settings_that_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ScaleSettings.model_validate(values)


def test_shards_cover_every_unit_once(tmp_path: Path, expected: dict[str, bytes]) -> None:
    for of in (1, 2, 3, 7, 9):
        parts = tmp_path / f"parts-{of}"
        for shard in reversed(range(of)):
            MakeParts(parts, tmp_path / f"places-{of}")(shard, of)
        assert content(parts) == expected
