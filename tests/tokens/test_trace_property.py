"""Re-tokenising what a trace names gives the batch's ids, for any documents, packing, row length, stage and step."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Protocol

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmforge.corpus.document import Document
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokens.folder import TokenFolder
from llmforge.tokens.layout import Packing
from llmforge.tokens.loader import WindowBatches
from llmforge.tokens.run_rows import Mixing, RunSource, StagedWeights
from llmforge.tokens.text_bytes import span_bytes

PACKINGS: tuple[Packing, ...] = ("concatenate", "best_fit")
TEXTS = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
        st.sampled_from(
            ["<s></s>", "\x00\t\n", "▁▁", "a" * 300, "日本語のテキスト" * 9, "def f(x):\n\treturn x\n" * 6]
        ),
    ),
    min_size=3,
    max_size=14,
)


class Write(Protocol):
    def __call__(self, folder: Path, tokenizer: Path, splits: dict[str, list[Document]]) -> TokenFolder: ...


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=TEXTS, seq_len=st.integers(2, 40), packing=st.sampled_from(PACKINGS), seed=st.integers(0, 99), data=st.data()
)
def test_tracing_a_step_gives_its_ids(
    tokenizer_folder: Path,
    write_tokens: Write,
    texts: list[str],
    seq_len: int,
    packing: Packing,
    seed: int,
    data: st.DataObject,
) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    # long enough for one row, whatever is drawn
    documents = [Document(f"d{n}", text, f"s{n % 2}") for n, text in enumerate([*texts, "the end of it. " * 30])]
    with tempfile.TemporaryDirectory() as name:
        folder = write_tokens(Path(name) / "a", tokenizer_folder, {"train": documents, "valid": documents[-1:]})
        first, second = folder.split("train"), folder.split("valid")
        sources = [RunSource(first, 1.0, None, "first"), RunSource(second, 2.0, None, "second")]
        mixing = Mixing(packing, (StagedWeights(3, (1.0, 0.0)),))
        batches = WindowBatches(sources, seq_len, 3, seed, data.draw(st.booleans()), mixing)
        text_of = {(document.source, document.id): document.text for document in documents}
        step = data.draw(st.integers(0, 12))
        batch, found = batches(step).input_ids, [[0] * seq_len for _ in range(3)]
        for span in batches.trace(step):
            text = text_of[span.document.source, span.document.id]
            ids = [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]
            part = ids[span.start : span.start + span.length]
            found[span.row][span.column : span.column + span.length] = part
            split = first if span.source == "first" else second
            begin, end = span_bytes(split, folder.tokenizer_folder, span)
            assert text.encode()[begin:end] == tokenizer.decode_bytes(part)
        assert found == batch.tolist()
