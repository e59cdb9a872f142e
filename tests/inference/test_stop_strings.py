"""Stop strings: the same answer wherever the pieces are cut, and nothing shown that belongs to a stop string."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.inference.stop import StopStrings


def cut(pieces: list[str], stops: list[str]) -> tuple[list[str], str | None]:
    gate = StopStrings(stops)
    shown = [gate.push(piece) for piece in pieces]
    if gate.hit is None:
        shown.append(gate.finish())
    return shown, gate.hit


def test_a_stop_string_across_three_pieces_is_never_shown() -> None:
    assert cut(["Hello <", "|e", "nd|> more"], ["<|end|>"]) == (["Hello ", "", ""], "<|end|>")


def test_what_only_looked_like_a_stop_string_comes_late_but_comes() -> None:
    assert cut(["a <", "|e", "xit|>"], ["<|end|>"]) == (["a ", "", "<|exit|>", ""], None)


def test_what_is_held_at_the_end_is_given_back() -> None:
    assert cut(["a\n"], ["\n\n"]) == (["a", "\n"], None)


def test_the_stop_string_that_is_complete_first_wins() -> None:
    assert cut(["abc"], ["abc", "b"]) == (["a"], "b")
    assert cut(["xab"], ["xab", "b"]) == ([""], "xab")


def test_without_stop_strings_all_text_passes_at_once() -> None:
    assert cut(["a", "b"], []) == (["a", "b", ""], None)


@settings(max_examples=300, deadline=None)
@given(
    text=st.text("ab\n", max_size=24),
    stops=st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3),
    data=st.data(),
)
def test_the_cut_does_not_depend_on_the_pieces(text: str, stops: list[str], data: st.DataObject) -> None:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    shown, hit = cut(pieces, stops)
    by_character, hit_by_character = cut(list(text), stops)
    assert ("".join(shown), hit) == ("".join(by_character), hit_by_character)
    answer = "".join(shown)
    assert not any(stop in answer for stop in stops)
    assert (answer == text) if hit is None else text.startswith(answer + hit)
