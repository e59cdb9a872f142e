"""Pipelines on small stages of the test's own: reading, skipping, redoing what depends on a change, the page."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmforge.config.schema import Config
from llmforge.corpus.document import Document
from llmforge.corpus.folder import CorpusWriter
from llmforge.errors import BusyError, ConfigError, DataError, StopRequested, UsageError
from llmforge.runtime.console import Console
from llmforge.runtime.manifest import find_artefact, manifest_digest
from llmforge.runtime.run_folder import RunFolder
from llmforge.stages import run as run_stage
from llmforge.stages import step_records, table
from llmforge.stages.pipeline import load_pipeline
from llmforge.stages.request import Request
from llmforge.stages.table import Stage

TEXTS = ["the cat sat on the mat " * 20, "a dog ran " * 30, "held out words, never seen " * 40]


class Clean(Config):
    output_dir: str
    texts: list[str] = TEXTS
    workers: int = 1


class Tokenizer(Config):
    output_dir: str
    corpus: str
    vocab_size: int = 300


class Pretrain(Config):
    output_dir: str
    tokenizer: str
    steps: int = 3
    fail: str | None = None


class Evaluate(Config):
    model: str
    limit: int = 5


class Generate(Config):
    model: str


CALLS: list[str] = []


def _ran(name: str) -> None:
    CALLS.append(name)


def clean(config: Clean, console: Console) -> dict[str, object]:
    _ran("clean")
    with RunFolder.open(config.output_dir, "clean", config.model_dump()) as run:
        temp = run.temporary("corpus")
        writer = CorpusWriter(temp, 1 << 20)
        for index, text in enumerate(config.texts):
            writer.write("valid" if "held" in text else "train", Document(str(index), text, "test", {}))
        writer.close()
        run.publish(temp, "corpus")
    size = sum(map(len, config.texts))
    return {
        "input": {"documents": len(config.texts) + 1, "bytes": size + 7},
        "kept": {"documents": len(config.texts), "bytes": size},
        "dropped": {"too short": {"documents": 1, "bytes": 7}},
        "changed": {"repair": 2},
        "output": config.output_dir,
        "seconds": 0.1,
        "bytes_per_second": 1.0,
    }


def _artefact(config: Any, command: str, kind: str, made_from: str, text: str) -> None:
    with RunFolder.open(config.output_dir, command, config.model_dump()) as run:
        temp = run.temporary(kind)
        (temp / "file").write_text(text)
        run.publish(temp, kind, made_from={"input": made_from})


def tokenizer(config: Tokenizer, console: Console) -> dict[str, object]:
    _ran("tokenizer")
    _artefact(config, "tokenizer train", "tokenizer", manifest_digest(config.corpus, "corpus"), str(config.vocab_size))
    return {"vocab_size": config.vocab_size, "bytes_per_token": 3.5, "lossless": True, "output": config.output_dir}


def pretrain(config: Pretrain, console: Console, resume: str = "auto") -> dict[str, object]:
    _ran(f"pretrain {resume}")
    if config.fail == "stop" and resume == "never":
        raise StopRequested("stopped by SIGTERM")
    _artefact(config, "pretrain", "model", manifest_digest(config.tokenizer, "tokenizer"), str(config.steps))
    console.result("summary of the step")
    return {"untrained_bits_per_byte": 3.0, "valid_bits_per_byte": 1.5, "model": config.output_dir}


def evaluate(config: Evaluate, console: Console) -> dict[str, object]:
    _ran("evaluate")
    scores = {"acc": 0.5, "acc_stderr": 0.05, "samples": 100, "chance": 0.25}
    bits = {"bits_per_byte": 1.25, "bits_per_byte_stderr": None, "samples": 1, "chance": 4.0}
    return {"model": config.model, "tasks": {"choices": scores, "held-out": bits}}


def generate(config: Generate, console: Console) -> dict[str, object]:
    _ran("generate")
    sample = {
        "prompt": "What does f do?",
        "text": "It returns 1.",
        "finish_reason": "stop",
        "tokens": 5,
        "seconds": 0.1,
    }
    return {"samples": [sample] * 6}


def _preview(config: Any) -> dict[str, object]:
    for key, kind in (("corpus", "corpus"), ("tokenizer", "tokenizer"), ("model", "model")):
        if hasattr(config, key):
            find_artefact(getattr(config, key), kind)
    return {"reads": [], "writes": [], "bytes": 1}


def _prints(config: Any) -> dict[str, str]:
    pairs = (("corpus", "corpus"), ("tokenizer", "tokenizer"), ("model", "model"))
    return {key: manifest_digest(getattr(config, key), kind) for key, kind in pairs if hasattr(config, key)}


STAGES = {
    "clean": Stage("clean", Clean, clean, _preview, _prints, "corpus"),
    "tokenizer train": Stage("tokenizer train", Tokenizer, tokenizer, _preview, _prints, "tokenizer"),
    "pretrain": Stage("pretrain", Pretrain, pretrain, _preview, _prints, "model"),
    "evaluate": Stage("evaluate", Evaluate, evaluate, _preview, _prints),
    "generate": Stage("generate", Generate, generate, _preview, _prints),
}

PIPELINE = """name: small
output_dir: runs/small
steps:
  - clean:
      workers: 2
  - tokenizer: {corpus: "${clean}"}
  - pretrain: {tokenizer: "${tokenizer}"}
  - evaluate: {model: "${pretrain}"}
  - generate: {model: "${pretrain}"}
"""


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(table, "stage", STAGES.__getitem__)
    monkeypatch.setattr(table, "schemas", lambda: {command: made.schema for command, made in STAGES.items()})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipe.yaml").write_text(PIPELINE)
    CALLS.clear()
    yield


Runner = Callable[..., dict[str, Any]]


def _run(*overrides: str, file: str = "pipe.yaml") -> tuple[list[str], dict[str, Any]]:
    CALLS.clear()
    result = run_stage.run(load_pipeline(Path(file), overrides), Console(json=True, quiet=True))
    return list(CALLS), result


ALL = ["clean", "tokenizer", "pretrain never", "evaluate", "generate"]


def test_a_step_by_a_file_writes_into_the_pipeline_and_not_where_the_file_says() -> None:
    Path("step.yaml").write_text("output_dir: runs/elsewhere\nworkers: 3\n")
    Path("by_file.yaml").write_text("output_dir: runs/mine\nsteps:\n  - clean: {config: step.yaml}\n")
    (step,) = load_pipeline(Path("by_file.yaml"), []).steps
    assert (step.config.output_dir, step.config.workers) == ("runs/mine/clean", 3)
    (step,) = load_pipeline(Path("by_file.yaml"), ["clean.output_dir=own", "output_dir=runs/two"]).steps
    assert step.config.output_dir == "own"


def test_a_second_run_skips_everything_and_shows_the_same_page(capsys: pytest.CaptureFixture[str]) -> None:
    pages = []
    for _ in range(2):
        CALLS.clear()
        run_stage.run(load_pipeline(Path("pipe.yaml"), []), Console())
        pages.append(capsys.readouterr())
    assert CALLS == []
    assert pages[1].err.count("unchanged, skipped") == 5
    head = [page.out.partition("── Time")[0].split("\n", 2)[2] for page in pages]
    assert head[0] == head[1]
    assert "summary of the step" not in pages[0].out


def test_a_step_that_fails_names_its_keys_as_the_pipeline_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: Tokenizer, console: Console) -> dict[str, object]:
        raise DataError("vocab_size is 300", "corpus", "set vocab_size to at most 280, not output_dirs")

    made = STAGES["tokenizer train"]
    monkeypatch.setitem(STAGES, "tokenizer train", replace(made, run=fail))
    with pytest.raises(DataError) as raised:
        _run()
    assert str(raised.value) == (
        "corpus: tokenizer.vocab_size is 300; set tokenizer.vocab_size to at most 280, not output_dirs"
    )


def test_the_page_says_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    run_stage.run(load_pipeline(Path("pipe.yaml"), []), Console())
    page = capsys.readouterr().out
    for words in ("dropped: too short", "kept", "3.50 bytes per token", "xz -9", "untrained model", "after pretrain"):
        assert words in page
    assert "0.500         ± 0.050   0.250   +5.0 errors" in page
    assert "evaluate: held-out" in page and "1.250" in page
    assert page.count("> What does f do?") == 5 and "6 of 6 answers ended by themselves" in page
    assert "llmforge generate --model runs/small/pretrain" in page


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tokenizer.vocab_size=400", ["tokenizer", "pretrain never", "evaluate", "generate"]),
        ("pretrain.steps=4", ["pretrain never", "evaluate", "generate"]),
        ("evaluate.limit=6", ["evaluate"]),
        # Other workers make the same corpus: what is made from it stays.
        ("clean.workers=1", ["clean"]),
        ("clean.texts.0=new words", ALL),
    ],
)
def test_a_changed_key_redoes_its_step_and_what_depends_on_it(override: str, expected: list[str]) -> None:
    assert _run()[0] == ALL
    assert _run(override)[0] == expected
    assert _run(override)[0] == []


def test_changed_code_redoes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    _run()
    monkeypatch.setattr(step_records, "code_digest", lambda: "other")
    assert _run()[0] == ALL


def test_a_damaged_or_lost_artefact_is_made_again() -> None:
    _run()
    Path("runs/small/tokenizer/tokenizer/file").write_text("longer than before")
    assert _run()[0] == ["tokenizer"]
    file = Path("runs/small/tokenizer/tokenizer/file")
    file.write_text(file.read_text()[::-1])  # as many bytes as before
    assert _run()[0] == ["tokenizer"]
    shutil.rmtree("runs/small/pretrain")
    assert _run()[0] == ["pretrain auto"]


def _states() -> list[str]:
    return sorted(path.name for path in Path("runs/small/pretrain/checkpoints").glob("*"))


def _save_states() -> None:
    for step in (3, 6):
        Path(f"runs/small/pretrain/checkpoints/step-{step}").mkdir(parents=True)


def test_a_finished_step_whose_model_is_damaged_goes_on_from_its_states() -> None:
    _run()
    _save_states()
    file = Path("runs/small/pretrain/model/file")
    whole = file.read_text()
    file.write_text("4")  # as many bytes as before
    assert _run()[0] == ["pretrain auto"]
    assert _states() == ["step-3", "step-6"] and file.read_text() == whole


@pytest.mark.parametrize("change", ["code", "config"])
def test_a_kill_at_the_start_of_a_changed_step_leaves_no_state_of_before(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run()
    _save_states()
    overrides = ["pretrain.steps=9"] if change == "config" else []
    if change == "code":
        monkeypatch.setattr(step_records, "code_digest", lambda: "other")

    def killed(config: Pretrain, console: Console, resume: str = "auto") -> dict[str, object]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(STAGES, "pretrain", Stage("pretrain", Pretrain, killed, _preview, _prints, "model"))
        with pytest.raises(KeyboardInterrupt):
            _run(*overrides)
    assert _states() == []
    assert "pretrain auto" in _run(*overrides)[0]


def test_states_are_not_removed_under_a_run_or_another_command() -> None:
    _run()
    _save_states()
    with RunFolder.open("runs/small/pretrain", "pretrain", {}), pytest.raises(BusyError, match="in use by pid"):
        _run("pretrain.steps=9")
    assert _states() == ["step-3", "step-6"]
    (Path("runs/small/pretrain") / "run.json").write_text('{"command": "finetune"}')
    with pytest.raises(UsageError, match="holds a run of `finetune`"):
        _run("pretrain.steps=9")
    assert _states() == ["step-3", "step-6"]


def test_a_signal_between_two_steps_stops_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    def signalled(config: Clean, console: Console) -> dict[str, object]:
        os.kill(os.getpid(), signal.SIGTERM)
        return clean(config, console)

    with monkeypatch.context() as patch:
        patch.setitem(STAGES, "clean", Stage("clean", Clean, signalled, _preview, _prints, "corpus"))
        with pytest.raises(StopRequested, match="SIGTERM"):
            _run()
    assert CALLS == ["clean"]
    record = json.loads(Path("runs/small/run.json").read_text())
    assert (record["status"], record["exit_code"]) == ("stopped", 75)
    assert _run()[0] == ALL[1:]


def test_a_stopped_step_is_gone_on_from_and_a_changed_one_begins_anew() -> None:
    with pytest.raises(StopRequested):
        _run("pretrain.fail=stop")
    assert CALLS == ["clean", "tokenizer", "pretrain never"]
    assert _run("pretrain.fail=stop")[0] == ["pretrain auto", "evaluate", "generate"]
    with pytest.raises(StopRequested):
        _run("pretrain.fail=stop", "pretrain.steps=9")
    assert _run("pretrain.fail=null", "pretrain.steps=9")[0][0] == "pretrain never"


def test_results_are_those_of_the_steps_and_are_kept() -> None:
    _, result = _run()
    assert result["steps"]["clean"]["result"]["kept"]["documents"] == 3
    assert result["steps"]["pretrain"]["status"] == "done"
    assert 0 < result["xz"]["bits_per_byte"] < 8
    kept = json.loads(Path("runs/small/results/evaluate.json").read_text())
    assert kept["status"] == "finished" and kept["result"]["tasks"]["choices"]["acc"] == 0.5


def test_a_pipeline_without_later_steps_still_has_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    Path("short.yaml").write_text("output_dir: runs/short\nsteps: [{clean: }]\n")
    run_stage.run(load_pipeline(Path("short.yaml"), []), Console())
    page = capsys.readouterr().out
    assert "What came in" in page and "Scores" not in page and "xz -9" in page


def test_a_step_takes_a_file_with_overrides_and_a_second_of_its_kind_has_its_own_name() -> None:
    Path("clean.yaml").write_text("output_dir: elsewhere\ntexts: [from the file]\nworkers: 3\n")
    Path("two.yaml").write_text(
        "output_dir: runs/two\nsteps:\n  - clean: {config: clean.yaml, workers: 5}\n"
        "  - tokenizer: {corpus: '${clean}'}\n  - tokenizer-large: {corpus: '${clean}/', vocab_size: 500}\n"
    )
    pipeline = load_pipeline(Path("two.yaml"), ["tokenizer-large.vocab_size=600"])
    first, second, third = pipeline.steps
    assert first.config == Clean(output_dir="runs/two/clean", texts=["from the file"], workers=5)
    assert first.loaded.origins["texts.0"] == "clean.yaml:2" and first.loaded.origins["workers"] == "two.yaml:3"
    assert second.config.corpus == "runs/two/clean" and second.config.output_dir == "runs/two/tokenizer"
    assert third.config.vocab_size == 600 and third.after == ("clean",)


def test_all_faults_of_a_pipeline_come_at_once() -> None:
    Path("bad.yaml").write_text(
        "output_dir: runs/bad\nsteps:\n  - claen: {}\n  - clean: {worker: 2}\n  - clean: {}\n  - {a: 1, b: 2}\n"
        "  - tokenizer:\n      corpus: ${claen}\n      vocab_size: x\n  - pretrain: {}\nsteps_: 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_pipeline(Path("bad.yaml"), ["clena.workers=3"])
    said = [str(fault) for fault in caught.value.faults]
    assert said[0].startswith("bad.yaml:3: `claen` is no command")
    assert any("bad.yaml:4: two" in line or "bad.yaml:5: two steps" in line for line in said)
    assert any(line.startswith("bad.yaml:6: a step is a map of one key") for line in said)
    assert any("unknown key `steps_`" in line for line in said)
    assert any("`clena` is no step" in line and "did you mean `clean`?" in line for line in said)


def test_faults_of_all_steps_come_at_once() -> None:
    Path("bad.yaml").write_text(
        "output_dir: runs/bad\nsteps:\n  - clean: {worker: 2}\n"
        "  - tokenizer:\n      corpus: ${claen}\n      vocab_size: x\n  - pretrain: {}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_pipeline(Path("bad.yaml"), ["tokenizer.vocab_siz=3"])
    said = [str(fault) for fault in caught.value.faults]
    assert said == [
        "bad.yaml:3: unknown key `worker`; did you mean `workers`?",
        "bad.yaml:5: ${claen} names no earlier step; did you mean `clean`?",
        "bad.yaml:6: `vocab_size` must be a whole number, not 'x'",
        "bad.yaml:7: `tokenizer` is required",
        "override `tokenizer.vocab_siz=3`: unknown key `vocab_siz`; did you mean `vocab_size`?",
    ]
    assert not Path("runs").exists()


def test_a_config_of_another_command_is_told_so() -> None:
    Path("other.yaml").write_text("output_dir: a\ncorpus: b\n")
    with pytest.raises(UsageError, match="config of `llmforge tokenizer train`"):
        load_pipeline(Path("other.yaml"), [])


def test_a_missing_input_is_found_before_the_first_step() -> None:
    Path("bad.yaml").write_text("output_dir: runs/bad\nsteps:\n  - clean: {}\n  - tokenizer: {corpus: nowhere}\n")
    with pytest.raises(DataError, match="nowhere"):
        _run(file="bad.yaml")
    assert CALLS == []


def test_the_dry_run_shows_every_step_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run_stage.run_request(Request("run", Path("pipe.yaml"), ["pretrain.steps=7"], dry_run=True))
    shown = capsys.readouterr().out
    assert "# step 3 of 5: pretrain" in shown and "# override" in shown and "waits for: clean" in shown
    assert "corpus: runs/small/clean" in shown and not Path("runs").exists()
    run_stage.run_request(Request("run", Path("pipe.yaml"), [], dry_run=True, json=True))
    assert len(json.loads(capsys.readouterr().out)["steps"]) == 5


def test_an_empty_request_and_a_folder_in_the_way_are_refused() -> None:
    with pytest.raises(UsageError, match="no config"):
        run_stage.run_request(Request("run", None, []))
    Path("runs").mkdir()
    Path("runs/small").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        _run()
