"""Parts: what is written is read again, texts by their place; whatever is changed in the file is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmforge.cleaning import parts
from llmforge.cleaning.part_texts import PartTexts
from llmforge.cleaning.parts import Entry, Measured, read_part, write_part
from llmforge.cleaning.pii.match import Sealed
from llmforge.cleaning.verdict import Drop
from llmforge.corpus.document import BadRow, Document
from llmforge.errors import MachineError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def measured(number: int, text: str) -> Measured:
    """A document with something in every field, different for each number."""
    return Measured(
        Document(f"id {number} \u2028", text, "source", {"row": number, "note": ["é", None]}),
        bytes_read=number,
        size=len(text.encode()),
        is_blank=not text.strip(),
        exact_key=number.to_bytes(16, "big"),
        language=["en", 0.5],
        signals={"num_words": float(number), "ratio": 0.25} if number % 3 else None,
        removed={"repair": -number},
        replaced={"email": number},
        reasons=[Drop("decontaminate", "", "it holds an item")] if number % 2 else [],
        sealed=(Sealed("email", "a@b", "sealed"),),
        labels={"good": 0.75, "bad": 0.25},
        telling={"bad": ["a run", "b"]},
        hits=[[["item"], 1, 2, 0.5, "text"]],
        signature=bytes([number % 256]) * 8,
        anchors=bytes([number % 256]) * 12 * (number % 3),
        num_anchors=number % 3,
    )


@given(texts=st.lists(TEXT, max_size=12), pack=st.booleans())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, texts: list[str], pack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "FRAME_BYTES", 200)  # several frames, some of one text
    entries: list[Entry] = [measured(number, text) for number, text in enumerate(texts)]
    entries.insert(len(entries) // 2, (BadRow("file:3", "it is no JSON", 7), "source"))
    path = tmp_path / "one.part"
    write_part(path, entries, pack)
    found = read_part(path)
    assert found is not None and len(found) == len(entries)
    reader = PartTexts()
    for wrote, read in zip(entries, found, strict=True):
        if isinstance(wrote, tuple) or isinstance(read, tuple):
            assert wrote == read
            continue
        assert read.document.text == "", "texts stay in the file"
        assert reader.text(path, read.place) == wrote.document.text
        read.document.text, read.place = wrote.document.text, wrote.place
        assert read == wrote


@pytest.mark.parametrize("pack", [False, True])
def test_a_changed_or_shortened_part_is_none(tmp_path: Path, pack: bool) -> None:
    path = tmp_path / "one.part"
    write_part(path, [measured(number, f"text {number} " * 9) for number in range(5)], pack)
    data = path.read_bytes()
    assert read_part(path) is not None
    for place in range(0, len(data), max(1, len(data) // 97)):
        path.write_bytes(bytes([*data[:place], data[place] ^ 4, *data[place + 1 :]]))
        assert read_part(path) is None
        path.write_bytes(data[:place])
        assert read_part(path) is None
    assert read_part(tmp_path / "nowhere") is None


def test_a_part_that_went_away_is_told(tmp_path: Path) -> None:
    path = tmp_path / "one.part"
    write_part(path, [measured(0, "text")], True)
    entries = read_part(path)
    assert entries is not None and isinstance(entries[0], Measured)
    path.unlink()
    with pytest.raises(MachineError, match="cannot be read"):
        PartTexts().text(path, entries[0].place)
