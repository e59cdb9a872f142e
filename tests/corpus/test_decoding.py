"""Encodings: found by mark, by zeros, by validity, by fallback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmforge.corpus.decoding import decode

WORDS = "Größe und Übermut: ein Café in São Paulo, naïve Häuser, señor.\n" * 20


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("cp1252", "cp1252"),
    ],
)
def test_an_encoding_is_found_and_read_without_loss(encoding, found):
    decoded = decode(WORDS.encode(encoding))
    assert decoded is not None
    assert (decoded.text, decoded.encoding, decoded.repaired) == (WORDS, found, 0)


def test_bytes_that_windows_does_not_know_are_latin_1():
    decoded = decode(b"Ein Satz " + b"\x81\xe9" + b" und mehr.")
    assert decoded is not None
    assert decoded.encoding == "latin-1"


def test_a_few_broken_bytes_among_good_ones_are_repaired_and_counted():
    decoded = decode(WORDS.encode() + b"\xff" + WORDS.encode())
    assert decoded is not None
    assert (decoded.encoding, decoded.repaired) == ("utf-8", 1)
    assert decoded.text == f"{WORDS}\ufffd{WORDS}"


@pytest.mark.parametrize("data", [bytes(range(32)) * 50, b"\x00" * 500, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9])
def test_what_is_not_text_is_said_not_guessed(data):
    assert decode(data) is None


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_text_in_utf8_comes_back(text):
    decoded = decode(text.encode())
    assert decoded is not None
    assert decoded.text == text.removeprefix("\ufeff")


@given(st.binary(max_size=400))
def test_no_bytes_at_all_raise(data):
    decoded = decode(data)
    assert decoded is None or decoded.text.encode("utf-8", "strict") is not None
