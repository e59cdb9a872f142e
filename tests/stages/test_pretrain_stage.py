"""`pretrain` as a whole: what it makes, that a killed run goes on bit for bit, and what it refuses."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmforge.errors import BusyError, DamagedError, DataError, LlmforgeError, StopRequested, UsageError
from llmforge.runtime.console import Console
from llmforge.runtime.files import digest_file
from llmforge.runtime.manifest import read_manifest, write_manifest
from llmforge.runtime.run_folder import CLOCKED, RunFolder
from llmforge.stages.pretrain import PretrainConfig, _summary, inputs_fingerprint, preview, run

WORDS = (
    "the list of a value returns an item when it is called with no key and then the next one is read from it".split()
)


def write_tokens(folder: Path, seed: int = 0, documents: int = 60) -> Path:
    """A small tokens artefact of made-up sentences from two sources."""
    from llmforge.corpus.document import Document
    from llmforge.tokenizer.settings import TokenizerSettings
    from llmforge.tokenizer.train import train_tokenizer
    from llmforge.tokens.write import TokenWriter

    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=60)) + ".\n" for _ in range(documents)]
    rows = [Document(f"d{n}", text, ("books", "notes")[n % 2], {}) for n, text in enumerate(texts)]
    tokenizer = folder.parent / f"{folder.name}-tokenizer"
    tokenizer.mkdir(parents=True)
    train_tokenizer([" ".join(WORDS)] * 20, tokenizer, TokenizerSettings(vocab_size=320))
    folder.mkdir()
    writer = TokenWriter(folder, tokenizer)
    writer.write_split("train", rows[8:], 1, lambda done: None)
    writer.write_split("valid", rows[:8], 1, lambda done: None)
    writer.close()
    write_manifest(folder, "tokens", config={})
    return folder


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("data") / "tokens")


def values(tokens: Path, output: Path, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "output_dir": str(output),
        "device": "cpu",
        "precision": "fp32",
        "model": {"preset": "tiny", "hidden_size": 32, "num_hidden_layers": 2},
        "data": {"sources": [{"name": "made", "path": str(tokens)}], "seq_len": 32},
        "train": {
            "micro_batch_size": 4,
            "global_batch_size": 8,
            "max_steps": 24,
            "log_every": 5,
            "eval_every": 10,
            "save_every": 7,
            "max_grad_norm": 1.0,
        },
    }
    for key, value in changes.items():
        part = config
        *path, last = key.split("__")
        for name in path:
            part = part.setdefault(name, {})
        part[last] = value
    return config


def train(settings: dict[str, Any], resume: str = "auto") -> dict[str, Any]:
    return run(PretrainConfig.model_validate(settings), Console(quiet=True, json=True), resume=resume)


def metrics(output: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCKED} for row in rows]


def digests(output: Path, step: int) -> dict[str, str]:
    """SHA-256 of the weights that are published and of all tensors of the last state (weights, optimizer, RNG)."""
    state = output / "checkpoints" / f"step-{step}" / "state.safetensors"
    return {"model": digest_file(output / "model" / "model.safetensors"), "state": digest_file(state)}


@pytest.fixture(scope="module")
def undisturbed(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    return output, train(values(tokens, output, train__sample_every=12))


def test_it_learns_and_says_what_it_did(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    output, result = undisturbed
    assert result["state"] == "finished" and result["steps"] == 24 and result["tokens"] == 24 * 8 * 32
    assert result["valid_bits_per_byte"] < 0.8 * result["untrained_bits_per_byte"]
    assert set(result["valid_bits_per_byte_by_source"]) == {"books", "notes"}
    rows = metrics(output)
    assert [row["step"] for row in rows if "loss" in row] == [5, 10, 15, 20, 24]
    assert [row["step"] for row in rows if "valid_loss" in row] == [0, 10, 20, 24]
    assert json.loads((output / "run.json").read_text())["status"] == "finished"
    samples = [json.loads(line) for line in (output / "samples.jsonl").read_text().splitlines()]
    assert {row["step"] for row in samples} == {12, 24} and all(row["text"] for row in samples)
    assert sorted(path.name for path in (output / "checkpoints").glob("step-*")) == ["step-21", "step-24"]


def test_the_model_folder_is_whole_and_names_what_it_was_made_from(
    undisturbed: tuple[Path, dict[str, Any]], tokens: Path
) -> None:
    from llmforge.checkpoint.model_folder import load_model

    output, result = undisturbed
    manifest = read_manifest(output / "model", "model", verify="digests")
    assert manifest.made_from == {"made": read_manifest(tokens, "tokens").digest}
    assert manifest.made_from == inputs_fingerprint(PretrainConfig.model_validate(values(tokens, output)))
    model = load_model(output / "model")
    assert sum(value.numel() for value in model.parameters()) == result["parameters"]


def test_again_it_only_publishes_again(undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path) -> None:
    output, result = undisturbed
    copy = tmp_path / "copy"
    shutil.copytree(output, copy)
    again = train(values(tokens, copy, train__sample_every=12))
    assert again["valid_loss"] == result["valid_loss"] and again["steps"] == result["steps"]
    assert metrics(copy) == metrics(output)
    assert (copy / "samples.jsonl").read_text() == (output / "samples.jsonl").read_text()
    assert result["new_steps"] == 24 and again["new_steps"] == 0
    assert _summary(again).startswith("already finished: no step was left to make")
    assert "already finished" not in _summary(result)


def test_a_person_reads_of_one_pace_and_of_no_held_out_text(
    tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmforge.runtime import console as console_file

    monkeypatch.setattr(console_file, "_PLAIN_EVERY_SECONDS", 0.0)
    settings = values(tokens, tmp_path / "run", train__max_steps=4, train__log_every=2, train__eval_every=None)
    monkeypatch.setattr("llmforge.stages.pretrain_data._held_out", lambda pairs: iter(()))
    run(PretrainConfig.model_validate(settings), Console())
    shown = capsys.readouterr()
    assert "warning: there is no held-out text" in shown.err and "no held-out loss" in shown.out
    (line,) = [line for line in shown.err.splitlines() if line.startswith("training: 4 steps")]
    pace, rate = re.findall(r", ([0-9.,]+) (?:steps|tokens)/s", line)
    assert float(rate.replace(",", "")) == pytest.approx(float(pace.replace(",", "")) * 8 * 32, rel=0.05)


CHILD = """
import json, sys
from llmforge.runtime.console import Console
from llmforge.runtime.exits import guarded
from llmforge.stages.pretrain import PretrainConfig, run
import torch
torch.set_num_threads(int(sys.argv[2]))
config = PretrainConfig.model_validate(json.loads(sys.argv[1]))
sys.exit(guarded(lambda: run(config, Console(quiet=True, json=True)) and None))
"""


def start(settings: dict[str, Any]) -> subprocess.Popen[bytes]:
    import torch

    arguments = [sys.executable, "-c", CHILD, json.dumps(settings), str(torch.get_num_threads())]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE)


def wait_for_step(output: Path, step: int, child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and child.poll() is None:
        path = output / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if any(json.loads(line)["step"] >= step for line in lines if line.endswith("}")):
            return
        time.sleep(0.002)
    raise AssertionError(f"the child did not come to step {step}: {child.communicate()[1].decode()}")


def test_killed_at_any_time_the_same_bits_come_out(
    undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path
) -> None:
    """SIGKILL twice: before the first state, and between a state and the next."""
    whole, result = undisturbed
    output = tmp_path / "run"
    settings = values(tokens, output, train__sample_every=12)
    for step in (0, 15):
        child = start(settings)
        wait_for_step(output, step, child)
        child.send_signal(signal.SIGKILL)
        message = child.communicate()[1].decode()
        assert child.returncode == -signal.SIGKILL, message
    finished = train(settings)
    assert digests(output, 24) == digests(whole, 24)
    assert metrics(output) == metrics(whole)
    assert (output / "samples.jsonl").read_text() == (whole / "samples.jsonl").read_text()
    assert {key: finished[key] for key in ("train_loss", "valid_loss")} == {
        key: result[key] for key in ("train_loss", "valid_loss")
    }


def test_sigterm_saves_exits_75_and_goes_on_exactly(
    undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    settings = values(tokens, output, train__sample_every=12, train__save_every=None)
    child = start(settings)
    wait_for_step(output, 5, child)
    child.send_signal(signal.SIGTERM)
    message = child.communicate(timeout=120)[1].decode()
    assert child.returncode == StopRequested.exit_code, message
    assert "state saved" in message and "the same command goes on" in message
    assert json.loads((output / "run.json").read_text())["status"] == "stopped"
    assert [path.name for path in (output / "checkpoints").glob("step-*")]
    train(settings)
    assert digests(output, 24)["model"] == digests(undisturbed[0], 24)["model"]
    assert metrics(output) == metrics(undisturbed[0])


def stopped_copy(undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(undisturbed[0], copy)
    return copy


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"optimizer": {"lr": 0.01}}, "optimizer.lr: 0.04 then, 0.01 now"),
        ({"seed": 7}, "seed"),
        ({"train__max_steps": 30}, "train.max_steps"),
        ({"model__hidden_size": 64}, "model.hidden_size"),
        ({"data__seq_len": 16}, "data.seq_len"),
    ],
)
def test_a_changed_config_is_refused_with_its_keys(
    undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path, change: dict[str, Any], key: str
) -> None:
    copy = stopped_copy(undisturbed, tmp_path)
    before = digests(copy, 24)
    with pytest.raises(UsageError) as caught:
        train(values(tokens, copy, **change))
    assert key in str(caught.value) and "--resume never" in str(caught.value)
    assert digests(copy, 24) == before


def test_what_changes_no_weight_may_change(
    undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path
) -> None:
    copy = stopped_copy(undisturbed, tmp_path)
    changes = {"train__log_every": 3, "train__save_every": 5, "train__eval_every": 4, "train__keep_last": 5}
    assert train(values(tokens, copy, **changes))["steps"] == 24


def test_a_longer_run_goes_on_where_the_rates_were_the_same(tokens: Path, tmp_path: Path) -> None:
    constant = {"scheduler": {"name": "constant", "warmup_steps": 2}, "train__eval_every": None}
    short = values(tokens, tmp_path / "a", **constant, train__max_steps=6)
    train(short)
    train(values(tokens, tmp_path / "a", **constant, train__max_steps=12))
    train(values(tokens, tmp_path / "b", **constant, train__max_steps=12))
    assert digests(tmp_path / "a", 12)["model"] == digests(tmp_path / "b", 12)["model"]


def test_never_starts_anew(undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path) -> None:
    copy = stopped_copy(undisturbed, tmp_path)
    result = train(values(tokens, copy, train__max_steps=4, train__eval_every=None), resume="never")
    assert result["steps"] == 4
    assert [path.name for path in (copy / "checkpoints").glob("step-*")] == ["step-4"]
    assert [row["step"] for row in metrics(copy)] == [0, 4, 4]


def test_a_budget_in_minutes_is_kept(tokens: Path, tmp_path: Path) -> None:
    settings = values(tokens, tmp_path / "run", train__max_steps=None, train__max_minutes=0.05)
    result = train(settings)
    assert result["seconds"] < 4.5  # of 3; importing torch and writing the model folder are not part of the budget
    rates = [row["lr"] for row in metrics(tmp_path / "run") if "lr" in row]
    assert rates[-1] < 0.5 * max(rates)


def test_a_budget_that_validation_eats_is_told(
    tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = values(tokens, tmp_path / "run", train__max_steps=None, train__max_minutes=1e-4, train__save_every=1)
    result = train(settings)
    shutil.rmtree(tmp_path / "run" / "model")
    assert train(settings)["steps"] == result["steps"]  # nothing is trained on top
    assert result["steps"] == 1
    assert "enough for 1 steps, validation" in capsys.readouterr().err


def test_early_stopping_gives_the_best_weights(tokens: Path, tmp_path: Path) -> None:
    settings = values(
        tokens,
        tmp_path / "run",
        train__max_steps=200,
        train__eval_every=2,
        train__early_stopping={"patience": 2},
        optimizer={"name": "adamw", "lr": 0.2},
        scheduler={"name": "constant", "warmup_steps": 4},
    )
    result = train(settings)
    assert result["state"] == "stopped early" and result["steps"] == result["best_step"] + 4 < 200
    losses = {row["step"]: row["valid_loss"] for row in metrics(tmp_path / "run")[:-1] if "valid_loss" in row}
    assert result["valid_loss"] == pytest.approx(losses[result["best_step"]], rel=1e-5)


def test_preview_names_what_is_read_and_written(tokens: Path, tmp_path: Path) -> None:
    found = preview(PretrainConfig.model_validate(values(tokens, tmp_path / "run")))
    assert found["reads"] == [str(tokens)] and str(tmp_path / "run" / "model") in str(found["writes"])
    assert isinstance(found["bytes"], int) and found["bytes"] > 0
    assert not (tmp_path / "run").exists()


def copied(tokens: Path, tmp_path: Path) -> Path:
    shutil.copytree(tokens, tmp_path / "tokens")
    return tmp_path / "tokens"


def shard(tokens: Path) -> Path:
    return sorted(tokens.glob("train-00000*.bin"))[0]


def assert_refused(settings: dict[str, Any], kind: type[LlmforgeError], *words: str) -> None:
    with pytest.raises(kind) as caught:
        train(settings)
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text
    assert not (Path(settings["output_dir"]) / "model").exists()


def test_truncated_shard(tokens: Path, tmp_path: Path) -> None:
    bad = copied(tokens, tmp_path)
    os.truncate(shard(bad), shard(bad).stat().st_size - 10)
    assert_refused(values(bad, tmp_path / "run"), DamagedError, shard(bad).name)


def test_ids_beyond_the_vocabulary(tokens: Path, tmp_path: Path) -> None:
    bad = copied(tokens, tmp_path)
    content = bytearray(shard(bad).read_bytes())
    content[-2000:] = b"\xff" * 2000
    shard(bad).write_bytes(bytes(content))
    write_manifest(bad, "tokens", config={})
    assert_refused(values(bad, tmp_path / "run", train__max_steps=200), DamagedError, shard(bad).name, "vocabulary")


def test_fewer_tokens_than_a_window(tokens: Path, tmp_path: Path) -> None:
    settings = values(tokens, tmp_path / "run", data__seq_len=100_000)
    assert_refused(settings, DataError, "fewer than one window", "data.seq_len")


def test_shards_changed_after_the_start(undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path) -> None:
    copy = stopped_copy(undisturbed, tmp_path)
    other = write_tokens(tmp_path / "other", seed=1)
    shutil.rmtree(copy / "model")
    assert_refused(values(other, copy), DataError, "data has changed", "made")


def test_tokens_of_two_tokenizers(tokens: Path, tmp_path: Path) -> None:
    other = write_tokens(tmp_path / "other")
    (other / "tokens.json").write_text(
        (other / "tokens.json").read_text().replace('"tokenizer_digest": "', '"tokenizer_digest": "0')
    )
    write_manifest(other, "tokens", config={})
    sources = [{"name": "a", "path": str(tokens)}, {"name": "b", "path": str(other)}]
    assert_refused(values(tokens, tmp_path / "run", data__sources=sources), DataError, "different tokenizers")


def test_no_tokens_there(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        preview(PretrainConfig.model_validate(values(tmp_path / "nothing", tmp_path / "run")))


def test_a_run_folder_in_use(tokens: Path, tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", "pretrain", {}):
        assert_refused(values(tokens, tmp_path / "run"), BusyError, "in use")


def test_a_flipped_bit_falls_back_to_the_state_before(
    undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path
) -> None:
    copy = stopped_copy(undisturbed, tmp_path)
    path = copy / "checkpoints" / "step-24" / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    train(values(tokens, copy, train__sample_every=12))
    assert "step-24 is damaged" in (copy / "log.txt").read_text()
    assert digests(copy, 24) == digests(undisturbed[0], 24)
    assert metrics(copy) == metrics(undisturbed[0])


def test_a_pickle_in_place_of_a_state(undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path) -> None:
    import torch

    copy = stopped_copy(undisturbed, tmp_path)
    shutil.rmtree(copy / "model")
    for folder in (copy / "checkpoints").glob("step-*"):
        torch.save({"weights": torch.zeros(2)}, folder / "state.safetensors")
    assert_refused(values(tokens, copy), DamagedError, "state", "--resume never")


def test_a_state_of_another_run(undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path) -> None:
    settings = values(tokens, tmp_path / "run", model__hidden_size=64)
    with pytest.raises(UsageError, match="model.hidden_size"):
        train(settings, resume=str(undisturbed[0]))
    with pytest.raises(DataError, match="no saved state"):
        train(settings, resume=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"train__max_tokens": 5}, "exactly one of max_steps"),
        ({"train__max_steps": None}, "none is given"),
        ({"init_from": "x"}, "exactly one of model and init_from"),
        (
            {"scheduler": {"name": "cosine"}, "train__max_steps": None, "train__max_minutes": 1},
            "scheduler.name: cosine",
        ),
        ({"optimizer": {"name": "adamw", "momentum": 0.9}}, "only with name: muon"),
        ({"train__early_stopping": {}, "train__eval_every": None}, "needs eval_every"),
        ({"optimizer": {"lr": -1}}, "greater than 0"),
        ({"train__micro_batch_size": 0}, "greater than 0"),
    ],
)
def test_configs_that_contradict_themselves(tokens: Path, tmp_path: Path, change: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        PretrainConfig.model_validate(values(tokens, tmp_path / "run", **change))


def test_init_from_goes_on_with_those_weights(
    undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path
) -> None:
    settings = values(tokens, tmp_path / "run", init_from=str(undisturbed[0]), train__max_steps=2)
    settings["model"] = None
    result = train(settings)
    assert result["untrained_bits_per_byte"] == pytest.approx(undisturbed[1]["valid_bits_per_byte"], rel=1e-4)
    manifest = read_manifest(tmp_path / "run" / "model", "model")
    assert manifest.made_from["init_from"] == read_manifest(undisturbed[0] / "model", "model").digest


def test_two_processes_from_the_command_line_train_as_one(
    undisturbed: tuple[Path, dict[str, Any]], tokens: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(values(tokens, tmp_path / "run")))
    command = [sys.executable, "-m", "llmforge", "pretrain", "-c", str(config), "--nproc", "2", "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    result = json.loads(done.stdout)
    assert result["steps"] == 24
    for key in ("train_loss", "valid_loss"):
        assert result[key] == pytest.approx(undisturbed[1][key], abs=1e-5)
