"""Documents -> ids, in this process or in several, always in the documents' order.

Work goes out in batches of about a megabyte of text, and only a few are under way at a time, so memory stays small.
What comes back does not depend on the number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.corpus.document import Document
from llmforge.errors import DataError, MachineError
from llmforge.runtime.worker_process import begin_worker
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokens.shard import width_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LABEL = "label"
_BATCH_BYTES = 1 << 20
_AHEAD = 3  # batches under way for each worker
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
    import numpy as np

    first = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    last = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    ids = array("I")
    lengths, sizes = [], []
    for document in documents:
        before = len(ids)
        try:
            ids.extend(first)
            ids.extend(tokenizer.encode_array(document.text))
            ids.extend(last)
        except DataError as error:
            raise DataError(error.what, f"document {document.id}", error.hint) from error
        lengths.append(len(ids) - before)
        sizes.append(len(document.text.encode("utf-8")))
    tokens = np.frombuffer(ids, dtype=np.uint32).astype(f"<u{width_of(tokenizer.vocab_size)}")
    names = [document.id for document in documents]
    sources = [document.source for document in documents]
    labels = [str(document.metadata.get(LABEL, "")) for document in documents]
    return Encoded(tokens, lengths, sizes, names, sources, labels)


def batches_of(documents: Iterable[Document], label_key: str = LABEL) -> Iterator[list[Document]]:
    """Documents in groups of about a megabyte of text, each with its label alone; empty texts are left out."""
    group: list[Document] = []
    size = 0
    for document in documents:
        if not document.text:
            continue
        label = document.metadata.get(label_key)
        kept: dict[str, object] = {LABEL: label} if isinstance(label, str) else {}
        group.append(Document(document.id, document.text, document.source, kept))
        size += len(document.text)
        if size >= _BATCH_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def encode_documents(
    documents: Iterable[Document], tokenizer_folder: Path, workers: int, label_key: str = LABEL
) -> Iterator[Encoded]:
    """The documents in their order, as batches of ids; a document's label is the text in its metadata `label_key`.

    Raises:
        DataError: a text is not Unicode.
        MachineError: a worker process died.
    """
    if workers == 1:
        tokenizer = Tokenizer.load(tokenizer_folder)
        for group in batches_of(documents, label_key):
            yield encode_batch(tokenizer, group)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (str(tokenizer_folder),)) as pool:
        waiting: deque[Future[Encoded]] = deque()
        try:
            for group in batches_of(documents, label_key):
                waiting.append(pool.submit(_encode_in_worker, group))
                if len(waiting) >= _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            hint = "set workers to 1, or free memory"
            raise MachineError("a worker process was ended from outside (out of memory?)", hint=hint) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def number_of_workers(asked: int, corpus_bytes: int) -> int:
    """Processes to use: as asked, or (0) one a core when the corpus is worth it."""
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
