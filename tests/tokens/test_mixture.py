"""Mixtures: every row has one source, staged weights and caps give exact counts, and a slow reference agrees."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.tokens.mixture import Mixture, Share, Stage

WEIGHTS = st.integers(1, 1000).map(lambda n: n / 100)
SHARES = st.lists(
    st.builds(
        Share,
        st.integers(1, 40),
        st.integers(1, 1000).map(lambda n: n / 100),
        st.one_of(st.none(), st.sampled_from([1.0, 1.5, 2.0, 3.0])),
    ),
    min_size=1,
    max_size=5,
)


def slow_reference(shares: list[Share], stages: list[Stage], rows: int) -> list[int]:
    """The source of each row, one row after another with state: exact weights, quotas of the phase, what is left.

    A phase begins where the stage or the set of sources changes. In it, going from the last source to the second, the
    sources up to and with a place have had `quota` rows; those before it get the nearest whole number of their share.
    """
    given_rows = [0] * len(shares)
    found: list[int] = []
    began, before_phase, setting = 0, [0] * len(shares), None
    for row in range(rows):
        weights, number = [share.weight for share in shares], -1
        for at, stage in enumerate(stages):
            if stage.start_row <= row:
                weights, number = list(stage.weights), at
        caps = [
            None if share.max_repetition is None else Fraction(repr(share.max_repetition)) * share.windows
            for share in shares
        ]
        active = [
            n
            for n, share in enumerate(shares)
            if weights[n] > 0 and (caps[n] is None or given_rows[n] + 1 <= caps[n])  # type: ignore[operator]
        ]
        if not active:
            break
        if (number, active) != setting:
            setting, began, before_phase = (number, active), row, list(given_rows)
        quota, rest = row - began + 1, sum((Fraction(repr(weights[n])) for n in active), Fraction(0))
        chosen = active[0]
        for n in reversed(active[1:]):
            own = Fraction(repr(weights[n]))
            nearest = int(quota * (rest - own) / rest + Fraction(1, 2))
            if quota - nearest > given_rows[n] - before_phase[n]:
                chosen = n
                break
            quota, rest = nearest, rest - own
        given_rows[chosen] += 1
        found.append(chosen)
    return found


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[list[Share], list[Stage]]:
    shares = draw(SHARES)
    starts = sorted(draw(st.sets(st.integers(0, 60), max_size=3)))
    weights = st.tuples(*(st.one_of(st.just(0.0), WEIGHTS) for _ in shares)).filter(any)
    return shares, [Stage(start, draw(weights)) for start in starts]


@settings(deadline=None, max_examples=60)
@given(drawn=mixtures())
def test_the_rows_are_those_of_a_slow_reference(drawn: tuple[list[Share], list[Stage]]) -> None:
    shares, stages = drawn
    mixture = Mixture(shares, stages)
    expected = slow_reference(shares, stages, 90)
    assert [source for source, _ in mixture.locate_many(0, 90)] == expected
    assert (mixture.num_rows is None or mixture.num_rows >= 90) == (len(expected) == 90)
    if len(expected) < 90:
        assert mixture.num_rows == len(expected) and mixture.locate(len(expected)) is None


@settings(deadline=None, max_examples=60)
@given(drawn=mixtures(), row=st.integers(0, 90), count=st.integers(1, 30))
def test_counts_places_and_back(drawn: tuple[list[Share], list[Stage]], row: int, count: int) -> None:
    mixture = Mixture(*drawn)
    served = mixture.used(row)
    found = mixture.locate_many(row, count)
    for number, (source, before) in enumerate(found):
        assert before == served[source]
        assert mixture.row_of(source, before) == row + number
        assert mixture.locate(row + number) == (source, before)
        served[source] += 1
    if len(found) == count:
        assert mixture.used(row + count) == served
    for source, share in enumerate(drawn[0]):
        assert share.cap is None or mixture.used(10_000)[source] <= share.cap
        if mixture.num_rows is not None:
            assert mixture.row_of(source, mixture.used(mixture.num_rows)[source]) is None


def test_staged_weights_give_exact_counts() -> None:
    """By hand: 100 rows at 7:2:1, 60 at 0:1:2, then 1:1:0 until the second, of 30 rows, has come twice."""
    shares = [Share(1000, 0.7), Share(30, 0.2, 2.0), Share(1000, 0.1)]
    mixture = Mixture(shares, [Stage(100, (0.0, 1.0, 2.0)), Stage(160, (1.0, 1.0, 0.0))])
    assert mixture.used(10) == [7, 2, 1]
    assert mixture.used(100) == [70, 20, 10]
    assert mixture.used(160) == [70, 40, 50]
    assert mixture.used(200) == [90, 60, 50]
    assert mixture.used(300) == [190, 60, 50]
    assert [phase.start for phase in mixture.phases] == [0, 100, 160, 200]
    assert mixture.phases[-1].left == (1,) and mixture.num_rows is None


def test_weights_are_taken_as_written() -> None:
    """0.1 is a tenth: a mixture of ten tenths is even for as long as one likes."""
    mixture = Mixture([Share(10**9, 0.1)] * 10)
    assert mixture.used(10**12) == [10**11] * 10
    assert Mixture([Share(10, 1e-12), Share(10, 1.0)]).used(10**12) == [1, 10**12 - 1]


def test_rows_follow_the_weights() -> None:
    mixture = Mixture([Share(1000, 0.7), Share(1000, 0.2), Share(1000, 0.1)])
    for rows in (10, 100, 1000):
        counts = Counter(found[0] for row in range(rows) if (found := mixture.locate(row)))
        assert all(abs(counts[source] - rows * share) <= 2 for source, share in enumerate((0.7, 0.2, 0.1)))


@pytest.mark.parametrize("cap", [1.0, 2.5])
def test_a_source_that_is_used_up_leaves_and_the_others_go_on(cap: float) -> None:
    mixture = Mixture([Share(10, 1.0, cap), Share(10, 1.0)])
    end = mixture.row_of(0, int(10 * cap) - 1)
    assert end is not None and mixture.used(10_000)[0] == int(10 * cap)
    assert {source for source, _ in mixture.locate_many(end + 1, 50)} == {1}


def test_all_used_up_is_the_end() -> None:
    mixture = Mixture([Share(10, 3.0, 1.0), Share(4, 1.0, 2.0)])
    assert mixture.num_rows == 18 and mixture.used(99) == [10, 8]
    assert mixture.locate_many(16, 9) == mixture.locate_many(16, 2) and mixture.locate(18) is None
