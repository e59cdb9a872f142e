"""Conversations -> batches: a pure function of seed and step, whole epochs one after the other.

An encoded conversation is a list of ids and a mask of those that are trained on; in a row its position t sees ids[t]
and predicts ids[t + 1] when that one is trained on. Conversations that share a row have their own document_ids and
positions from 0; what is left of a row is padding that nobody sees and that is not trained on.

B rows, T positions in a row.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from llmforge.errors import DataError
from llmforge.finetune.conversations import Conversation
from llmforge.finetune.packing import pack
from llmforge.tokenizer.chat import TrainOn, render
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokens.batch import IGNORED, Batch

PADDING_DOCUMENT = -1
_ROUND_TO = 32  # rows of single conversations are padded to a multiple of it: few shapes to compile or allocate
_KEPT_EPOCHS = 2


@dataclass
class Encoded:
    """Conversations as ids and masks, and what became of those that are too long."""

    ids: list[NDArray[np.int32]] = field(default_factory=list)
    masks: list[NDArray[np.bool_]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # file and row
    cut: int = 0  # too long: the end is left out
    skipped: int = 0  # too long: nothing trained on is left within the length

    def add(self, ids: Sequence[int], mask: Sequence[bool], max_length: int, name: str = "") -> None:
        """Takes a rendered conversation, cut to `max_length` positions, unless nothing is left to learn."""
        kept = max_length + 1  # the last id is only predicted
        if not any(mask[1:kept]):
            self.skipped += 1
            return
        self.cut += len(ids) > kept
        self.ids.append(np.asarray(ids[:kept], dtype=np.int32))
        self.masks.append(np.asarray(mask[:kept], dtype=np.bool_))
        self.names.append(name)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> list[int]:
        """Positions that each conversation takes in a row."""
        return [len(ids) - 1 for ids in self.ids]

    @property
    def digest(self) -> str:
        """SHA-256 over all ids and masks: what a resumed run must find again."""
        state = hashlib.sha256()
        for ids, mask in zip(self.ids, self.masks, strict=True):
            state.update(len(ids).to_bytes(8, "little") + ids.tobytes() + mask.tobytes())
        return state.hexdigest()

    @property
    def num_trained(self) -> int:
        """Tokens that count in the loss, of all conversations."""
        return int(sum(int(mask[1:].sum()) for mask in self.masks))


def encode(
    tokenizer: Tokenizer, conversations: Iterable[Conversation], train_on: TrainOn, max_length: int, where: str
) -> Encoded:
    """Renders conversations; what is longer than `max_length` positions is cut.

    Raises:
        DataError: no conversation has a token to learn within the length.
    """
    encoded = Encoded()
    for conversation in conversations:
        rendered = render(tokenizer, conversation.messages, train_on=train_on)
        encoded.add(rendered.ids, rendered.mask, max_length, conversation.where)
    if not encoded.ids:
        what = f"nothing to train on: no answer begins within {max_length} tokens"
        raise DataError(what, where, "raise data.max_length or shorten the prompts")
    return encoded


class ConversationBatches:
    """Rows of conversations, shuffled anew each epoch; each conversation stands exactly once in an epoch."""

    def __init__(
        self, encoded: Encoded, max_length: int, batch_rows: int, seed: int, packing: bool, pad_id: int
    ) -> None:
        assert len(encoded) and batch_rows > 0
        self.encoded, self.max_length, self.batch_rows = encoded, max_length, batch_rows
        self.seed, self.packing, self.pad_id = seed, packing, pad_id
        self._lengths = encoded.lengths
        self._epochs: OrderedDict[int, list[list[int]]] = OrderedDict()
        self.num_rows = len(self.epoch_rows(0))

    @property
    def row_tokens(self) -> int:
        """Positions of a row; without packing, those of a mean row."""
        return self.max_length if self.packing else max(1, sum(self._lengths) // self.num_rows)

    @property
    def fill(self) -> float:
        """Share of an epoch's positions that hold a conversation, when its rows are packed."""
        return sum(self._lengths) / (self.num_rows * self.max_length)

    def batches(self, step: int) -> Batch:
        """The global batch of a step (from 0): a pure function of the conversations, the seed and the step."""
        return assemble(self.encoded, self._rows(step), self.max_length if self.packing else None, self.pad_id)

    def documents(self, step: int) -> list[str]:
        """File and row of each conversation in the batch of a step (from 0)."""
        return [self.encoded.names[index] for row in self._rows(step) for index in row]

    def _rows(self, step: int) -> list[list[int]]:
        numbers = range(step * self.batch_rows, (step + 1) * self.batch_rows)
        return [self.epoch_rows(number // self.num_rows)[number % self.num_rows] for number in numbers]

    def __call__(self, step: int) -> Batch:
        """`batches(step)`."""
        return self.batches(step)

    def epoch(self, step: int) -> float:
        """How often the conversations have been seen before a step."""
        return step * self.batch_rows / self.num_rows

    def epoch_rows(self, epoch: int) -> list[list[int]]:
        """The rows of an epoch, each a list of conversations by number."""
        if epoch not in self._epochs:
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
            order = rng.permutation(len(self.encoded)).tolist()
            rows = pack(self._lengths, self.max_length, order) if self.packing else [[index] for index in order]
            self._epochs[epoch] = [rows[place] for place in rng.permutation(len(rows))]
            while len(self._epochs) > _KEPT_EPOCHS:
                self._epochs.popitem(last=False)
        return self._epochs[epoch]


def assemble(encoded: Encoded, rows: Sequence[Sequence[int]], length: int | None, pad_id: int) -> Batch:
    """Rows of conversation numbers -> a Batch of `length` positions a row.

    Without a `length` every row holds one conversation and is as long as the longest needs; such rows need no
    document_ids, since padding stands behind and attention looks back only.
    """
    single = length is None
    width = _rounded(max(len(encoded.ids[row[0]]) - 1 for row in rows)) if length is None else length
    inputs = np.full((len(rows), width), pad_id, dtype=np.int64)
    labels = np.full((len(rows), width), IGNORED, dtype=np.int64)
    documents = np.full((len(rows), width), PADDING_DOCUMENT, dtype=np.int32)
    positions = np.zeros((len(rows), width), dtype=np.int64)
    for row, members in enumerate(rows):
        start = 0
        for number, index in enumerate(members):
            ids, mask = encoded.ids[index], encoded.masks[index]
            stop = start + len(ids) - 1
            inputs[row, start:stop] = ids[:-1]
            labels[row, start:stop] = np.where(mask[1:], ids[1:], IGNORED)
            documents[row, start:stop] = number
            positions[row, start:stop] = np.arange(stop - start)
            start = stop
    if single:
        return Batch(torch.from_numpy(inputs), torch.from_numpy(labels))
    return Batch(*(torch.from_numpy(array) for array in (inputs, labels, documents, positions)))


def _rounded(length: int) -> int:
    return -(-length // _ROUND_TO) * _ROUND_TO
