"""`pretrain` over text with poisoned documents: found, named, left out, and the same again after a kill."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmforge.corpus.document import Document
from llmforge.runtime.console import Console
from llmforge.runtime.files import digest_file
from llmforge.runtime.manifest import write_manifest
from llmforge.runtime.run_folder import CLOCKED
from llmforge.stages.pretrain import PretrainConfig, run
from llmforge.stages.trace import trace_document, trace_step
from llmforge.stages.trace_run import open_run
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.train import train_tokenizer
from llmforge.tokens.write import TokenWriter

WORDS = "the list of a value returns an item when it is called with no key and then the next one is read".split()
STEPS, JUDGED_FROM = 84, 36  # judged from `window` leaps on, each over four losses
SPIKES = {"window": 32, "max_rewinds": 16, "threshold": 4.0}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences of a few words, and nine documents of bytes at random among them."""
    place, rng = tmp_path_factory.mktemp("data"), random.Random(0)
    rows = [Document(f"d{n}", " ".join(rng.choices(WORDS, k=60)) + ".\n", "books", {}) for n in range(420)]
    for number in range(40, 420, 45):
        rows[number] = Document(
            f"poison{number}", "".join(chr(rng.randrange(0x21, 0x7F)) for _ in range(48)), "web", {}
        )
    tokenizer, folder = place / "tokenizer", place / "tokens"
    tokenizer.mkdir()
    train_tokenizer([" ".join(WORDS)] * 20, tokenizer, TokenizerSettings(vocab_size=320))
    folder.mkdir()
    writer = TokenWriter(folder, tokenizer)
    writer.write_split("train", rows[8:], 1, lambda done: None)
    writer.write_split("valid", rows[:8], 1, lambda done: None)
    writer.close()
    write_manifest(folder, "tokens", config={})
    return folder


def config(tokens: Path, output: Path, **train: Any) -> Path:
    values = {
        "output_dir": str(output),
        "device": "cpu",
        "precision": "fp32",
        "model": {"preset": "tiny", "hidden_size": 32, "num_hidden_layers": 2},
        "data": {"sources": [{"name": "made", "path": str(tokens)}], "seq_len": 32},
        "optimizer": {"name": "adamw", "lr": 0.02},
        "scheduler": {"warmup_steps": 20},
        "train": {
            "micro_batch_size": 4,
            "global_batch_size": 8,
            "max_steps": STEPS,
            "log_every": 5,
            "eval_every": 40,
            "save_every": 10,
            "compile": False,
            "max_grad_norm": 1.0,
            "spikes": SPIKES,
            **train,
        },
    }
    path = output.parent / f"{output.name}.yaml"
    path.write_text(json.dumps(values))
    return path


def start(path: Path, *flags: str, script: Path | None = None, ranks: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "llmforge"]
    if script is not None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command.append(str(script))
    arguments = [*command, "pretrain", "-c", str(path), "--json", "--quiet", *flags]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def done(path: Path, *flags: str, **how: Any) -> tuple[int, str, str]:
    child = start(path, *flags, **how)
    out, errors = child.communicate(timeout=500)
    return child.returncode, out, errors


def here(path: Path) -> dict[str, object]:
    """The same in this process."""
    return run(PretrainConfig.model_validate(json.loads(path.read_text())), Console(quiet=True, json=True))


def metrics(output: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCKED} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    output, errors = tmp_path_factory.mktemp("undisturbed") / "run", io.StringIO()
    with contextlib.redirect_stderr(errors):
        here(config(tokens, output))
    return output, errors.getvalue()


def test_exactly_the_poisoned_documents_are_left_out(undisturbed: tuple[Path, str]) -> None:
    """Independently of the watch: by `trace` of the plan, every step whose data holds one, once losses are judged."""
    output, errors = undisturbed
    traced = open_run(output)
    reached = STEPS + len(traced.left_out)
    holding = [
        step
        for step in range(JUDGED_FROM, reached)
        if any(span.document.id.startswith("poison") and span.length > 12 for span in traced.rows.trace(step))
    ]
    assert holding and list(traced.left_out) == holding
    record = json.loads((output / "run.json").read_text())
    for rewind in record["rewinds"]:
        assert any(name.startswith("poison") and name.endswith("(web)") for name in rewind["documents"])
        assert rewind["documents"][0] in errors
    told = [row["rewind"] for row in metrics(output) if "rewind" in row]
    assert told == record["rewinds"] and "robust standard deviations above the" in errors
    served = record["result"]["sources"]["made"]
    assert served["rows"] == STEPS * 8 and served["tokens"] == STEPS * 8 * 32


def test_trace_knows_what_was_left_out(undisturbed: tuple[Path, str]) -> None:
    traced = open_run(undisturbed[0])
    seen = {entry["id"] for step in range(1, STEPS + 1) for entry in trace_step(traced, step)["documents"]}
    record = json.loads((undisturbed[0] / "run.json").read_text())
    gone = {name.split()[0] for rewind in record["rewinds"] for name in rewind["documents"]}
    for identity in sorted(gone | {"d9", "d100"}):
        found = trace_document(traced, identity)["found"][0]
        assert (found["fate"] == "seen") == (identity in seen)
        assert found["fate"] != "not_reached" or identity not in gone


def test_killed_the_same_bits_come_out(undisturbed: tuple[Path, str], tokens: Path, tmp_path: Path) -> None:
    path = config(tokens, tmp_path / "run")
    child = start(path)
    wait_for_step(tmp_path / "run", 65, child)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    here(path)
    assert metrics(tmp_path / "run") == metrics(undisturbed[0])
    model = Path("model/model.safetensors")
    assert digest_file(tmp_path / "run" / model) == digest_file(undisturbed[0] / model)
    records = [json.loads((folder / "run.json").read_text()) for folder in (tmp_path / "run", undisturbed[0])]
    assert records[0]["rewinds"] == records[1]["rewinds"]


def wait_for_step(output: Path, step: int, child: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 400
    while time.monotonic() < end and child.poll() is None:
        path = output / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        if any(json.loads(line)["step"] >= step for line in lines if line.endswith("}")):
            return
        time.sleep(0.005)
    raise AssertionError(f"the child did not come to step {step}: {child.communicate()[1]}")


def test_too_often_ends_with_code_3_and_the_names(tokens: Path, tmp_path: Path) -> None:
    code, _, errors = done(config(tokens, tmp_path / "run", spikes={**SPIKES, "max_rewinds": 1}))
    last = errors.strip().splitlines()[-1]
    assert code == 3 and "1 times already" in last and "poison" in last and "train.spikes.max_rewinds" in last
    assert json.loads((tmp_path / "run" / "run.json").read_text())["exit_code"] == 3


NAN_RANK = """
import os, sys
import torch
from llmforge.training.objective import CausalLMObjective

plain, seen = CausalLMObjective.forward, [0]

def forward(self, batch, by_token=False):
    loss = plain(self, batch, by_token)
    if by_token or os.environ["RANK"] != "1":
        return loss
    seen[0] += 1  # the first two steps are tried for their memory before they are done
    return loss * float("nan") if seen[0] == 42 else loss

CausalLMObjective.forward = forward
from llmforge.cli import main
main()
"""


@pytest.mark.slow
def test_a_nan_on_one_of_two_ranks(tokens: Path, tmp_path: Path) -> None:
    """The second process makes one NaN: both go back, its data is left out, and the steps are those without it."""
    script = tmp_path / "nan_rank.py"
    script.write_text(NAN_RANK)
    code, out, errors = done(config(tokens, tmp_path / "run", max_steps=48), script=script, ranks=2)
    assert code == 0, errors
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    first = record["rewinds"][0]
    assert (first["reason"], first["step"], first["data"]) == ("not_finite", 40, [39])
    assert "step 40: the loss or the gradient is not finite; going back to step 30" in errors
    result = json.loads(out)
    assert result["steps"] == 48 and os.path.isdir(result["model"])
