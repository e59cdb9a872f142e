"""Keys in a message with their place before them, and words that only look like keys left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmforge.cleaning.settings import CleanConfig
from llmforge.config.load import load_config
from llmforge.config.qualify import qualified
from llmforge.errors import ConfigError
from llmforge.stages.pretrain import PretrainConfig


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("set max_bad_fraction or sources.N.text_key", "set clean.max_bad_fraction or clean.sources.N.text_key"),
        ("loosen the rules, or workers=3 for the sources", "loosen the rules, or clean.workers=3 for the sources"),
        ("split.valid_fraction=0.05 takes none.", "clean.split.valid_fraction=0.05 takes none."),
        ("a/max_bad_fraction max_bad_fraction/b x.max_bad_fraction", None),
        ("--max_bad_fraction max_bad_fractions split.no_key sources.json", None),
    ],
)
def test_keys_get_their_place(text: str, wanted: str | None) -> None:
    assert qualified(text, [CleanConfig], "clean") == (wanted or text)


def test_faults_of_a_config_name_whole_keys(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "output_dir: x\nmodel: {preset: tiny}\ndata: {sources: [{name: a, path: b}], seq_lenn: 8}\n"
        "train: {max_steps: 3, num_epochs: 2}\n"
    )
    with pytest.raises(ConfigError) as raised:
        load_config(PretrainConfig, path, [])
    text = str(raised.value)
    assert "did you mean `data.seq_len`?" in text
    assert "train.max_steps and train.num_epochs are given" in text
