"""Columns by their buffers against pyarrow's own conversions, and that those are not needed for a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from llmforge.cleaning.columns import as_numpy, numbers, string_lists, strings

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(deadline=None)
@given(st.lists(TEXT | st.none(), max_size=30))
def test_strings(values: list[str | None]) -> None:
    found = strings(values)
    found.validate(full=True)
    assert found.equals(pa.array(values, pa.string()))


@settings(deadline=None)
@given(st.lists(st.lists(TEXT, max_size=4), max_size=20))
def test_string_lists(values: list[list[str]]) -> None:
    found = string_lists(values)
    found.validate(full=True)
    assert found.equals(pa.array(values, pa.list_(pa.string())))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(allow_nan=False), st.booleans()), max_size=40), st.integers(0, 5))
def test_numbers_there_and_back(pairs: list[tuple[float, bool]], cut: int) -> None:
    values, known = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs], dtype=bool)
    found = numbers(values, known)
    found.validate(full=True)
    assert found.to_pylist() == [value if there else None for value, there in pairs]
    chunks = pa.chunked_array([found, found.slice(cut)], pa.float64())
    expected = np.where(known, values, np.nan)
    assert np.array_equal(as_numpy(chunks, "float64"), np.concatenate([expected, expected[cut:]]), equal_nan=True)
    whole = np.arange(len(pairs), dtype=np.int64)
    assert as_numpy(pa.chunked_array([numbers(whole)], pa.int64()), "int64").tolist() == whole.tolist()


def test_a_run_loads_neither_pandas_nor_torch(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One sentence that stands here. And another one.\n" * 30)
    code = (
        "import sys\n"
        "from llmforge.config.load import load_config\n"
        "from llmforge.cleaning.settings import CleanConfig\n"
        "from llmforge.runtime.console import Console\n"
        "from llmforge.stages.clean_views import answer\n"
        "config = load_config(CleanConfig, None, sys.argv[1:]).config\n"
        "quiet = Console(quiet=True, verbose=False, json=True)\n"
        "answer(config, quiet)\n"
        "answer(config, quiet, why='a.txt#1')\n"
        "answer(config, quiet, sweep=['gopher_quality.min_words=1,9'])\n"
        "print(sorted({'pandas', 'torch', 'datasets', 'pyarrow'} & set(sys.modules)))\n"
    )
    given = [f"sources=[{{name: a, path: {tmp_path / 'a.txt'}}}]", f"output_dir={tmp_path / 'out'}"]
    given.append("rules=[{name: gopher_quality, min_words: 1, min_stop_words: 0}]")
    done = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['pyarrow']"
