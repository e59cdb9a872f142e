"""What a pretrain config comes to: the model's whole shape, and a number for every `auto`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmforge.model.config import ModelConfig
    from llmforge.stages.pretrain import PretrainConfig
    from llmforge.training.recipe import Completed


def model_config(config: PretrainConfig, vocab_size: int) -> ModelConfig:
    """The model's complete shape for a tokenizer of `vocab_size` ids.

    Raises:
        UsageError: the shape contradicts the vocabulary or the row length.
        DataError: `init_from` is no model folder, or one for another vocabulary.
    """
    from llmforge.checkpoint.model_folder import read_model_config
    from llmforge.config.qualify import qualified
    from llmforge.errors import DataError, UsageError
    from llmforge.model.config import ModelSettings

    if config.model is not None:
        try:
            return config.model.resolve(vocab_size, config.data.seq_len)
        except ValueError as error:
            raise UsageError(qualified(str(error), [ModelSettings], "model"), "model") from error
    shape = read_model_config(str(config.init_from))
    if shape.vocab_size < vocab_size:
        what = f"the model has {shape.vocab_size} embeddings, the tokens were made with {vocab_size} ids"
        raise DataError(what, config.init_from, "tokenize with the tokenizer of that model")
    if shape.max_position_embeddings < config.data.seq_len:
        what = f"data.seq_len {config.data.seq_len} is beyond the model's {shape.max_position_embeddings} positions"
        raise UsageError(what, config.init_from, "lower data.seq_len")
    return shape


def completed(config: PretrainConfig, shape: ModelConfig, epoch: Callable[[], int]) -> Completed:
    """The config's loop and optimizer with a number for every `auto`; `epoch` says the tokens of one."""
    from llmforge.training.recipe import Size, complete

    size = Size(shape.hidden_size, shape.matmul_parameters, config.data.seq_len)
    return complete(config.train, config.optimizer, size, epoch)
