"""Documents -> ids, by one worker or several, always in the documents' order.

Work goes out in batches of about four megabytes of text, and only a few are under way at a time, so memory stays small.
What comes back does not depend on the number of workers. Workers are threads where the tokenizer's work is done outside
Python's lock: processes send text there and ids back and have a memory for words each, a fifth more CPU time.
Elsewhere they are processes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmforge.corpus.document import Document
from llmforge.errors import MachineError
from llmforge.runtime.waiting import result_of, shut_down
from llmforge.runtime.worker_process import begin_worker
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokens.shard import width_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LABEL = "label"
_BATCH_BYTES = 4 << 20
_AHEAD = 4  # batches under way for each worker
_MIN_PARALLEL_BYTES = 8 << 20  # below this, starting processes costs more than they save


@dataclass(frozen=True)
class Encoded:
    """A batch of documents as ids: `tokens` holds them one behind the other, the lists have an entry for each."""

    tokens: NDArray[np.unsignedinteger]
    lengths: list[int]
    text_bytes: list[int]
    names: list[str]
    sources: list[str]
    labels: list[str]  # "" for a document without one


def encode_batch(tokenizer: Tokenizer, documents: list[Document]) -> Encoded:
    """Each document as [bos] ids [eos], as far as the vocabulary has these.

    Raises:
        DataError: a text is not Unicode; the line names the document.
    """
    names = [document.id for document in documents]
    texts = [document.text for document in documents]
    ids, counts = tokenizer.encode_documents(texts, names)
    tokens = ids.astype(f"<u{width_of(tokenizer.vocab_size)}", copy=False)
    sources = [document.source for document in documents]
    labels = [str(document.metadata.get(LABEL, "")) for document in documents]
    sizes = list(map(_bytes_of, texts))
    return Encoded(tokens, counts.tolist(), sizes, names, sources, labels)


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def batches_of(documents: Iterable[Document], label_key: str = LABEL) -> Iterator[list[Document]]:
    """Documents in groups of about four megabytes of text, each with its label alone; empty texts are left out."""
    group: list[Document] = []
    size = 0
    for document in documents:
        if not document.text:
            continue
        label = document.metadata.get(label_key)
        kept: dict[str, object] = {LABEL: label} if isinstance(label, str) else {}
        group.append(Document(document.id, document.text, document.source, kept))
        size += _bytes_of(document.text)
        if size >= _BATCH_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def encode_documents(
    documents: Iterable[Document], tokenizer: Tokenizer, workers: int, label_key: str = LABEL
) -> Iterator[Encoded]:
    """The documents in their order, as batches of ids; a document's label is the text in its metadata `label_key`.

    Raises:
        DataError: a text is not Unicode.
        MachineError: a worker process died.
    """
    groups = batches_of(documents, label_key)
    if workers == 1:
        yield from (encode_batch(tokenizer, group) for group in groups)
        return
    pool = _pool(tokenizer, workers - 1)
    waiting: deque[_Batch] = deque()
    try:
        for group in groups:
            # This thread is one of the workers: what the others have no room for, it encodes itself.
            busy = sum(map(_is_busy, waiting))
            here = busy >= _AHEAD * (workers - 1)
            if here:
                waiting.append(_Batch([], _done(encode_batch(tokenizer, group))))
            else:
                waiting.append(_Batch(group, pool.submit(group)))
            while waiting and (waiting[0].result.done() or len(waiting) > 2 * _AHEAD * workers):
                yield result_of(waiting.popleft().result)
        while waiting:
            # With no more to read, it takes back what none of the other threads has begun. Not from processes: a pool
            # that breaks stumbles over what was cancelled (CPython 3.11), and what else was asked of it never comes.
            idle = pool.tokenizer is not None and not waiting[0].result.done()
            if idle and (batch := next(filter(_taken_back, reversed(waiting)), None)):
                batch.result = _done(encode_batch(tokenizer, batch.group))
            else:
                yield result_of(waiting.popleft().result)
    except BrokenProcessPool as error:
        hint = "set workers to 1, or free memory"
        raise MachineError("a worker process was ended from outside (out of memory?)", hint=hint) from error
    finally:
        shut_down(pool.executor)


@dataclass
class _Batch:
    group: list[Document]
    result: Future[Encoded]


def _is_busy(batch: _Batch) -> bool:
    """Whether it is not encoded yet; the texts of one that is are let go."""
    if batch.result.done():
        batch.group = []
    return bool(batch.group)


def _taken_back(batch: _Batch) -> bool:
    return not batch.result.done() and batch.result.cancel()


@dataclass(frozen=True)
class _Pool:
    """The other workers: threads that share `tokenizer`, or processes that load one each."""

    executor: Executor
    tokenizer: Tokenizer | None

    def submit(self, group: list[Document]) -> Future[Encoded]:
        if self.tokenizer is None:
            return self.executor.submit(_encode_in_worker, group)
        return self.executor.submit(encode_batch, self.tokenizer, group)


def _pool(tokenizer: Tokenizer, workers: int) -> _Pool:
    if tokenizer.works_outside_lock:
        return _Pool(ThreadPoolExecutor(workers, "llmforge-tokenize"), tokenizer)
    context = multiprocessing.get_context("spawn")
    return _Pool(ProcessPoolExecutor(workers, context, _start_worker, (str(tokenizer.folder),)), None)


def _done(encoded: Encoded) -> Future[Encoded]:
    future: Future[Encoded] = Future()
    future.set_result(encoded)
    return future


def number_of_workers(asked: int, corpus_bytes: int) -> int:
    """Workers to use: as asked, or (0) one a core when the corpus is worth it."""
    if asked:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if corpus_bytes >= _MIN_PARALLEL_BYTES else 1


_worker: list[Tokenizer] = []


def _start_worker(folder: str) -> None:
    begin_worker()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _worker[:] = [Tokenizer.load(folder)]


def _encode_in_worker(group: list[Document]) -> Encoded:
    return encode_batch(_worker[0], group)
