"""Tensors that processes hold shares of, written by each process for itself and read by any number of them.

    shard-00001-model-00001-of-00001.safetensors    what the first process had to write, and so on

The files are those of torch.distributed.checkpoint's Hugging Face storage: safetensors that name the place of each
share in its tensor; no pickle, no index beside them. No process ever holds more than one whole tensor. Folder, manifest
and renaming are `train_state`'s. Does not know what the tensors are.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmforge.errors import DamagedError, MachineError

PATTERN = "shard-*.safetensors"
_INFO = "DCP_SHARDING_INFO"  # torch.distributed.checkpoint._hf_utils.CUSTOM_METADATA_KEY
_OFFSETS = "saved_offsets"


def write_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes each process's shares into `folder`, which all of them see; every process must call it.

    Raises:
        MachineError: a process could not write.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    logging.getLogger("torch.distributed.checkpoint").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it recommends consolidating, which would gather what we keep apart
            save(dict(tensors), storage_writer=HuggingFaceStorageWriter(path=str(folder), save_distributed=True))
    except CheckpointException as error:
        rank, failure = next(iter(error.failures.items()))
        what = f"rank {rank} cannot write its share of the state: {failure[0]}"
        raise MachineError(what, folder, "free space or name another output_dir") from error


class Shards(Mapping[str, Tensor]):
    """The tensors in a folder of shards by name; each is put together, on the CPU, when it is asked for."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self._files = ExitStack()
        self._pieces: dict[str, list[tuple[Any, tuple[int, ...], tuple[int, ...]]]] = {}
        for path in sorted(folder.glob(PATTERN)):
            try:
                file = self._files.enter_context(safe_open(path, framework="pt"))
                places = json.loads((file.metadata() or {}).get(_INFO, "{}"))
            except (SafetensorError, OSError, ValueError) as error:
                raise DamagedError(
                    f"cannot be read as safetensors: {error}", path, "start anew: --resume never"
                ) from error
            for name in file.keys():  # noqa: SIM118  (it has no iterator)
                size = tuple(file.get_slice(name).get_shape())
                offset = tuple(places.get(name, {}).get(_OFFSETS, [0] * len(size)))
                self._pieces.setdefault(name, []).append((file, offset, size))

    def shape(self, name: str) -> tuple[int, ...]:
        """The whole tensor's shape, nothing being read."""
        pieces = self._pieces[name]
        return tuple(max(offset[d] + size[d] for _, offset, size in pieces) for d in range(len(pieces[0][2])))

    def __getitem__(self, name: str) -> Tensor:
        pieces = self._pieces[name]
        if len(pieces) == 1:
            return pieces[0][0].get_tensor(name).clone()  # type: ignore[no-any-return]
        shape = self.shape(name)
        whole, filled = torch.empty(shape, dtype=pieces[0][0].get_slice(name)[:1].dtype), 0
        for file, offset, size in pieces:
            whole[tuple(slice(at, at + length) for at, length in zip(offset, size, strict=True))] = file.get_tensor(
                name
            )
            filled += int(torch.Size(size).numel())
        assert filled == whole.numel(), f"the shares of {name} do not make it whole"
        return whole

    def __contains__(self, name: object) -> bool:
        return name in self._pieces

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)
