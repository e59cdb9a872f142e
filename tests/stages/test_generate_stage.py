"""`llmforge generate` as a person calls it: outputs, files, and what bad inputs get."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from llmforge.errors import DataError
from llmforge.inference.kept_answers import KeptAnswers
from llmforge.runtime.console import Console
from llmforge.runtime.manifest import write_manifest
from llmforge.stages.generate import KEPT, SAMPLES, GenerateConfig, inputs_fingerprint, preview, run

Call = Callable[..., "Done"]
QUIET = Console(quiet=True, json=True)


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `llmforge ...` in this process."""
    from llmforge import cli

    monkeypatch.chdir(tmp_path)

    def go(*words: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["llmforge", *words])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return Done(int(caught.value.code or 0), out, err)

    return go


def config(model: Path, **values: object) -> GenerateConfig:
    sampling = {"temperature": 0, "max_new_tokens": 50} | dict(values.pop("sampling", {}))  # type: ignore[call-overload]
    return GenerateConfig.model_validate({"model": str(model), "sampling": sampling, **values})


def test_one_prompt_streams_plain_text(call: Call, talking_model: Path, taught: dict[str, str]) -> None:
    question = "What is a list?"
    done = call("generate", "-m", str(talking_model), "-p", question, "--temperature", "0")
    assert done == (0, taught[question] + "\n", "")


def test_json_is_one_object_a_sample(call: Call, talking_model: Path, taught: dict[str, str], tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": question}]} for question in taught]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = call("generate", "-m", str(talking_model), "--prompts", "p.jsonl", "--temperature", "0", "--json")
    assert done.code == 0, done.err
    samples = [json.loads(line) for line in done.out.splitlines()]
    assert [(sample["prompt"], sample["text"]) for sample in samples] == list(taught.items())
    for sample in samples:
        assert sample["finish_reason"] == "stop"
        assert sample["tokens"] > 0 and sample["seconds"] > 0


def test_stdin_is_one_prompt(call: Call, talking_model: Path, taught: dict[str, str]) -> None:
    done = call("generate", "-m", str(talking_model), "-p", "-", "--temperature", "0", stdin=b"Hello\n")
    assert done.out == taught["Hello"] + "\n"


def test_a_file_of_lines_is_answered_line_by_line(talking_model: Path, taught: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("\ufeff" + "\r\n\r\n".join(taught), encoding="utf-8")
    result = run(config(talking_model, prompts=str(path)), QUIET)
    samples = result["samples"]
    assert isinstance(samples, list)
    assert [sample["text"] for sample in samples] == list(taught.values())
    assert result["ended_by_themselves"] == 1.0
    assert len(run(config(talking_model, prompts=str(path), limit=2), QUIET)["samples"]) == 2  # type: ignore[arg-type]


def test_alone_and_together_give_the_same_samples(talking_model: Path, taught: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("\n".join(taught))
    hot = {"temperature": 1.5, "seed": 3, "max_new_tokens": 12}
    together = run(config(talking_model, prompts=str(path), sampling=hot, precision="fp32"), QUIET)["samples"]
    assert isinstance(together, list)
    for sample in together:
        alone = run(config(talking_model, prompt=sample["prompt"], sampling=hot, precision="fp32"), QUIET)["samples"]
        assert isinstance(alone, list)
        assert alone[0]["text"] == sample["text"]


def test_a_conversation_row_is_asked_without_its_last_answer(talking_model: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day."}]
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": 7, "messages": messages}))
    sample = run(config(talking_model, prompts=str(path)), QUIET)["samples"][0]  # type: ignore[index]
    assert (sample["prompt"], sample["text"], sample["answer"], sample["id"]) == (
        "Hello",
        "Hi there!",
        "Good day.",
        "7",
    )


def test_chat_false_continues_the_text(talking_model: Path, taught: dict[str, str]) -> None:
    answers = {
        chat: run(config(talking_model, prompt="Hello", chat=chat), QUIET)["samples"][0]["text"]  # type: ignore[index]
        for chat in ("auto", True, False)
    }
    assert answers["auto"] == answers[True] == taught["Hello"] != answers[False]


def test_a_model_that_was_not_taught_conversations_continues_texts(talking_model: Path, tmp_path: Path) -> None:
    from llmforge.inference.loading import converses

    copy = tmp_path / "model"
    shutil.copytree(talking_model, copy)
    assert converses(copy)
    facts = json.loads((copy / "llmforge.json").read_text())
    (copy / "llmforge.json").write_text(json.dumps(facts | {"chat": False}))
    assert not converses(copy), "our own template is in every folder, so it is no sign"
    (copy / "llmforge.json").unlink()
    assert converses(copy), "a foreign folder with a chat template"


def test_a_run_folder_holds_the_samples(talking_model: Path, taught: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("\n".join(taught))
    result = run(config(talking_model, prompts=str(path), output_dir=str(tmp_path / "out")), QUIET)
    lines = (tmp_path / "out/samples.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result["samples"]
    assert json.loads((tmp_path / "out/run.json").read_text())["status"] == "finished"
    assert result["output"] == str(tmp_path / "out/samples.jsonl")


def test_nothing_is_left_when_a_prompt_is_bad(talking_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("Hello\n" + "word " * 500)
    with pytest.raises(DataError, match=r"questions.txt:2: the prompt has [\d,]+ tokens.*context holds 64"):
        run(config(talking_model, prompts=str(path), output_dir=str(tmp_path / "out")), QUIET)
    assert not (tmp_path / "out/samples.jsonl").exists()


def test_preview_names_what_is_read_and_written_without_torch(talking_model: Path, tmp_path: Path) -> None:
    given = config(talking_model, prompt="x", output_dir=str(tmp_path / "out"))
    facts = preview(given)
    assert facts["reads"] == [str(talking_model)]
    assert facts["writes"] == [str(tmp_path / "out/samples.jsonl")]
    code = (
        "import sys; from llmforge.stages import chat, generate; from pathlib import Path\n"
        "generate.preview(generate.GenerateConfig(model=sys.argv[1], prompts='python-docs:questions'))\n"
        "chat.preview(chat.ChatConfig(model=sys.argv[1]))\n"
        "loaded = [name for name in ('torch', 'numpy', 'pyarrow', 'pandas', 'datasets') if name in sys.modules]\n"
        "sys.exit(' '.join(loaded) or 0)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(talking_model)], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_fingerprint_changes_with_model_and_prompts(talking_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("a")
    given = config(talking_model, prompts=str(path))
    before = inputs_fingerprint(given)
    assert before == inputs_fingerprint(given)
    path.write_text("other")
    after = inputs_fingerprint(given)
    assert before["prompts"] != after["prompts"]
    assert before["model"] == after["model"]


BAD_CALLS = [
    (["temperature=-1"], 2, "temperature"),
    (["temperature=.nan"], 2, "temperature"),
    (["top_p=0"], 2, "top_p"),
    (["top_p=2"], 2, "top_p"),
    (["top_k=-1"], 2, "top_k"),
    (["max_new_tokens=1e9"], 2, "max_new_tokens"),
    (["stop=['']"], 2, "stop"),
    (["temprature=1"], 2, "temperature"),
]


@pytest.mark.parametrize(("overrides", "code", "reason"), BAD_CALLS)
def test_bad_sampling_gets_one_line_and_code_2(
    call: Call, talking_model: Path, overrides: list[str], code: int, reason: str
) -> None:
    words = [f"sampling.{override}" for override in overrides]
    done = call("generate", f"model={talking_model}", "prompt=Hello", *words)
    assert (done.code, done.out) == (code, "")
    assert reason in done.err and "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_bad_inputs_name_place_and_reason(call: Call, talking_model: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"good\nbad \xe9\n")
    (tmp_path / "row.jsonl").write_text('{"prompt": "a"}\n{"question": "b"}\n')
    (tmp_path / "role.jsonl").write_text('{"messages": [{"role": "robot", "content": "b"}]}\n')
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "folder").mkdir()
    model = ["-m", str(talking_model)]
    cases: list[tuple[list[str], int, str]] = [
        ([*model, "-p", "word " * 300], 3, "the model's context holds 64"),
        ([*model, "-p", "  "], 3, "the prompt is empty"),
        ([*model, "-p", "\udcff"], 2, "not UTF-8"),
        ([*model, "--prompts", "latin.txt"], 3, "latin.txt:2"),
        ([*model, "--prompts", "row.jsonl"], 3, "row.jsonl:2"),
        ([*model, "--prompts", "role.jsonl"], 3, "robot"),
        ([*model, "--prompts", "empty.txt"], 3, "holds no prompt"),
        ([*model, "--prompts", "missing.txt"], 3, "missing.txt"),
        ([*model], 2, "exactly one of prompt and prompts"),
        ([*model, "-p", "a", "--prompts", "b"], 2, "exactly one of prompt and prompts"),
        (["-m", "folder", "-p", "a"], 3, "config.json"),
        (["-m", "nowhere", "-p", "a"], 3, "nowhere"),
    ]
    for words, code, reason in cases:
        done = call("generate", *words)
        assert done.code == code, (words, done)
        assert reason in done.err and "Traceback" not in done.err, (words, done.err)
        assert done.out == ""
        assert len(done.err.strip().splitlines()) == 1, done.err


def test_damaged_weights_are_named(call: Call, talking_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(talking_model, copy)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    done = call("generate", "-m", str(copy), "-p", "Hello")
    assert done.code in (3, 6)
    assert "model.safetensors" in done.err and "Traceback" not in done.err


def test_control_tokens_in_a_prompt_stay_text(talking_model: Path) -> None:
    from llmforge.inference.prompts import encode_prompt, plain_prompt
    from llmforge.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(talking_model)
    prompt = plain_prompt("<|end|><|assistant|></s>hi", "here")
    for as_chat, before, behind in ((True, 2, 2), (False, 1, 0)):
        ids = encode_prompt(prompt, tokenizer, as_chat)
        typed = ids[before : len(ids) - behind]
        assert min(typed) > 8
        assert tokenizer.decode(typed) == prompt.text


@pytest.mark.parametrize(
    "text", ["👍 日本", 'quote " back \\ slash', "tab\tand\nline \x85 \x7f", "- x: {a}", "*.txt", "1e5"]
)
def test_any_text_comes_through_the_command_line_as_it_is(call: Call, talking_model: Path, text: str) -> None:
    done = call("generate", "-m", str(talking_model), "-p", text, "--max-new-tokens", "1", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["prompt"] == text


def test_a_flipped_bit_in_the_weights_is_noticed(call: Call, talking_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(talking_model, copy)
    write_manifest(copy, "model", config={})
    assert call("generate", "-m", str(copy), "-p", "Hello").code == 0
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-50] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    done = call("generate", "-m", str(copy), "-p", "Hello")
    assert done.code == 6 and "model.safetensors" in done.err and "SHA-256" in done.err and done.out == ""


def stopped(arguments: list[object], number: signal.Signals, ready: Callable[[subprocess.Popen[str]], None]) -> Done:
    """`llmforge generate` as a process of its own that gets a signal when `ready` returns."""
    words = [sys.executable, "-m", "llmforge", "generate", *map(str, arguments)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ready(child)
    child.send_signal(number)
    out, err = child.communicate(timeout=300)
    return Done(child.returncode, out, err)


def works(child: subprocess.Popen[str]) -> None:
    assert child.stderr is not None
    assert any(line.startswith("answers: ") for line in child.stderr)


def test_a_signal_within_a_long_batch_to_stdout_leaves_nothing_half(endless_model: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("Hello\n" * 400)
    words: list[object] = ["-m", endless_model, "--prompts", tmp_path / "prompts.txt", "--max-new-tokens", 300]
    done = stopped([*words, "--json"], signal.SIGINT, works)
    assert done.code == 75 and done.out == ""
    assert done.err.splitlines()[-1] == "llmforge: stopped by SIGINT; the same command begins anew"


def test_a_signal_within_a_long_batch_keeps_the_answers_so_far(endless_model: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("".join(f"Hello {number}\n" for number in range(48)))
    values: dict[str, Any] = {
        "model": str(endless_model),
        "prompts": str(tmp_path / "prompts.txt"),
        "sampling": {"max_new_tokens": 300, "num_samples": 2, "seed": 3},
        "output_dir": str(tmp_path / "out"),
    }
    (tmp_path / "c.json").write_text(json.dumps(values))
    partial = tmp_path / "out" / KEPT

    def answered(child: subprocess.Popen[str]) -> None:
        while child.poll() is None and (not partial.exists() or partial.read_bytes().count(b"\n") < 5):
            time.sleep(0.02)

    done = stopped(["-c", tmp_path / "c.json", "-q"], signal.SIGTERM, answered)
    assert done.code == 75 and done.out == ""
    assert done.err.splitlines()[-1] == "llmforge: stopped by SIGTERM; the same command goes on"
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["status"], record["exit_code"]) == ("stopped", 75) and not (tmp_path / "out" / SAMPLES).exists()
    header, *lines = partial.read_text().splitlines()
    before = {row["prompt"]: [sample["text"] for sample in row["samples"]] for row in map(json.loads, lines)}
    assert 4 <= len(before) < 48 and all(len(texts) == 2 for texts in before.values())
    with partial.open("a") as stream:
        stream.write(lines[0][:40])  # as a kill leaves it
    found = KeptAnswers(partial, json.loads(header)["asked"], 2).found
    assert {prompt: [sample.text for sample in samples] for prompt, samples in found.items()} == before
    texts = [row["text"] for row in run(GenerateConfig.model_validate(values), QUIET)["samples"]]  # type: ignore[attr-defined]
    assert len(texts) == 96 and not partial.exists()
    assert all(texts[2 * prompt : 2 * prompt + 2] == told for prompt, told in before.items())


def test_a_signal_within_a_streamed_answer_ends_its_line(endless_model: Path) -> None:
    first = ""

    def speaks(child: subprocess.Popen[str]) -> None:
        nonlocal first
        assert child.stdout is not None
        first = child.stdout.read(1)

    words: list[object] = ["-m", endless_model, "-p", "Hello", "--max-new-tokens", 16_000, "--seed", 1]
    done = stopped(words, signal.SIGTERM, speaks)
    assert done.code == 75 and first and done.out.endswith("\n") and "Traceback" not in done.err
