"""Merging, faults in plain words with their places, origins, and the rendering that loads again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from llmforge.config.load import load_config
from llmforge.config.render import json_schema, render
from llmforge.config.schema import Config
from llmforge.config.yaml_tree import parse
from llmforge.errors import ConfigError, LlmforgeError, UsageError


class Adamw(Config):
    name: Literal["adamw"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)


class Muon(Config):
    name: Literal["muon"] = "muon"
    lr: float = Field(0.02, gt=0)
    momentum: float = 0.95


class Source(Config):
    name: str
    path: str | list[str]
    weight: float = 1.0


class Train(Config):
    max_steps: int = Field(10, ge=1)
    amount: bool | Literal["auto", "layers"] | Annotated[float, Field(gt=1)] = "auto"
    compile: bool = False
    dtype: Literal["fp32", "bf16"] = "fp32"


class Whole(Config):
    output_dir: str = Field(min_length=1)
    seed: int = 0
    sources: list[Source] = []
    train: Train = Train()
    optimizer: Annotated[Adamw | Muon, Field(discriminator="name")] = Adamw()
    tasks: list[str | Source] = []
    rules: list[Train] = [Train(max_steps=3)]

    @model_validator(mode="after")
    def _check(self) -> Whole:
        if self.seed == 13:
            raise ValueError("seed 13 is not used")
        return self


class Other(Config):
    output_dir: str
    corpus: str
    seed: int = 0


def _load(tmp_path: Path, text: str, *overrides: str) -> Whole:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return load_config(Whole, path, overrides).config


def _faults(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text, *overrides)
    return [str(fault).replace(f"{tmp_path}/", "") for fault in caught.value.faults]


def test_defaults_file_and_overrides_merge_in_that_order(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        "output_dir: runs/a\ntrain: {max_steps: 5}\nsources: [{name: a, path: x}]\n",
        "train.max_steps=7",
        "sources.0.path=*.txt",
        "sources.1={name: b, path: [y, z]}",
        "optimizer.name=muon",
        "optimizer.lr=1e-2",
    )
    assert config.train == Train(max_steps=7)
    assert [source.path for source in config.sources] == ["*.txt", ["y", "z"]]
    assert config.optimizer == Muon(lr=0.01)


def test_an_item_of_a_default_list_can_be_overridden(tmp_path: Path) -> None:
    assert _load(tmp_path, "output_dir: a\n", "rules.0.dtype=bf16").rules == [Train(max_steps=3, dtype="bf16")]


def test_every_value_has_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("output_dir: runs/a\nsources:\n  - name: a\n    path: x\n")
    origins = load_config(Whole, path, ["train.max_steps=7"]).origins
    assert origins["output_dir"] == f"{path}:1"
    assert origins["sources.0.path"] == f"{path}:4"
    assert origins["train.max_steps"] == "override"
    assert origins["train.compile"] == origins["sources.0.weight"] == "default"


def test_all_faults_come_at_once_with_line_and_near_name(tmp_path: Path) -> None:
    text = (
        "output_dir: ''\nsead: 1\ntrain:\n  max_step: 5\n  max_steps: 0\n  dtype: bf166\n  compile: 1\n"
        "sources:\n  - name: a\n  - path: 3\n    name: b\nlr: 1\noptimizer: {name: adam, lr: -1}\n"
    )
    faults = _faults(tmp_path, text, "train.max_steps=true", "seed")
    assert faults == [
        "a.yaml:1: `output_dir` must not be empty",
        "a.yaml:2: unknown key `sead`; did you mean `seed`?",
        "a.yaml:4: unknown key `train.max_step`; did you mean `train.max_steps`?",
        "a.yaml:6: `train.dtype` must be 'fp32' or 'bf16', not 'bf166'; did you mean `bf16`?",
        "a.yaml:7: `train.compile` must be true or false, not 1",
        "a.yaml:9: `sources.0.path` is required",
        "a.yaml:10: `sources.1.path` must be text or a list, not 3",
        "a.yaml:12: unknown key `lr`; did you mean `optimizer.lr`?",
        "a.yaml:13: `optimizer` has the unknown name 'adam'; did you mean `adamw`?",
        "override `train.max_steps=true`: `train.max_steps` must be a number, not true",
        "override `seed`: not an override; write key=value, as in train.max_steps=100",
    ]


def test_a_fault_inside_one_member_of_a_union_is_the_one_that_is_told(tmp_path: Path) -> None:
    faults = _faults(tmp_path, "output_dir: a\ntasks:\n  - {name: a, paht: x}\n")
    assert faults == [
        "a.yaml:3: `tasks.0.path` is required",
        "a.yaml:3: unknown key `tasks.0.paht`; did you mean `tasks.0.path`?",
    ]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("layrs", "must be true or false, 'auto', 'layers' or a number, not 'layrs'; did you mean `layers`?"),
        ("[1]", "must be true or false, 'auto', 'layers' or a number, not a list"),
        ("0.5", "must be greater than 1.0, not 0.5"),
    ],
)
def test_a_value_that_fits_no_member_of_a_union_is_one_fault(tmp_path: Path, given: str, told: str) -> None:
    [fault] = _faults(tmp_path, "output_dir: a\n", f"train.amount={given}")
    assert fault.endswith(f"`train.amount` {told}")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("sources=a.txt", "`sources` must be a list, not 'a.txt'; write [a.txt]"),
        ("train=true", "`train` must be a map of keys, not true; write {} for its defaults, or {key: value}"),
    ],
)
def test_a_plain_value_for_a_list_or_a_map_is_told_how_to_write_it(tmp_path: Path, override: str, told: str) -> None:
    [fault] = _faults(tmp_path, "output_dir: a\n", override)
    assert fault.endswith(told)


def test_a_validator_of_the_class_speaks_for_itself(tmp_path: Path) -> None:
    assert _faults(tmp_path, "output_dir: a\nseed: 13\n") == ["a.yaml:1: seed 13 is not used"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("=1", "key=value"),
        ("train..x=1", "key=value"),
        ("output_dir.x=1", "plain value"),
        ("sources.5.path=x", "no item 5"),
        ("sources.a.path=x", "not the number"),
        ("train.max_steps=[1", "YAML"),
        ("train.max_steps=.nan", "finite"),
        ("train.max_steps=x\udcff", "U+DCFF"),
    ],
)
def test_bad_overrides_are_refused(tmp_path: Path, override: str, words: str) -> None:
    assert words in " ".join(_faults(tmp_path, "output_dir: a\nsources: [{name: a, path: b}]\n", override))


def test_a_missing_key_without_a_file_names_the_command_line() -> None:
    with pytest.raises(ConfigError, match="command line: `output_dir` is required"):
        load_config(Whole, None, [])


def test_a_file_of_another_command_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("output_dir: a\ncorpus: b\nseed: 1\n")
    with pytest.raises(UsageError, match="config of `llmforge other`"):
        load_config(Whole, path, [], lambda: {"other": Other})
    path.write_text("output_dir: a\ncorpsu: b\nseed: 1\n")
    with pytest.raises(ConfigError, match="unknown key"):
        load_config(Whole, path, [], lambda: {"other": Other})


def test_the_rendering_names_origins_and_loads_again(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("output_dir: 'no'\nsources: [{name: '1e-4', path: ['- x', 'a: b']}]\n")
    loaded = load_config(Whole, path, ["optimizer={name: adamw, lr: 1e-05}"])
    text = render(loaded.config, loaded.origins)
    assert "# override" in text and f"# {path}:1" in text and "# default" in text
    path.write_text(text)
    assert load_config(Whole, path, []).config == loaded.config


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab1:-# \n", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1), _values, min_size=1, max_size=4))
def test_any_values_survive_the_rendering(values: dict[str, object]) -> None:
    assert parse(render(values), "x").plain() == values


@given(st.text(max_size=60), st.lists(st.text(max_size=20), max_size=2))
def test_any_text_gives_a_config_or_one_of_our_errors(text: str, overrides: list[str]) -> None:
    try:
        parse(text, "x")
        load_config(Whole, None, overrides)
    except LlmforgeError as error:
        assert error.exit_code == 2


def test_the_json_schema_forbids_unknown_keys() -> None:
    assert '"additionalProperties": false' in json_schema(Whole)


class Length(Config):
    alternatives = (("max_steps", "max_minutes"),)
    max_steps: int | None = None
    max_minutes: float | None = None


class Run(Config):
    train: Length


def test_an_override_takes_the_place_of_the_files_alternative(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("train: {max_minutes: 3}\n")
    loaded = load_config(Run, path, ["train.max_steps=5"])
    assert loaded.config.train == Length(max_steps=5)
    assert load_config(Run, path, ["train.max_steps=null"]).config.train == Length(max_minutes=3)
    both = load_config(Run, path, ["train.max_steps=5", "train.max_minutes=2"]).config.train
    assert both == Length(max_steps=5, max_minutes=2)  # both were typed: the class itself refuses that
