"""Evaluation items planted into texts: found in four disguises, not found where they are not."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path

import pytest

from llmforge.cleaning.decontaminate.items import build_index
from llmforge.cleaning.decontaminate.match import Decontaminate, Hit, by_item, spans_to_cut
from llmforge.cleaning.decontaminate.settings import DecontaminateSettings
from llmforge.cleaning.dedup.shingles import word_hashes
from llmforge.cleaning.dedup.substring import without
from llmforge.errors import DataError

VOCABULARY = [f"word{number}" for number in range(3000)]


def make(seed: int, count: int) -> list[str]:
    """Words as text has them: a few are everywhere."""
    chance = random.Random(seed)
    return [VOCABULARY[int(3000 * chance.random() ** 4)] for _ in range(count)]


def step_for(folder: Path, items: list[dict[str, object]], **settings: object) -> Decontaminate:
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    chosen = DecontaminateSettings(against=[str(path)], **settings)  # type: ignore[arg-type]
    return Decontaminate(build_index(chosen), chosen)


def names(hits: list[Hit]) -> set[str]:
    return {name for hit in hits for name in hit.items}


def changed(words: list[str], share: float, seed: int) -> list[str]:
    chance, words = random.Random(seed), list(words)
    for place in chance.sample(range(len(words)), max(1, round(share * len(words)))):
        words[place] = f"other{place}"
    return words


def test_items_are_found_in_every_disguise_and_nowhere_else(tmp_path: Path) -> None:
    questions = [make(seed, 20 + seed % 60) for seed in range(100)]
    step = step_for(tmp_path, [{"question": " ".join(words), "n": 1} for words in questions])
    disguises = {
        "verbatim": lambda words, seed: words,
        "case": lambda words, seed: [word.upper() + "," for word in words],
        "one word": lambda words, seed: changed(words, 0, seed),
        "a tenth": lambda words, seed: changed(words, 0.1, seed),
    }
    for kind, disguise in disguises.items():
        found = 0
        for number, words in enumerate(questions):
            host = make(1000 + number, 300)
            planted = disguise(words, number)
            text = " ".join([*host[:150], *planted, *host[150:]])
            hits = step(text)
            assert names(hits) <= {f"items.jsonl:{number + 1}"}
            found += len(hits) > 0
            for hit in hits:
                assert text[hit.begin : hit.end] == hit.text
                kept = hit.text.lower().replace(",", "").split()
                assert len(set(kept) & set(word.lower().rstrip(",") for word in planted)) >= 0.7 * len(set(kept))
        assert found >= 98, (kind, found)
    assert not any(step(" ".join(make(5000 + seed, 400))) for seed in range(200))


def test_short_items_are_found_with_any_one_word_changed_and_nowhere_else(tmp_path: Path) -> None:
    questions = [make(seed, 8 + seed % 9) for seed in range(90)]
    step = step_for(tmp_path, [{"question": " ".join(words)} for words in questions])
    missed = []
    for number, words in enumerate(questions):
        host = make(1000 + number, 300)
        for place in range(len(words)):
            planted = [*words[:place], "other", *words[place + 1 :]]
            found = names(step(" ".join([*host[:150], *planted, *host[150:]])))
            assert found <= {f"items.jsonl:{number + 1}"}
            missed += [(number, place)] if not found else []
    assert not missed
    assert not any(step(" ".join(make(5000 + seed, 400))) for seed in range(200))


def test_a_verbatim_item_is_cut_whole(tmp_path: Path) -> None:
    words = make(1, 40)
    step = step_for(tmp_path, [{"q": " ".join(words)}])
    [hit] = step("Before it stands this. " + " ".join(words).title() + "! Behind it stands that.")
    assert hit.share == 1.0 and hit.items == ("items.jsonl:1",)
    text = "Before it stands this. " + " ".join(words).title() + "! Behind it stands that."
    assert without(text, spans_to_cut([hit])) == "Before it stands this. ! Behind it stands that."


def test_the_prompt_around_items_does_not_tell(tmp_path: Path) -> None:
    prompt = "Given the sentence below please choose the one answer that fits it best of all"
    items = [{"q": f"{prompt}: {' '.join(make(seed, 15))}"} for seed in range(40)]
    step = step_for(tmp_path, items)
    assert step(f"Some page says: {prompt}.") == []
    assert step(" ".join([prompt, *make(999, 50)])) == []
    assert names(step(f"Some page says: {items[7]['q']}")) == {"items.jsonl:8"}
    assert names(step_for(tmp_path, items, max_parts=40)(f"{prompt}")) == set()


def test_half_of_an_item_is_no_hit_and_a_piece_of_a_long_one_is(tmp_path: Path) -> None:
    short, long = make(1, 40), make(2, 400)
    step = step_for(tmp_path, [{"q": " ".join(short)}, {"passage": [{"text": " ".join(long)}]}])
    assert step(" ".join(short[:20])) == []
    assert names(step(" ".join(long[100:250]))) == {"items.jsonl:2"}


def test_items_too_short_to_tell_are_named(tmp_path: Path) -> None:
    step = step_for(tmp_path, [{"q": "What is it?"}, {"q": " ".join(make(1, 30))}])
    assert step._index.untold == ["items.jsonl:1"]
    assert step._index.items == 2
    with pytest.raises(DataError, match="no item has a text of 8 words"):
        step_for(tmp_path, [{"q": "What is it?"}])


def test_equal_parts_name_all_their_items(tmp_path: Path) -> None:
    passage = " ".join(make(1, 30))
    step = step_for(tmp_path, [{"p": passage, "q": " ".join(make(seed, 10))} for seed in range(2, 22)])
    hits = step(passage)
    assert len(hits) == 1 and len(names(hits)) == 20
    table = by_item([("doc-a", hits), ("doc-b", []), ("doc-c", hits)])
    assert len(table) == 20
    assert [row["document"] for row in table["items.jsonl:3"]] == ["doc-a", "doc-c"]
    assert table["items.jsonl:3"][0]["text"] == passage


def test_only_the_fields_that_are_named_are_looked_for(tmp_path: Path) -> None:
    question, answer = " ".join(make(1, 30)), " ".join(make(2, 30))
    step = step_for(tmp_path, [{"q": question, "a": answer}], fields=["q"])
    assert len(step(question)) == 1 and step(answer) == []
    with pytest.raises(DataError, match="no row has the field r"):
        step_for(tmp_path, [{"q": question}], fields=["r"])


def test_items_of_files_with_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = [" ".join(make(seed, 30)) for seed in range(4)]
    for name, text in zip(("one/test", "two/test", "three/test", "four/other"), texts, strict=True):
        Path(name).parent.mkdir()
        Path(f"{name}.jsonl").write_text(json.dumps({"q": text}) + "\n")
    settings = DecontaminateSettings(against=["one/test.jsonl", "two", f"{tmp_path}/th*/*.jsonl", "four"])
    step = Decontaminate(build_index(settings), settings)
    found = [names(step(text)) for text in texts]
    # The pattern's file is called three/test.jsonl: nothing else is.
    assert found == [{"one/test.jsonl:1"}, {"two/test.jsonl:1"}, {"three/test.jsonl:1"}, {"other.jsonl:1"}]


def test_items_in_an_archive_are_found_without_what_a_mac_adds(tmp_path: Path) -> None:
    texts = [" ".join(make(seed, 30)) for seed in range(3)]
    with zipfile.ZipFile(tmp_path / "items.zip", "w") as archive:
        for number, text in enumerate(texts):
            archive.writestr(f"data/{number}.jsonl", json.dumps({"sentence_good": text}) + "\n")
        archive.writestr("data/README.md", "# Items")
        archive.writestr("data/._0.jsonl", b"\0\5\x16\7")
        archive.writestr("__MACOSX/data/._0.jsonl", b"\0\5\x16\7")
    settings = DecontaminateSettings(against=[str(tmp_path / "items.zip")], fields=["sentence_good"])
    step = Decontaminate(build_index(settings), settings)
    assert [names(step(text)) for text in texts] == [{f"items.zip/data/{number}.jsonl:1"} for number in range(3)]
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("README.md", "# Nothing")
    with pytest.raises(DataError, match=r"none\.zip: holds no rows; .*zip and tar files of them"):
        build_index(DecontaminateSettings(against=[str(tmp_path / "none.zip")]))


def test_it_does_not_depend_on_what_came_before(tmp_path: Path) -> None:
    questions = [" ".join(make(seed, 30)) for seed in range(20)]
    texts = [" ".join([*make(100 + seed, 50), question]) for seed, question in enumerate(questions)]
    items: list[dict[str, object]] = [{"q": question} for question in questions]
    one, two = step_for(tmp_path, items), step_for(tmp_path, items)
    assert [one(text, word_hashes(text)) for text in texts] == [one(text) for text in texts]
    assert [one(text) for text in texts] == [two(text) for text in reversed(texts)][::-1]


def test_a_text_without_words_or_with_few_has_no_hit(tmp_path: Path) -> None:
    step = step_for(tmp_path, [{"q": " ".join(make(1, 30))}])
    assert step("") == step("...") == step("word1 word2") == []


def test_one_word_again_and_again_is_done_in_little_time(tmp_path: Path) -> None:
    step = step_for(tmp_path, [{"q": "spam " * 20 + " ".join(make(1, 30))}])
    assert step("spam " * 50_000) == []
    assert len(step("spam " * 300 + " ".join(make(1, 30)))) == 1


def test_an_item_that_stands_there_many_times_is_found_each_time(tmp_path: Path) -> None:
    words = make(1, 30)
    text = " ".join(word for number in range(50) for word in [*make(100 + number, 40), *words])
    assert len(step_for(tmp_path, [{"q": " ".join(words)}])(text)) == 50
