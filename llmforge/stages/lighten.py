"""What `pretrain` and `finetune` do alike to a model before it is trained, so that it needs less memory or time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmforge.training.settings import ParallelSettings

if TYPE_CHECKING:
    from llmforge.model.transformer import Transformer
    from llmforge.training.assemble import Bench


def lighten(model: Transformer, precision: str, parallel: ParallelSettings, bench: Bench) -> None:
    """Sets what the backward pass makes anew, and fp8 products where they are asked for.

    Raises:
        MachineError, UsageError: as `to_fp8`.
    """
    from llmforge.model.checkpointing import recompute
    from llmforge.model.fp8 import PAYS_FROM, to_fp8

    recompute(model, parallel.activation_checkpointing)
    if precision == "fp8":
        size = model.config.num_parameters
        if size < PAYS_FROM and bench.world.first:
            bench.console.warn(f"fp8 pays from about 1B parameters on, this model has {size / 1e6:,.0f}M: compare bf16")
        to_fp8(model)
