"""The model folder: exactly what `transformers` opens, and `llmforge.json` beside.

Makes of a model and a tokenizer folder a model folder, and of such a folder (ours, or a Hugging Face one of a supported
family) a model. Runs no code from a folder, reads no pickle. `read_model_config` loads no torch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.checkpoint.families import from_hugging_face, to_hugging_face
from llmforge.checkpoint.model_card import model_card
from llmforge.checkpoint.tensor_file import write_tensors
from llmforge.errors import DataError
from llmforge.model.config import ModelConfig
from llmforge.runtime.files import disk_errors, restore_folder
from llmforge.runtime.manifest import NAME as MANIFEST
from llmforge.runtime.manifest import read_manifest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from llmforge.model.transformer import Transformer

CONFIG = "config.json"
FACTS = "llmforge.json"
FORMAT = 1
# What a tokenizer folder may hold when it is itself a model folder, and what never goes along.
NOT_TOKENIZER = frozenset({CONFIG, "generation_config.json", "README.md", FACTS, MANIFEST, "adapter_config.json"})
NOT_TOKENIZER_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".py", ".gguf", ".h5", ".msgpack", ".onnx"})


def find_model(path: Path | str) -> Path:
    """The model folder, given itself or the run folder that holds it as `model/`.

    Raises:
        DataError: there is none.
    """
    given = Path(path)
    restore_folder(given / "model")
    for folder in (given, given / "model"):
        if (folder / CONFIG).is_file():
            return folder
    if not given.exists():
        raise DataError("no such folder", given, "train a model first, or name another model folder")
    inner = sorted(child.parent.parent for child in given.glob(f"*/model/{CONFIG}"))
    hint = f"there is one in {' and in '.join(map(str, inner))}" if inner else "give a model folder or a run folder"
    raise DataError(f"no model here: there is no {CONFIG}", given, hint)


def read_model_config(folder: Path | str) -> ModelConfig:
    """The shape of the model in a folder, from its config.json.

    Raises:
        DataError: no model folder, or one of an unsupported architecture.
    """
    from llmforge.checkpoint.weights import read_json

    path = find_model(folder) / CONFIG
    return from_hugging_face(read_json(path), path)


def load_model(
    folder: Path | str, device: torch.device | str = "cpu", compute_dtype: torch.dtype | None = None
) -> Transformer:
    """The model in a folder: parameters in fp32 on `device`, computing in `compute_dtype` (fp32 when None).

    Raises:
        DataError: no model folder, an unsupported architecture, or weights that do not fit the config.
        DamagedError: a file has another size or digest than its manifest says, cannot be read, or holds NaN.
    """
    import torch

    from llmforge.checkpoint.weights import read_tensors
    from llmforge.model.transformer import Transformer

    found = find_model(folder)
    config = read_model_config(found)
    if (found / MANIFEST).is_file():
        read_manifest(found, "model", verify="digests")
    with torch.device("meta"):
        model = Transformer(config, compute_dtype or torch.float32)
    shapes = {_stored_name(name): tuple(value.shape) for name, value in model.state_dict().items()}
    ignored = frozenset({"lm_head.weight"} if config.tie_word_embeddings else ())
    tensors = read_tensors(found, shapes, ignored=ignored)
    # A copy, since what safetensors hands out is a view of the file on the disk.
    state = {name: tensors[_stored_name(name)].to(device, torch.float32, copy=True) for name in model.state_dict()}
    model.load_state_dict(state, strict=True, assign=True)
    model.reset_tables(device)
    return model.requires_grad_(True)


def write_model_folder(
    temp: Path,
    model: Transformer,
    config: ModelConfig,
    tokenizer_folder: Path,
    *,
    facts: dict[str, object],
    stop_ids: Sequence[int] = (),
) -> None:
    """Fills the empty folder `temp` with the model; the caller publishes it.

    Weights are written in the dtype of the parameters: fp32 as trained, bf16 after `model.to(torch.bfloat16)`.
    `facts` go into llmforge.json and the model card; `stop_ids` end an answer (`tokenizer.stop_ids`).

    Raises:
        DataError: a weight is NaN or infinite.
        MachineError: the disk is full or fails.
    """
    tensors = _stored_tensors(model)
    _copy_tokenizer(tokenizer_folder, temp)
    special = _special_ids(tokenizer_folder)
    special["eos_token_id"] = sorted(stop_ids) if len(stop_ids) > 1 else next(iter(stop_ids), None)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    keys = {**to_hugging_face(config), **special, "dtype": dtype, "torch_dtype": dtype, "use_cache": True}
    generation = {**special, "do_sample": False, "max_length": config.max_position_embeddings}
    write_tensors(temp / "model.safetensors", tensors, {"format": "pt"})
    with disk_errors(temp):
        _write_json(temp / CONFIG, keys)
        _write_json(temp / "generation_config.json", generation)
        _write_json(temp / FACTS, {"format": FORMAT, "parameters": config.num_parameters, **facts})
        (temp / "README.md").write_text(model_card(config, facts), encoding="utf-8")


def read_facts(folder: Path | str) -> dict[str, object]:
    """What llmforge.json tells about a model; empty for a folder that llmforge did not write."""
    from llmforge.checkpoint.weights import read_json

    path = find_model(folder) / FACTS
    return read_json(path) if path.is_file() else {}


def _stored_name(name: str) -> str:
    return name if name.startswith("lm_head.") else f"model.{name}"


def _stored_tensors(model: Transformer) -> dict[str, Tensor]:
    state = model.state_dict()
    assert not any(".lora_" in name for name in state), "merge the adapters before writing a model folder"
    tensors = {_stored_name(name): value.detach().cpu().contiguous() for name, value in state.items()}
    for name, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise DataError(f"the weight {name} is NaN or infinite: training diverged", hint="lower optimizer.lr")
    return tensors


def _copy_tokenizer(source: Path, target: Path) -> None:
    with disk_errors(target):
        for path in sorted(source.iterdir()):
            foreign = path.name in NOT_TOKENIZER or path.suffix in NOT_TOKENIZER_SUFFIXES
            if path.is_file() and not foreign and not path.name.endswith(".index.json") and path.name[0] != ".":
                shutil.copyfile(path, target / path.name)


def _special_ids(tokenizer_folder: Path) -> dict[str, object]:
    """Ids of the bos and pad tokens by what the tokenizer's files say; None where they name none."""
    from llmforge.checkpoint.weights import read_json

    ids: dict[str, object] = {"bos_token_id": None, "pad_token_id": None}
    settings, tokens = tokenizer_folder / "tokenizer_config.json", tokenizer_folder / "tokenizer.json"
    if not (settings.is_file() and tokens.is_file()):
        return ids
    listed = read_json(tokens).get("added_tokens")
    by_text = {entry["content"]: entry["id"] for entry in listed} if isinstance(listed, list) else {}
    for role, key in (("bos_token", "bos_token_id"), ("pad_token", "pad_token_id")):
        named = read_json(settings).get(role)
        text = named.get("content") if isinstance(named, dict) else named
        ids[key] = by_text.get(text)
    return ids


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
