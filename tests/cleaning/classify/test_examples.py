"""Reading labelled texts: copies, sides, groups, and one clear line for whatever cannot be learnt from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from labelled_texts import text_of, write_rows
from pydantic import ValidationError

from llmforge.cleaning.classify.examples import Example, check_places, fingerprints, part, read_examples
from llmforge.cleaning.classify.settings import ClassifySettings, TrainOn
from llmforge.errors import DataError


def write(path: Path, rows: list[object]) -> TrainOn:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return TrainOn(path=str(path))


def good(count: int = 30) -> list[object]:
    return [
        {"text": text_of(kind, number), "label": kind, "book": f"b{number % 12}"}
        for kind in ("sea", "court")
        for number in range(count)
    ]


def test_folders_and_rows_give_the_same_examples(tmp_path: Path) -> None:
    for kind in ("sea", "court"):
        (tmp_path / kind).mkdir()
        for number in range(30):
            (tmp_path / kind / f"{number}.txt").write_text(text_of(kind, number), encoding="utf-8")
    places = {kind: str(tmp_path / kind) for kind in ("sea", "court")}
    folders = read_examples(TrainOn(labels=places))
    rows = read_examples(write(tmp_path / "rows.jsonl", good()))
    assert folders == rows
    assert folders.labels == ["court", "sea"] and folders.documents == {"court": 30, "sea": 30}
    assert {side: len(examples) for side, examples in folders.sides.items()} == {"train": 48, "calibrate": 6, "test": 6}
    assert check_places(TrainOn(labels=places)) == folders.num_bytes
    assert set(fingerprints(TrainOn(labels=places))) == {"examples sea", "examples court"}


def test_order_does_not_matter_and_the_seed_does(tmp_path: Path) -> None:
    first = read_examples(write(tmp_path / "a.jsonl", good()))
    assert read_examples(write(tmp_path / "b.jsonl", good()[::-1])) == first
    other = read_examples(write(tmp_path / "a.jsonl", good()).model_copy(update={"seed": 1}))
    assert other.sides != first.sides and other.documents == first.documents


def test_a_copy_is_on_no_second_side_and_a_text_of_two_labels_teaches_nothing(tmp_path: Path) -> None:
    copies = [{"text": f"  {text_of('sea', number)}\n", "label": "sea"} for number in range(20)]
    torn = [{"text": text_of("sea", 29), "label": "court"}, {"text": "  ", "label": "sea"}]
    found = read_examples(write(tmp_path / "rows.jsonl", [*good(), *copies, *torn]))
    assert found.left_out == {"empty": 1, "copies": 20, "under_two_labels": 2, "beyond_max_documents": 0}
    assert found.documents == {"court": 30, "sea": 29}
    texts = [" ".join(example.text.split()) for examples in found.sides.values() for example in examples]
    assert len(texts) == len(set(texts)) == 59


def test_no_more_than_max_documents_are_drawn_of_a_label(tmp_path: Path) -> None:
    settings = write(tmp_path / "rows.jsonl", good(100)).model_copy(update={"max_documents": 25})
    found = read_examples(settings)
    assert found.documents == {"court": 25, "sea": 25} and found.left_out["beyond_max_documents"] == 150


def test_groups_stay_on_one_side(tmp_path: Path) -> None:
    found = read_examples(write(tmp_path / "rows.jsonl", good()).model_copy(update={"group_key": "book"}))
    groups = [{example.group for example in examples} for examples in found.sides.values()]
    assert all(not first & second for at, first in enumerate(groups) for second in groups[at + 1 :])
    assert set().union(*groups) == {f"b{number}" for number in range(12)}


def test_every_label_has_its_share_on_every_side() -> None:
    kept = {
        label: [Example(f"{label}{number}", label, f"{label}{number}", 1) for number in range(count)]
        for label, count in {"few": 10, "some": 57, "many": 400}.items()
    }
    sides = part(kept, 0.1, 3)
    for label, share in {"few": 1, "some": 6, "many": 40}.items():
        for side in ("test", "calibrate"):
            assert sum(example.label == label for example in sides[side]) == share


BAD: list[tuple[list[object], dict[str, object], str]] = [
    ([{"text": f"t {n}", "label": "a"} for n in range(30)], {}, "only one label, 'a': there is nothing to tell apart"),
    (good(1), {}, "label 'sea' has 1 different texts of its own, 10 are needed"),
    ([*good(), {"text": "alone", "label": "third"}], {}, "label 'third' has 1 different texts"),
    ([{"text": "same", "label": label} for label in "ab" for _ in range(50)], {}, "label 'a' has 0 different texts"),
    ([{"text": " ", "label": label} for label in "ab" for _ in range(50)], {}, "has 0 different texts"),
    ([*good(), {"text": "no label", "url": "u"}], {}, r"rows.jsonl:61: it has no label in field 'label' .*: url\)"),
    ([*good(), {"text": "x", "label": ["a"]}], {}, "rows.jsonl:61: its label in field 'label' is not a short name"),
    ([*good(), {"text": "x", "label": "a" * 101}], {}, "rows.jsonl:61: its label in field 'label' is not a short name"),
    ([*good(), {"text": "x", "label": "a\nb"}], {}, "rows.jsonl:61: its label"),
    ([*good(), {"text": 5, "label": "sea"}], {}, "rows.jsonl:61: its field 'text' is a number"),
    ([*good(), ["no", "object"]], {}, "rows.jsonl:61: it is a list"),
    (good(), {"text_key": "body"}, "rows.jsonl:1: it has no text in field 'body'"),
    ([*good(), {"text": "x", "label": "sea"}], {"group_key": "book"}, "rows.jsonl:61: it has no value in field 'book'"),
    (good(), {"group_key": "label"}, "no group is left for training of label"),
    ([{"text": f"t {n}", "label": str(n)} for n in range(1100)], {}, "more than 1000 labels"),
    ([], {}, "rows.jsonl: holds no labelled text"),
]


@pytest.mark.parametrize(("rows", "changes", "line"), BAD, ids=[line[:40] for _, _, line in BAD])
def test_what_cannot_be_learnt_from(tmp_path: Path, rows: list[object], changes: dict[str, object], line: str) -> None:
    settings = write(tmp_path / "rows.jsonl", rows).model_copy(update=changes)
    with pytest.raises(DataError, match=line) as error:
        read_examples(settings)
    assert "\n" not in str(error.value)


def test_an_empty_or_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_rows(tmp_path / "rows.jsonl", {"sea": 30})
    for place in ("empty", "missing"):
        settings = TrainOn(labels={"sea": str(tmp_path / "rows.jsonl"), "court": str(tmp_path / place)})
        with pytest.raises(DataError, match=place):
            check_places(settings)
        with pytest.raises(DataError, match=place):
            read_examples(settings)


def test_labels_that_are_numbers(tmp_path: Path) -> None:
    rows = [{"text": text_of(kind, n), "label": at} for at, kind in enumerate(("sea", "court")) for n in range(20)]
    assert read_examples(write(tmp_path / "rows.jsonl", list(rows))).labels == ["0", "1"]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({}, "exactly one of model and train_on"),
        ({"model": "m", "train_on": {"path": "p"}}, "exactly one of model and train_on"),
        ({"model": ""}, "model is empty"),
        ({"train_on": {}}, "exactly one of labels and path"),
        ({"train_on": {"path": "p", "labels": {"a": "b", "c": "d"}}}, "exactly one of labels and path"),
        ({"train_on": {"labels": {"a": "b"}}}, "two labels at least"),
        ({"train_on": {"labels": {"a": "b", "c": ""}}}, "a path is empty"),
        ({"train_on": {"labels": {"a": "b", "x\ny": "c"}}}, "pattern"),
        ({"train_on": {"path": "p", "held_out": 0.5}}, "less than or equal to 0.4"),
        ({"train_on": {"path": "p", "features": {"bits": 40}}}, "less than or equal to 22"),
        ({"model": "m", "keep": []}, "at least 1"),
        ({"model": "m", "keep": ["a", "a"]}, "twice"),
        ({"model": "m", "min_score": 1.5}, "less than or equal to 1"),
        ({"model": "m", "threshold": 1}, "Extra inputs"),
        ({"train_on": {"labels": {"a": "b", "c": "d"}}, "keep": ["e"]}, "keep names e"),
    ],
    ids=str,
)
def test_settings_that_are_refused(values: dict[str, object], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        ClassifySettings.model_validate(values)
