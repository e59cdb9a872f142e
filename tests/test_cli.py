"""The face: exit codes, one clear line for every mistake, JSON and dry runs, and the frozen list of names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer.main

from llmforge import cli
from llmforge.config.schema import Config
from llmforge.config.shape import is_config, unwrap
from llmforge.errors import DataError, StopRequested
from llmforge.runtime import exits
from llmforge.runtime.console import Console
from llmforge.stages import request, table
from llmforge.stages.pipeline import RunConfig
from llmforge.stages.table import COMMANDS, Stage

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "cli.txt"


@dataclass
class Answer:
    code: int
    out: str
    err: str


Call = Callable[..., Answer]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Calls the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["llmforge", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = capsys.readouterr()
        return Answer(end.value.code, shown.out, shown.err)  # type: ignore[arg-type]

    return run


def assert_refused(answer: Answer, *words: str, code: int = 2) -> None:
    """Whether it is one clear answer: the exit code, nothing on stdout, no traceback, and the words in it."""
    assert answer.code == code, answer
    assert answer.out == "" and "Traceback" not in answer.err
    lines = answer.err.splitlines()
    assert lines and all(line.startswith("llmforge: ") for line in lines), answer.err
    for word in words:
        assert word in answer.err, answer.err


WORDS = {command: command.split() for command in (*COMMANDS, "run")}
FLAGS_ONLY = ("trace", "verify-resume", "doctor")  # commands that take no config

BAD_FILES: dict[str, tuple[bytes, str]] = {
    "tag": (b"output_dir: !!python/object/apply:os.system [x]\n", "tags"),
    "alias bomb": (b"a: &a [x, x]\nb: [*a, *a]\n", "anchors"),
    "deep nesting": (b"a: " + b"[" * 3000, "nested"),
    "duplicate key": (b"output_dir: a\noutput_dir: b\n", "twice"),
    "unknown key": (b"output_dirr: a\nzzz: 1\n", "unknown key"),
    "NaN": (b"output_dir: .nan\n", "finite"),
    "infinity": (b"output_dir: -.inf\n", "finite"),
    "2^63": (b"output_dir: 9223372036854775808\n", "too large"),
    "a billion digits": (b"output_dir: " + b"1" * 100_000 + b"\n", "too large"),
    "UTF-16": ("output_dir: a\n".encode("utf-16"), "UTF-16"),
    "latin-1": ("output_dir: é\n".encode("latin-1"), "UTF-8"),
    "NUL": (b"output_dir: a\0\n", "U+0000"),
    "0 bytes": (b"", "empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", "empty"),
    "a list": (b"- 1\n", "map"),
    "a text": (b"hello\n", "map"),
    "not YAML": (b"a: [1\nb: 2\n", "not valid YAML"),
    "tabs": (b"a:\n\tb: 1\n", "tabs"),
    "two documents": (b"a: 1\n---\nb: 1\n", "second"),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.parametrize("command", WORDS)
def test_every_command_refuses_every_bad_file(call: Call, tmp_path: Path, command: str, case: str) -> None:
    content, word = BAD_FILES[case]
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert_refused(call(*WORDS[command], "-c", path), str(path), word)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("command", WORDS)
def test_every_command_refuses_what_is_no_file(call: Call, tmp_path: Path, command: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "closed").write_text("output_dir: a\n")
    (tmp_path / "closed").chmod(0)
    for name, word in (("folder", "folder"), ("fifo", "regular file"), ("loop", "symbolic"), ("none", "no such")):
        assert_refused(call(*WORDS[command], "-c", tmp_path / name), name, word)
    if os.geteuid() != 0:
        assert_refused(call(*WORDS[command], "-c", tmp_path / "closed"), "closed", "Permission")
    assert_refused(call(*WORDS[command], "-c", tmp_path / "closed" / "below"), "closed")
    assert_refused(call(*WORDS[command], "-c", "x" * 5000))


def test_byte_order_mark_and_crlf_are_no_mistakes(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfmodel: nowhere\r\nprompt: hello\r\n")
    assert_refused(call("generate", "-c", path), "nowhere", code=3)


EXAMPLES = sorted(path for path in (ROOT / "configs").glob("*/*.yaml") if path.parent.name != "cluster")


@pytest.mark.parametrize(
    ("command", "override", "word"),
    [
        ("clean", "workers=-1", "workers"),
        ("clean", "split.valid_fraction=2", "valid_fraction"),
        ("clean", "sources=[]", "sources"),
        ("clean", "sources.0.path=3", "sources.0.path"),
        ("tokenizer train", "vocab_size=true", "vocab_size"),
        ("tokenizer train", "vocab_size=2147483648", "vocab_size"),
        ("tokenizer train", "vocab_sise=300", "did you mean `vocab_size`?"),
        ("tokenize", "workers=many", "whole number"),
        ("pretrain", "optimizer.lr=-1", "optimizer.lr"),
        ("pretrain", "optimizer.lr=.nan", "finite"),
        ("pretrain", "optimizer.lr=1e999", "too large"),
        ("pretrain", "train.micro_batch_size=0", "train.micro_batch_size"),
        ("pretrain", "train.global_batch_size=-4", "train.global_batch_size"),
        ("pretrain", "train.max_stepz=4", "did you mean `train.max_steps`?"),
        ("pretrain", "seed=9223372036854775808", "too large"),
        ("pretrain", "device=gpu", "device"),
        ("finetune", "optimizer.lr=-1", "optimizer.lr"),
        ("finetune", "data.max_length=0", "data.max_length"),
        ("finetune", "method=qlora", "method"),
        ("evaluate", "tasks=[nothing]", "nothing"),
        ("evaluate", "limit=0", "limit"),
        ("generate", "sampling.temperature=-1", "sampling.temperature"),
        ("generate", "sampling.top_p=0", "sampling.top_p"),
        ("generate", "sampling.top_k=-1", "sampling.top_k"),
        ("generate", "sampling.max_new_tokens=1000000000", "sampling.max_new_tokens"),
        ("generate", "sampling.stop=['']", "sampling.stop"),
        ("chat", "sampling.min_p=2", "sampling.min_p"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_read(
    call: Call, tmp_path: Path, command: str, override: str, word: str
) -> None:
    folder, pattern = ROOT / "configs" / command.split()[0], f"{'*' if ' ' not in command else command.split()[1]}.yaml"
    answer = call(*WORDS[command], "-c", sorted(folder.glob(pattern))[0], override)
    assert_refused(answer, word, f"override `{override}`")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_config_of_another_command_is_told_whose_it_is(call: Call, path: Path) -> None:
    owner = f"tokenizer {path.stem}" if path.parent.name == "tokenizer" else path.parent.name
    other = "tokenize" if owner != "tokenize" else "clean"
    assert_refused(call(other, "-c", path), f"`llmforge {owner}`")
    if owner != "run":
        assert_refused(call("run", "-c", path), f"`llmforge {owner}`")


def test_wrong_words_get_the_near_one(call: Call) -> None:
    assert_refused(call("claen"), "'clean'")
    assert_refused(call("clean", "--dry-rnu"), "--dry-run")
    assert_refused(call("pretrain", "--nproc", "0"), "nproc")
    assert_refused(call("generate", "--temperature", "warm"), "temperature")
    assert_refused(call("tokenizer", "trian"), "'train'")


@pytest.mark.parametrize("command", WORDS)
def test_a_command_without_a_config_says_what_to_give(call: Call, command: str) -> None:
    assert_refused(call(*WORDS[command]), "--config FILE", "--help")


def test_an_empty_call_shows_the_contents(call: Call) -> None:
    answer = call()
    assert answer.code == 2 and "Whole way" in answer.err
    assert call("--help").code == 0 and call("clean", "-h").code == 0


@pytest.mark.parametrize("command", WORDS)
def test_help_ends_in_examples_and_schema_is_json(call: Call, command: str) -> None:
    assert "Examples:\n" in call(*WORDS[command], "--help").out
    assert json.loads(call(*WORDS[command], "--schema").out)["type"] == "object"


def _examples() -> Iterator[list[str]]:
    import shlex

    for words in WORDS.values():
        node: Any = typer.main.get_command(cli.app)
        for word in words:
            node = node.commands[word]
        for line in (node.epilog or "").splitlines():
            if line.startswith("  llmforge "):
                yield shlex.split(line)[1:]


@pytest.mark.parametrize("example", list(_examples()), ids=" ".join)
def test_the_examples_name_files_that_are_there(
    call: Call, example: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    answer = call(*example, "--dry-run")
    # What the quickstart makes, and a folder of the user's own, may not be there; everything else must be right.
    assert answer.code in (0, 3), answer
    assert answer.code == 0 or "runs/" in answer.err or "books" in answer.err, answer


class Small(Config):
    output_dir: str = "out"
    steps: int = 1


def _stage(run: Callable[..., object], reads: list[str] | None = None) -> Stage:
    return Stage("tokenize", Small, run, lambda config: {"reads": reads or [], "writes": ["w"], "bytes": 12_300_000})


@pytest.fixture
def as_tokenize(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a function in the place of a stage."""

    def put(run: Callable[..., object], reads: list[str] | None = None) -> None:
        monkeypatch.setattr(request, "stage", lambda command: _stage(run, reads))

    return put


def _raising(error: BaseException) -> Callable[..., object]:
    def run(config: Small, console: Console) -> object:
        raise error

    return run


def test_our_errors_give_their_line_and_code(call: Call, as_tokenize: Callable[..., None]) -> None:
    as_tokenize(_raising(DataError("row 3 is no JSON", "a.jsonl:3", "mend it")))
    assert_refused(call("tokenize", "steps=2"), "a.jsonl:3: row 3 is no JSON; mend it", code=3)
    as_tokenize(_raising(StopRequested("stopped by SIGTERM")))
    assert_refused(call("tokenize", "steps=2"), "SIGTERM", code=75)
    as_tokenize(_raising(KeyboardInterrupt()))
    assert_refused(call("tokenize", "steps=2"), "stopped", code=130)
    as_tokenize(_raising(MemoryError()))
    assert_refused(call("tokenize", "steps=2"), "not enough memory", code=4)
    as_tokenize(_raising(OSError(28, "No space left on device", "out/x")))
    assert_refused(call("tokenize", "steps=2"), "out/x", "No space left", code=4)


def test_a_bug_of_ours_is_one_line_and_a_file(call: Call, as_tokenize: Callable[..., None]) -> None:
    as_tokenize(_raising(ZeroDivisionError("what\nnow")))
    answer = call("tokenize", "steps=2")
    assert_refused(answer, "a bug of ours: ZeroDivisionError: what now", code=1)
    file = Path(answer.err.split()[-1])
    text = file.read_text()
    assert "Traceback" in text and "ZeroDivisionError" in text
    file.unlink()


def test_json_stands_alone_on_stdout(call: Call, as_tokenize: Callable[..., None]) -> None:
    def run(config: Small, console: Console) -> dict[str, object]:
        console.say("progress")
        console.result("for people")
        return {"tokens": config.steps}

    as_tokenize(run)
    answer = call("tokenize", "steps=2", "--json")
    assert json.loads(answer.out) == {"tokens": 2} and answer.err == "progress\n"
    answer = call("tokenize", "steps=2", "-q")
    assert answer.out == "for people\n" and answer.err == ""


def test_a_dry_run_shows_values_origins_and_sizes(call: Call, as_tokenize: Callable[..., None], tmp_path: Path) -> None:
    as_tokenize(_raising(AssertionError("it ran")))
    answer = call("tokenize", "steps=2", "--dry-run")
    assert answer.code == 0 and "steps: 2" in answer.out and "# override" in answer.out and "# default" in answer.out
    assert "writes: w" in answer.out and "12.3 MB" in answer.out
    shown = json.loads(call("tokenize", "steps=2", "--dry-run", "--json").out)
    assert shown["config"] == {"output_dir": "out", "steps": 2} and shown["origins"]["steps"] == "override"
    assert list(tmp_path.iterdir()) == []


def test_output_over_input_is_refused(call: Call, as_tokenize: Callable[..., None], tmp_path: Path) -> None:
    as_tokenize(_raising(AssertionError("it ran")), [str(tmp_path / "out")])
    assert_refused(call("tokenize", "output_dir=./out/../out"), "output_dir is the folder that is read")
    as_tokenize(_raising(AssertionError("it ran")), ["out/corpus"])
    assert_refused(call("tokenize", "output_dir=out"), "output_dir is the folder that is read")


def test_flags_are_overrides(call: Call) -> None:
    assert_refused(call("generate", "-m", "nowhere: x", "-p", "hello", "--temperature", "0.5"), "nowhere: x", code=3)
    assert_refused(call("generate", "-m", "nowhere", "-p", "x", "--top-p", "2"), "sampling.top_p", "at most 1")
    assert_refused(call("evaluate", "-m", "nowhere", "--tasks", "multiple_choice,nothing", "output_dir=a"), "nothing")


def test_a_reader_that_goes_away_is_no_bug(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m llmforge pretrain --schema | head -c 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" not in done.stderr and done.stderr == "" and done.returncode in (0, exits.NO_READER)


def test_ranks_above_zero_are_silent(
    call: Call, as_tokenize: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(config: Small, console: Console) -> dict[str, object]:
        console.say("progress")
        console.result("for people")
        return {"tokens": 1}

    as_tokenize(run)
    monkeypatch.setenv("RANK", "1")
    for flag in ("--json", "--verbose"):
        answer = call("tokenize", "steps=2", flag)
        assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_the_main_thread_is_not_needed() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(exits.guarded(lambda: 5)))
    thread.start()
    thread.join()
    assert codes == [5]


def _keys(schema: type[Config], prefix: str) -> Iterator[str]:
    for name, field in schema.model_fields.items():
        members = unwrap(field.annotation)
        inner = [member for member in members if is_config(member)]
        lists = [unwrap(get_args(member)[0]) for member in members if get_origin(member) in (list, tuple)]
        below = [member for members in lists for member in members if is_config(member)]
        default = "required" if field.is_required() else repr(field.get_default(call_default_factory=True))
        yield f"{prefix}{name}" + ("" if inner or below else f" = {default}")
        for member in inner:
            yield from _keys(member, f"{prefix}{name}.")
        for member in below:
            yield from _keys(member, f"{prefix}{name}[].")


def face() -> str:
    """Every command, option and config key, a line each."""
    lines = []
    for command, words in WORDS.items():
        node: Any = typer.main.get_command(cli.app)
        for word in words:
            node = node.commands[word]
        lines.append(f"llmforge {command}")
        lines += sorted("  " + ", ".join([*item.opts, *item.secondary_opts]) for item in node.params)
        schema = RunConfig if command == "run" else table.stage(command).schema
        lines += [f"  {key}" for key in dict.fromkeys(_keys(schema, ""))]
    for command in FLAGS_ONLY:
        node = typer.main.get_command(cli.app).commands[command]  # type: ignore[attr-defined]
        lines.append(f"llmforge {command}")
        lines += sorted("  " + ", ".join([*item.opts, *item.secondary_opts]) for item in node.params)
    return "\n".join(lines) + "\n"


def test_the_face_is_frozen() -> None:
    """LLMFORGE_WRITE_GOLDEN=1 writes the list anew; a change of it is a change for every user."""
    if os.environ.get("LLMFORGE_WRITE_GOLDEN"):
        GOLDEN.write_text(face(), encoding="utf-8")
    assert face() == GOLDEN.read_text(encoding="utf-8")
