"""Which Hugging Face architectures are the model, and how their config.json says its switches, in both directions.

One row a family. Parameter names need no table: all of these families, and the model, use the same ones. Torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ValidationError

from llmforge.errors import DataError
from llmforge.model.config import ModelConfig


@dataclass(frozen=True)
class Family:
    """A family's names, its fixed switches, and what its config class assumes for keys that config.json leaves out.

    `windows` says where a sliding window holds: on no layer, on every layer, or from `max_window_layers` on when
    `use_sliding_window` is set. `biases` says what `attention_bias` means: nothing (no bias), all of q, k, v and o, or
    that q, k and v always have one.
    """

    architecture: str
    model_type: str
    qk_norm: bool
    biases: str
    windows: str
    defaults: dict[str, object] = field(default_factory=dict)


FAMILIES = (
    Family("Qwen3ForCausalLM", "qwen3", True, "switch", "late", {"head_dim": 128, "max_position_embeddings": 32768}),
    Family("Qwen2ForCausalLM", "qwen2", False, "qkv", "late", {"max_position_embeddings": 32768}),
    Family(
        "MistralForCausalLM",
        "mistral",
        False,
        "none",
        "every",
        {"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131072},
    ),
    # Also SmolLM2, which is Llama under its own name.
    Family("LlamaForCausalLM", "llama", False, "switch", "none", {"max_position_embeddings": 2048}),
)
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
LATE_WINDOW_DEFAULTS = {"sliding_window": 4096, "max_window_layers": 28}
IGNORED_ROPE_KEYS = frozenset({"type", "rope_type", "rope_theta"})


def from_hugging_face(keys: dict[str, object], where: object) -> ModelConfig:
    """The content of a config.json -> the model's config.

    Raises:
        DataError: the architecture, or something it asks for, is not supported; a size is missing or impossible.
    """
    family = _named(keys, where)
    _refuse_unsupported(keys, where)
    missing = [key for key in SIZES if keys.get(key) is None]
    if missing:
        raise DataError(f"the config lacks {', '.join(missing)}", where, "get the folder anew")
    full = {**family.defaults, **{key: value for key, value in keys.items() if value is not None}}
    heads, width = full["num_attention_heads"], full["hidden_size"]
    shape = {key: full[key] for key in (*SIZES, "max_position_embeddings")}
    shape["num_key_value_heads"] = full.get("num_key_value_heads", heads)
    whole = isinstance(width, int) and isinstance(heads, int) and heads > 0
    shape["head_dim"] = full.get("head_dim", width // heads if whole else None)  # type: ignore[operator]
    biased = family.biases == "qkv" or (family.biases == "switch" and bool(full.get("attention_bias", False)))
    shape |= {
        "rms_norm_eps": full.get("rms_norm_eps", 1e-6),
        "tie_word_embeddings": full.get("tie_word_embeddings", False),
        "qk_norm": family.qk_norm,
        "attention_bias": biased,
        "attention_output_bias": biased and family.biases == "switch",
        **_rope_from(full, where),
        **_window_from(family, keys, full, where),
    }
    try:
        return ModelConfig.model_validate(shape)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"the model's shape is impossible: {place} {first['msg']}", where, "get the folder anew"
        ) from error


def to_hugging_face(config: ModelConfig) -> dict[str, object]:
    """The model's config -> the keys of a config.json that make its family's class build the same model."""
    family = next(family for family in FAMILIES if _expresses(family, config))
    keys: dict[str, object] = {"architectures": [family.architecture], "model_type": family.model_type}
    keys |= {key: getattr(config, key) for key in (*SIZES, "num_key_value_heads", "head_dim", "hidden_act")}
    keys |= {key: getattr(config, key) for key in ("max_position_embeddings", "rms_norm_eps", "tie_word_embeddings")}
    if family.biases != "qkv":
        keys["attention_bias"] = config.attention_bias
    if family.windows == "every":
        keys["sliding_window"] = config.sliding_window
    if family.windows == "late":
        keys["use_sliding_window"] = config.sliding_window is not None
        keys["sliding_window"] = config.sliding_window
        keys["max_window_layers"] = config.max_window_layers if config.sliding_window else config.num_hidden_layers
    scaling = config.rope_scaling.model_dump() if config.rope_scaling is not None else {"rope_type": "default"}
    if scaling["rope_type"] == "linear":
        scaling = {"rope_type": "linear", "factor": scaling["factor"]}
    # transformers 5 reads rope_parameters; earlier versions and other tools read the two keys it replaced.
    keys["rope_theta"] = config.rope_theta
    keys["rope_scaling"] = scaling if config.rope_scaling is not None else None
    keys["rope_parameters"] = {**scaling, "rope_theta": config.rope_theta}
    return keys


def _named(keys: dict[str, object], where: object) -> Family:
    named = keys.get("architectures")
    architectures = [str(name) for name in named] if isinstance(named, list) else []
    for family in FAMILIES:
        if family.architecture in architectures or (not architectures and keys.get("model_type") == family.model_type):
            return family
    found = ", ".join(architectures) or str(keys.get("model_type") or "none named")
    supported = ", ".join(family.architecture for family in FAMILIES)
    raise DataError(f"the architecture is not supported: {found}", where, f"give a model of {supported}")


def _refuse_unsupported(keys: dict[str, object], where: object) -> None:
    wrong = {
        "hidden_act": keys.get("hidden_act", "silu") not in ("silu", "swish"),
        "mlp_bias": bool(keys.get("mlp_bias")),
        "quantization_config": keys.get("quantization_config") is not None,
        "partial_rotary_factor": keys.get("partial_rotary_factor") not in (None, 1, 1.0),
    }
    for key in (key for key, refused in wrong.items() if refused):
        value = "" if key == "quantization_config" else f": {keys[key]}"
        raise DataError(f"{key}{value} is not supported", where, "give a model without it")


def _expresses(family: Family, config: ModelConfig) -> bool:
    biases = (config.attention_bias, config.attention_output_bias)
    if family.qk_norm != config.qk_norm:
        return False
    if (
        biases
        not in {"none": {(False, False)}, "switch": {(False, False), (True, True)}, "qkv": {(True, False)}}[
            family.biases
        ]
    ):
        return False
    return family.windows == "late" or (family.windows == "every") == (config.sliding_window is not None)


def _rope_from(full: dict[str, object], where: object) -> dict[str, object]:
    given = full.get("rope_parameters") or full.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise DataError("rope_parameters is not a mapping", where, "get the folder anew")
    theta = given.get("rope_theta", full.get("rope_theta", 10_000.0))
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return {"rope_theta": theta}
    if kind not in ("linear", "llama3"):
        raise DataError(f"rope_type {kind} is not supported", where, "give a model with default, linear or llama3")
    scaling: dict[str, object] = {key: value for key, value in given.items() if key not in IGNORED_ROPE_KEYS}
    if kind == "llama3":
        scaling.setdefault("original_max_position_embeddings", full["max_position_embeddings"])
    return {"rope_theta": theta, "rope_scaling": {**scaling, "rope_type": kind}}


def _window_from(family: Family, keys: dict[str, object], full: dict[str, object], where: object) -> dict[str, object]:
    if family.windows == "every":
        # A window of null is no window; only a missing key means the family's own.
        stated = "sliding_window" in keys and keys["sliding_window"] is None
        return {"sliding_window": None if stated else full["sliding_window"]}
    if family.windows == "none" or not full.get("use_sliding_window", False):
        return {}
    window = full.get("sliding_window", LATE_WINDOW_DEFAULTS["sliding_window"])
    first = full.get("max_window_layers", LATE_WINDOW_DEFAULTS["max_window_layers"])
    types = full.get("layer_types")
    if isinstance(types, list):
        first = types.count("full_attention")
        if types != ["full_attention"] * first + ["sliding_attention"] * (len(types) - first):
            raise DataError("layer_types is not full attention first, then windows", where, "give another model")
    return {"sliding_window": window, "max_window_layers": first}
