"""`llmforge tokenizer train`: a corpus -> a lossless vocabulary in a folder that transformers opens too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from llmforge.runtime.console import Bar, Console
from llmforge.tokenizer.settings import TokenizerSettings

if TYPE_CHECKING:
    from llmforge.corpus.document import Document
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.tokenizer.tokenizer import Tokenizer

_MEASURED_BYTES = 32_000_000  # of held-out text
_BYTES_PER_ID = 90  # in the four files, about


class TokenizerTrainConfig(TokenizerSettings):
    """A vocabulary and the text it is learned from."""

    output_dir: str = Field(min_length=1, description="a run folder that gets tokenizer/")
    corpus: str = Field(min_length=1, description="a corpus folder, or the run folder of `clean`")


def run(config: TokenizerTrainConfig, console: Console) -> dict[str, object]:
    """Samples the corpus, learns the vocabulary, measures it on held-out text and publishes `tokenizer/`.

    Raises:
        DataError: no corpus, or too little text for the vocabulary.
        StopRequested: a signal came; the same command begins anew.
    """
    from llmforge.runtime.manifest import find_artefact, read_manifest
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.runtime.stop import StopSignals
    from llmforge.tokenizer.tokenizer import Tokenizer

    corpus = find_artefact(config.corpus, "corpus")
    digest = read_manifest(corpus, "corpus").digest
    values = config.model_dump(mode="json")
    with StopSignals() as stop, RunFolder.open(config.output_dir, "tokenizer train", values) as folder:
        check = partial(stop.check, "the same command begins anew")
        temp = folder.temporary("tokenizer")
        try:
            with folder.phase("sample"):
                texts = _sampled(corpus, config.sample_bytes, console, check)
            started = time.monotonic()
            with folder.phase("train"):
                console.say(f"learning a vocabulary of {config.vocab_size:,} from {_megabytes(texts)} of text")
                _learn(texts, temp, config, console, check)
            seconds = time.monotonic() - started
            with folder.phase("measure"):
                measured = _measure(corpus, Tokenizer.load(temp), console, check)
            facts = {**measured, "trained_on_bytes": _size(texts), "train_seconds": round(seconds, 3)}
            folder.publish(temp, "tokenizer", made_from={"corpus": digest}, facts=measured)
        except BaseException:
            folder.discard(temp)
            raise
        result: dict[str, object] = {**facts, "output": str(folder.path / "tokenizer")}
        folder.record(result=result)
        _summarise(result, folder, console)
    return result


def preview(config: TokenizerTrainConfig) -> dict[str, object]:
    """What would be read and written; raises as `run` does when the corpus is not there."""
    from llmforge.runtime.manifest import find_artefact

    corpus = find_artefact(config.corpus, "corpus")
    writes = [str(Path(config.output_dir) / "tokenizer")]
    return {"reads": [str(corpus)], "writes": writes, "bytes": config.vocab_size * _BYTES_PER_ID}


def inputs_fingerprint(config: TokenizerTrainConfig) -> dict[str, str]:
    """The digest of the corpus."""
    from llmforge.runtime.manifest import manifest_digest

    return {"corpus": manifest_digest(config.corpus, "corpus")}


def _sampled(corpus: Path, budget: int, console: Console, check: Callable[[], None]) -> list[str]:
    from llmforge.corpus.folder import read_corpus
    from llmforge.errors import DataError
    from llmforge.tokenizer.sample import fractions, sample, sizes_by_source

    with console.progress("reading the corpus", unit="B") as bar:
        sizes = sizes_by_source(_watched(read_corpus(corpus, "train"), bar, check))
    if not sum(sizes.values()):
        raise DataError("the corpus has no training text", corpus, "clean more text, or loosen the rules")
    taken = fractions(sizes, budget)
    for source, size in sizes.items():
        share = taken.get(source, 0.0)
        console.detail(f"source {source}: {size:,} bytes, {share:.0%} of it in the sample")
    with console.progress("taking the sample", sum(sizes.values()), unit="B") as bar:
        return list(sample(_watched(read_corpus(corpus, "train"), bar, check), taken))


def _learn(
    texts: list[str], folder: Path, config: TokenizerTrainConfig, console: Console, check: Callable[[], None]
) -> None:
    from llmforge.errors import MachineError
    from llmforge.tokenizer.train import train_tokenizer

    done = 0
    with console.progress("learning", config.vocab_size, "merges") as bar:

        def watch(merges: int, note: str) -> None:
            nonlocal done
            check()
            bar.advance(merges - done, note)
            done = merges

        try:
            train_tokenizer(texts, folder, config, watch)
        except MachineError:
            check()  # a signal to the whole group ends the trainer's process first
            raise


def _watched(documents: Iterable[Document], bar: Bar, check: Callable[[], None]) -> Iterator[Document]:
    for document in documents:
        check()
        yield document
        bar.advance(len(document.text))


def _size(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8")) for text in texts)


def _megabytes(texts: Iterable[str]) -> str:
    return f"{_size(texts) / 1e6:.1f} MB"


def _measure(corpus: Path, tokenizer: Tokenizer, console: Console, check: Callable[[], None]) -> dict[str, object]:
    """Bytes per token by source, and whether every text came back as it was: on held-out text where there is any."""
    from llmforge.corpus.folder import read_corpus
    from llmforge.errors import GateError

    found = _count(read_corpus(corpus, "valid"), tokenizer, check)
    split = "valid"
    if not found:
        console.warn("the corpus has no held-out text; the vocabulary is measured on its own training text")
        found, split = _count(read_corpus(corpus, "train"), tokenizer, check), "train"
    lossless = all(same for _, _, same in found.values())
    if not lossless:
        lost = ", ".join(name for name, (_, _, same) in found.items() if not same)
        raise GateError(f"the vocabulary does not give every text back as it was (source {lost})", corpus)
    size, tokens = sum(size for size, _, _ in found.values()), sum(count for _, count, _ in found.values())
    return {
        "vocab_size": tokenizer.vocab_size,
        "bytes_per_token": round(size / max(1, tokens), 4),
        "bytes_per_token_by_source": {name: round(size / max(1, count), 4) for name, (size, count, _) in found.items()},
        "measured_on": split,
        "lossless": lossless,
    }


def _count(
    documents: Iterable[Document], tokenizer: Tokenizer, check: Callable[[], None]
) -> dict[str, tuple[int, int, bool]]:
    """(bytes, tokens, all lossless) by source, of the first 32 MB."""
    found: dict[str, tuple[int, int, bool]] = {}
    seen = 0
    for document in documents:
        if seen >= _MEASURED_BYTES:
            break
        check()
        ids = tokenizer.encode(document.text)
        content = document.text.encode("utf-8")
        size, count, same = found.get(document.source, (0, 0, True))
        same = same and tokenizer.decode_bytes(ids) == content
        found[document.source] = (size + len(content), count + len(ids), same)
        seen += len(content)
    return found


def _summarise(result: dict[str, object], folder: RunFolder, console: Console) -> None:
    text = "held-out" if result["measured_on"] == "valid" else "training"
    line = f"{result['vocab_size']:,} ids, {result['bytes_per_token']} bytes per token on {text} text, lossless"
    folder.log(line)
    console.result(f"tokenizer: {result['output']} ({line})")
