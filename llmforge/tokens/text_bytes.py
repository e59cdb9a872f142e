"""Which bytes of a document's text some of its tokens stand for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.tokens.folder import TokenSplit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llmforge.tokens.run_rows import TracedSpan


@lru_cache(maxsize=4)
def _sizes(tokenizer_folder: Path) -> NDArray[np.int64]:
    """Bytes of each id; control symbols have none."""
    import numpy as np

    from llmforge.tokenizer.tokenizer import Tokenizer

    return np.asarray([len(piece) for piece in Tokenizer.load(tokenizer_folder).token_bytes], dtype=np.int64)


def span_bytes(split: TokenSplit, tokenizer_folder: Path, span: TracedSpan) -> tuple[int, int]:
    """(first, last + 1) in the document's UTF-8; a character may lie on both sides of a boundary."""
    sizes = _sizes(tokenizer_folder)
    before = int(sizes[split.stream(span.document.start, span.start)].sum())
    return before, before + int(sizes[split.stream(span.document.start + span.start, span.length)].sum())
