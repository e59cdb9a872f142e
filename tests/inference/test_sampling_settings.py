"""Bad sampling settings are refused with a reason, without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from llmforge.inference.settings import SamplingSettings


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("temperature", -0.1, "greater than or equal to 0"),
        ("temperature", float("nan"), "finite"),
        ("temperature", float("inf"), "finite"),
        ("top_p", 0, "greater than 0"),
        ("top_p", 2, "less than or equal to 1"),
        ("top_k", -1, "greater than or equal to 1"),
        ("top_k", 0, "greater than or equal to 1"),
        ("min_p", -0.5, "greater than or equal to 0"),
        ("min_p", 1.5, "less than or equal to 1"),
        ("max_new_tokens", 1e9, "less than or equal to"),
        ("max_new_tokens", 0, "greater than or equal to 1"),
        ("repetition_penalty", 0, "greater than 0"),
        ("stop", [""], "at least 1 character"),
        ("stop", ["ok", ""], "at least 1 character"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**63, "less than"),
        ("num_samples", 0, "greater than or equal to 1"),
        ("typical_p", 0.9, "not permitted"),
    ],
)
def test_values_out_of_range_are_refused(key: str, value: object, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason) as caught:
        SamplingSettings.model_validate({key: value})
    assert [error["loc"][0] for error in caught.value.errors()] == [key]


def test_many_samples_without_sampling_are_refused() -> None:
    with pytest.raises(ValidationError, match="all of them would be the same"):
        SamplingSettings(temperature=0, num_samples=2)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"do_sample": False}])
def test_greedy(settings: dict[str, object]) -> None:
    assert SamplingSettings.model_validate(settings).greedy
    assert not SamplingSettings().greedy


def test_settings_load_no_torch() -> None:
    code = "import sys, llmforge.inference.settings; sys.exit(any(m in sys.modules for m in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
