"""Asking whose a run folder is: the answer, and that the question keeps nobody out."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmforge.errors import BusyError
from llmforge.runtime.owner import held, owner_of
from llmforge.runtime.run_folder import RunFolder


def test_a_folder_in_use_names_its_owner(tmp_path: Path) -> None:
    assert owner_of(tmp_path) is None
    with RunFolder.open(tmp_path, "clean", {}):
        assert str(owner_of(tmp_path)).startswith("pid ")
        with pytest.raises(BusyError, match="is in use by pid"), held(tmp_path):
            pass
    assert owner_of(tmp_path) is None


def test_a_folder_that_is_held_refuses_a_run_until_it_is_let_go(tmp_path: Path) -> None:
    with held(tmp_path):
        assert list(tmp_path.iterdir()) == []  # nobody has run here
    with RunFolder.open(tmp_path, "clean", {}):
        pass
    with held(tmp_path), pytest.raises(BusyError), RunFolder.open(tmp_path, "clean", {}):
        pass
    with RunFolder.open(tmp_path, "clean", {}):
        pass
