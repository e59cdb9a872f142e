"""The charts of the page: who fails stands on the failing side of the threshold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from llmforge.cleaning.page import _signal
from llmforge.cleaning.sweep import Threshold


@pytest.mark.parametrize("others", [2, 140, 199])
def test_one_document_far_out_is_shown_where_it_is(others: int) -> None:
    values = np.array([0.3347, *np.linspace(0.9, 1.0, others)])
    row = SimpleNamespace(failing=1, value=0.8)
    sweep = cast(Any, SimpleNamespace(values=lambda name: values, at=lambda name, tried: [row]))
    page = _signal(sweep, Threshold("rule.min_ratio", "min_ratio", 0.8, "ratio", "min"))
    assert ">0.3347</text>" in page and ">1</text>" in page
