"""`finetune` from end to end on tiny models: full, lora, a Hugging Face folder, resume, configs, bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmforge.config.load import load_config
from llmforge.errors import DataError, StopRequested, UsageError
from llmforge.runtime.console import Console
from llmforge.stages import finetune

CONFIGS = Path(__file__).parents[2] / "configs" / "finetune"
QUIET = Console(quiet=True, json=True)
ANSWERS = {"What is a list?": "Values in order.", "What is a dict?": "Keys and values.", "Bye": "See you."}


def talks(path: Path, answers: dict[str, str], times: int = 1) -> str:
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in answers.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows * times))
    return str(path)


def config(base: Path, folder: Path, **changes: Any) -> finetune.FinetuneConfig:
    values: dict[str, Any] = {
        "base_model": str(base),
        "output_dir": str(folder / "run"),
        "device": "cpu",
        "precision": "fp32",
        "data": {"train": [talks(folder / "talks.jsonl", ANSWERS, 4)], "valid": talks(folder / "v.jsonl", ANSWERS)},
        "train": {"max_steps": 6, "micro_batch_size": 2, "compile": False, "save_every": None, "log_every": 1},
        "optimizer": {"lr": 1e-2},
        "scheduler": {"name": "constant", "warmup_steps": 0},
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, dict) and key in values else value
    return finetune.FinetuneConfig.model_validate(values)


def logits(folder: str | Path) -> Any:
    import torch

    from llmforge.checkpoint.model_folder import load_model

    model = load_model(folder)
    ids = torch.arange(40)[None] % model.config.vocab_size
    with torch.no_grad():
        return model.head(model(ids))


def test_full_learns_the_answers(endless_model: Path, tmp_path: Path) -> None:
    from llmforge.checkpoint.model_folder import read_facts
    from llmforge.inference.loading import open_model
    from llmforge.runtime.manifest import read_manifest
    from llmforge.stages.generate import GenerateConfig
    from llmforge.stages.generate import run as generate

    result = finetune.run(config(endless_model, tmp_path, train={"max_steps": 60}, data={"max_length": 64}), QUIET)
    assert result["state"] == "finished" and result["steps"] == 60
    assert result["valid_loss"] < 0.2 < 3 < result["base_valid_loss"]  # type: ignore[operator]
    assert {"train_loss", "valid_bits_per_byte", "tokens_per_second", "compile_seconds", "peak_memory_bytes"} <= {
        *result
    }
    folder = Path(str(result["model"]))
    manifest = read_manifest(folder, "model", verify="digests")
    assert set(manifest.made_from) == {"base_model", "train", "valid"}
    assert read_facts(folder)["chat"] is True and open_model(folder, "fp32", "cpu").converses
    asked = GenerateConfig.model_validate(
        {"model": str(folder), "prompt": "What is a dict?", "sampling": {"do_sample": False}, "precision": "fp32"}
    )
    [sample] = generate(asked, QUIET)["samples"]  # type: ignore[misc]
    assert sample["text"] == ANSWERS["What is a dict?"] and sample["finish_reason"] == "stop"


def test_lora_leaves_the_base_and_merges_to_the_same_logits(talking_model: Path, tmp_path: Path) -> None:
    import torch

    from llmforge.checkpoint.adapters import load_adapter
    from llmforge.checkpoint.model_folder import load_model

    before = {path.name: path.read_bytes() for path in talking_model.iterdir() if path.is_file()}
    chosen = config(talking_model, tmp_path, method="lora", lora={"r": 4, "target_modules": ["q_proj", "down_proj"]})
    result = finetune.run(chosen, QUIET)
    assert {path.name: path.read_bytes() for path in talking_model.iterdir() if path.is_file()} == before
    merged, base = load_model(str(result["model"])), load_model(talking_model)
    changed = {name for name, value in merged.named_parameters() if not torch.equal(value, base.state_dict()[name])}
    assert changed == {name for name in base.state_dict() if "q_proj" in name or "down_proj" in name}
    load_adapter(base, Path(str(result["adapter"])))
    ids = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(base.head(base(ids)), merged.head(merged(ids)), rtol=1e-5, atol=1e-5)
    state = next((tmp_path / "run" / "checkpoints").glob("step-*/state.safetensors"))
    from safetensors import safe_open

    with safe_open(state, "pt") as tensors:
        weights = [name for name in tensors.keys() if name.startswith(("model.", "optimizer."))]  # noqa: SIM118
        assert weights and all("lora_" in name for name in weights)


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")  # peft asks transformers for a name that goes
def test_the_adapter_opens_in_peft(talking_model: Path, tmp_path: Path) -> None:
    import torch

    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    result = finetune.run(config(talking_model, tmp_path, method="lora"), QUIET)
    base = transformers.AutoModelForCausalLM.from_pretrained(talking_model, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(base, str(result["adapter"])).eval()
    with torch.no_grad():
        theirs = adapted(torch.arange(40)[None]).logits
    torch.testing.assert_close(theirs, logits(str(result["model"])), rtol=1e-4, atol=1e-4)


def foreign_folder(folder: Path, template: str | None) -> Path:
    """A Llama of random weights with a byte-level tokenizer, as transformers writes them."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    names = ["<|bos|>", "<|eos|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    library = Tokenizer(models.BPE({name: at for at, name in enumerate(names)}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=library, bos_token="<|bos|>", eos_token="<|eos|>", chat_template=template
    )
    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=len(names),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=None,
    )
    transformers.LlamaForCausalLM(shape).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_a_hugging_face_folder_goes_through_and_back(tmp_path: Path, template: str | None) -> None:
    import torch

    transformers = pytest.importorskip("transformers")
    from llmforge.stages.generate import GenerateConfig
    from llmforge.stages.generate import run as generate

    base = foreign_folder(tmp_path / "base", template)
    result = finetune.run(config(base, tmp_path, train={"max_steps": 150}, seed=1), QUIET)
    folder = str(result["model"])
    asked = GenerateConfig.model_validate(
        {
            "model": folder,
            "prompt": "What is a list?",
            "sampling": {"do_sample": False, "max_new_tokens": 40},
            "precision": "fp32",
        }
    )
    [sample] = generate(asked, QUIET)["samples"]  # type: ignore[misc]
    assert sample["text"] == ANSWERS["What is a list?"] and sample["finish_reason"] == "stop"
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    asked_ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is a list?"}], add_generation_prompt=True, return_tensors="pt"
    )["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(theirs(torch.arange(40)[None]).logits, logits(folder), rtol=1e-5, atol=1e-5)
        answer = theirs.generate(asked_ids, max_new_tokens=40, do_sample=False)[0, asked_ids.shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == ANSWERS["What is a list?"]


def test_a_stopped_run_goes_on_bit_for_bit(
    talking_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmforge.training.trainer import Trainer

    whole = config(talking_model, tmp_path)
    straight = finetune.run(whole, QUIET)
    wanted = (Path(str(straight["model"])) / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run")
    count = Trainer._count

    def stopping(self: Trainer, *given: Any) -> None:
        import os
        import signal

        count(self, *given)
        if self.progress.step == 3:
            os.kill(os.getpid(), signal.SIGUSR1)

    monkeypatch.setattr(Trainer, "_count", stopping)
    with pytest.raises(StopRequested):
        finetune.run(whole, QUIET)
    assert not (tmp_path / "run" / "model").exists()
    monkeypatch.setattr(Trainer, "_count", count)
    again = finetune.run(whole, QUIET)
    assert (Path(str(again["model"])) / "model.safetensors").read_bytes() == wanted
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


def test_changed_conversations_are_noticed_at_resume(talking_model: Path, tmp_path: Path) -> None:
    chosen = config(talking_model, tmp_path)
    finetune.run(chosen, QUIET)
    talks(tmp_path / "talks.jsonl", {"Other": "Words."}, 4)
    with pytest.raises(DataError, match="the data has changed"):
        finetune.run(chosen, QUIET)
    assert finetune.run(chosen, QUIET, resume="never")["steps"] == 6


def test_a_valid_fraction_splits_by_what_is_said(talking_model: Path, tmp_path: Path) -> None:
    from llmforge.checkpoint.model_folder import read_model_config
    from llmforge.stages.finetune_data import _conversations, open_data

    many = {f"Question {number}": f"Answer {number}" for number in range(60)}
    chosen = config(
        talking_model,
        tmp_path,
        data={"train": [talks(tmp_path / "t.jsonl", many, 2)], "valid": None, "valid_fraction": 0.3},
    )
    held, kept = (
        {conversation.identity for conversation in _conversations(chosen, split)} for split in ("valid", "train")
    )
    assert not held & kept and len(held | kept) == 60 and 8 < len(held) < 30
    data = open_data(chosen, talking_model, read_model_config(talking_model), QUIET)
    assert data.valid is not None and len(data.valid) == 2 * len(held)


def test_a_valid_fraction_that_leaves_a_side_empty_says_so(talking_model: Path, tmp_path: Path) -> None:
    from llmforge.checkpoint.model_folder import read_model_config
    from llmforge.stages.finetune_data import open_data

    file = talks(tmp_path / "t.jsonl", {"Question 1": "Answer 1"})
    for fraction, purpose in ((1e-9, "validate with"), (1 - 1e-9, "train on")):
        chosen = config(talking_model, tmp_path, data={"train": [file], "valid": None, "valid_fraction": fraction})
        with pytest.raises(DataError, match=f"leaves no conversation to {purpose}"):
            open_data(chosen, talking_model, read_model_config(talking_model), QUIET)


def test_without_held_out_and_without_packing(talking_model: Path, tmp_path: Path) -> None:
    result = finetune.run(config(talking_model, tmp_path, data={"valid": None, "packing": False}), QUIET)
    assert result["valid_loss"] is None and result["train_loss"] is not None


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ('{"messages": [{"role": "user"}]}', DataError, "talks.jsonl:1"),
        ("", DataError, "talks.jsonl"),
        ('{"prompt": "%s", "completion": "b"}' % ("word " * 200), DataError, "nothing to train on"),
        ('{"prompt": "a", "completion": "b"', DataError, "talks.jsonl:1"),
    ],
)
def test_bad_rows_leave_no_model(
    talking_model: Path, tmp_path: Path, rows: str, error: type[Exception], words: str
) -> None:
    chosen = config(talking_model, tmp_path)
    (tmp_path / "talks.jsonl").write_text(rows)
    with pytest.raises(error) as caught:
        finetune.run(chosen, QUIET)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "model").exists()


def test_packed_rows_that_fp8_does_not_take(talking_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="precision: fp8 .*data.max_length is 40: set data.max_length to 32"):
        finetune.preview(config(talking_model, tmp_path, precision="fp8", data={"max_length": 40}))
    for fine in ({"max_length": 48}, {"max_length": 40, "packing": False}, {}):
        finetune.preview(config(talking_model, tmp_path, precision="fp8", data=fine))


def test_rows_beyond_the_context_and_missing_inputs(talking_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="beyond the model's 64 positions"):
        finetune.preview(config(talking_model, tmp_path, data={"max_length": 65}))
    with pytest.raises(DataError):
        finetune.preview(config(talking_model, tmp_path, data={"train": [str(tmp_path / "none.jsonl")]}))
    with pytest.raises(DataError):
        finetune.preview(config(tmp_path / "none", tmp_path))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"valid_fraction": 0.1}}, "valid or valid_fraction"),
        ({"lora": {"r": 4}}, "method is full"),
        ({"method": "dora"}, "method"),
        ({"data": {"train": []}}, "train"),
        ({"train": {"num_epochs": 1}}, "exactly one"),
        ({"train": {"sample_every": 5}}, "sample_every"),
        ({"data": {"valid": None}, "train": {"eval_every": 1, "early_stopping": {}}}, "needs held-out conversations"),
        ({"lora": {"r": 0}}, "lora.r"),
    ],
)
def test_wrong_configs(talking_model: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(talking_model, tmp_path, **changes)


def test_optimizer_defaults_are_gentle() -> None:
    made = finetune.FinetuneOptimizer.model_validate({})
    assert (made.name, made.lr, made.weight_decay, made.betas) == ("adamw", 3e-4, 0.0, (0.9, 0.95))
    assert finetune.FinetuneOptimizer.model_validate({"lr": 1.0}).lr == 1.0
    assert finetune.FinetuneOptimizer.model_validate({"name": "muon"}).lr == 0.04


@pytest.mark.parametrize("name", ["full.yaml", "lora.yaml"])
def test_the_examples_are_whole(name: str) -> None:
    loaded = load_config(finetune.FinetuneConfig, CONFIGS / name, [])
    assert loaded.config.data.train == ["python-docs:conversations"]
    keys = [line.split(":")[0].strip() for line in (CONFIGS / name).read_text().splitlines() if ":" in line]
    assert "base_model" in keys


def test_preview_and_fingerprint_load_no_torch(talking_model: Path, tmp_path: Path) -> None:
    chosen = config(talking_model, tmp_path)
    program = f"""
import sys
from llmforge.stages import finetune
config = finetune.FinetuneConfig.model_validate_json({chosen.model_dump_json()!r})
assert finetune.preview(config)["reads"] and "base_model" in finetune.inputs_fingerprint(config)
heavy = [name for name in ("torch", "numpy", "pyarrow", "pandas", "datasets") if name in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True)
