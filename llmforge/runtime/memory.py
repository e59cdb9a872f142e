"""What running out of memory looks like, whoever says so: Python, numpy, torch and what it compiled, C++, oneDNN.

Makes of an exception the number of bytes that were asked for; torch-free, so that every command may ask.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# torch's CPU allocator, C++ itself, and oneDNN, which says no more than what it could not make
_CPU_WORDS = ("can't allocate memory", "Cannot allocate memory", "std::bad_alloc", "could not create a ")
# Code that torch compiled for small models names only the call that failed. Shapes were checked when it was compiled:
# what makes a tensor, or the room that a product works in, fails at nothing but memory.
_COMPILED = re.compile(
    r"aoti_torch_(empty_strided|cpu_b?mm_out|cpu_addmm_out|cpu__scaled_dot_product\w+)\(.*\) API call failed", re.DOTALL
)
_UNITS = {"bytes": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_ASKED = re.compile(r"(?:allocate|allocating) (?:memory: )?(\d+(?:\.\d+)?) (bytes|B|KiB|MiB|GiB|TiB)\b")


@dataclass(frozen=True)
class Shortage:
    """Memory ran out; `asked_bytes` are those of the request that failed, None where nobody said."""

    asked_bytes: int | None = None


def shortage(error: BaseException) -> Shortage | None:
    """Whether an exception means that memory ran out, of the host or of a GPU; None when it is about something else."""
    text = str(error)
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    told = any(words in text for words in _CPU_WORDS) or _COMPILED.search(text)
    if not known and not (isinstance(error, RuntimeError) and told):
        return None
    found = _ASKED.search(text)
    return Shortage(round(float(found[1]) * _UNITS[found[2]]) if found else None)
