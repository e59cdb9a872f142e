"""The shape of a model, in the spelling of Hugging Face configs; torch-free.

`ModelConfig` is complete and checked: what `Transformer` is built from and what a model folder's config.json says.
`ModelSettings` is what a person writes under `model:` in a config, a preset and any keys that differ from it, and
`resolve` makes the former of the latter. Knows no weights and no folders.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from llmforge.config.schema import Config
from llmforge.model.presets import HEAD_DIM, PRESETS, Shape, mlp_size, shape_of_depth

MIN_VOCAB_SIZE = 2
# What a preset says of these no longer holds when the key before the colon is given.
FOLLOWS = {
    "hidden_size": ("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size"),
    "num_attention_heads": ("num_key_value_heads", "head_dim"),
}


class RopeScaling(Config):
    """How rotary frequencies are stretched to a longer context than the model was first trained for.

    `linear` divides every frequency by `factor` (https://arxiv.org/abs/2306.15595); `llama3` only the long waves, with
    a smooth passage between `low_freq_factor` and `high_freq_factor` (Llama 3.1, https://arxiv.org/abs/2407.21783).
    """

    rope_type: Literal["linear", "llama3"]
    factor: PositiveFloat
    low_freq_factor: PositiveFloat = 1.0
    high_freq_factor: PositiveFloat = 4.0
    original_max_position_embeddings: PositiveInt = 8192

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.rope_type == "llama3" and self.low_freq_factor >= self.high_freq_factor:
            raise ValueError("low_freq_factor must be below high_freq_factor")
        return self


class ModelConfig(Config):
    """A decoder-only transformer: RMSNorm before each part, rotary positions, SwiGLU, grouped queries.

    With `qk_norm` and without biases it is Qwen3; without both Llama; with `attention_bias` alone Qwen2; with a
    `sliding_window` on every layer Mistral.
    """

    vocab_size: Annotated[int, Field(ge=MIN_VOCAB_SIZE, le=2**24)]
    hidden_size: Annotated[int, Field(gt=0, le=2**17)]
    num_hidden_layers: Annotated[int, Field(gt=0, le=1024)]
    num_attention_heads: Annotated[int, Field(gt=0, le=4096)]
    num_key_value_heads: Annotated[int, Field(gt=0, le=4096)]
    head_dim: Annotated[int, Field(gt=0, le=1024)]
    intermediate_size: Annotated[int, Field(gt=0, le=2**19)]
    max_position_embeddings: Annotated[int, Field(gt=0, le=2**20)] = 2048
    rope_theta: PositiveFloat = 10_000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: PositiveFloat = 1e-6
    tie_word_embeddings: bool = False
    # RMSNorm over each head of q and k (https://arxiv.org/abs/2302.05442), as Qwen3
    qk_norm: bool = True
    # biases on q, k and v (Qwen2), and on o (Llama and Qwen3 have all four or none)
    attention_bias: bool = False
    attention_output_bias: bool = False
    # a token sees itself and the sliding_window - 1 tokens before it, in all but the first max_window_layers layers
    sliding_window: PositiveInt | None = None
    max_window_layers: Annotated[int, Field(ge=0)] = 0
    hidden_act: Literal["silu"] = "silu"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        heads, groups = self.num_attention_heads, self.num_key_value_heads
        if heads % groups:
            raise ValueError(f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads ({groups})")
        if self.head_dim % 2:
            raise ValueError(f"head_dim ({self.head_dim}) must be even: rotary positions turn pairs")
        if self.attention_output_bias and not self.attention_bias:
            raise ValueError("attention_output_bias needs attention_bias")
        if self.qk_norm and self.attention_bias and not self.attention_output_bias:
            raise ValueError("qk_norm with attention_bias needs attention_output_bias too (Qwen3 has all four or none)")
        if self.sliding_window is not None and not (self.qk_norm or self.attention_bias) and self.max_window_layers:
            raise ValueError("max_window_layers needs qk_norm or attention_bias (Mistral windows every layer)")
        if self.sliding_window is not None and self.attention_output_bias and not self.qk_norm:
            raise ValueError("no family has sliding_window and attention_output_bias without qk_norm")
        if not self.qk_norm and self.hidden_size % heads:
            raise ValueError(
                f"without qk_norm hidden_size ({self.hidden_size}) must be a multiple of the {heads} heads"
            )
        return self

    def window_of(self, layer: int) -> int | None:
        """The sliding window of a layer, None where it sees all tokens before it."""
        return self.sliding_window if layer >= self.max_window_layers else None

    @property
    def matmul_parameters(self) -> int:
        """Weights that each token is multiplied with: the matrices of all layers and the head."""
        queries, keys = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * queries + 2 * keys)
        return self.num_hidden_layers * (attention + 3 * self.hidden_size * self.intermediate_size) + self._embedding

    @property
    def num_parameters(self) -> int:
        """All trained numbers, a tied head counted once; equal to what `Transformer` holds (a test compares)."""
        queries, keys = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        vectors = 2 * self.hidden_size + (2 * self.head_dim if self.qk_norm else 0)
        if self.attention_bias:
            vectors += queries + 2 * keys
        if self.attention_output_bias:
            vectors += self.hidden_size
        embedding = 0 if self.tie_word_embeddings else self._embedding
        return self.matmul_parameters + embedding + self.num_hidden_layers * vectors + self.hidden_size

    def flops_per_token(self, seq_len: int) -> int:
        """Floating-point operations of forward and backward for one token: 6 x matmul parameters + 12·L·D·T.

        D is the width of attention (heads x head size) and T the row's length; causality is not deducted
        (https://arxiv.org/abs/2204.02311, appendix B).
        """
        width = self.num_attention_heads * self.head_dim
        return 6 * self.matmul_parameters + 12 * self.num_hidden_layers * width * seq_len

    @property
    def _embedding(self) -> int:
        return self.vocab_size * self.hidden_size


class ModelSettings(Config):
    """The `model:` part of a config: a preset or a depth, and Hugging Face keys that replace or complete what it says.

    `depth: N` is one number for the whole shape (`presets.shape_of_depth`).
    Without either `hidden_size` and `num_hidden_layers` are needed; the rest follows from them: heads of 64 (or the
    whole width when it is narrower), as many key/value heads as heads, `intermediate_size` 8/3 of the width rounded up
    to a multiple of 64. A `hidden_size` beside a preset replaces the preset's heads and MLP by these too.
    """

    alternatives = (("preset", "depth"),)

    preset: Literal[tuple(PRESETS)] | None = None  # type: ignore[valid-type]
    # so many layers, and the width, heads and MLP that go with them
    depth: Annotated[int, Field(gt=0, le=256)] | None = None
    vocab_size: Annotated[int, Field(ge=MIN_VOCAB_SIZE, le=2**24)] | None = None
    hidden_size: PositiveInt | None = None
    num_hidden_layers: PositiveInt | None = None
    num_attention_heads: PositiveInt | None = None
    num_key_value_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    intermediate_size: PositiveInt | None = None
    max_position_embeddings: PositiveInt | None = None
    rope_theta: PositiveFloat | None = None
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: PositiveFloat | None = None
    tie_word_embeddings: bool | None = None
    qk_norm: bool | None = None
    attention_bias: bool | None = None
    attention_output_bias: bool | None = None
    sliding_window: PositiveInt | None = None
    max_window_layers: Annotated[int, Field(ge=0)] | None = None
    hidden_act: Literal["silu"] | None = None

    @model_validator(mode="after")
    def _resolvable(self) -> Self:
        if self.preset is not None and self.depth is not None:
            raise ValueError("give preset or depth, not both")
        named = self.preset is not None or self.depth is not None
        if not named and (self.hidden_size is None or self.num_hidden_layers is None):
            raise ValueError("give a preset or a depth, or hidden_size and num_hidden_layers")
        self.resolve(self.vocab_size or MIN_VOCAB_SIZE, self.max_position_embeddings or 1)
        return self

    def resolve(self, vocab_size: int, seq_len: int) -> ModelConfig:
        """The complete shape for a tokenizer of `vocab_size` ids and training rows of `seq_len` tokens.

        Raises:
            ValueError: the keys contradict each other, the vocabulary or the row length.
        """
        given = {key: value for key in type(self).model_fields if (value := getattr(self, key)) is not None}
        for key in ("preset", "depth"):
            given.pop(key, None)
        named = PRESETS.get(self.preset or "", Shape()) if self.depth is None else shape_of_depth(self.depth)
        shape: dict[str, object] = {**named}
        for key in FOLLOWS.keys() & given.keys():
            for following in FOLLOWS[key]:
                shape.pop(following, None)
        shape.update(given)
        self._complete(shape)
        shape.setdefault("vocab_size", vocab_size)
        shape.setdefault("max_position_embeddings", seq_len)
        if int(str(shape["vocab_size"])) < vocab_size:
            raise ValueError(f"vocab_size ({shape['vocab_size']}) is below the tokenizer's {vocab_size}")
        if int(str(shape["max_position_embeddings"])) < seq_len:
            raise ValueError(
                f"max_position_embeddings ({shape['max_position_embeddings']}) is below seq_len ({seq_len})"
            )
        return ModelConfig.model_validate(shape)

    def _complete(self, shape: dict[str, object]) -> None:
        width = int(str(shape["hidden_size"]))
        if "num_attention_heads" not in shape:
            shape["num_attention_heads"] = max(1, width // int(str(shape.get("head_dim", HEAD_DIM))))
        heads = int(str(shape["num_attention_heads"]))
        if "head_dim" not in shape:
            if width % heads:
                raise ValueError(
                    f"hidden_size ({width}) must be a multiple of num_attention_heads ({heads}), or give head_dim"
                )
            shape["head_dim"] = width // heads
        shape.setdefault("num_key_value_heads", heads)
        shape.setdefault("intermediate_size", mlp_size(width))
