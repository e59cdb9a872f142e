"""Low-rank adapters in the layout of peft: adapter_config.json and adapter_model.safetensors.

Makes of a model with adapters such a folder, which `peft.PeftModel.from_pretrained` opens over the base model, and puts
the adapters of such a folder around a model.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from llmforge.checkpoint.tensor_file import write_tensors
from llmforge.checkpoint.weights import read_json, read_tensors
from llmforge.errors import DataError
from llmforge.model.lora import add_lora, lora_parameters
from llmforge.model.lora_settings import LoraSettings
from llmforge.model.transformer import Transformer
from llmforge.runtime.files import disk_errors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model.model."
_REFUSED = ("use_dora", "use_rslora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern")


def write_adapter(folder: Path, model: Transformer, settings: LoraSettings, base_model: str) -> None:
    """Puts the adapters of `model` into a folder; `base_model` is the path or name of the model they belong to.

    Raises:
        MachineError: the disk is full or fails.
    """
    tensors = {_peft_name(name): value.detach().cpu().contiguous() for name, value in lora_parameters(model).items()}
    assert tensors, "a model with adapters"
    keys = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": settings.r,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(settings.target_modules),
        "bias": "none",
        "inference_mode": True,
    }
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(keys, indent=2) + "\n", encoding="utf-8")


def load_adapter(model: Transformer, folder: Path) -> LoraSettings:
    """Puts the adapters of a peft folder around `model`, in place, and returns their settings.

    Raises:
        DataError: no such folder, another kind of adapter, or weights that do not fit the model.
        DamagedError: the weights cannot be read or hold NaN.
    """
    path = folder / CONFIG
    keys = read_json(path)
    unsupported = [key for key in _REFUSED if keys.get(key)]
    if keys.get("peft_type") != "LORA" or unsupported or keys.get("bias", "none") != "none":
        what = ", ".join(unsupported) or f"peft_type {keys.get('peft_type')}, bias {keys.get('bias', 'none')}"
        raise DataError(f"this kind of adapter is not supported: {what}", path, "give a plain LoRA adapter")
    names = {"r": "r", "lora_alpha": "alpha", "lora_dropout": "dropout", "target_modules": "target_modules"}
    try:
        settings = LoraSettings.model_validate({ours: keys[theirs] for theirs, ours in names.items() if theirs in keys})
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{first['loc'][0]}: {first['msg']}", path, "give a LoRA adapter of linear layers") from error
    add_lora(model, settings)
    places = {_peft_name(name): value for name, value in lora_parameters(model).items()}
    tensors = read_tensors(folder, {name: tuple(value.shape) for name, value in places.items()}, whole=WEIGHTS)
    for name, value in places.items():
        value.data.copy_(tensors[name])
    return settings


def _peft_name(name: str) -> str:
    return f"{_PREFIX}{name}.weight"
