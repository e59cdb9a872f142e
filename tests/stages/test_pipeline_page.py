"""The closing page says when a model only memorises."""

from __future__ import annotations

import pytest

from llmforge.stages.pipeline_page import _memorised


@pytest.mark.parametrize(("seen", "unseen", "memorises"), [(3.5, 3.6, False), (2.09, 6.30, True)])
def test_a_wide_gap_is_named(seen: float, unseen: float, memorises: bool) -> None:
    result = {"train_loss": seen, "valid_loss": unseen, "best_step": None}
    (text,) = [" ".join(_memorised({"pretrain": {"status": "done", "seconds": 1.0, "result": result}}))]
    assert f"loss {seen:.2f} on what it trained on" in text and f"{unseen:.2f} on what was held out" in text
    assert ("memorises" in text) is memorises
