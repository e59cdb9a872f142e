"""A zip file that was cut: the members before the cut are read, the one there is a bad row, bombs are still stopped."""

from __future__ import annotations

import io
import random
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.corpus import archives
from llmforge.corpus.document import BadRow, Document
from llmforge.corpus.files import find_files
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.unit_reading import read_unit
from llmforge.corpus.units import plan_units
from llmforge.errors import DataError

TEXTS = {f"{number}.txt": random.Random(number).randbytes(700).hex() for number in range(5)}


class Pipe(io.RawIOBase):
    """What cannot be gone back in: zipfile then writes sizes behind the members."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.data += data
        return len(data)


def packed(files: dict[str, str], method: int = zipfile.ZIP_DEFLATED, streamed: bool = False) -> bytes:
    out: Pipe | io.BytesIO = Pipe() if streamed else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:  # type: ignore[arg-type]
        for name, text in files.items():
            archive.writestr(name, text)
    return bytes(out.data) if isinstance(out, Pipe) else out.getvalue()


def read(path: Path) -> tuple[dict[str, str], list[BadRow]]:
    """As `clean` reads: a damaged file is a bad row."""
    source = SourceConfig(name="s", path=str(path))
    found = [row for unit in plan_units(source, forgiving=True) for row in read_unit(unit, source, forgiving=True)]
    texts = {row.id.rpartition("/")[2].removesuffix("#1"): row.text for row in found if isinstance(row, Document)}
    return texts, [row for row in found if isinstance(row, BadRow)]


def place_of(data: bytes, name: str) -> int:
    return data.index(b"PK\3\4", data.index(name.encode()) - 40)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize("streamed", [False, True])
def test_members_before_a_cut_are_read(tmp_path: Path, method: int, streamed: bool) -> None:
    if streamed and method == zipfile.ZIP_STORED:
        pytest.skip("zipfile packs no such")
    path, data = tmp_path / "a.zip", packed(TEXTS, method, streamed)
    path.write_bytes(data[: place_of(data, "3.txt") + 300])
    texts, bad = read(path)
    assert texts == {name: TEXTS[name] for name in ("0.txt", "1.txt", "2.txt")}
    assert [row.where for row in bad] == ["a.zip/3.txt"] and "the archive ends within it" in bad[0].reason
    with pytest.raises(DataError, match=r"a\.zip/3\.txt: is damaged in the archive"):
        for unit in plan_units(SourceConfig(name="s", path=str(path))):
            read_unit(unit, SourceConfig(name="s", path=str(path)))


@pytest.mark.parametrize("streamed", [False, True])
def test_a_cut_behind_the_members_loses_none_and_is_told(tmp_path: Path, streamed: bool) -> None:
    path, data = tmp_path / "a.zip", packed(TEXTS, streamed=streamed)
    for cut in (data.index(b"PK\1\2"), data.index(b"PK\1\2") + 30, len(data) - 5):
        path.write_bytes(data[:cut])
        texts, bad = read(path)
        assert texts == TEXTS
        assert [row.where for row in bad] == ["a.zip"] and "has lost its list of members" in bad[0].reason


def test_what_is_passed_over_and_refused_stays_so(tmp_path: Path) -> None:
    files = {"../up.txt": "x", "b.png": "x", "in.zip": "x", "folder/": "", "ok.txt": "ok"}
    path, data = tmp_path / "a.zip", packed(files, streamed=True)
    path.write_bytes(data[: data.index(b"PK\1\2")])
    texts, bad = read(path)
    assert texts == {"ok.txt": "ok"}
    reasons = [row.reason for row in bad]
    assert ["leads out" in reasons[0], "within an archive" in reasons[1], "lost its list" in reasons[2]] == [True] * 3


def test_a_wrong_check_sum_is_that_members_own(tmp_path: Path) -> None:
    data = bytearray(packed(TEXTS, zipfile.ZIP_STORED))
    del data[data.index(b"PK\1\2") :]
    data[place_of(data, "1.txt") + 50] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    texts, bad = read(tmp_path / "a.zip")
    assert texts == {name: text for name, text in TEXTS.items() if name != "1.txt"}
    assert [row.where for row in bad] == ["a.zip/1.txt", "a.zip"]


@pytest.mark.parametrize("name", ["a.txt", "a.bin"])
def test_a_bomb_is_stopped_also_where_nobody_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 20)
    data = packed({name: "\n" * (30 << 20), "b.txt": "b"}, streamed=True)
    (tmp_path / "a.zip").write_bytes(data[: data.index(b"PK\1\2")])
    texts, bad = read(tmp_path / "a.zip")
    assert texts == {} and len(bad) == 1 and "as an archive bomb does" in bad[0].reason


@given(st.integers(0, 2**32), st.booleans(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_damage_is_a_data_error_or_a_bad_row(
    tmp_path_factory: pytest.TempPathFactory, seed: int, streamed: bool, stored: bool
) -> None:
    drawn = random.Random(seed)
    data = bytearray(packed(TEXTS, zipfile.ZIP_STORED if stored and not streamed else zipfile.ZIP_DEFLATED, streamed))
    del data[drawn.randrange(30, len(data)) :]
    for _ in range(drawn.randint(0, 3)):
        data[drawn.randrange(len(data))] = drawn.randrange(256)
    path = tmp_path_factory.mktemp("damaged") / "a.zip"
    path.write_bytes(data)
    archive = archives.Archive(find_files(str(path)).files[0], "a.zip", "auto", Counter())
    count = 0
    try:
        for member in archive.members():
            count += 1
            if not isinstance(member, BadRow):
                try:
                    member.stream.read()
                except DataError as error:
                    assert "a.zip" in str(error)
    except DataError as error:
        assert "a.zip" in str(error)
    assert count <= len(TEXTS)
