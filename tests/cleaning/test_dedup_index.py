"""What a corpus leaves behind: written, opened, compared with, refused when it does not fit."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from llmforge.cleaning.dedup.exact import exact_key, find_exact_duplicates
from llmforge.cleaning.dedup.index import EarlierCorpora, open_index, write_index
from llmforge.cleaning.dedup.near import NearSettings, find_near_duplicates, signatures
from llmforge.corpus.document import Document
from llmforge.corpus.folder import CorpusWriter
from llmforge.errors import DamagedError, DataError, UsageError

NEAR = NearSettings()


def make(seed: int, count: int = 200) -> str:
    return " ".join(f"w{random.Random(f'{seed} {place}').randrange(5000)}" for place in range(count))


def keys_of(texts: list[str]) -> np.ndarray:
    return np.frombuffer(b"".join(map(exact_key, texts)), dtype=np.uint8).reshape(-1, 16)


def corpus(folder: Path, texts: dict[str, str], near: NearSettings | None = NEAR) -> str:
    folder.mkdir(parents=True)
    with CorpusWriter(folder, 1 << 20) as writer:
        for number, (name, text) in enumerate(texts.items()):
            writer.write("valid" if number % 3 == 2 else "train", Document(name, text, "s", {}))
    whole = list(texts.values())
    found = signatures(whole, near) if near is not None else None
    write_index(folder, list(texts), keys_of(whole), found, [len(text.encode()) for text in whole], near)
    return str(folder)


def test_new_documents_that_repeat_earlier_ones_name_them(tmp_path: Path) -> None:
    old = [make(seed) for seed in range(6)]
    one = corpus(tmp_path / "one", {f"old-{number}": old[number] for number in range(4)})
    corpus(tmp_path / "two" / "corpus", {f"späte/{number}": old[number] for number in range(4, 6)})
    new = [make(100), old[1].upper(), f"{old[5]} and some words more", old[2].replace(" ", "\n"), make(100) + " end"]
    with EarlierCorpora([open_index(one, NEAR), open_index(str(tmp_path / "two"), NEAR)]) as earlier:
        assert len(earlier) == 6
        exact = find_exact_duplicates(keys_of(new), [0] * 5, earlier.keys)
        assert exact.tolist() == [0, 1, 2, 5 + 2, 4]
        sizes = [len(text) for text in new]
        near = find_near_duplicates(signatures(new, NEAR), sizes, new.__getitem__, NEAR, earlier)
        assert {number: match.kept for number, match in near.items()} == {0: 4, 1: 5 + 1, 2: 5 + 5, 3: 5 + 2}
        assert near[1].similarity == 1.0 and 0.9 < near[2].similarity < 1.0
        assert earlier.id(1) == f"{one}: old-1"
        assert earlier.id(5) == f"{tmp_path / 'two'}: späte/5"


def test_two_steps_drop_what_one_drops(tmp_path: Path) -> None:
    chance = random.Random(4)
    texts = [make(seed) for seed in range(30)]
    texts += [" ".join([*chance.choice(texts).split(), "new"]) for _ in range(30)]
    whole = find_near_duplicates(signatures(texts, NEAR), [0] * 60, texts.__getitem__, NEAR)
    first = [number for number in range(40) if number not in whole]
    place = corpus(tmp_path / "first", {str(number): texts[number] for number in first})
    rest = texts[40:]
    with EarlierCorpora([open_index(place, NEAR)]) as earlier:
        found = find_near_duplicates(signatures(rest, NEAR), [0] * 20, rest.__getitem__, NEAR, earlier)
    assert {40 + number for number in found} == {number for number in whole if number >= 40} != set()


def test_a_document_whose_end_is_held_out_is_whole(tmp_path: Path) -> None:
    text = make(1)
    folder = tmp_path / "held"
    folder.mkdir()
    with CorpusWriter(folder, 1 << 20) as writer:
        writer.write("train", Document("a", text[:500], "s", {}))
        writer.write("valid", Document("a#valid", text[500:].lstrip(), "s", {}))
    write_index(folder, ["a"], keys_of([text]), signatures([text], NEAR), [len(text)], NEAR)
    with EarlierCorpora([open_index(str(folder), NEAR)]) as earlier:
        earlier.fetch([0])
        assert earlier.text(0).split()[:50] == text.split()[:50]
        assert exact_key(earlier.text(0)) == exact_key(text)


def test_an_empty_corpus_has_an_index(tmp_path: Path) -> None:
    place = corpus(tmp_path / "empty", {"only": make(1)})
    write_index(tmp_path / "empty", [], [], np.empty((0, NEAR.width), dtype=np.uint32), [], NEAR)
    assert len(open_index(place, NEAR)) == 0


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    place = corpus(tmp_path / "one", {"a": make(1)})
    with pytest.raises(
        UsageError, match="near.ngram 5, near.bands 25, and this config has near.ngram 4, near.bands 20"
    ):
        open_index(place, NearSettings(ngram=4, bands=20))
    assert len(open_index(place, NearSettings(threshold=0.9))) == 1, "the threshold is no part of a signature"
    assert open_index(place, None).signatures is None
    bare = corpus(tmp_path / "bare", {"a": make(1)}, near=None)
    with pytest.raises(UsageError, match="made with near no"):
        open_index(bare, NEAR)


def test_a_folder_without_an_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no index"):
        open_index(str(tmp_path), NEAR)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("name", ["keys", "sizes", "ids", "id_ends", "signatures"])
@pytest.mark.parametrize("damage", [cut, Path.unlink, lambda path: path.write_bytes(b"\x80\x04K\x01.")])
def test_damage_is_told_by_file(tmp_path: Path, name: str, damage: object) -> None:
    place = corpus(tmp_path / "one", {"a": make(1), "b": make(2)})
    damage(tmp_path / "one" / "dedup" / f"{name}.npy")  # type: ignore[operator]
    with pytest.raises(DamagedError, match=f"{name}.npy"):
        open_index(place, NEAR)


def test_facts_that_lie_are_damage(tmp_path: Path) -> None:
    place = corpus(tmp_path / "one", {"a": make(1), "b": make(2)})
    path = tmp_path / "one" / "dedup" / "index.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "documents": 3}))
    with pytest.raises(DamagedError, match="keys.npy"):
        open_index(place, NEAR)
    path.write_text("{")
    with pytest.raises(DamagedError, match="index.json"):
        open_index(place, NEAR)


def test_a_text_that_was_changed_is_damage(tmp_path: Path) -> None:
    place = corpus(tmp_path / "one", {"a": make(1), "b": make(2)})
    with EarlierCorpora([open_index(place, NEAR)]) as earlier:
        for path in (tmp_path / "one").glob("train-*"):
            path.unlink()
        with CorpusWriter(tmp_path / "one", 1 << 20) as writer:
            writer.write("train", Document("a", "changed", "s", {}))
            writer.write("train", Document("b", make(2), "s", {}))
        with pytest.raises(DamagedError, match="does not hold a as its index has it"):
            earlier.fetch([0, 1])
