"""Opens a model folder for generation: weights in the faster precision, its tokenizer, what ends an answer.

`converses` tells whether a model was taught to answer (and a plain prompt is put through the chat template), without
loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.checkpoint.model_folder import find_model, load_model, read_facts, read_model_config
from llmforge.checkpoint.weights import read_json
from llmforge.errors import DataError
from llmforge.inference.settings import Device, Precision
from llmforge.runtime.manifest import NAME as MANIFEST
from llmforge.runtime.manifest import manifest_digest

if TYPE_CHECKING:
    import torch

    from llmforge.model.transformer import Transformer
    from llmforge.tokenizer.tokenizer import Tokenizer

GENERATION_CONFIG = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to write."""

    model: Transformer
    tokenizer: Tokenizer
    stop_ids: frozenset[int]
    folder: Path
    converses: bool


def open_model(path: str | Path, precision: Precision, device: Device = "auto") -> Loaded:
    """The model in a folder (ours, a run's, or a Hugging Face one) on the device and in the precision asked for.

    Raises:
        DataError: no model there, or a tokenizer that does not belong to it.
        DamagedError: a file was cut or changed.
        MachineError: the device is not there.
    """
    from llmforge.model.packing import pack_for_inference
    from llmforge.runtime.device import choose_device
    from llmforge.tokenizer.tokenizer import Tokenizer

    folder = find_model(path)
    config = read_model_config(folder)
    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > config.vocab_size:
        what = f"the tokenizer has {tokenizer.vocab_size:,} ids, the model {config.vocab_size:,}"
        raise DataError(what, folder, "put the tokenizer that the model was trained with into the folder")
    place = choose_device(device)
    model = pack_for_inference(load_model(folder, place, fast_dtype(precision, place)))
    return Loaded(model, tokenizer, frozenset(tokenizer.stop_ids) | _stop_ids(folder), folder, converses(folder))


def fast_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype to compute in; `auto` on a CPU is bf16 where the processor multiplies it.

    A rule and not a measurement (which `choose_dtype` would do), so that the same seed gives the same answer each time:
    decoding is bound by memory, and bf16 has half as much to read.
    """
    import torch

    from llmforge.runtime.device import choose_dtype

    if precision == "auto" and device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
    return choose_dtype(precision, device)[0]


def converses(path: str | Path) -> bool:
    """Whether the model was fine-tuned on conversations.

    Our own folders say so in llmforge.json; of a foreign one a chat template is taken as the sign.
    """
    folder = find_model(path)
    facts = read_facts(folder)
    if facts:
        return facts.get("chat") is True
    if (folder / CHAT_TEMPLATE_FILE).is_file():
        return True
    path_of_settings = folder / TOKENIZER_CONFIG
    return path_of_settings.is_file() and bool(read_json(path_of_settings).get("chat_template"))


def fingerprint_of_model(path: str | Path) -> str:
    """A digest that changes with the model: its manifest's, or names, sizes and times of a foreign folder's files."""
    folder = find_model(path)
    if (folder / MANIFEST).is_file():
        return manifest_digest(folder, "model")
    files = sorted(found for found in folder.iterdir() if found.is_file())
    facts = [(found.name, found.stat().st_size, found.stat().st_mtime_ns) for found in files]
    return sha256(repr(facts).encode()).hexdigest()


def _stop_ids(folder: Path) -> frozenset[int]:
    """The end tokens that generation_config.json names: some families end a turn with a token of its own."""
    path = folder / GENERATION_CONFIG
    named = read_json(path).get("eos_token_id") if path.is_file() else None
    listed = named if isinstance(named, list) else [named]
    return frozenset(number for number in listed if isinstance(number, int) and not isinstance(number, bool))
