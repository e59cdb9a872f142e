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


# Article 1 of the Universal Declaration of Human Rights, and a sentence on the whale.
TEXTS = {
    "ru": "Все люди рождаются свободными и равными в своём достоинстве и правах. Они наделены разумом и совестью.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są obdarzeni rozumem.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
}


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        ("ru", "cp1251"), ("ru", "koi8-r"), ("ru", "cp866"), ("ru", "iso8859-5"), ("ko", "iso2022_kr"),
        ("pl", "cp1250"), ("ja", "shift_jis"),
        ("ja", "euc_jp"), ("ja", "iso2022_jp"), ("zh", "gb18030"), ("ko", "euc_kr"), ("el", "cp1253"),
        ("ru", "utf-32-le"), ("ru", "utf-32-be"),
    ],
)  # fmt: skip
def test_code_pages_of_other_scripts_are_recognised(language, encoding):
    text = f"{TEXTS[language]}\n" * 4
    decoded = decode(text.encode(encoding))
    assert decoded is not None
    assert (decoded.text, decoded.repaired) == (text, 0)


def test_english_with_a_french_word_is_not_guessed_at():
    text = "The carriage stopped. " * 500 + "Her protégés were at the fête in the rôle of hosts, à la mode.\n"
    decoded = decode(text.encode("cp1252"))
    assert decoded is not None
    assert (decoded.text, decoded.encoding) == (text, "cp1252")


@pytest.mark.parametrize("times", [1, 5, 30])
def test_a_short_french_text_is_not_taken_for_a_mac_s(times):
    text = "\u00c9t\u00e9 \u00e0 la plage, d\u00e9j\u00e0 vu. " * times
    decoded = decode(text.encode("latin-1"))
    assert decoded is not None and decoded.text == text


def test_a_later_part_of_a_file_is_read_as_the_parts_before_it():
    part = "Всё.".encode("koi8-r")
    known = decode(part, "koi8-r")
    assert known is not None and known.text == "Всё."
    valid = decode("Всё.".encode(), "koi8-r")
    assert valid is not None and (valid.text, valid.encoding) == ("Всё.", "utf-8")


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
