"""The text side of `pretrain`: token folders opened and checked, batches, validation, and samples within the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from llmforge.errors import DataError
from llmforge.tokens.folder import TokenFolder, TokenSplit

if TYPE_CHECKING:
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.stages.pretrain import PretrainConfig
    from llmforge.tokenizer.tokenizer import Tokenizer
    from llmforge.tokens.loader import WindowBatches
    from llmforge.tokens.run_rows import Mixing, RunSource
    from llmforge.tokens.settings import TokenSource
    from llmforge.tokens.verify import BackgroundCheck
    from llmforge.training.assemble import Bench
    from llmforge.training.validation import WindowValidation

_LEAST_PATIENCE = 10.0  # seconds that the end of a run waits for the check of its shards
_PATIENCE = 0.05  # and the share of the training's time
_MOST_OF_TIMEOUT = 0.5  # of the time after which the other processes give the first one up


@dataclass(frozen=True)
class PretrainData:
    """The opened sources, what is held out, and the digests of all of it."""

    folders: tuple[TokenFolder, ...]
    train: tuple[TokenSplit, ...]
    valid: tuple[TokenSplit, ...]
    digests: dict[str, str]

    @property
    def vocab_size(self) -> int:
        """Ids of the tokenizer that all of it was made with."""
        return self.folders[0].vocab_size

    @property
    def tokenizer_folder(self) -> Path:
        """The tokenizer that travels with the tokens."""
        return self.folders[0].tokenizer_folder

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """It, loaded."""
        from llmforge.tokenizer.tokenizer import Tokenizer

        return Tokenizer.load(self.tokenizer_folder)

    @property
    def train_tokens(self) -> int:
        """Tokens to train on, all sources together."""
        return sum(split.num_tokens for split in self.train)

    def batches(self, config: PretrainConfig, rows: int) -> WindowBatches:
        """The run's batches as a function of the step.

        Raises:
            DataError: a source is shorter than one window.
        """
        from llmforge.tokens.loader import WindowBatches

        data = config.data
        return WindowBatches(
            run_sources(config, self.train), data.seq_len, rows, config.seed, data.document_mask, mixing(config)
        )

    def check_enough(self, config: PretrainConfig, batches: WindowBatches, steps: int | None) -> list[str]:
        """What a person should know of the mixture before the run, a line each.

        Raises:
            DataError: max_repetition ends the data, or a source that may not run out, before the run.
        """
        from llmforge.tokens.mixture_notes import check, notes

        check(batches.rows, steps, config.data.when_exhausted)
        return notes(batches.rows, steps)

    @cached_property
    def check(self) -> BackgroundCheck:
        """A check of every byte of the shards, which `watching` starts."""
        from llmforge.tokens.verify import BackgroundCheck

        return BackgroundCheck(sorted({split.path for split in (*self.train, *self.valid)}))

    @contextmanager
    def watching(self, first: bool) -> Iterator[None]:
        """Checks the shards in the background for the time of a `with`, in the first process."""
        with self.check if first else nullcontext():
            yield

    def finish_check(self, folder: RunFolder, train_seconds: float, timeout_seconds: float) -> None:
        """Waits for the background check, which is short beside a run of useful length, and logs if it is not.

        Raises:
            DamagedError: a shard is not what was written.
        """
        if folder.passive:
            return
        patience = min(max(_LEAST_PATIENCE, _PATIENCE * train_seconds), _MOST_OF_TIMEOUT * timeout_seconds)
        if not self.check.finish(patience):
            folder.log(f"the run was over when {self.check.checked} of {self.check.files} token files were checked")


def train_split(folder: TokenFolder, source: TokenSource) -> TokenSplit:
    """The documents that a source of the mixture takes of its folder: the one place where a selection belongs.

    Raises:
        DataError: there are none.
    """
    from llmforge.tokens.selection import select

    split = folder.split("train")
    return split if source.labels is None else select(split, source.labels)


def train_splits(config: PretrainConfig, folders: Sequence[TokenFolder]) -> tuple[TokenSplit, ...]:
    """The documents that each source takes of its folder; folders behind the sources' are left alone."""
    return tuple(train_split(*pair) for pair in zip(folders, config.data.sources, strict=False))


def batch_rows(config: PretrainConfig, folders: Sequence[TokenFolder]) -> int:
    """Rows of one step, also where the batch is left to `auto`."""
    from llmforge.stages.pretrain_recipe import completed, model_config

    train = config.train
    if train.global_batch_tokens == "auto":
        shape = model_config(config, folders[0].vocab_size)
        train = completed(config, shape, lambda: sum(s.num_tokens for s in train_splits(config, folders))).train
    return train.batch_rows(config.data.seq_len)


def run_sources(config: PretrainConfig, splits: Sequence[TokenSplit]) -> list[RunSource]:
    """The config's sources with their opened splits."""
    from llmforge.tokens.run_rows import RunSource

    pairs = zip(splits, config.data.sources, strict=True)
    return [RunSource(split, source.weight, source.max_repetition, source.name) for split, source in pairs]


def mixing(config: PretrainConfig) -> Mixing:
    """How the config's sources become rows."""
    from llmforge.tokens.run_rows import Mixing, StagedWeights

    stages = [StagedWeights(stage.start_step, config.data.stage_weights(stage)) for stage in config.data.stages]
    return Mixing(config.data.packing, tuple(stages))


def open_data(config: PretrainConfig) -> PretrainData:
    """Opens all token folders of a config.

    Raises:
        DataError: one is missing, holds no tokens, or was made with another tokenizer than the first.
        DamagedError: a file of one was cut or changed.
    """
    folders = tuple(TokenFolder.open(source.path) for source in config.data.sources)
    held_out = TokenFolder.open(config.data.valid) if config.data.valid else None
    for folder in (*folders, *([held_out] if held_out else [])):
        if folder.tokenizer_digest != folders[0].tokenizer_digest:
            what = f"these tokens and those of {folders[0].path} were made with different tokenizers"
            raise DataError(what, folder.path, "run llmforge tokenize with one tokenizer")
    pairs = list(zip(folders, config.data.sources, strict=True))
    train = train_splits(config, folders)
    if held_out is not None:
        valid: tuple[TokenSplit, ...] = (held_out.split("valid" if "valid" in held_out.split_names else "train"),)
    else:
        valid = tuple(_held_out(pairs))
    return PretrainData(folders, train, tuple(s for s in valid if s.num_tokens > 1), digests(config))


def _held_out(pairs: Sequence[tuple[TokenFolder, TokenSource]]) -> Iterator[TokenSplit]:
    """The sources' own valid splits, each folder's documents once however many sources name it."""
    from llmforge.tokens.selection import select

    wanted: dict[Path, set[str] | None] = {}
    for folder, source in pairs:
        labels = wanted.setdefault(folder.path, set())
        wanted[folder.path] = None if labels is None or source.labels is None else labels | set(source.labels)
    for folder in {folder.path: folder for folder, _ in pairs}.values():
        if "valid" not in folder.split_names:
            continue
        split, labels = folder.split("valid"), wanted[folder.path]
        there = {split.label_names[at] for at in set(split.document_labels.tolist())}
        if labels is None:
            yield split
        elif labels & there:  # a rare label may have no held-out document
            yield select(split, sorted(labels))


def digests(config: PretrainConfig) -> dict[str, str]:
    """Name of each input -> the digest that stands for it."""
    from llmforge.checkpoint.model_folder import find_model
    from llmforge.runtime.files import digest_file
    from llmforge.runtime.manifest import NAME, manifest_digest

    found: dict[str, str] = {}
    for source in config.data.sources:
        found[source.name] = manifest_digest(source.path, "tokens")
    if config.data.valid:
        found["valid split"] = manifest_digest(config.data.valid, "tokens")
    if config.init_from:
        folder = find_model(config.init_from)
        if (folder / NAME).is_file():
            found["init_from"] = manifest_digest(folder, "model")
        else:
            weights = sorted(folder.glob("*.safetensors"))
            found["init_from"] = " ".join(digest_file(path) for path in [folder / "config.json", *weights])
    return found


def make_validation(config: PretrainConfig, data: PretrainData, bench: Bench) -> Callable[[], WindowValidation] | None:
    """What measures the loss on held-out text; None when nothing is held out."""
    from llmforge.tokens.loader import ValidWindows
    from llmforge.training.validation import WindowValidation

    if not data.valid:
        way_out = "set split.valid_fraction in clean, or data.valid to tokens of other text"
        bench.console.warn(f"there is no held-out text: there will be no valid_loss ({way_out})")
        return None

    def windows(limit: int | None) -> list[ValidWindows]:
        return [
            ValidWindows(
                split,
                config.data.seq_len,
                config.train.micro_batch_size,
                None if limit is None else max(1, limit // len(data.valid)),
                document_mask=config.data.document_mask,
                bos_id=data.tokenizer.bos_id,
                token_bytes=data.tokenizer.token_bytes,
            )
            for split in data.valid
        ]

    return lambda: WindowValidation(windows(None), windows(config.train.eval_tokens), bench.world, bench.device)
