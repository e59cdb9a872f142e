"""The config of a mixture: every contradiction is a fault with its file and line, before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmforge.config.load import load_config
from llmforge.errors import ConfigError
from llmforge.tokens.settings import PretrainDataSettings

GOOD = """\
sources:
  - {name: books, path: a, weight: 3, max_repetition: 4}
  - {name: web, path: b}
stages:
  - start_step: 100
    weights: {books: 1, web: 1}
  - start_step: 200
    weights: {web: 1}
packing: best_fit
"""


def load(tmp_path: Path, text: str) -> PretrainDataSettings:
    path = tmp_path / "data.yaml"
    path.write_text(text)
    return load_config(PretrainDataSettings, path, []).config


def test_weights_of_a_stage_in_the_order_of_the_sources(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    assert [settings.stage_weights(stage) for stage in settings.stages] == [(1.0, 1.0), (0.0, 1.0)]
    assert settings.when_exhausted == "redistribute"


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ("{books: 1, web: 1}", "{bookz: 1, web: 1}", 4, "weights of stage 0 name bookz, which is no source"),
        ("{web: 1}", "{web: -1}", 8, "`stages.1.weights.web` must be at least 0"),
        ("{web: 1}", "{web: .nan}", 8, "finite"),
        ("{web: 1}", "{web: 0, books: 0}", 8, "every weight is 0"),
        ("{web: 1}", "{}", 8, "not be empty"),
        ("start_step: 200", "start_step: 100", 4, "start_step 100 comes behind 100"),
        ("start_step: 200", "start_step: -1", 7, "at least 0"),
        ("start_step: 200", "start_step: 1.5", 7, "a whole number"),
        ("weight: 3", "weight: -3", 2, "at least 0"),
        ("max_repetition: 4", "max_repetition: 0", 2, "greater than 0"),
        ("name: web", "name: books", 1, "two sources are called books"),
        ("packing: best_fit", "packing: best-fit", 9, "did you mean `best_fit`?"),
        ("packing: best_fit", "when_exhausted: stop", 9, "when_exhausted"),
        ("start_step: 200", "start: 200", 7, "unknown key `stages.1.start`"),
    ],
)
def test_what_cannot_be_is_refused_by_line(tmp_path: Path, before: str, after: str, line: int, words: str) -> None:
    assert before in GOOD
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(before, after))
    fault = next(fault for fault in caught.value.faults if words in str(fault))
    assert fault.where.endswith(f"data.yaml:{line}")


def test_all_weights_zero_needs_a_stage_from_the_start(tmp_path: Path) -> None:
    zeros = GOOD.replace("weight: 3", "weight: 0").replace("path: b", "path: b, weight: 0")
    with pytest.raises(ConfigError, match="every source has weight 0"):
        load(tmp_path, zeros)
    assert load(tmp_path, zeros.replace("start_step: 100", "start_step: 0")).stages[0].start_step == 0
