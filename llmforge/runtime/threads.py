"""How the threads of torch wait for each other; must be said before torch is loaded, so this file does not load it."""

from __future__ import annotations

import os

SPIN_COUNT = 10_000


def spin_briefly() -> None:
    """Lets OpenMP's threads sleep soon when there is nothing to do, unless the user has chosen otherwise.

    By default they spin for long, and with one other process at work on 2 cores that cost two thirds of the speed:
    2,050 against 6,490 tokens a second of the quickstart's pre-training. With the machine alone the two are the same
    within the noise (6,640 and 6,700 against 5,990 and 6,480 uncompiled, 7,180 against 8,170 compiled). GNU's OpenMP,
    which torch brings on Linux, reads the variable when it is loaded (libgomp manual, GOMP_SPINCOUNT).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
