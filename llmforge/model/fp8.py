"""Products of a model's layers in fp8, with one scale a tensor: for GPUs that multiply it twice as fast as bf16.

Weights stay fp32 masters and keep their names; each product casts its operands by their largest value
(https://arxiv.org/abs/2209.05433, as torchao has it). Embedding, head, norms and attention stay as they are.
"""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from llmforge.errors import MachineError, UsageError
from llmforge.model.transformer import Transformer

# Below this many parameters casting costs what the faster products gain.
PAYS_FROM = 1_000_000_000
_MULTIPLE = 16  # of both sides of a matrix, as the kernels want it


def to_fp8(model: Transformer, emulate: bool = False) -> None:
    """Makes the layers' products with weights run in fp8; `emulate` rounds as fp8 does where no kernel is, for tests.

    Raises:
        MachineError: torchao is not installed.
        UsageError: a matrix whose sides are no multiples of 16.
    """
    try:
        torchao: Any = importlib.import_module("torchao.float8")
    except ImportError:
        hint = "install it with: pip install 'llmforge[fp8]', or set precision=bf16"
        raise MachineError("precision=fp8 needs the package torchao", hint=hint) from None
    for name, module in model.layers.named_modules():
        if isinstance(module, nn.Linear) and (module.in_features % _MULTIPLE or module.out_features % _MULTIPLE):
            shape = f"{module.out_features} x {module.in_features}"
            raise UsageError(
                f"precision=fp8 takes matrices whose sides are multiples of {_MULTIPLE}; layers.{name} is {shape}",
                hint="change model.hidden_size, model.head_dim or model.intermediate_size, or set precision=bf16",
            )
    config = torchao.Float8LinearConfig(emulate=emulate)
    torchao.convert_to_float8_training(model.layers, config=config, module_filter_fn=_is_product)


def _is_product(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear)
