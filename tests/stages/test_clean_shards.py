"""Shards that are made elsewhere: in another folder and home, they read the same and make the parts of one run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmforge.cleaning.pieces import PARTS
from llmforge.cleaning.scale import ScaleSettings
from llmforge.cleaning.settings import CleanConfig
from llmforge.config.load import load_config
from llmforge.corpus import units
from llmforge.errors import DataError, UsageError
from llmforge.runtime.console import Console
from llmforge.stages import clean_shards
from llmforge.stages.clean import preview, run
from llmforge.stages.clean_views import answer
from tests.stages.test_clean_stage import config_of, files, prose

QUIET = Console(quiet=True, json=True)
MAIL = "Write to jane.doe@acme-widgets.com.\n"
SCALE = "scale={engine: processes, shards: 3}"


def part_names(output: Path) -> set[str]:
    return {path.name for path in (output / PARTS).iterdir()}


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six files, each a stretch of its own."""
    monkeypatch.setattr(units, "BLOCK_BYTES", 1 << 14)
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abcdef":
        rows = [{"text": prose(100 * ord(name) + number) + MAIL} for number in range(60)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine whose workers stand in another folder and home; what they are handed goes over a wire."""
    there = tmp_path / "elsewhere"
    there.mkdir()

    def engine(make_parts: Callable[[int, int], None], settings: ScaleSettings, log_folder: Path) -> bool:
        sent = pickle.dumps(make_parts)
        with pytest.MonkeyPatch.context() as moved:
            moved.chdir(there)
            for name in ("HOME", "XDG_CONFIG_HOME"):
                moved.setenv(name, str(there))
            for shard in reversed(range(settings.shards)):
                pickle.loads(sent)(shard, settings.shards)
        return True

    monkeypatch.setattr(clean_shards, "make_shards", engine)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    return there


def config_here(*overrides: str) -> CleanConfig:
    return load_config(CleanConfig, None, list(overrides)).config


def test_workers_that_stand_elsewhere_read_the_same(
    texts: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"text": prose(9000 + number)} for number in range(40)]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "sets" / "saved"))
    (tmp_path / "items.jsonl").write_text(json.dumps({"question": " ".join(prose(100 * ord("a") + 3, 3).split())}))
    run(config_of(texts / "f.jsonl", tmp_path / "first"), QUIET)

    def config(output: str, before: str) -> CleanConfig:
        return config_here(
            f"sources=[{{path: {before}texts}}, {{dataset: {before}sets/saved}}]",
            f"output_dir={before}{output}",
            f"decontaminate.against=[{before}items.jsonl]",
            f"dedup.against=[{before}first]",
            "anonymize={}",
        )

    monkeypatch.chdir(tmp_path)
    alone = run(config("alone", f"{tmp_path}/"), QUIET)
    scaled = run(config("scaled", "").model_copy(update={"scale": ScaleSettings(engine="processes", shards=3)}), QUIET)
    assert {"decontaminate", "near_duplicate"} <= set(alone["dropped"])  # type: ignore[arg-type]
    assert scaled["kept"] == alone["kept"] and scaled["dropped"] == alone["dropped"]
    for name in ("train-00000.jsonl.zst", "signals.parquet", "contamination.json"):
        assert (tmp_path / "scaled" / "corpus" / name).read_bytes() == (
            tmp_path / "alone" / "corpus" / name
        ).read_bytes()
    assert part_names(tmp_path / "scaled") == part_names(tmp_path / "alone")
    assert not list(elsewhere.rglob("*"))  # no key, no folder of parts


def test_a_relative_key_and_classifier_are_found_elsewhere(
    texts: Path, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn", reason="needs the extra classify")
    (tmp_path / "labels").mkdir()
    for number, label in enumerate(("one", "two")):
        rows = [{"text": f"{label} {prose(number * 50 + row, 2)}"} for row in range(40)]
        (tmp_path / "labels" / f"{label}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    labels = "classify={train_on: {labels: {one: labels/one.jsonl, two: labels/two.jsonl}}}"
    source, key = "sources=[{path: texts/a.jsonl}]", "anonymize={key_file: secret}"
    for output, more in (("alone", []), ("scaled", [SCALE])):
        run(config_here(source, labels, key, f"output_dir={output}", *more), QUIET)
    assert files(tmp_path / "scaled" / "corpus") == files(tmp_path / "alone" / "corpus")
    assert part_names(tmp_path / "scaled") == part_names(tmp_path / "alone")
    model = "classify={model: alone}"
    run(config_here(source, model, key, "output_dir=third", SCALE), QUIET)
    assert files(tmp_path / "third" / "corpus") == files(tmp_path / "alone" / "corpus")


def test_a_source_keeps_what_it_is_called(texts: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(texts)
    config = config_here("sources=[{path: .}]", f"output_dir={texts.parent / 'out'}", SCALE)
    run(config, QUIET)
    ledger = json.loads((texts.parent / "out" / "corpus" / "ledger.json").read_text())
    assert list(ledger["sources"]) == [config.sources[0].label]


def test_shards_seen_from_another_folder_are_the_same_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": prose(n)}) + "\n" for n in range(30)))
    (tmp_path / "items.jsonl").write_text(json.dumps({"question": " ".join(prose(3, 3).split())}))
    for folder, before in ((tmp_path, ""), (tmp_path / "other", "../")):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        sources, against = f"sources=[{{path: {before}texts.jsonl}}]", f"decontaminate.against=[{before}items.jsonl]"
        config = config_here(sources, against, f"output_dir={before}out")
        if not before:
            answer(config, QUIET, shard="1/1")
    assert answer(config, QUIET, merge=True)["dropped"].keys() == {"decontaminate"}  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "more.jsonl").write_text(json.dumps({"question": " ".join(prose(4, 3).split())}))
    for against in ("[more.jsonl]", "[items.jsonl, more.jsonl]"):  # other items are other measurements
        with pytest.raises(DataError, match="no finished parts"):
            answer(config_here("sources=[{path: texts.jsonl}]", f"decontaminate.against={against}", "output_dir=out"),
                   QUIET, merge=True)  # fmt: skip


def test_a_folder_of_a_recogniser_is_found_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recogniser").mkdir()
    monkeypatch.chdir(tmp_path)
    for model, expected in (("recogniser", str(tmp_path / "recogniser")), ("en_core_web_sm", "en_core_web_sm")):
        names = f"anonymize={{kinds: [name], names_model: {model}}}"
        config = config_here("sources=[{path: texts}]", "output_dir=out", names)
        assert clean_shards.as_seen_from_anywhere(config, None)["anonymize"]["names_model"] == expected


@pytest.mark.parametrize("asked", [{"shard": "1/2"}, {"merge": True}, {}], ids=str)
def test_no_machine_of_several_makes_a_key_for_itself(texts: Path, elsewhere: Path, asked: Any) -> None:
    output, key = texts.parent / "out", texts.parent / "secret"
    more = [] if asked else [SCALE]
    config = config_of(texts, output, f"anonymize.key_file={key}", *more)
    with pytest.raises(UsageError, match="need one key") as raised:
        answer(config, QUIET, **asked)
    assert raised.value.exit_code == 2 and str(key) in str(raised.value) and "key_file" in str(raised.value.hint)
    assert not key.exists() and not output.exists()
    if not asked:
        with pytest.raises(UsageError, match="need one key"):
            preview(config)
    for without in ("anonymize=null", "anonymize={action: mask}"):
        answer(config_of(texts, output, without, *more), QUIET, **asked) if not asked.get("merge") else None


def test_a_merge_by_another_key_says_so_and_tells_neither(texts: Path, tmp_path: Path) -> None:
    configs = []
    for name, letters in (("one", "ab"), ("two", "cd")):
        key = tmp_path / name
        key.write_text(letters * 32)
        key.chmod(0o600)
        configs.append(config_of(texts, tmp_path / "out", f"anonymize.key_file={key}"))
    made = answer(configs[0], QUIET, shard="1/1")["key"]
    with pytest.raises(DataError, match="no finished parts") as raised:
        answer(configs[1], QUIET, merge=True)
    assert "another key of the pseudonyms" in str(raised.value.hint) and str(made) not in str(raised.value.hint)
    named = answer(configs[1], QUIET, shard="1/1")["key"]
    assert str(named) in str(raised.value.hint) and named != made
    assert not any("abab" in str(told) or "cdcd" in str(told) for told in (made, named, raised.value.hint))
