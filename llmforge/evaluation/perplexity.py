"""Bits per byte: how many bits the model needs, on average, for a byte of text it has not seen.

    {"text": "..."}     one row; or a corpus folder, whose valid split is read

Every token of a text is predicted exactly once, the first one behind the bos token; bytes are those of the text in
UTF-8, so that models with different vocabularies compare. A text longer than the context is read in windows, each
beginning with a part of the one before it that is not scored again.

Dimensions: B windows, T positions, P scored positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmforge.corpus.folder import read_corpus
from llmforge.corpus.rows import is_built_in, read_rows
from llmforge.errors import DataError
from llmforge.evaluation.settings import BitsPerByteTask
from llmforge.evaluation.statistics import bootstrap_interval, ratio_standard_error
from llmforge.evaluation.task import Examinee, OnDone, Score, sampled
from llmforge.runtime.manifest import NAME as MANIFEST


@dataclass(frozen=True)
class Text:
    """A text to foresee and where it stands."""

    text: str
    where: str

    @property
    def num_bytes(self) -> int:
        """Bytes in UTF-8."""
        return len(self.text.encode("utf-8"))


@dataclass(frozen=True)
class Window:
    """Ids of a piece of text number `text`; the last `scored` of them are predicted by those before."""

    text: int
    ids: list[int]
    scored: int


def find_corpus(path: str) -> Path | None:
    """The corpus folder that `path` names, itself or inside a run folder; None when it names rows."""
    if is_built_in(path):
        return None
    given = Path(path).expanduser()
    for folder in (given / "corpus", given):
        if (folder / MANIFEST).is_file():
            return folder
    return None


def read_texts(path: str) -> Iterator[Text]:
    """The texts of rows or of a corpus folder's valid split; empty ones are left out.

    Raises:
        DataError: a row without text, or nothing to read.
    """
    corpus = find_corpus(path)
    if corpus is not None:
        for document in read_corpus(corpus, "valid"):
            if document.text:
                yield Text(document.text, document.id)
        return
    for row, where in read_rows(path):
        text = row.get("text")
        if not isinstance(text, str):
            found = f"text is {type(text).__name__}" if "text" in row else "there is no text"
            raise DataError(f"{found}, where a text was expected", where, 'rows look like {"text": "..."}')
        if text:
            yield Text(text, where)


def windows_of(number: int, ids: Sequence[int], start_id: int, length: int, overlap: float) -> Iterator[Window]:
    """Windows of at most `length` inputs over a text's ids in which each id is scored once, in order."""
    whole = [start_id, *ids]
    again = min(int(length * overlap), length - 1)
    done = 0  # ids scored so far; whole[done] is the input that predicts the next one
    while done < len(ids):
        begin = max(0, done - again)
        end = min(len(ids), begin + length)
        yield Window(number, whole[begin : end + 1], end - done)
        done = end


def bits_of_windows(examinee: Examinee, windows: Sequence[Window]) -> list[float]:
    """Bits that the scored ids of each window cost."""
    import torch

    from llmforge.evaluation.loglikelihood import padded, token_logprobs

    model = examinee.model
    device = next(model.parameters()).device
    found = [0.0] * len(windows)
    for group in _groups(windows, examinee.row_tokens):
        members = [windows[number] for number in group]
        with torch.inference_mode():
            hidden = model(padded([window.ids[:-1] for window in members], device))
            rows = [row for row, window in enumerate(members) for _ in range(window.scored)]
            columns = [at for one in members for at in range(len(one.ids) - 1 - one.scored, len(one.ids) - 1)]
            targets = torch.tensor([token for one in members for token in one.ids[-one.scored :]], device=device)
            logprobs = token_logprobs(model, hidden[rows, columns], targets).double()
            sums = torch.zeros(len(members), dtype=torch.float64).index_add_(0, torch.tensor(rows), logprobs)
        for number, total in zip(group, sums.tolist(), strict=True):
            found[number] = -total / math.log(2)
    return found


def _groups(windows: Sequence[Window], row_tokens: int) -> Iterator[list[int]]:
    """Numbers of windows of like length that fit into `row_tokens` together."""
    group: list[int] = []
    for number in sorted(range(len(windows)), key=lambda number: (-len(windows[number].ids), number)):
        if group and (len(group) + 1) * len(windows[group[0]].ids) > row_tokens:
            yield group
            group = []
        group.append(number)
    if group:
        yield group


class BitsPerByte:
    """The task; reads its texts when it is made."""

    def __init__(self, settings: BitsPerByteTask, seed: int) -> None:
        self.name = settings.label or settings.name
        self._overlap, self._seed = settings.overlap, seed
        self._texts = sampled(read_texts(settings.path), settings.limit, seed, settings.path)

    @property
    def size(self) -> int:
        """Texts."""
        return len(self._texts)

    def score(self, examinee: Examinee, on_done: OnDone) -> Score:
        """bits_per_byte and its error over texts; `chance` is that of a model to which all ids are equally likely."""
        bits, tokens = [0.0] * self.size, [0] * self.size
        length = min(examinee.context, examinee.row_tokens)
        for first, last in _portions(self._texts, examinee.row_tokens):
            encoded = examinee.tokenizer.encode_batch([text.text for text in self._texts[first:last]])
            windows: list[Window] = []
            for number, ids in enumerate(encoded, first):
                tokens[number] = len(ids)
                windows += windows_of(number, ids, examinee.start_id, length, self._overlap)
            for window, found in zip(windows, bits_of_windows(examinee, windows), strict=True):
                bits[window.text] += found
            on_done(last - first)
        return self._summary(bits, tokens, examinee.model.config.vocab_size)

    def _summary(self, bits: list[float], tokens: list[int], vocab_size: int) -> Score:
        sizes = [text.num_bytes for text in self._texts]

        def ratio(drawn: Sequence[int]) -> float:
            return sum(bits[at] for at in drawn) / sum(sizes[at] for at in drawn)

        metrics: dict[str, object] = {
            "bits_per_byte": ratio(range(self.size)),
            "bits_per_byte_stderr": ratio_standard_error(bits, [float(size) for size in sizes]),
            "bits_per_byte_ci95": list(bootstrap_interval(self.size, ratio, self._seed)),
            "chance": math.log2(vocab_size) * sum(tokens) / sum(sizes),
            "samples": self.size,
            "tokens": sum(tokens),
            "bytes": sum(sizes),
        }
        records: list[dict[str, object]] = [
            {"item": text.where, "bits": found, "bytes": size, "tokens": count}
            for text, found, size, count in zip(self._texts, bits, sizes, tokens, strict=True)
        ]
        return Score(metrics, records)


def _portions(texts: Sequence[Text], row_tokens: int) -> Iterator[tuple[int, int]]:
    """(first, last) of runs of texts that fill some passes together, so that progress shows and memory is small."""
    first, size = 0, 0
    for number, text in enumerate(texts):
        size += len(text.text)
        if size >= 64 * row_tokens:
            yield first, number + 1
            first, size = number + 1, 0
    if first < len(texts):
        yield first, len(texts)
