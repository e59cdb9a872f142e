"""Weights in safetensors files, whole or in shards: read with every check a foreign folder needs, never by pickle.

Makes of a folder a dict of named tensors of the expected names and shapes; does not know what the model does with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from llmforge.errors import DamagedError, DataError

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
JSON_BYTES_MAX = 64 << 20
NAMES_SHOWN = 3
PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt"})
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from a file of a bounded size.

    Raises:
        DataError: the file is missing, too large, not JSON or not an object.
    """
    if path.exists() and not path.is_file():
        raise DataError("is not a regular file", path, "give a model folder")
    try:
        if path.stat().st_size > JSON_BYTES_MAX:
            raise DataError(f"the file is larger than {JSON_BYTES_MAX >> 20} MiB", path, "give a model folder")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path, "give a model folder") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON: {error}", path, "get the folder anew") from error
    if not isinstance(content, dict):
        raise DataError("holds no JSON object", path, "get the folder anew")
    return content


def read_tensors(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    ignored: frozenset[str] = frozenset(),
    whole: str = WHOLE,
) -> dict[str, Tensor]:
    """The tensors named in `shapes`, as stored; every one has its shape, is of floats, and finite.

    `ignored` are names that may stand in the files too; `whole` is the file when there are no shards. Nothing is loaded
    before all names and shapes are checked.

    Raises:
        DataError: the folder has no safetensors weights, or other names or shapes than the config implies.
        DamagedError: a file cannot be read, or a tensor holds NaN or infinity.
    """
    places = _places(folder, whole)
    found = {name: place for name, place in places.items() if not (name in ignored or name.endswith(".inv_freq"))}
    _compare_names(folder, set(shapes), set(found))
    by_file: dict[Path, list[str]] = {}
    for name in shapes:
        by_file.setdefault(found[name], []).append(name)
    for file, names in by_file.items():
        _check_shapes(file, {name: shapes[name] for name in names})
    tensors: dict[str, Tensor] = {}
    for file, names in by_file.items():
        tensors |= _load(file, names)
    return tensors


def read_tensor(folder: Path, name: str) -> Tensor:
    """One tensor of a model folder as stored, finite.

    Raises:
        DataError: there is no such tensor.
        DamagedError: a file cannot be read, or the tensor holds NaN or infinity.
    """
    places = _places(folder, WHOLE)
    if name not in places:
        raise DataError(f"the weights have no {name}", folder, "give the folder of a Llama-like model")
    return _load(places[name], [name])[name]


def _places(folder: Path, whole: str) -> dict[str, Path]:
    if (folder / whole).is_file():
        with _opened(folder / whole) as stored:
            return dict.fromkeys(stored.keys(), folder / whole)
    if not (folder / INDEX).is_file():
        pickled = sorted(path.name for path in folder.glob("*") if path.suffix in PICKLED)
        if pickled:
            raise DataError(
                f"the weights are pickled ({pickled[0]}), which can run code when read", folder, "save as safetensors"
            )
        raise DataError(f"no weights: neither {whole} nor {INDEX} exists", folder, "give a model folder")
    entries = read_json(folder / INDEX).get("weight_map")
    if not isinstance(entries, dict):
        raise DataError("has no weight_map", folder / INDEX, "get the folder anew")
    places = {}
    for name, file in entries.items():
        if not isinstance(file, str) or file != Path(file).name or not file.endswith(".safetensors"):
            raise DataError(f"points outside the folder or to no safetensors file: {file}", folder / INDEX)
        if not (folder / file).is_file():
            raise DataError("a file that the index names is missing", folder / file, "get the folder anew")
        places[str(name)] = folder / file
    return places


def _compare_names(folder: Path, wanted: set[str], found: set[str]) -> None:
    for names, what in ((wanted - found, "are missing"), (found - wanted, "are unknown to its config")):
        if names:
            shown = ", ".join(sorted(names)[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
            hint = "the config and the weights do not belong together"
            raise DataError(f"{len(names)} weights {what}: {shown}", folder, hint)


def _check_shapes(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    with _opened(file) as stored:
        present = set(stored.keys())
        for name, shape in shapes.items():
            if name not in present:
                raise DataError(f"{name} is not in the file that the index names for it", file, "get the folder anew")
            part = stored.get_slice(name)
            if tuple(part.get_shape()) != shape:
                raise DataError(f"{name} has shape {list(part.get_shape())}, the config implies {list(shape)}", file)
            if part.get_dtype() not in FLOATS:
                raise DataError(f"{name} is stored as {part.get_dtype()}", file, "give unquantised weights")


def _load(file: Path, names: list[str]) -> dict[str, Tensor]:
    tensors = {}
    with _opened(file) as stored:
        for name in names:
            tensor = stored.get_tensor(name)
            if not bool(tensor.isfinite().all()):
                raise DamagedError(f"{name} holds NaN or infinity", file, "get or train the model anew")
            tensors[name] = tensor
    return tensors


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise DamagedError(f"cannot be read as safetensors: {error}", file, "get or make the folder anew") from error
