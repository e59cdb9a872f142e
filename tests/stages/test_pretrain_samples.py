"""samples.jsonl of a run that goes on: whatever a text holds, and whatever a kill left of the last line."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from llmforge.errors import MachineError
from tests.stages.small_pretrain import config, train, write_tokens

NEWLINES_OF_A_TEXT = "a\u2028b\u2029c\x85d\u000be"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokens(tmp_path_factory.mktemp("data") / "tokens")


def settings(tokens: Path, output: Path) -> dict[str, Any]:
    return config(tokens, output, {"max_steps": 4, "save_every": 2, "sample_every": 2})


def test_a_run_goes_on_over_any_text_and_half_a_line(tokens: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    train(settings(tokens, output))
    path = output / "samples.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1]
    assert {json.loads(line)["step"] for line in lines} == {2, 4}
    odd = json.dumps({"step": 1, "prompt": "", "text": NEWLINES_OF_A_TEXT}, ensure_ascii=False).encode()
    assert len(odd.decode().splitlines()) == 4  # what made it unreadable
    torn = json.dumps({"step": 4, "text": "\u00e9"}, ensure_ascii=False).encode()
    path.write_bytes(b"\n".join([odd, *lines, torn[: torn.index(b"\xc3") + 1]]))
    shutil.rmtree(output / "checkpoints" / "step-4")
    train(settings(tokens, output))
    assert path.read_bytes() == b"\n".join([odd, *lines, b""])


def test_a_disk_that_fails_is_told_with_the_path(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def failing(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if self.name == "samples.jsonl" and mode == "a":
            raise OSError(errno.EIO, "Input/output error", str(self))
        return real(self, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(MachineError, match="Input/output error") as caught:
        train(settings(tokens, tmp_path / "run"))
    assert caught.value.where == str(tmp_path / "run" / "samples.jsonl")
