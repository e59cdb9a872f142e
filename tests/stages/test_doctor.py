"""`doctor`: damage by file, bytes and tensor, the state to use, what is mended, and that nothing else is touched."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from llmforge import cli
from llmforge.checkpoint.tensor_spans import read_spans
from llmforge.checkpoint.train_state import Retention, latest_state, save_state
from llmforge.errors import BusyError, DataError, UsageError
from llmforge.runtime.files import publish_folder
from llmforge.runtime.manifest import write_manifest
from llmforge.runtime.run_folder import RunFolder
from llmforge.stages import doctor_machine, doctor_run
from llmforge.stages.doctor import examine
from llmforge.stages.doctor_files import check_artefact
from llmforge.stages.doctor_findings import Diagnosis


@dataclass
class Answer:
    code: int
    out: str
    err: str


class Call:
    """Calls `llmforge doctor` in this process."""

    def __init__(self, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self._patch, self._capture = patch, capture

    def __call__(self, *arguments: object) -> Answer:
        self._patch.setattr(sys, "argv", ["llmforge", "doctor", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = self._capture.readouterr()
        return Answer(int(end.value.code or 0), shown.out, shown.err)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(monkeypatch, capsys)


def write_state(run: Path, step: int) -> Path:
    generator = torch.Generator().manual_seed(step)
    tensors = {name: torch.randn(60, 70, generator=generator) for name in ("model.a", "model.b", "optimizer.a")}
    return save_state(run / "checkpoints", step, tensors, {"progress": {"step": step}}, Retention(5))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder that was killed after step 30, with three states and an adapter."""
    folder = tmp_path / "run"
    folder.mkdir()
    record = {"command": "pretrain", "status": "running", "exit_code": None, "argv": ["pretrain", "-c", "a b.yaml"]}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / ".lock").write_text("pid 1 on nowhere")
    for step in (10, 20, 30):
        write_state(folder, step)
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    (folder / "adapter").mkdir()
    save_file({"a": torch.ones(3)}, folder / "adapter" / "adapter.safetensors")
    write_manifest(folder / "adapter", "adapter", config={})
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(bytes(content))


def test_a_killed_run_that_is_whole(run: Path, call: Call) -> None:
    before = tree(run)
    answer = call(run, "--json")
    shown = json.loads(answer.out)
    assert answer.code == 0 and answer.err == ""
    assert shown["whole"] is True and shown["status"] == "killed" and shown["owner"] is None
    assert shown["states"] == {"step-10": True, "step-20": True, "step-30": True}
    assert shown["use_state"] == str(run / "checkpoints" / "step-30")
    assert shown["next"] == ["llmforge pretrain -c 'a b.yaml' (goes on from step 30)"]
    assert tree(run) == before
    assert "the newest whole state" in call(run).out


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_is_named_by_file_bytes_and_tensor(run: Path, call: Call, seed: int) -> None:
    rng = random.Random(seed)
    path = run / "checkpoints" / "step-30" / "state.safetensors"
    span = rng.choice(read_spans(path))
    at = rng.randrange(span.start, span.stop)
    flip(path, at)
    answer = call(run, "--json")
    shown = json.loads(answer.out)
    (damaged,) = [finding for finding in shown["findings"] if finding["level"] == "damaged"]
    ((start, stop),) = damaged["ranges"]
    assert damaged["where"] == str(path) and start <= at < stop <= start + 4096 and span.name in damaged["what"]
    assert shown["states"]["step-30"] is False and shown["use_state"].endswith("step-20")
    assert answer.code == 6 and str(path) in answer.err and answer.err.count("\n") == 1
    assert shown["use_state"] == str(latest_state(run / "checkpoints")[0])  # what a resume really takes


def test_each_kind_of_damage_has_its_words(run: Path) -> None:
    state = run / "checkpoints" / "step-30"
    tensors, meta, manifest = state / "state.safetensors", state / "state.json", state / "manifest.json"
    whole = {path: path.read_bytes() for path in (tensors, meta, manifest)}

    def words() -> str:
        found = examine(run)
        for path, content in whole.items():
            path.write_bytes(content)
        return "\n".join(finding.line() for finding in found.of("damaged"))

    content = whole[tensors]
    tensors.write_bytes(content[:9000])
    assert f"is cut off: bytes 9000-{len(content) - 1} of {len(content):,} are missing" in words()
    tensors.write_bytes(content + b"more")
    assert f"{len(content) + 4:,} bytes, {len(content):,} were written" in words()
    tensors.write_bytes(content[:8192] + bytes(4096) + content[12288:])
    assert "bytes 8192-12287: " in (text := words()) and "zeros from byte 8192 on" in text
    tensors.unlink()
    assert "is missing" in words()
    meta.write_bytes(whole[meta].replace(b"30", b"31"))
    assert "state.json, bytes 0-" in words()
    manifest.write_bytes(whole[manifest][:50])
    assert "the manifest cannot be read" in words()
    manifest.write_bytes(whole[manifest].replace(b'"kind": "state"', b'"kind": "model"'))
    assert "manifest.json" in words()
    assert words() == ""


def test_when_no_state_is_whole_it_says_so(run: Path, call: Call) -> None:
    for path in run.glob("checkpoints/step-*/state.safetensors"):
        flip(path, -1)
    answer = call(run, "--json")
    shown = json.loads(answer.out)
    assert answer.code == 6 and shown["use_state"] is None
    assert shown["next"] == ["llmforge pretrain -c 'a b.yaml' --resume never (no state is whole: it begins anew)"]


@pytest.mark.parametrize(
    "flag", [["--resume", "never"], ["--resume=never"], ["--resume", "runs/a/checkpoints/step-10"]]
)
def test_what_a_run_was_typed_with_is_not_done_twice(run: Path, flag: list[str]) -> None:
    """Typed again, it would delete the states that were saved since, or go back behind them."""
    record = json.loads((run / "run.json").read_text())
    argv = ["pretrain", "-c", "a b.yaml", "train.max_steps=9", *flag]
    (run / "run.json").write_text(json.dumps({**record, "argv": argv}))
    typed = "llmforge pretrain -c 'a b.yaml' train.max_steps=9"
    assert examine(run).next == [f"{typed} (goes on from step 30)"]
    for path in run.glob("checkpoints/step-*/state.safetensors"):
        flip(path, -1)
    assert examine(run).next == [f"{typed} --resume never (no state is whole: it begins anew)"]
    shutil.rmtree(run / "checkpoints")
    begins = " --resume runs/a/checkpoints/step-10" if "step-10" in flag[-1] else ""
    assert examine(run).next == [typed + begins]


def step_of_a_pipeline(run: Path, tmp_path: Path, status: str) -> tuple[Path, Path]:
    """The run as the step `pretrain` of a pipeline that ended with `status`, and the pipeline's folder."""
    outer = tmp_path / "pipeline"
    outer.mkdir()
    record = {"command": "run", "status": status, "exit_code": 0, "argv": ["run", "-c", "p.yaml"]}
    (outer / "run.json").write_text(json.dumps(record))
    run.rename(outer / "pretrain")
    inner = json.loads((outer / "pretrain" / "run.json").read_text())
    (outer / "pretrain" / "run.json").write_text(json.dumps({**inner, "status": status, "argv": record["argv"]}))
    return outer, outer / "pretrain"


def test_a_step_without_a_whole_state_begins_anew_by_its_pipelines_command(run: Path, tmp_path: Path) -> None:
    outer, inner = step_of_a_pipeline(run, tmp_path, "running")
    assert examine(inner).next == ["llmforge run -c p.yaml (goes on from step 30)"]
    for path in inner.glob("checkpoints/step-*/state.safetensors"):
        flip(path, -1)
    wanted = [f"rm -r {inner}/checkpoints", "llmforge run -c p.yaml (makes again what is missing)"]
    assert examine(inner).next == wanted and examine(outer).next == wanted
    shutil.rmtree(inner / "checkpoints")
    assert examine(outer).next == ["llmforge run -c p.yaml"]


def test_a_run_that_failed_says_why_beside_the_command(tmp_path: Path, call: Call) -> None:
    error = DataError("is not valid JSON", "books/a.jsonl:3", "mend it")
    with pytest.raises(DataError), RunFolder.open(tmp_path / "run", "clean", {}):
        raise error
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "argv": ["clean", "-c", "c.yaml"]}))
    shown = json.loads(call(tmp_path / "run", "--json").out)
    assert shown["error"] == "books/a.jsonl:3: is not valid JSON; mend it" and shown["status"] == "failed"
    assert shown["next"] == [f"llmforge clean -c c.yaml (mend this first: {shown['error']})"]
    assert f"failed (exit code 3, {record['end']}): {error}" in call(tmp_path / "run").out


def test_a_whole_pipeline_is_followed_by_its_last_model(run: Path, endless_model: Path, tmp_path: Path) -> None:
    outer, inner = step_of_a_pipeline(run, tmp_path, "finished")
    shutil.copytree(endless_model, inner / "model")
    write_manifest(inner / "model", "model", config={})
    record = json.loads((outer / "run.json").read_text())
    steps = {"clean": 1.0, "pretrain": 2.0, "finetune": 2.0, "evaluate": 1.0, "total": 6.0}
    (outer / "run.json").write_text(json.dumps({**record, "seconds": steps}))
    assert examine(outer).next == [f"llmforge generate -m {inner} -p '...'"]
    shutil.copytree(inner, outer / "finetune")
    assert examine(outer).next == [f"llmforge chat -m {outer / 'finetune'}"]


def test_a_pipeline_makes_an_adapter_again_with_its_model(run: Path, endless_model: Path, tmp_path: Path) -> None:
    outer, inner = step_of_a_pipeline(run, tmp_path, "finished")
    shutil.copytree(endless_model, inner / "model")
    write_manifest(inner / "model", "model", config={})
    flip(inner / "adapter" / "adapter.safetensors", -1)
    wanted = [f"rm -r {inner}/adapter", f"rm -r {inner}/model", "llmforge run -c p.yaml (makes again what is missing)"]
    assert examine(inner).next == wanted and examine(outer).next == wanted


def test_a_state_that_a_crash_moved_aside_counts(run: Path) -> None:
    checkpoints = run / "checkpoints"
    (checkpoints / "step-30").rename(checkpoints / ".step-30.old")
    found = examine(run)
    assert found.facts["use_state"] == str(checkpoints / "step-30") and found.facts["states"]["step-30"] is True
    assert found.next[-1] == "llmforge pretrain -c 'a b.yaml' (goes on from step 30)"
    assert (checkpoints / ".step-30.old").is_dir()
    found = examine(run, repair=True)
    assert (checkpoints / "latest").read_text() == "step-30\n"
    assert len(found.repaired) == 1 and found.facts["use_state"] == str(latest_state(checkpoints)[0])


def test_a_run_may_start_while_somebody_looks(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start(folder: Path, kind: str, found: Diagnosis) -> bool:
        with RunFolder.open(run, "pretrain", {}):
            started.append(folder.name)
        return check_artefact(folder, kind, found)

    monkeypatch.setattr(doctor_run, "check_artefact", start)
    assert examine(run).facts["use_state"].endswith("step-30") and len(started) == 3
    with pytest.raises(BusyError, match="is in use by pid"):
        examine(run, repair=True)


def test_a_state_that_a_run_removes_while_it_is_read_is_no_damage(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def removed(folder: Path, kind: str, found: Diagnosis) -> bool:
        if folder.name == "step-10":
            shutil.rmtree(folder)
        return check_artefact(folder, kind, found)

    monkeypatch.setattr(doctor_run, "check_artefact", removed)
    found = examine(run)
    assert not found.of("damaged") and found.facts["states"] == {"step-20": True, "step-30": True}


@pytest.mark.parametrize("readable", [True, False])
def test_another_users_run_is_not_called_killed(
    owned_run: Path, monkeypatch: pytest.MonkeyPatch, readable: bool
) -> None:
    real = os.open

    def refused(path: str | Path, flags: int, *more: int) -> int:
        if Path(path).name == ".lock" and (not readable or flags & (os.O_RDWR | os.O_WRONLY)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *more)

    monkeypatch.setattr(os, "open", refused)
    found = examine(owned_run)
    assert found.facts["status"] == "running" and found.next == [] and "works in it now" in found.page()
    assert ("pid 1 on nowhere" if readable else "another user") in found.page()
    with pytest.raises(UsageError, match="may not be written"):
        examine(owned_run, repair=True)


def test_half_a_line_of_samples_is_seen_too(run: Path) -> None:
    path = run / "samples.jsonl"
    path.write_text('{"step": 1, "text": "a"}\n{"step": 2, "te')
    found = examine(run)
    (finding,) = [entry for entry in found.findings if entry.where == str(path)]
    assert finding.level == "note" and "half a line" in finding.what and finding.ranges == ((25, 40),)


def test_a_half_line_of_metrics_is_a_note_and_a_broken_one_is_damage(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    found = examine(run)
    assert not found.of("damaged") and "half a line" in found.page()
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    (finding,) = examine(run).of("damaged")
    assert finding.ranges == ((12, 16),) and "line 2" in finding.what


@pytest.fixture
def crashed(run: Path) -> Path:
    """The same after crashes at every boundary that leaves something."""
    checkpoints = run / "checkpoints"
    (checkpoints / ".step-40.tmp-999999").mkdir()
    (checkpoints / ".step-40.tmp-999999" / "state.safetensors").write_bytes(b"half")
    shutil.copytree(checkpoints / "step-10", checkpoints / ".step-5.gone")
    (checkpoints / "latest").write_text("step-10\n")
    (run / ".run.json.tmp-abc").write_text("{")
    (run / "adapter").rename(run / ".adapter.old")
    (run / "parts").mkdir()
    return run


def test_repair_loses_nothing(crashed: Path, call: Call) -> None:
    states = {name: content for name, content in tree(crashed).items() if name.startswith("checkpoints/step-")}
    adapter = tree(crashed / ".adapter.old")
    before = tree(crashed)
    looked = call(crashed, "--json")
    assert looked.code == 0 and tree(crashed) == before
    leftovers = {Path(f["where"]).name for f in json.loads(looked.out)["findings"] if f["level"] == "leftover"}
    assert leftovers == {".step-40.tmp-999999", ".step-5.gone", "latest", ".run.json.tmp-abc", ".adapter.old"}
    assert json.loads(looked.out)["next"][0] == f"llmforge doctor {crashed} --repair"
    mended = call(crashed, "--repair", "--json")
    assert mended.code == 0 and len(json.loads(mended.out)["repaired"]) == 5
    after = tree(crashed)
    assert {name: after[name] for name in states} == states and tree(crashed / "adapter") == adapter
    assert after["checkpoints/latest"] == b"step-30\n"
    assert not [name for name in after if "tmp" in name or "gone" in name or ".old" in name]
    assert (crashed / "parts").is_dir()
    again = examine(crashed, repair=True)
    assert again.repaired == [] and not again.of("leftover") and tree(crashed) == after


def test_a_newer_artefact_is_never_replaced_by_the_old_one(run: Path) -> None:
    shutil.copytree(run / "adapter", run / ".adapter.old")
    (run / ".adapter.old" / "adapter.safetensors").write_bytes(b"older")
    before = tree(run)
    assert examine(run, repair=True).repaired == [] and tree(run) == before


def test_a_damaged_state_is_not_removed(run: Path) -> None:
    path = run / "checkpoints" / "step-30" / "state.safetensors"
    flip(path, 5000)
    damaged = path.read_bytes()
    found = examine(run, repair=True)
    assert path.read_bytes() == damaged and (run / "checkpoints" / "latest").read_text() == "step-20\n"
    assert found.repaired == [f"{run}/checkpoints/latest names step-20 (it named step-30)"]


@pytest.fixture
def owned_run(run: Path) -> Iterator[Path]:
    handle = os.open(run / ".lock", os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield run
    os.close(handle)


def test_a_run_in_use_is_looked_at_and_not_mended(owned_run: Path) -> None:
    (owned_run / "checkpoints" / ".step-40.tmp-1").mkdir()
    found = examine(owned_run)
    assert found.facts["owner"] == "pid 1 on nowhere" and not found.of("leftover") and found.next == []
    with pytest.raises(BusyError, match="pid 1 on nowhere"):
        examine(owned_run, repair=True)
    assert (owned_run / "checkpoints" / ".step-40.tmp-1").is_dir()


def test_a_pipeline_is_looked_at_step_by_step(run: Path, tmp_path: Path) -> None:
    outer = tmp_path / "pipeline"
    outer.mkdir()
    record = {"command": "run", "status": "finished", "exit_code": 0, "argv": ["run", "-c", "p.yaml"]}
    (outer / "run.json").write_text(json.dumps(record))
    # A step may be called as an artefact is.
    run.rename(outer / "tokenizer")
    flip(outer / "tokenizer" / "adapter" / "adapter.safetensors", -1)
    found = examine(outer)
    (finding,) = found.of("damaged")
    assert finding.where == str(outer / "tokenizer" / "adapter" / "adapter.safetensors")
    assert found.next == [f"rm -r {outer}/tokenizer/adapter", "llmforge run -c p.yaml (makes again what is missing)"]
    assert found.facts["steps"]["tokenizer"]["use_state"].endswith("step-30")


def test_a_model_folder_of_ours_and_one_from_elsewhere(endless_model: Path, tmp_path: Path, call: Call) -> None:
    foreign = tmp_path / "model"
    shutil.copytree(endless_model, foreign)
    assert not (foreign / "manifest.json").exists()
    answer = call(foreign, "--json")
    assert answer.code == 0 and json.loads(answer.out)["parameters"] > 0 and "every weight" in answer.out
    weights = foreign / "model.safetensors"
    span = read_spans(weights)[0]
    content = bytearray(weights.read_bytes())
    content[span.start : span.start + 4] = b"\x00\x00\xc0\x7f"  # NaN
    weights.write_bytes(bytes(content))
    answer = call(foreign)
    assert answer.code == 6 and "NaN" in answer.err and str(weights) in answer.err
    shutil.copyfile(endless_model / "model.safetensors", weights)
    write_manifest(foreign, "model", config={})
    assert call(foreign).code == 0
    flip(weights, span.start + 40)
    answer = call(foreign)
    assert answer.code == 6 and span.name in answer.out and f"bytes {span.start // 4096 * 4096}-" in answer.out
    (foreign / "config.json").write_text("{")
    assert call(foreign).code == 6


def test_a_tokenizer_folder(small_tokenizer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(small_tokenizer, folder)
    write_manifest(folder, "tokenizer", config={})
    found = examine(folder)
    assert found.kind == "tokenizer" and not found.of("damaged") and "340 ids" in found.page()
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b'"version"', b'"versiom"'))
    (finding,) = [found for found in examine(folder).of("damaged") if found.ranges]
    assert finding.where == str(path) and finding.ranges[0][0] == 0


def test_tokens_and_corpus_by_their_bytes(tmp_path: Path, small_tokenizer: Path) -> None:
    from llmforge.corpus.document import Document
    from llmforge.corpus.folder import CorpusWriter
    from llmforge.tokens.write import TokenWriter

    documents = [Document(f"d{n}", "A list holds values in order. " * 60, "s", {}) for n in range(30)]
    tokens, corpus = tmp_path / "tokens", tmp_path / "corpus"
    for folder in (tokens, corpus):
        folder.mkdir()
    writer = TokenWriter(tokens, small_tokenizer)
    writer.write_split("train", documents, 1, lambda done: None)
    writer.close()
    write_manifest(tokens, "tokens", config={})
    with CorpusWriter(corpus, 1 << 30) as rows:
        for document in documents:
            rows.write("train", document)
    write_manifest(corpus, "corpus", config={})
    assert not examine(tokens).of("damaged") and "30 documents" in examine(tokens).page()
    assert not examine(corpus).of("damaged")
    for folder, name in ((tokens, "train-00000.bin"), (corpus, "train-00000.jsonl.zst")):
        path = folder / name
        at = path.stat().st_size - 1
        flip(path, at)
        found = examine(folder)
        (finding,) = found.of("damaged")
        assert finding.where == str(path) and finding.ranges[0][0] <= at < finding.ranges[0][1]
        assert "makes it again" in found.next[0]


def settings(tmp_path: Path, tokens: Path, **changes: Any) -> Path:
    path = tmp_path / "pretrain.yaml"
    values: dict[str, Any] = {
        "output_dir": str(tmp_path / "out"),
        "device": "cpu",
        "model": {"preset": "tiny"},
        "data": {"sources": [{"name": "made", "path": str(tokens)}], "seq_len": 32},
        "train": {"micro_batch_size": 4, "max_steps": 4},
    }
    path.write_text(json.dumps({**values, **changes}))
    return path


def test_a_config_its_inputs_and_whether_it_fits(tmp_path: Path, small_tokenizer: Path, call: Call) -> None:
    from llmforge.corpus.document import Document
    from llmforge.tokens.write import TokenWriter

    tokens = tmp_path / "tokens"
    tokens.mkdir()
    writer = TokenWriter(tokens, small_tokenizer)
    writer.write_split("train", [Document("d", "A list holds values in order. " * 90, "s", {})], 1, lambda done: None)
    writer.close()
    write_manifest(tokens, "tokens", config={})
    path = settings(tmp_path, tokens)
    answer = call("-c", path, "--json")
    shown = json.loads(answer.out)
    assert answer.code == 0 and shown["command"] == "pretrain" and shown["next"] == [f"llmforge pretrain -c {path}"]
    assert shown["memory_bytes_needed"] == 16 * shown["parameters"] and shown["free_disk_bytes"] > 0
    # The model, and three states of a weight and two averages: a new one is there before the oldest of two goes.
    assert shown["disk_bytes_needed"] == (4 + 3 * 12) * shown["parameters"]
    huge = settings(tmp_path, tokens, model={"preset": "tiny", "num_hidden_layers": 500, "hidden_size": 16384})
    answer = call(huge)
    assert answer.code == 4 and "would be written" in answer.err and "are needed for weights" in answer.out
    path = settings(tmp_path, tokens)
    flip(tokens / "train-00000.bin", -1)
    answer = call(path)
    assert answer.code == 6 and "train-00000.bin" in answer.err
    shutil.rmtree(tokens)
    answer = call(path)
    assert answer.code == 4 and "an input is not there" in answer.err
    path.write_text("output_dir: a\ncorpuss: b\n")
    assert call(path).code == 2


@pytest.mark.parametrize(
    ("gpu", "device", "strategy", "level"),
    [
        ((16_000, 1), "auto", "auto", "whole"),
        ((15_999, 1), "cuda", "auto", "lacking"),
        ((8_000, 2), "auto", "fsdp2", "note"),
        ((8_000, 2), "auto", "ddp", "lacking"),
        ((7_999, 2), "auto", "auto", "lacking"),
        (None, "cuda", "auto", "note"),
        (None, "auto", "auto", "whole"),
    ],
)
def test_whether_a_config_fits_the_gpu(
    monkeypatch: pytest.MonkeyPatch, gpu: tuple[int, int] | None, device: str, strategy: str, level: str
) -> None:
    """1,000 parameters in full take 16,000 bytes."""
    monkeypatch.setattr(doctor_machine, "free_gpu_memory", lambda: gpu)
    found = Diagnosis("config", "c.yaml")
    config = SimpleNamespace(device=device, method="full", parallel=SimpleNamespace(strategy=strategy))
    doctor_machine.judge_training(found, config, 1000)
    (finding,) = found.findings
    assert finding.level == level and found.facts["memory_bytes_needed"] == 16_000
    assert finding.where == ("memory" if device == "auto" and gpu is None else "gpu memory")
    assert found.facts.get("free_gpu_bytes") == (None if gpu is None else gpu[0])


def test_what_it_does_not_know_is_refused(tmp_path: Path, call: Call, run: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    for arguments in (["nowhere"], [tmp_path / "empty"], [tmp_path / "text.txt"], [run, "-c", "a.yaml"], ["--repair"]):
        answer = call(*arguments)
        assert answer.code == 2 and answer.out == "" and answer.err.count("\n") == 1, answer
    with pytest.raises(UsageError, match="this is a adapter|this is an adapter"):
        examine(run / "adapter", repair=True)


def test_one_state_alone_and_the_checkpoints_folder(run: Path) -> None:
    assert examine(run / "checkpoints" / "step-20").kind == "state"
    assert examine(run / "checkpoints").facts["use_state"].endswith("step-30")


def test_a_state_put_in_place_while_it_looks_is_no_harm(run: Path) -> None:
    """Publishing over an old folder is atomic for a reader: `doctor` sees one or the other."""
    fresh = run / "checkpoints" / ".step-20.tmp-1"
    shutil.copytree(run / "checkpoints" / "step-20", fresh)
    publish_folder(fresh, run / "checkpoints" / "step-20")
    assert not examine(run).of("damaged")


def test_the_machine(call: Call) -> None:
    answer = call("--json")
    shown = json.loads(answer.out)
    assert answer.code == 0 and shown["kind"] == "machine"
    assert shown["cores"] >= 1 and shown["threads"] == torch.get_num_threads()
    assert shown["flops_per_second"]["fp32"] > 1e6 and shown["flops_per_second"]["bf16"] > 1e6
    assert shown["torch"] == torch.__version__ and shown["free_disk_bytes"] > 0


def test_a_package_with_a_known_hole_is_told(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    from importlib import metadata

    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.9.1+cpu" if name == "torch" else real(name))
    answer = call()
    assert answer.code == 4 and "torch" in answer.err and "2.9.1" in answer.err and "torch>=2.11" in answer.err


def test_findings_read_as_lines() -> None:
    found = Diagnosis("state", "x")
    found.add("damaged", "f", "was changed", tuple((at, at + 2) for at in range(0, 60, 10)))
    assert found.of("damaged")[0].line() == "!! f, bytes 0-1, 10-11, 20-21, 30-31 and 2 more ranges: was changed"
