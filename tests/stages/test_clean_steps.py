"""Steps of clean through the whole command: earlier corpora, passages, evaluation items, labels, keep policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmforge.cleaning.corpus_run import beside
from llmforge.corpus.folder import read_corpus
from llmforge.errors import ConfigError, DataError, UsageError
from llmforge.runtime.console import Console
from llmforge.stages.clean import run
from tests.stages.test_clean_stage import config_of, files, prose

QUIET = Console(quiet=True, json=True)


def write(path: Path, texts: dict[str, str], **more: object) -> Path:
    path.write_text("".join(json.dumps({"id": key, "text": text, **more}) + "\n" for key, text in texts.items()))
    return path


def clean(source: Path, output: Path, *overrides: str) -> dict[str, Any]:
    return run(config_of(source, output, "sources.0.id_key=id", *overrides), QUIET)


def documents(output: Path, *splits: Any) -> dict[str, Any]:
    return {one.id: one for split in splits or ("train", "valid") for one in read_corpus(output / "corpus", split)}


def test_documents_of_an_earlier_corpus_do_not_come_again(tmp_path: Path) -> None:
    first = write(tmp_path / "first.jsonl", {f"a{number}": prose(number) for number in range(60)})
    clean(first, tmp_path / "first")
    before = files(tmp_path / "first" / "corpus")
    near = prose(5).replace("the", "THE", 3)
    later = {f"b{number}": prose(number) for number in range(50, 90)} | {"case": near}
    source = write(tmp_path / "later.jsonl", later)
    made = clean(source, tmp_path / "later", f"dedup.against=[{tmp_path / 'first'}]")
    assert made["dropped"]["exact_duplicate"]["documents"] == 10
    dropped = documents(tmp_path / "later", "dropped")
    assert dropped["b55"].metadata["kept"] == f"{tmp_path / 'first'}: a55"
    assert dropped["case"].metadata["kept"] == f"{tmp_path / 'first'}: a5"
    assert dropped["case"].metadata["reason"] == "near_duplicate"
    assert set(documents(tmp_path / "later")) == {f"b{number}" for number in range(60, 90)}
    assert files(tmp_path / "first" / "corpus") == before
    with pytest.raises(DataError):
        clean(source, tmp_path / "x", f"dedup.against=[{tmp_path / 'nowhere'}]")


def test_repeated_passages_are_cut_and_told(tmp_path: Path) -> None:
    passage = prose(500, 6)
    texts = {f"d{number}": prose(number, 12) for number in range(20)}
    texts["d3"] = f"{texts['d3']}\n{passage}"
    texts["d7"] = f"{texts['d7']}\n{passage}\n{prose(700)}"
    texts["d9"] = passage
    source = write(tmp_path / "texts.jsonl", texts)
    made = clean(source, tmp_path / "out", "dedup.substring={min_words: 50}", "rules=[]")
    kept = documents(tmp_path / "out")
    assert passage.strip() in kept["d3"].text and passage.strip() not in kept["d7"].text
    assert prose(700).strip() in kept["d7"].text
    assert kept["d7"].metadata["repeated_passages"][0]["document"] == "d3"
    assert made["dropped"]["repeated_passages"]["documents"] == 1 and made["changed"]["repeated_passages"] == 1
    assert documents(tmp_path / "out", "dropped")["d9"].metadata["kept"] == "d3"
    # The index that the corpus leaves is that of the texts as they were written.
    again = write(tmp_path / "again.jsonl", {"copy": kept["d7"].text, "new": prose(900)})
    later = clean(again, tmp_path / "later", f"dedup.against=[{tmp_path / 'out'}]", "rules=[]")
    assert later["dropped"] == {"exact_duplicate": later["dropped"]["exact_duplicate"]}
    assert set(documents(tmp_path / "later")) == {"new"}


def test_a_row_keeps_its_own_fields_beside_what_is_told_of_it(tmp_path: Path) -> None:
    mail = "Write to jane.doe@acme-widgets.com about it.\n"
    own = {"anonymized": "by hand", "repeated_passages": 3, "license": None}
    passage = prose(500, 6)
    texts = {"a": prose(1) + passage, "b": prose(2) + passage + mail, "short": "no"}
    source = write(tmp_path / "texts.jsonl", texts, reason="mine", reason_="too", **own)
    key = f"anonymize.key_file={tmp_path / 'key'}"
    clean(source, tmp_path / "out", key, "dedup.substring={}", "sources.0.license=CC0")
    facts = documents(tmp_path / "out")["b"].metadata
    assert facts["anonymized"] == {"email": 1} and facts["anonymized_"] == "by hand"
    assert facts["repeated_passages"][0]["document"] == "a" and facts["repeated_passages_"] == 3
    assert facts["license"] == "CC0" and facts["reason"] == "mine"
    gone = documents(tmp_path / "out", "dropped")["short"].metadata
    assert gone["reason"] == "gopher_quality" and (gone["reason__"], gone["reason_"]) == ("mine", "too")
    assert beside({"label": 1, "n": 2}, {"label": "x", "label_score": 1.0}) == {
        "label_": 1,
        "n": 2,
        "label": "x",
        "label_score": 1.0,
    }


def test_a_copy_names_what_stays_in_the_end(tmp_path: Path) -> None:
    passage = prose(500, 6)
    texts = {f"d{number}": prose(number, 12) for number in range(6)}
    texts["d3"] = f"{texts['d3']}\n{passage}"
    texts["made"] = passage
    texts["same"] = passage.replace("\n", " \n")
    texts["near"] = passage.replace("the", "THE") + "one."
    texts["near again"] = texts["near"].replace(" ", "  ")
    clean(write(tmp_path / "texts.jsonl", texts), tmp_path / "out", "dedup={keep: first, substring: {}}", "rules=[]")
    dropped = documents(tmp_path / "out", "dropped")
    assert {key: one.metadata["kept"] for key, one in dropped.items()} == dict.fromkeys(
        ("made", "same", "near", "near again"), "d3"
    )
    told = {key: (one.metadata["reason"], one.metadata["detail"]) for key, one in dropped.items()}
    after = ", and 100.0% of that one's words stand in d3"
    assert told["same"] == ("exact_duplicate", f"it is the same text as made{after}")
    assert told["near again"] == told["near"] and told["near"][0] == "near_duplicate"
    assert told["near"][1].endswith(f"of its runs of words and those of made are shared{after}")
    assert float(dropped["near"].metadata["similarity"]) < 1


@pytest.mark.parametrize("action", ["drop_document", "cut"])
def test_evaluation_items_are_kept_out_and_written_down(tmp_path: Path, action: str) -> None:
    question = "Natalia sold forty eight clips in April and half as many in May, how many did she sell altogether?"
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"question": question, "answer": "72"}) + "\n")
    texts = {f"d{number}": prose(number) for number in range(12)}
    texts["d4"] += question.upper().replace("CLIPS", "BOXES") + "\n" + prose(77)
    source = write(tmp_path / "texts.jsonl", texts)
    made = clean(source, tmp_path / "out", f"decontaminate={{against: [{items}], action: {action}}}", "rules=[]")
    found = json.loads((tmp_path / "out" / "corpus" / "contamination.json").read_text())
    ((item, hits),) = found["items"].items()
    assert item == "items.jsonl:1" and [hit["document"] for hit in hits] == ["d4"]
    assert "NATALIA SOLD" in hits[0]["text"]
    if action == "cut":
        assert "NATALIA" not in documents(tmp_path / "out")["d4"].text and made["changed"]["decontaminate"] == 1
    else:
        assert made["dropped"] == {"decontaminate": made["dropped"]["decontaminate"]}
        assert "items.jsonl:1" in str(documents(tmp_path / "out", "dropped")["d4"].metadata["detail"])
    # Other items are other measurements.
    items.write_text(json.dumps({"question": prose(5), "answer": "x"}) + "\n")
    clean(source, tmp_path / "out", f"decontaminate={{against: [{items}], action: {action}}}", "rules=[]")
    assert "NATALIA" in documents(tmp_path / "out")["d4"].text


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Twenty texts of ships and bread, and the config that learns to tell them apart."""
    pytest.importorskip("sklearn", reason="needs the extra classify")
    folder = tmp_path_factory.mktemp("learned")
    prefixes = {"ship": "the ship sailed over the sea with its crew ", "bread": "bake the bread with flour and yeast "}
    for label, prefix in prefixes.items():
        write(folder / f"{label}.jsonl", {f"{number}": prefix + prose(number, 2) for number in range(60)})
    texts = {
        f"{label}{n}": prefix * 3 + prose(500 + n + 50 * len(label))
        for label, prefix in prefixes.items()
        for n in range(10)
    }
    labels = ", ".join(f"{label}: {folder / label}.jsonl" for label in prefixes)
    return write(folder / "texts.jsonl", texts), f"train_on: {{labels: {{{labels}}}}}"


def test_labels_are_learned_once_and_written_or_judged_by(tmp_path: Path, learned: tuple[Path, str]) -> None:
    source, learn = learned
    clean(source, tmp_path / "out", f"classify={{{learn}}}", "rules=[]")
    kept = documents(tmp_path / "out")
    assert len(kept) == 20 and all(key.startswith(str(one.metadata["label"])) for key, one in kept.items())
    weights = tmp_path / "out" / "classifier" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    made = clean(source, tmp_path / "out", f"classify={{{learn}, keep: [ship]}}", "rules=[]")
    assert weights.stat().st_mtime_ns == before, "the classifier was trained again"
    assert made["kept"]["documents"] == 10 and made["dropped"]["classify"]["documents"] == 10
    use = f"classify={{model: {tmp_path / 'out'}, keep: [bread], label: topic}}"
    clean(source, tmp_path / "other", use, "rules=[]")
    assert {one.metadata["topic"] for one in documents(tmp_path / "other").values()} == {"bread"}


def test_other_labels_to_keep_measure_nothing_again(tmp_path: Path, learned: tuple[Path, str]) -> None:
    source, learn = learned
    clean(source, tmp_path / "out", f"classify={{{learn}}}", "rules=[]")
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "parts").iterdir()}
    model = f"model: {tmp_path / 'out'}"
    for more in ("keep: [ship]", "keep: [bread], min_score: 0.9", "keep: [bread], label: topic"):
        clean(source, tmp_path / "out", f"classify={{{learn}, {more}}}", "rules=[]")
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "parts").iterdir()} == parts
        fresh = tmp_path / more.replace(" ", "")
        clean(source, fresh, f"classify={{{model}, {more}}}", "rules=[]")
        assert files(tmp_path / "out" / "corpus") == files(fresh / "corpus")
        (told,) = {"mostly for" in str(one.metadata["detail"]) for one in documents(fresh, "dropped").values()}
        assert told
    with pytest.raises(UsageError, match="keep names nothing"):
        clean(source, tmp_path / "out", f"classify={{{model}, keep: [nothing]}}", "rules=[]")


def test_of_two_copies_the_one_with_more_of_the_wanted_label_stays(tmp_path: Path, learned: tuple[Path, str]) -> None:
    _, learn = learned
    ship, bread = ("the ship sailed over the sea with its crew ", "bake the bread with flour and yeast ")
    # Near duplicates: the first one is surely bread, the second about as much of one as of the other.
    texts = {"sure": bread * 9 + prose(1, 60), "better": ship * 5 + bread * 3 + prose(1, 60)}
    source = write(tmp_path / "texts.jsonl", texts)
    policy = "dedup={keep: score, score_field: classifier, near: {threshold: 0.5}}"
    use = f"classify={{{learn}, keep: [ship], min_score: 0}}"
    clean(source, tmp_path / "out", use, policy, "rules=[]", "split.valid_fraction=0")
    assert set(documents(tmp_path / "out")) == {"better"}
    for other in (f"classify={{{learn}}}", "classify=null"):
        with pytest.raises(ConfigError, match="score_field: classifier needs classify.keep"):
            config_of(source, tmp_path / "out", other, policy)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_worker_cannot_begin_with_is_told_as_it_is(tmp_path: Path, workers: int) -> None:
    pytest.importorskip("sklearn", reason="needs the extra classify")
    for label, word in (("a", "ship "), ("b", "bread ")):
        write(tmp_path / f"{label}.jsonl", {str(number): word * 9 + prose(number, 2) for number in range(60)})
    labels = f"{{a: {tmp_path}/a.jsonl, b: {tmp_path}/b.jsonl}}"
    source = write(tmp_path / "texts.jsonl", {f"d{number}": prose(number) for number in range(12)})
    clean(source, tmp_path / "made", f"classify={{train_on: {{labels: {labels}}}}}", "rules=[]")
    wrong = f"classify={{model: {tmp_path / 'made'}, keep: [c]}}"
    with pytest.raises(UsageError, match="keep names c"):
        clean(source, tmp_path / "out", wrong, f"workers={workers}")
    (tmp_path / "items.jsonl").write_text('{"question": "too short"}\n')
    with pytest.raises(DataError, match="no item"):
        clean(source, tmp_path / "out", f"decontaminate.against=[{tmp_path / 'items.jsonl'}]", f"workers={workers}")
    assert not (tmp_path / "out" / "corpus").exists()


def test_the_copy_of_the_better_source_stays(tmp_path: Path) -> None:
    copied = {f"c{number}": prose(number) for number in range(10)}
    web = write(tmp_path / "web.jsonl", {f"w-{key}": text for key, text in copied.items()})
    books = write(tmp_path / "books.jsonl", {f"b-{key}": text for key, text in copied.items()})
    pair = f"sources=[{{name: web, path: {web}, id_key: id}}, {{name: books, path: {books}, id_key: id}}]"
    run(config_of(web, tmp_path / "first", pair, "dedup.keep=first"), QUIET)
    assert set(documents(tmp_path / "first")) == {f"w-{key}" for key in copied}
    policy = "dedup={keep: source, source_priority: [books, web]}"
    run(config_of(web, tmp_path / "books", pair, policy), QUIET)
    with pytest.raises(ConfigError, match="source_priority names nope, and sources are web, books"):
        config_of(web, tmp_path / "x", pair, "dedup={keep: source, source_priority: [nope, web]}")
    assert set(documents(tmp_path / "books")) == {f"b-{key}" for key in copied}
