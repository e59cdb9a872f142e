"""Personal data: what is found, what only looks like it, and what stands in its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmforge.cleaning.pii.anonymize import Anonymize, AnonymizeSettings
from llmforge.cleaning.pii.find import find
from llmforge.cleaning.pii.key_file import KEY_BYTES, key_path, load_key
from llmforge.cleaning.pii.match import KINDS
from llmforge.cleaning.verdict import Drop, Keep, Rewrite
from llmforge.errors import DataError, UsageError

KEY = b"k" * KEY_BYTES
REGIONS = ["US", "GB", "DE", "FR", "IN", "AU"]

FOUND = [
    ("email", "Write to jane.doe@acme-widgets.com today.", "jane.doe@acme-widgets.com"),
    ("email", "a+b_c%d@sub.domain.co.uk!", "a+b_c%d@sub.domain.co.uk"),
    ("ip", "The host at 81.2.69.142 answered.", "81.2.69.142"),
    ("ip", "It is 2a00:1450:4001:81b::200e now", "2a00:1450:4001:81b::200e"),
    ("card", "paid with 4539 1488 0343 6467 in May", "4539 1488 0343 6467"),
    ("card", "5500-0000-0000-0004", "5500-0000-0000-0004"),
    ("phone", "Call +49 30 901820 at noon", "+49 30 901820"),
    ("phone", "Phone: (212) 736-5000.", "(212) 736-5000"),
    ("key", "AWS_KEY = AKIAIOSFODNN7ABCDEFG", "AKIAIOSFODNN7ABCDEFG"),
    ("key", "token ghp_16C7e42F292c6912E7710c838347Ae178B4a", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
]

LOOKALIKES = [
    "Python 3.11.7 and version 1.2.3.4 of the driver",
    "section 4.2.1.1 says so",
    "ISBN 978-3-16-148410-0",
    "on 2024-01-15 at 12:30:45",
    "1,234,567 rows and 3.14159265 in all",
    "4539 1488 0343 6468 fails Luhn",
    "4539 1488 0343 6467 8 9 is a row of numbers",
    "sha 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
    "x[1::2] and a::b",
    "@property and user@localhost",
    "127.0.0.1 is this machine",
    "123e4567-e89b-12d3-a456-426614174000",
]


@pytest.mark.parametrize(("kind", "text", "written"), FOUND)
def test_finds(kind: str, text: str, written: str) -> None:
    assert [(match.kind, text[match.start : match.end]) for match in find(text, KINDS, REGIONS)] == [(kind, written)]


@pytest.mark.parametrize("text", LOOKALIKES)
def test_leaves_what_only_looks_like_it(text: str) -> None:
    assert find(text, KINDS, REGIONS) == []


@pytest.mark.parametrize(("kind", "text", "written"), FOUND)
def test_stand_ins_are_keyed_steady_and_nobodys(kind: str, text: str, written: str) -> None:
    step = Anonymize(AnonymizeSettings(), KEY)
    first = step(text)
    assert isinstance(first, Rewrite) and first.counts == {kind: 1}
    assert written not in first.text
    assert step("again: " + text + " " + text).text.count(first.text) == 2  # type: ignore[union-attr]
    other = Anonymize(AnonymizeSettings(), b"o" * KEY_BYTES)(text)
    assert isinstance(other, Rewrite) and other.text != first.text
    assert step(first.text) == Keep()


def test_one_address_in_two_spellings_has_one_stand_in_but_for_its_case() -> None:
    step = Anonymize(AnonymizeSettings(), KEY)
    lower, upper = step("jane@acme-widgets.com"), step("Jane@ACME-Widgets.com")
    assert isinstance(lower, Rewrite) and isinstance(upper, Rewrite)
    assert lower.text == lower.text.lower() == upper.text.lower() and lower.text != upper.text


def test_mask_and_drop() -> None:
    masked = Anonymize(AnonymizeSettings(action="mask"), None)("Write to jane@acme-widgets.com")
    assert masked == Rewrite("Write to <EMAIL>", {"email": 1})
    dropped = Anonymize(AnonymizeSettings(action="drop_document"), None)("Write to jane@acme-widgets.com")
    assert isinstance(dropped, Drop) and "1 email" in dropped.because


def test_only_the_kinds_asked_for() -> None:
    step = Anonymize(AnonymizeSettings(kinds=["ip"]), KEY)
    assert step("jane@acme-widgets.com") == Keep()


PARTS = st.sampled_from([text for _, text, _ in FOUND] + LOOKALIKES + ["\n", " ", "-", "(", "0", "1.", "\u2028", "x"])


@given(st.lists(PARTS, max_size=8))
def test_a_second_pass_finds_nothing(parts: list[str]) -> None:
    step = Anonymize(AnonymizeSettings(), KEY)
    first = step("".join(parts))
    if isinstance(first, Rewrite):
        assert step(first.text) == Keep()


def test_the_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "settings" / "pseudonym.key"
    key, made = load_key(path)
    assert made and len(key) == KEY_BYTES and path.stat().st_mode & 0o777 == 0o600
    assert load_key(path) == (key, False)
    os.chmod(path, 0o644)
    with pytest.raises(UsageError, match="read by others"):
        load_key(path)
    path.write_text("no key")
    with pytest.raises(DataError, match="cannot be read"):
        load_key(path)


def test_a_key_inside_the_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="handed on"):
        key_path(str(tmp_path / "corpus" / "k"), tmp_path)
