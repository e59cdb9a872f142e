"""The stage clean on real files: in = kept + dropped, one corpus for any number of workers, nothing half-written."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmforge.cleaning.dedup.settings import DedupSettings
from llmforge.cleaning.pii.anonymize import AnonymizeSettings
from llmforge.cleaning.pipeline import Chain, ChainSettings, Examined, Judge
from llmforge.cleaning.repair import RepairSettings
from llmforge.cleaning.rules.gopher_quality import GopherQuality
from llmforge.cleaning.settings import CleanConfig
from llmforge.cleaning.verdict import Drop
from llmforge.config.load import load_config
from llmforge.corpus.folder import read_corpus
from llmforge.errors import DataError, UsageError
from llmforge.runtime.console import Console
from llmforge.stages.clean import run

WORDS = [
    first + second + third
    for first in ("ba", "ke", "lo", "mi")
    for second in ("ra", "ne", "to", "su")
    for third in "bdgklmnprst"
]
QUIET = Console(quiet=True, verbose=False, json=False)


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


def prose(number: int, sentences: int = 8) -> str:
    """Text that all rules keep, different for each number."""
    drawn = random.Random(number)
    pool = [*WORDS, *("the", "of", "and", "that") * 12]
    return "".join(f"{' '.join(drawn.choices(pool, k=14))}.\n" for _ in range(sentences))


def folder_of_texts(folder: Path) -> Path:
    """Every kind of file, an exact and a near duplicate, a short text and one with personal data."""
    folder.mkdir()
    (folder / "a.txt").write_text(prose(1))
    (folder / "b.md").write_text("# Heading\n\n" + prose(2))
    (folder / "c.html").write_text(f"<html><head><title>t</title></head><body><p>{prose(3)}</p></body></html>")
    rows = [{"text": prose(number)} for number in range(10, 30)]
    rows.append({"text": prose(10)})  # exact
    rows.append({"text": prose(11, 40)})
    rows.append({"text": prose(11, 41)})  # near
    rows.append({"text": "too short"})
    rows.append({"text": prose(31) + "Write to jane.doe@acme-widgets.com about it.\n"})
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with gzip.open(folder / "e.txt.gz", "wt") as stream:
        stream.write(prose(40))
    (folder / "f.txt.zst").write_bytes(zstandard.compress(prose(41).encode()))
    return folder


def config_of(source: Path, output: Path, *overrides: str) -> CleanConfig:
    given = [f"sources=[{{name: texts, path: {source}}}]", f"output_dir={output}", *overrides]
    return load_config(CleanConfig, None, given).config


def kept_texts(run_folder: Path) -> list[str]:
    corpus = run_folder / "corpus"
    return [document.text for split in ("train", "valid") for document in read_corpus(corpus, split)]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


def test_what_comes_in_is_kept_or_dropped_for_a_reason(tmp_path: Path) -> None:
    source = folder_of_texts(tmp_path / "texts")
    answer = run(config_of(source, tmp_path / "out", "anonymize={}"), QUIET)
    came, kept, dropped = answer["input"], answer["kept"], answer["dropped"]
    assert isinstance(came, dict) and isinstance(kept, dict) and isinstance(dropped, dict)
    for unit in ("documents", "bytes"):
        assert came[unit] == kept[unit] + sum(count[unit] for count in dropped.values())
    assert came["documents"] == 30
    assert {name.split(".")[0] for name in dropped} == {"exact_duplicate", "near_duplicate", "gopher_quality"}
    texts = kept_texts(tmp_path / "out")
    assert len(texts) == kept["documents"] == 27
    assert not any("jane.doe" in text for text in texts) and any("@example." in text for text in texts)
    key = tmp_path / "settings" / "llmforge" / "pseudonym.key"
    assert key.stat().st_mode & 0o777 == 0o600


def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    source = folder_of_texts(tmp_path / "texts")
    for workers in (1, 3):
        run(config_of(source, tmp_path / f"out{workers}", f"workers={workers}", "anonymize={}"), QUIET)
    one, three = (files(tmp_path / f"out{workers}" / "corpus") for workers in (1, 3))
    assert one == three and len(one) > 2


def test_a_source_without_a_name_has_one_label_on_all_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_shards(make: Callable[[int, int], None], scale: object, logs: Path) -> bool:
        monkeypatch.chdir(tmp_path)  # another machine stands elsewhere
        make(0, 1)
        monkeypatch.chdir(tmp_path / "texts")
        return True

    folder_of_texts(tmp_path / "texts")
    monkeypatch.chdir(tmp_path / "texts")
    monkeypatch.setattr("llmforge.stages.clean_shards.make_shards", make_shards)
    scale = "scale={engine: processes, shards: 1}"
    for path, label in ((".", "."), ("../texts", "texts")):
        run(config_of(Path("x"), Path("../out"), f"sources=[{{path: {path}}}]", scale), QUIET)
        assert {document.source for document in read_corpus(tmp_path / "out" / "corpus", "train")} == {label}


def test_a_second_pass_over_the_corpus_changes_nothing(tmp_path: Path) -> None:
    source = folder_of_texts(tmp_path / "texts")
    run(config_of(source, tmp_path / "first", "anonymize={}"), QUIET)
    kept = kept_texts(tmp_path / "first")
    (tmp_path / "again.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in kept))
    answer = run(config_of(tmp_path / "again.jsonl", tmp_path / "second", "anonymize={}"), QUIET)
    assert answer["kept"] == answer["input"] and not answer["dropped"]
    assert not any(answer["changed"].values())  # type: ignore[attr-defined]


def test_the_split_does_not_depend_on_the_neighbours(tmp_path: Path) -> None:
    """A document's split follows from its id alone: more rows behind it move nothing."""
    held = []
    for count in (200, 300):
        source = tmp_path / f"rows{count}" / "texts.jsonl"
        source.parent.mkdir()
        rows = [{"text": prose(number), "id": f"doc-{number}"} for number in range(count)]
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources = f"sources=[{{name: texts, path: {source}, id_key: id}}]"
        run(config_of(source, tmp_path / f"out{count}", sources, "split.valid_fraction=0.1"), QUIET)
        held.append({document.id for document in read_corpus(tmp_path / f"out{count}" / "corpus", "valid")})
    assert held[0] and held[0] <= held[1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"text": 3}\n' * 5, "text"),
        (b'{"other": "x"}\n' * 5, "text"),
        (b"not json\n" * 5, "rows.jsonl"),
        (b'{"text": "short"}\n', "min_words"),
        (b"", "hold no document"),
        (b'{"text": " "}\n', "name a source that has text"),
    ],
)
def test_bad_input_names_its_place_and_leaves_nothing(tmp_path: Path, content: bytes, says: str) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(content)
    with pytest.raises(DataError) as caught:
        run(config_of(source, tmp_path / "out"), QUIET)
    assert says in str(caught.value)
    assert not (tmp_path / "out" / "corpus").exists()
    assert not [path for path in (tmp_path / "out").rglob("*") if "survivors" in path.name or "tmp" in path.name]


def test_output_inside_the_source_is_refused(tmp_path: Path) -> None:
    source = folder_of_texts(tmp_path / "texts")
    with pytest.raises(UsageError, match="lie in each other"):
        run(config_of(source, source / "out"), QUIET)


@pytest.mark.parametrize("pattern", ["*", "o*", "**", "**/*", "../g/*", "?*/corpus"])
def test_a_pattern_that_covers_the_output_is_refused_before_there_is_any(tmp_path: Path, pattern: str) -> None:
    folder = folder_of_texts(tmp_path / "g")
    with pytest.raises(UsageError, match="lie in each other"):
        run(config_of(folder / pattern, folder / "out" / "corpus"), QUIET)
    run(config_of(folder / "*.jsonl", folder / "out"), QUIET)


def test_what_a_run_wrote_is_not_read_by_a_pattern_or_link(tmp_path: Path) -> None:
    folder = folder_of_texts(tmp_path / "g")
    run(config_of(folder / "**/*.jsonl", folder / "out"), QUIET)
    (folder / "out" / "own.jsonl").write_text("{}")
    with pytest.raises(UsageError, match="lie in each other"):
        run(config_of(folder / "**/*.jsonl", folder / "out"), QUIET)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "corpus").symlink_to(folder / "out" / "corpus")
    with pytest.raises(UsageError, match="lie in each other"):
        run(config_of(tmp_path / "links", folder / "out"), QUIET)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=300))
def test_a_verdict_is_a_function_of_the_text(text: str) -> None:
    chain_settings = ChainSettings(
        RepairSettings(), None, [GopherQuality(min_words=5)], AnonymizeSettings(), b"k" * 32, DedupSettings(near=None)
    )
    first, second = Chain(chain_settings), Chain(chain_settings)
    judge = Judge(chain_settings)

    def verdict(chain: Chain) -> tuple[Examined, list[Drop]]:
        found = chain.examine(text)
        return found, judge.reasons(not found.text.strip(), found.language, found.signals)

    outcome = verdict(first)
    first.examine("something else with other@people.org in it")
    assert verdict(first) == outcome == verdict(second)
