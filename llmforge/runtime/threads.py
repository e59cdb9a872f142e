"""How the threads of torch wait for each other; must be said before torch is loaded, so this file does not load it."""

from __future__ import annotations

import os

SPIN_COUNT = 1_000


def spin_briefly() -> None:
    """Lets OpenMP's threads sleep soon when there is nothing to do, unless the user has chosen otherwise.

    By default they spin for long, and a thread that waits for one that has lost its core keeps the other core busy for
    nothing. The quickstart's pre-training at 8 rows on 2 cores, tokens a second, measured in turn:

    - one other process at work, uncompiled: default 2,280 and 2,320; 10,000 turns 2,180 and 2,180; 1,000 turns
      3,400 and 3,370; none 3,540;
    - alone, uncompiled, medians of 3: default 7,040, 1,000 turns 6,650, none 6,100;
    - alone, compiled, means of 2: default 7,720, 1,000 turns 8,190, none 7,440.

    GNU's OpenMP, which torch brings on Linux, reads the variable when it is loaded (libgomp manual, GOMP_SPINCOUNT).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
