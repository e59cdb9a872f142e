"""A document's story, other thresholds from stored signals, a try on a sample, the ledger's counts and its page."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from llmforge.cleaning.rules.code import Code
from llmforge.cleaning.settings import CleanConfig
from llmforge.cleaning.signal_store import SignalStore
from llmforge.cleaning.sweep import Sweep
from llmforge.corpus.folder import SPLITS, read_corpus
from llmforge.errors import DataError, UsageError
from llmforge.runtime.console import Console
from llmforge.stages.clean_views import answer
from tests.stages.test_clean_stage import config_of, prose

QUIET = Console(quiet=True, verbose=False, json=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[CleanConfig, dict[str, Any]]:
    """A run over texts of many lengths, some with bullets, repeated lines or an address."""
    folder = tmp_path_factory.mktemp("views")
    drawn = random.Random(3)
    rows = []
    for number in range(400):
        text = prose(number, drawn.randint(1, 14))
        if number % 7 == 0:
            text = "".join(f"- {line}\n" for line in text.split("\n"))
        if number % 11 == 0:
            text += text[: len(text) // 3]
        if number % 13 == 0:
            text += "Write to jane.doe@acme-widgets.com.\n"
        rows.append({"text": text, "id": f"row-{number}"})
    rows.append({"text": rows[17]["text"], "id": "copy"})
    rows.append({"text": 3, "id": "bad"})
    source = folder / "texts.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sources = f"sources=[{{name: texts, path: {source}, id_key: id, license: CC0}}]"
    key = f"anonymize={{key_file: {folder / 'secret.key'}}}"
    config = config_of(source, folder / "out", sources, key)
    return config, answer(config, QUIET)


def ledger(config: CleanConfig) -> dict[str, Any]:
    return json.loads((Path(config.output_dir) / "corpus" / "ledger.json").read_text())  # type: ignore[no-any-return]


def test_a_sweep_says_what_a_run_with_that_threshold_does(
    finished: tuple[CleanConfig, dict[str, Any]], tmp_path: Path
) -> None:
    config, _ = finished
    told = answer(
        config, QUIET, sweep=["gopher_quality.min_words=20,50,90", "fineweb.max_newline_word_ratio=0.0718,0.3"]
    )
    for row in told["sweep"]:  # type: ignore[attr-defined]
        rule, key = row["threshold"].split(".")
        rules = [
            rule_set.model_copy(update={key: type(getattr(rule_set, key))(row["value"])})
            if rule_set.name == rule
            else rule_set
            for rule_set in config.rules
        ]
        dedup = config.dedup.model_copy(update={"near": None, "exact": False})
        output = str(tmp_path / f"{key}-{row['value']}")
        other = config.model_copy(update={"rules": rules, "output_dir": output, "dedup": dedup})
        made = answer(other, QUIET)
        assert row["kept"] == made["kept"]["documents"]  # type: ignore[index]
        assert row["kept_bytes"] == made["kept"]["bytes"]  # type: ignore[index]
        reasons = ledger(other)["reasons"].get(row["threshold"], {way: {"documents": 0} for way in ("any", "only")})
        assert row["failing"] == reasons["any"]["documents"]
        assert row["failing_only_this"] == reasons["only"]["documents"]


@pytest.mark.parametrize("wrong", ["gopher_quality.min_wrods=3", "gopher_quality.min_words=many", "min_words"])
def test_a_wrong_sweep_is_refused(finished: tuple[CleanConfig, dict[str, Any]], wrong: str) -> None:
    with pytest.raises(UsageError):
        answer(finished[0], QUIET, sweep=[wrong])


def test_a_changed_config_is_told_with_the_thresholds_that_the_corpus_was_made_with(
    finished: tuple[CleanConfig, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    config, _ = finished
    wanted = ["gopher_quality.min_words=20,50"]
    expected = answer(config, Console(json=True), sweep=wanted), answer(config, Console(json=True), why="row-13")
    assert "other rules" not in capsys.readouterr().err
    rules = "rules=[{name: gopher_quality, min_words: 20}, {name: c4}]"
    other = config_of(Path("x"), Path(config.output_dir), rules)
    told = answer(other, Console(json=True), sweep=wanted), answer(other, Console(json=True), why="row-13")
    assert told == expected
    assert capsys.readouterr().err.count("this config has other rules") == 2
    with pytest.raises(UsageError, match="no rule set that the corpus was made with"):
        answer(other, QUIET, sweep=["c4.min_sentences=3"])


def test_a_signal_that_was_not_measured_is_named(finished: tuple[CleanConfig, dict[str, Any]]) -> None:
    store = SignalStore(Path(finished[0].output_dir) / "corpus")
    sweep = Sweep(store, [Code()])
    lacking = next(threshold for threshold in sweep.thresholds.values() if threshold.signal not in store.signals)
    with pytest.raises(UsageError, match=f"not measured for the signal {lacking.signal}"):
        sweep.at(lacking.name, [1.0])


def test_signals_are_kept_behind_many_documents_without_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmforge.cleaning.signal_store.GROUP_ROWS", 4)
    source = tmp_path / "texts.jsonl"
    texts = [*" " * 9, *map(prose, range(5))]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = config_of(source, tmp_path / "out")
    answer(config, QUIET)
    (row,) = answer(config, QUIET, sweep=["gopher_quality.min_words=100000"])["sweep"]  # type: ignore[misc]
    assert row["failing"] == 5


def test_every_document_has_its_story(finished: tuple[CleanConfig, dict[str, Any]]) -> None:
    config, _ = finished
    corpus = Path(config.output_dir) / "corpus"
    fates = {document.id: "kept" for split in ("train", "valid") for document in read_corpus(corpus, split)}
    fates |= {document.id: "dropped" for document in read_corpus(corpus, "dropped")}
    assert len(fates) == 402
    for identity in ("row-0", "row-13", "row-17", "row-200", "copy"):
        told = answer(config, QUIET, why=identity)
        assert told["fate"] == fates[identity]
        failing = [entry["threshold"] for entry in told["thresholds"] if not entry["holds"]]  # type: ignore[attr-defined]
        assert sorted(failing) == sorted(told["measured"]["reasons"])  # type: ignore[index]
        assert told["metadata"]["license"] == "CC0"  # type: ignore[index]
    copy = answer(config, QUIET, why="copy")
    assert copy["metadata"]["kept"] == "row-17" and copy["metadata"]["similarity"] == 1.0  # type: ignore[index]
    with pytest.raises(DataError, match="no document of this id"):
        answer(config, QUIET, why="row-9999")


def test_first_any_and_only_reasons_are_counted(finished: tuple[CleanConfig, dict[str, Any]]) -> None:
    config, made = finished
    corpus = Path(config.output_dir) / "corpus"
    first: dict[str, int] = {}
    every: dict[str, int] = {}
    only: dict[str, int] = {}
    for document in read_corpus(corpus, "dropped"):
        facts = document.metadata
        key = str(facts["detail"]).partition(":")[0]
        has_threshold = str(facts["reason"]) in ("gopher_quality", "gopher_repetition", "fineweb")
        name = f"{facts['reason']}.{key}" if has_threshold else str(facts["reason"])
        further = [str(reason).partition(":")[0] for reason in facts.get("further_reasons", [])]  # type: ignore[attr-defined]
        first[name] = first.get(name, 0) + 1
        for each in {name, *further}:
            every[each] = every.get(each, 0) + 1
        if not further:
            only[name] = only.get(name, 0) + 1
    reasons = ledger(config)["reasons"]
    for way, counts in (("first", first), ("any", every), ("only", only)):
        assert {name: ways[way]["documents"] for name, ways in reasons.items() if ways[way]["documents"]} == counts
    assert sum(first.values()) == made["input"]["documents"] - made["kept"]["documents"]
    assert any(every[name] > first.get(name, 0) for name in every), "some document failed twice"


def test_the_page_holds_the_ledger_and_fetches_nothing(finished: tuple[CleanConfig, dict[str, Any]]) -> None:
    config, _ = finished
    page = (Path(config.output_dir) / "report.html").read_text()
    assert not re.search(r"https?://|src=|@import|url\(", page)
    for name, ways in ledger(config)["reasons"].items():
        assert name in page and f"{ways['any']['documents']:,}" in page
    assert page.count("<svg") == sum(
        key.startswith(("min_", "max_")) and getattr(rule_set, key) is not None
        for rule_set in config.rules
        for key in type(rule_set).model_fields
    )
    assert "jane.doe" not in page


def test_a_try_on_a_sample_says_what_would_go_and_writes_nothing(tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"text": prose(number, 1 + number % 9)}) + "\n" for number in range(300)))
    config = config_of(source, tmp_path / "out", "anonymize={key_file: " + str(tmp_path / "k") + "}")
    told = answer(config, QUIET, sample=120)
    assert told["input"]["documents"] == told["sample"] == 120  # type: ignore[index]
    assert told["dropped"]["gopher_quality"]["documents"] > 0  # type: ignore[index]
    assert not (tmp_path / "out").exists() and not (tmp_path / "k").exists()


def test_originals_come_back_with_the_key_and_only_with_it(
    finished: tuple[CleanConfig, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, _ = finished
    told = answer(config, QUIET, why="row-13")
    assert "jane.doe" not in told["text"]  # type: ignore[operator]
    found = answer(config, QUIET, reveal=str(told["text"]))
    assert "jane.doe@acme-widgets.com" in found["text"]  # type: ignore[operator]
    answer(config, Console(quiet=True), reveal=str(told["text"]))
    assert "jane.doe@acme-widgets.com" in capsys.readouterr().out
    key = Path(str(config.anonymize.key_file))  # type: ignore[union-attr]
    assert not any(b"jane.doe" in path.read_bytes() for path in key.parent.glob("out/**/*") if path.is_file())
    other = tmp_path / "other.key"
    other.write_text("ab" * 32)
    other.chmod(0o600)
    stranger = config.model_copy(
        update={"anonymize": config.anonymize.model_copy(update={"key_file": str(other)})}  # type: ignore[union-attr]
    )
    with pytest.raises(DataError, match="does not open"):
        answer(stranger, QUIET, reveal="x")


def test_a_file_without_its_row_is_told_the_id(finished: tuple[CleanConfig, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "texts" / "inner").mkdir(parents=True)
    (tmp_path / "texts" / "inner" / "a.txt").write_text(prose(1))
    config = config_of(tmp_path / "texts", tmp_path / "out")
    answer(config, QUIET)
    for asked in ("a.txt", "inner/a.txt"):
        with pytest.raises(DataError) as raised:
            answer(config, QUIET, why=asked)
        assert raised.value.hint == "did you mean inner/a.txt#1?"
    (tmp_path / "texts" / "rows.csv").write_text(f'text\n"{prose(2)}\n\n{prose(3)}"\n"{prose(4)}"\n')
    (tmp_path / "texts" / "bad.jsonl").write_text("{\n")
    config = config_of(tmp_path / "texts", tmp_path / "out", "max_bad_fraction=0.5")
    answer(config, QUIET)
    hints = {}
    for asked in ("rows.csv#3", "rows.csv#900", "bad.jsonl", "bad.jsonl#1"):
        with pytest.raises(DataError) as raised:
            answer(config, QUIET, why=asked)
        hints[asked] = str(raised.value.hint)
    last = hints["rows.csv#900"]
    assert last == hints["rows.csv#3"] and re.fullmatch(r"did you mean rows\.csv#\d+\?", last)
    assert hints["bad.jsonl"] == hints["bad.jsonl#1"] == "did you mean bad.jsonl:1?"
    with pytest.raises(DataError) as raised:
        answer(config, QUIET, why="b.txt")
    assert "such as inner/a.txt#1" in str(raised.value.hint)


def test_documents_of_equal_file_names_have_each_their_own_story(tmp_path: Path) -> None:
    for name, text in {"one": prose(1), "two": "too short", "three": prose(1)}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_text(json.dumps({"text": text}) + "\nno row\n")
    sources = ", ".join(f"{{path: {tmp_path / name}}}" for name in ("one", "two", "three"))
    config = config_of(tmp_path, tmp_path / "out", f"sources=[{sources}]", "max_bad_fraction=1")
    answer(config, QUIET)
    first, short, copy = (answer(config, QUIET, why=f"a.jsonl#1{mark}") for mark in ("", "~2", "~3"))
    assert [told["measured"]["source"] for told in (first, short, copy)] == ["one", "two", "three"]  # type: ignore[index]
    assert first["fate"] == "kept" and first["text"] == prose(1)
    assert short["metadata"]["reason"] == "gopher_quality"  # type: ignore[index]
    assert copy["metadata"]["kept"] == "a.jsonl#1"  # type: ignore[index]
    corpus = tmp_path / "out" / "corpus"
    ids = [document.id for split in SPLITS for document in read_corpus(corpus, split)]
    assert len(set(ids)) == len(ids) == 6


def test_two_questions_at_once_are_refused(finished: tuple[CleanConfig, dict[str, Any]]) -> None:
    config, _ = finished
    with pytest.raises(UsageError, match="--why and --sweep"):
        answer(config, QUIET, why="row-1", sweep=["gopher_quality.min_words=1"])
    with pytest.raises(UsageError, match="--shard and --merge"):
        answer(config, QUIET, shard="1/2", merge=True)


def test_a_story_says_added_or_same_length(finished: tuple[CleanConfig, dict[str, Any]]) -> None:
    from llmforge.cleaning.story import as_lines

    config, _ = finished
    told = answer(config, QUIET, why="row-13")
    told["measured"]["removed"] = {"one": 0, "two": -2, "three": 1200}  # type: ignore[index]
    text = "\n".join(as_lines(told))
    assert "one: changed, its length is the same" in text
    assert "two: 2 characters added" in text and "three: 1,200 characters removed" in text
    assert "10,000,000" in text or "100,000" in text, "limits without powers of ten"
