"""Packing: everything once, nothing over, few rows, and as many in any order."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from llmforge.finetune.packing import pack

cases = st.integers(1, 300).flatmap(
    lambda capacity: st.tuples(st.just(capacity), st.lists(st.integers(1, capacity), max_size=80), st.randoms())
)


@given(cases)
def test_each_index_once_within_capacity(case: tuple[int, list[int], Random]) -> None:
    capacity, lengths, _ = case
    rows = pack(lengths, capacity)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in row) <= capacity for row in rows)


@given(cases)
def test_the_order_changes_who_but_not_how_many(case: tuple[int, list[int], Random]) -> None:
    capacity, lengths, draw = case
    order = list(range(len(lengths)))
    draw.shuffle(order)
    rows = pack(lengths, capacity, order)
    plain = pack(lengths, capacity)
    assert [[lengths[at] for at in row] for row in rows] == [[lengths[at] for at in row] for row in plain]
    assert rows == pack(lengths, capacity, order)


@given(cases)
def test_equal_to_a_plain_best_fit(case: tuple[int, list[int], Random]) -> None:
    capacity, lengths, _ = case
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [at for at, left in enumerate(room) if left >= length]
        if fitting:
            room[min(fitting, key=lambda at: room[at])] -= length
        else:
            room.append(capacity - length)
    assert sorted(capacity - left for left in room) == sorted(
        sum(lengths[at] for at in row) for row in pack(lengths, capacity)
    )


def test_fills_well() -> None:
    draw = Random(0)
    lengths = [min(256, max(4, int(draw.expovariate(1 / 60)))) for _ in range(5000)]
    rows = pack(lengths, 256)
    assert sum(lengths) / (256 * len(rows)) > 0.99
