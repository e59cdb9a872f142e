"""The first half of `llmforge clean` by itself: the parts of a shard of the input, here or on other machines."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from llmforge.cleaning.classify.settings import ClassifySettings
from llmforge.cleaning.pieces import PARTS, plan_stretches
from llmforge.cleaning.pii.key_file import name_of_key
from llmforge.cleaning.pii.names import model_folder
from llmforge.cleaning.preparation import (
    chain_settings,
    check_inputs,
    num_workers,
    pseudonym_key_path,
    require_key,
)
from llmforge.cleaning.scale import make_shards
from llmforge.cleaning.settings import CleanConfig
from llmforge.cleaning.workers import Workers, make_parts
from llmforge.corpus.hf_dataset import local_folder
from llmforge.corpus.rows import is_built_in
from llmforge.errors import UsageError
from llmforge.runtime.console import Console
from llmforge.runtime.files import disk_errors
from llmforge.runtime.stop import StopSignals


def make_shard(config: CleanConfig, shard: int, of: int, console: Console) -> dict[str, object]:
    """Makes the parts of every `of`-th stretch of the input, from number `shard` (0 to of - 1) on, and no corpus.

    Any number of processes on any machines that see the folder may do so at the same time.

    Raises:
        UsageError: the config has a classifier that is not trained yet, or the key of the pseudonyms is not there.
    """
    if config.classify is not None and config.classify.train_on is not None:
        hint = "train it first (clean a few documents with this config) and name its folder as classify.model"
        raise UsageError("a shard cannot train the classifier of all", "classify.train_on", hint)
    require_key(config)
    parts = Path(config.output_dir) / PARTS
    with disk_errors(parts):
        parts.mkdir(parents=True, exist_ok=True)
    settings = chain_settings(config, config.classify, console.say)
    count = 0
    with (
        StopSignals() as stop,
        Workers(settings, num_workers(config, check_inputs(config))) as workers,
        console.progress(f"shard {shard + 1}/{of}", None, "B") as bar,
    ):
        every = plan_stretches(config.sources, settings.measured(), parts, console.say)
        for part in make_parts(islice(every, shard, None, of), workers):
            stop.check()
            count += 1
            bar.advance(part.bytes, f"{count:,} parts")
    told = f"{count:,} {'part' if count == 1 else 'parts'} in {parts}" if count else "none of the input falls to it"
    answer: dict[str, object] = {"shard": shard + 1, "of": of, "parts": count, "output": str(parts)}
    if settings.key is not None:
        answer["key"] = name_of_key(settings.key)
        told += f", by the key {answer['key']}"
    console.say(f"shard {shard + 1}/{of}: {told}")
    return answer


@dataclass(frozen=True)
class _Shards:
    """What an engine calls, on whatever machine: a config as seen from anywhere."""

    config: dict[str, Any]

    def __call__(self, shard: int, of: int) -> None:
        config = CleanConfig.model_validate(self.config)
        make_shard(config, shard, of, Console(quiet=True, json=True))


def scale_out(config: CleanConfig, classify: ClassifySettings | None, folder: Path) -> bool:
    """Has the engine of the config make all shards; True when they are done, False when Slurm has taken them.

    Raises:
        MachineError: the engine is not there, or a shard failed.
    """
    assert config.scale is not None
    values = as_seen_from_anywhere(config, classify)
    values["output_dir"] = str(folder.absolute())
    values["scale"] = None
    if isinstance(config.workers, str):
        values["workers"] = config.scale.cpus_per_task
    return make_shards(_Shards(values), config.scale, folder.absolute() / "scale")


def as_seen_from_anywhere(config: CleanConfig, classify: ClassifySettings | None) -> dict[str, Any]:
    """The config with all that is read in absolute places: an engine's workers stand in other folders and homes.

    `classify` is the config's with the trained model. What a source is called stays.
    """
    values = config.model_dump(mode="json")
    values["classify"] = classify.model_dump(mode="json") if classify is not None else None
    for source, settings in zip(values["sources"], config.sources, strict=True):
        source["name"] = settings.label
        if settings.path is not None:
            source["path"] = _absolute(settings.path)
        elif settings.dataset is not None:
            source["dataset"] = str(local_folder(settings.dataset) or settings.dataset)
    if classify is not None and classify.model is not None:
        values["classify"]["model"] = str(Path(classify.model).absolute())
    if config.decontaminate is not None:
        values["decontaminate"]["against"] = [_absolute(path) for path in config.decontaminate.against]
    values["dedup"]["against"] = [str(Path(corpus).absolute()) for corpus in config.dedup.against]
    if config.anonymize is not None:
        key, model = pseudonym_key_path(config), config.anonymize.names_model
        values["anonymize"]["key_file"] = str(key.absolute()) if key is not None else None
        values["anonymize"]["names_model"] = str(model_folder(model) or model) if model is not None else None
    return values


def _absolute(path: str) -> str:
    return path if is_built_in(path) else str(Path(path).expanduser().absolute())
