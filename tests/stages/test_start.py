"""What a run on one CPU process starts without: torch's compiler and DTensor, a second and a half of every start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_pretrain import config, write_tokens

HEAVY = ("sympy", "torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.distributed.fsdp")
CODE = f"""
import atexit, sys
from llmforge.cli import main
atexit.register(lambda: print("loaded", [name for name in {HEAVY} if name in sys.modules]))
main()
"""


def loaded(*arguments: str) -> str:
    """What of `HEAVY` a command has loaded by its end, as a list in words."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("start")


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_on_one_process_and_its_generation(place: Path, optimizer: str) -> None:
    tokens, output = place / optimizer / "tokens", place / optimizer / "run"
    tokens.parent.mkdir()
    write_tokens(tokens)
    parts = {"optimizer": {"name": optimizer, "lr": 0.01}}
    values = config(tokens, output, {"max_steps": 4, "save_every": 2, "eval_every": 2, "sample_every": 2}, **parts)
    path = place / f"{optimizer}.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    assert loaded("pretrain", "-c", str(path), "--quiet") == "loaded []"
    assert loaded("generate", "-m", str(output), "-p", "the list", "--max-new-tokens", "4") == "loaded []"
