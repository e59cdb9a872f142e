"""The check beside the run names a changed shard; batches made ahead are the same, and fail at their own step."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from llmforge.errors import DamagedError
from llmforge.tokens.ahead import Ahead
from llmforge.tokens.folder import TokenFolder
from llmforge.tokens.verify import BackgroundCheck


def test_whole_folders_pass(tokens: TokenFolder) -> None:
    with BackgroundCheck([tokens.path, tokens.path]) as check:
        assert check.finish(60) and check.checked == check.files > 6
        assert check.watched(lambda step: step + 1)(4) == 5


@pytest.mark.parametrize("name", ["train-00001.bin", "valid-00000.idx", "tokens.json"])
def test_one_changed_byte_stops_the_next_step_by_name(tokens: TokenFolder, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(bytes(content))
    with BackgroundCheck([folder]) as check:
        with pytest.raises(DamagedError, match=f"{name}: the file was changed"):
            check.finish(60)
        with pytest.raises(DamagedError, match=name):
            check.watched(lambda step: step)(0)


def test_a_file_that_vanishes_while_it_is_read(tokens: TokenFolder, tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    check = BackgroundCheck([folder])
    (folder / "train-00000.bin").unlink()
    with check, pytest.raises(DamagedError, match=r"train-00000\.bin: the file cannot be read"):
        check.finish(60)


def test_a_missing_or_cut_file_is_refused_at_once(tokens: TokenFolder, tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    (folder / "train-00000.bin").write_bytes(b"LFTOKENS")
    with pytest.raises(DamagedError, match=r"train-00000\.bin: the file has 8 bytes"):
        BackgroundCheck([folder])


def test_leaving_early_ends_the_thread(tokens: TokenFolder) -> None:
    with BackgroundCheck([tokens.path] * 3) as check:
        pass
    assert not check._thread.is_alive()


def test_batches_made_ahead_are_those_of_their_step() -> None:
    asked: list[int] = []

    def batches(step: int) -> int:
        asked.append(step)
        if step == 6:
            raise DamagedError("step 6")
        return 10 * step

    ahead = Ahead(batches)
    assert [ahead(step) for step in (0, 1, 2, 2, 5)] == [0, 10, 20, 20, 50]
    with pytest.raises(DamagedError, match="step 6"):
        ahead(6)
    assert ahead(7) == 70
    assert asked[:4] == [0, 1, 2, 3]


def test_a_file_changed_behind_the_first_pass_is_found(
    tokens: TokenFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmforge.tokens.verify.LOOK_AGAIN_SECONDS", 0.05)
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    path = folder / "train-00001.bin"
    whole = path.read_bytes()
    with BackgroundCheck([folder]) as check:
        assert check.finish(60)
        path.write_bytes(whole)  # another time, the same bytes
        time.sleep(0.3)
        check.look()
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        with pytest.raises(DamagedError, match=r"train-00001\.bin: the file was changed"):
            for _ in range(1200):
                check.look()
                time.sleep(0.05)
