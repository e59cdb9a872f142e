"""`tokenizer audit` as a person calls it: JSON, a page, others beside it, and a model's embedding."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llmforge.corpus.document import Document
from llmforge.corpus.folder import CorpusWriter
from llmforge.errors import DataError
from llmforge.runtime.console import Console
from llmforge.runtime.manifest import write_manifest
from llmforge.stages import tokenizer_audit
from llmforge.stages.tokenizer_audit import TokenizerAuditConfig
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.train import train_tokenizer

QUIET = Console(quiet=True, json=True)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "line", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "rect"):
            assert self.open.pop() == tag


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    with CorpusWriter(folder, 1 << 20) as writer:
        writer.write("train", Document("t", "a text to learn from", "s"))
        for number in range(6):
            metadata: dict[str, object] = {"language": "de" if number % 2 else "en"}
            text = f"<b>A list</b> holds {number} values & keys." if number % 2 else "What is a dict?"
            writer.write("valid", Document(f"v{number}", text, f"s{number % 2}", metadata))
    write_manifest(folder, "corpus", config={})
    return folder


def _config(corpus: Path, tokenizer: Path, output: Path, **more: Any) -> TokenizerAuditConfig:
    return TokenizerAuditConfig(
        corpus=str(corpus), tokenizer=str(tokenizer), output_dir=str(output), fuzz_texts=40, **more
    )


def test_an_audit_beside_another_with_a_model(
    tmp_path: Path, corpus: Path, small_tokenizer: Path, talking_model: Path
) -> None:
    train_tokenizer(["What is a list of values?"] * 20, tmp_path / "other", TokenizerSettings(vocab_size=290))
    other = str(tmp_path / "other")
    config = _config(corpus, small_tokenizer, tmp_path / "run", against=(other,), model=str(talking_model))
    result = tokenizer_audit.run(config, QUIET)
    assert result["vocab_size"] == 340 and result["lossless"] is True
    facts = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert facts["measured_on"] == "valid" and facts["documents"] == 6
    first, second = facts["tokenizers"][str(small_tokenizer)], facts["tokenizers"][other]
    assert result["bytes_per_token"] == first["bytes_per_token"] != second["bytes_per_token"]
    assert set(first["sources"]) == {"s0", "s1"} and set(first["languages"]) == {"de", "en"}
    total = sum(share["bytes"] for share in first["sources"].values())
    assert total == 3 * len("What is a dict?") + 3 * len("<b>A list</b> holds 1 values & keys.")
    assert "undertrained" in first and "undertrained" not in second
    page = (tmp_path / "run" / "report.html").read_text()
    assert result["output"] == str(tmp_path / "run" / "report.html")
    tags = _Tags()
    tags.feed(page)
    assert tags.open == [] and "script" not in tags.seen and "svg" in tags.seen and tags.seen.count("h2") >= 5


def test_a_preview_names_what_is_read(tmp_path: Path, corpus: Path, small_tokenizer: Path) -> None:
    config = _config(corpus, small_tokenizer, tmp_path / "run")
    facts = tokenizer_audit.preview(config)
    assert facts["reads"] == [str(small_tokenizer), str(corpus)] and not (tmp_path / "run").exists()
    assert set(tokenizer_audit.inputs_fingerprint(config)) == {"corpus", "tokenizer 0"}


def test_a_model_of_another_vocabulary_is_refused(tmp_path: Path, corpus: Path, talking_model: Path) -> None:
    train_tokenizer(["many different words to learn " * 9], tmp_path / "t", TokenizerSettings(vocab_size=283))
    tokenizer_audit.run(_config(corpus, tmp_path / "t", tmp_path / "fits", model=str(talking_model)), QUIET)
    texts = ["the quick brown fox jumps over the lazy dog while fifty zebras watch vexed judges play"] * 5
    train_tokenizer(texts, tmp_path / "large", TokenizerSettings(vocab_size=350))
    with pytest.raises(DataError, match="340 rows"):
        tokenizer_audit.run(_config(corpus, tmp_path / "large", tmp_path / "no", model=str(talking_model)), QUIET)
    assert json.loads((tmp_path / "no" / "run.json").read_text())["status"] == "failed"
