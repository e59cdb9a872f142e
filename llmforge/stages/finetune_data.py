"""The text side of `finetune`: the base model's folder and tokenizer, conversations rendered, split and packed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.errors import DataError, UsageError
from llmforge.training.settings import check_fp8_rows

if TYPE_CHECKING:
    from llmforge.finetune.conversations import Conversation
    from llmforge.finetune.loader import ConversationBatches, Encoded
    from llmforge.finetune.validation import ConversationValidation
    from llmforge.model.config import ModelConfig
    from llmforge.runtime.console import Console
    from llmforge.stages.finetune import FinetuneConfig
    from llmforge.tokenizer.tokenizer import Tokenizer
    from llmforge.training.assemble import Bench

# Rows as long as the context of a large model would be mostly memory: longer ones are asked for.
LONGEST_BY_DEFAULT = 2048
_PURPOSE = {"train": "train on", "valid": "validate with"}


@dataclass(frozen=True)
class FinetuneData:
    """Encoded conversations to train on and to validate with, and the digests of what they and the model come from."""

    tokenizer: Tokenizer
    train: Encoded
    valid: Encoded | None
    max_length: int
    digests: dict[str, str]

    @property
    def pad_id(self) -> int:
        """What fills rows up; never attended to and never predicted."""
        return self.tokenizer.pad_id or 0

    def batches(self, config: FinetuneConfig) -> ConversationBatches:
        """The run's batches as a function of the step."""
        from llmforge.finetune.loader import ConversationBatches

        def made(rows: int) -> ConversationBatches:
            return ConversationBatches(self.train, self.max_length, rows, config.seed, config.data.packing, self.pad_id)

        return made(config.train.batch_rows(made(1).row_tokens))

    def validation(self, config: FinetuneConfig, bench: Bench) -> ConversationValidation | None:
        """What measures the loss on held-out conversations; None when none are held out."""
        from llmforge.finetune.validation import ConversationValidation

        if self.valid is None:
            way_out = "set data.valid or data.valid_fraction"
            bench.console.warn(f"nothing is held out: there will be no valid_loss ({way_out})")
            return None
        train = config.train
        made = ConversationValidation(
            self.valid, self.max_length, train.micro_batch_size, self.pad_id, train.eval_tokens
        )
        return made.on(bench.world, bench.device, self.tokenizer.token_bytes)

    def keep_template(self, folder: Path) -> None:
        """Writes down, in a model folder, the template that a foreign model without one was trained with."""
        from llmforge.inference.loading import CHAT_TEMPLATE_FILE
        from llmforge.tokenizer.foreign_template import PLAIN_TEMPLATE, find_template

        if self.tokenizer.foreign is not None and find_template(folder) is None:
            (folder / CHAT_TEMPLATE_FILE).write_text(PLAIN_TEMPLATE, encoding="utf-8")


def checked_length(config: FinetuneConfig, shape: ModelConfig) -> int:
    """Tokens of a row.

    Raises:
        UsageError: more than the model's context, or packed rows of a length that fp8 does not take.
    """
    context, wanted = shape.max_position_embeddings, config.data.max_length
    if wanted is not None and wanted > context:
        what = f"data.max_length {wanted} is beyond the model's {context} positions"
        raise UsageError(what, config.base_model, "lower data.max_length")
    length = wanted or min(context, LONGEST_BY_DEFAULT)
    if config.data.packing:  # else rows are padded to a multiple
        try:
            check_fp8_rows(config.precision, length, "data.max_length")
        except ValueError as error:
            raise UsageError(str(error)) from error
    return length


def open_data(config: FinetuneConfig, folder: Path, shape: ModelConfig, console: Console) -> FinetuneData:
    """Reads and renders all conversations.

    Raises:
        DataError: a row that is no conversation (file and row), nothing to train on, or another model's tokenizer.
    """
    from llmforge.inference.loading import fingerprint_of_model
    from llmforge.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    if tokenizer.vocab_size > shape.vocab_size:
        what = f"the tokenizer has {tokenizer.vocab_size:,} ids, the model {shape.vocab_size:,}"
        raise DataError(what, folder, "put the tokenizer that the model was trained with into the folder")
    length = checked_length(config, shape)
    with console.progress("reading conversations", unit="conversations") as bar:
        train = _encoded(tokenizer, config, "train", length, bar.advance)
        held_out = config.data.valid is not None or config.data.valid_fraction > 0
        valid = _encoded(tokenizer, config, "valid", length, bar.advance) if held_out else None
    for name, encoded in (("train", train), ("valid", valid)):
        if encoded is not None:
            _say(console, name, encoded, length)
    digests = {"base_model": fingerprint_of_model(folder), "train": train.digest}
    return FinetuneData(tokenizer, train, valid, length, digests | ({"valid": valid.digest} if valid else {}))


def _encoded(tokenizer: Tokenizer, config: FinetuneConfig, split: str, length: int, advance: object) -> Encoded:
    from llmforge.finetune.loader import encode

    assert callable(advance), "a progress bar's method"
    where = str(config.data.valid) if split == "valid" and config.data.valid else ", ".join(config.data.train)

    count = 0

    def counted() -> Iterator[Conversation]:
        nonlocal count
        for conversation in _conversations(config, split):
            count += 1
            yield conversation
            advance(1)

    try:
        return encode(tokenizer, counted(), config.data.train_on, length, where)
    except DataError as error:
        if count or not config.data.valid_fraction:
            raise
        what = f"data.valid_fraction {config.data.valid_fraction} leaves no conversation to {_PURPOSE[split]}"
        hint = "change it (conversations fall to either side by chance), or name data.valid"
        raise DataError(what, where, hint) from error


def _conversations(config: FinetuneConfig, split: str) -> Iterator[Conversation]:
    """The conversations of a split; with a valid_fraction equal ones always come into the same."""
    from llmforge.corpus.split import is_valid
    from llmforge.finetune.conversations import read_conversations

    data = config.data
    if split == "valid" and data.valid is not None:
        yield from read_conversations(data.valid, data.format)
        return
    for path in data.train:
        for conversation in read_conversations(path, data.format):
            if is_valid(conversation.identity, data.valid_fraction) == (split == "valid"):
                yield conversation


def _say(console: Console, name: str, encoded: Encoded, length: int) -> None:
    console.say(f"{name}: {len(encoded):,} conversations, {encoded.num_trained:,} tokens to learn")
    if encoded.cut:
        console.warn(f"{name}: {encoded.cut:,} conversations are longer than {length} tokens and were cut at the end")
    if encoded.skipped:
        console.warn(
            f"{name}: {encoded.skipped:,} conversations were left out: no answer begins within {length} tokens"
        )
