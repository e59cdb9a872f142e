"""The start of training: the one place where weights get their first values. Knows no data and no optimizer."""

from __future__ import annotations

import math

import torch
from torch import nn

from llmforge.model.transformer import Transformer

EMBEDDING_STD = 0.5
TIED_STD = 0.02
HEAD_STD = 0.001
QK_NORM = 1.2


@torch.no_grad()
def initialize(model: Transformer, seed: int) -> None:
    """Gives every parameter its first value, in the order of their names' appearance, from one generator.

    | parameter                       | distribution                                     |
    |---------------------------------|--------------------------------------------------|
    | embed_tokens                    | normal, std 0.5; with a tied head std 0.02       |
    | lm_head                         | normal, std 0.001                                |
    | o_proj, down_proj               | zero: every layer starts as the identity         |
    | q_proj, k_proj, v_proj          | uniform within sqrt(3 / hidden_size)             |
    | gate_proj, up_proj              | uniform within sqrt(3 / hidden_size)             |
    | input_layernorm, norm           | 1                                                |
    | post_attention_layernorm        | 1                                                |
    | q_norm, k_norm                  | 1.2                                              |
    | biases                          | 0                                                |

    The same seed gives the same weights on every device, since they are drawn on the CPU. The small head makes the
    first predictions uniform; a tied head cannot have both scales, hence its own. Zero projections and the head follow
    muP practice as in modded-nanogpt.
    """
    generator = torch.Generator().manual_seed(seed)
    bound = math.sqrt(3 / model.config.hidden_size)
    for name, parameter in model.named_parameters():
        parameter.copy_(_drawn(name, parameter, bound, model.config.tie_word_embeddings, generator))


def _drawn(name: str, parameter: nn.Parameter, bound: float, tied: bool, generator: torch.Generator) -> torch.Tensor:
    values = torch.empty(parameter.shape)
    part, kind = name.split(".")[-2:]
    if kind == "bias" or part in ("o_proj", "down_proj"):
        return values.zero_()
    if part == "embed_tokens":
        return values.normal_(0.0, TIED_STD if tied else EMBEDDING_STD, generator=generator)
    if part == "lm_head":
        return values.normal_(0.0, HEAD_STD, generator=generator)
    if part in ("q_norm", "k_norm"):
        return values.fill_(QK_NORM)
    if part in ("norm", "input_layernorm", "post_attention_layernorm"):
        return values.fill_(1.0)
    assert part in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), f"no row in the table for {name}"
    return values.uniform_(-bound, bound, generator=generator)


def parameter_roles(model: nn.Module) -> dict[str, str]:
    """Name of each parameter -> `embedding`, `head`, `matrix` or `vector`, for optimizers that treat them apart.

    Each matrix is a whole linear map of its own (q, k, v, gate and up are separate parameters), so Muon can take every
    `matrix` as it is.
    """
    return {name: _role(name, parameter) for name, parameter in model.named_parameters()}


def _role(name: str, parameter: nn.Parameter) -> str:
    if "embed_tokens" in name:
        return "embedding"
    if "lm_head" in name:
        return "head"
    return "matrix" if parameter.ndim == 2 else "vector"
