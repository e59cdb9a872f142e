"""Waiting threads give the processor back, unless the user has said how they wait."""

from __future__ import annotations

import os

import pytest

from llmforge.runtime.threads import SPIN_COUNT, spin_briefly


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, str(SPIN_COUNT)), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_the_user_has_the_last_word(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: str | None
) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    spin_briefly()
    assert os.environ.get("GOMP_SPINCOUNT") == expected
