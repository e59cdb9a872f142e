"""Rows of a Hugging Face dataset: a folder saved by `save_to_disk`, a folder of data files, or a name on the hub.

The library is imported only when such a source is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmforge.errors import DataError, MachineError


@dataclass(frozen=True, slots=True)
class DatasetName:
    """Which dataset: a folder or hub name, the hub's subset, the split, and whether rows come without a download
    first.
    """

    name: str
    subset: str | None
    split: str
    streaming: bool


def is_saved(folder: Path) -> bool:
    """True for what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def local_folder(dataset: str) -> Path | None:
    """The folder of a dataset that lies here; None for a name on the hub."""
    folder = Path(dataset).expanduser()
    return folder.absolute() if folder.is_dir() else None


def read_dataset(wanted: DatasetName) -> Iterator[tuple[int, dict[str, object]]]:
    """(row number from 1, fields) of the split; DataError when there is no such dataset or split."""
    try:
        import datasets
    except ImportError:
        hint = "install it with: pip install datasets"
        raise MachineError("the package datasets is not installed", wanted.name, hint) from None
    datasets.disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # each retry would be a line of its own
    number = 0
    try:
        for number, row in enumerate(_open(datasets, wanted), 1):  # noqa: B007 - the number is said after an error
            yield number, dict(row)
    except LookupError as error:
        raise DataError(str(error.args[0]), wanted.name, "set the source's split or subset") from None
    except Exception as error:
        # The library has no one parent for its errors: network, script, schema and file faults all end here.
        reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
        place = f"{wanted.name}:{number + 1}" if number else wanted.name
        hint = "check the source's dataset, subset and split"
        raise DataError(f"cannot be read as a dataset ({reason})", place, hint) from error


def _open(datasets: Any, wanted: DatasetName) -> Any:
    folder = Path(wanted.name).expanduser()
    if not (folder.is_dir() and is_saved(folder)):
        options = {"split": wanted.split, "streaming": wanted.streaming}
        return datasets.load_dataset(str(folder) if folder.is_dir() else wanted.name, wanted.subset, **options)
    saved = datasets.load_from_disk(str(folder))
    if not isinstance(saved, datasets.DatasetDict):
        return saved
    if wanted.split not in saved:
        raise LookupError(f"has no split {wanted.split!r}, only {', '.join(map(str, saved))}")
    return saved[wanted.split]
