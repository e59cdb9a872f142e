"""The same ids in `tokenizers` and in `transformers`, for texts and for conversations."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Library

from llmforge.tokenizer.audit import fuzz_texts
from llmforge.tokenizer.chat import render
from llmforge.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module", params=[None, "qwen3", "llama"])
def foreign(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """AutoTokenizer of a bare tokenizer folder, and of model folders of two families."""
    transformers = pytest.importorskip("transformers")
    copy = tmp_path_factory.mktemp("copy") / "folder"
    shutil.copytree(folder, copy)
    if request.param:
        (copy / "config.json").write_text(json.dumps({"model_type": request.param}))
    return transformers.AutoTokenizer.from_pretrained(str(copy))


def _looks_special(tokenizer: Tokenizer, text: str) -> bool:
    return any(name in text for name in tokenizer.special_ids)


def test_ids_are_equal_in_tokenizers(tokenizer: Tokenizer, folder: Path, texts: list[str], nasty: list[str]) -> None:
    library = Library.from_file(str(folder / "tokenizer.json"))
    library.encode_special_tokens = True
    for text in texts + nasty + ["".join(texts)]:
        ids = library.encode(text, add_special_tokens=False).ids
        assert ids == tokenizer.encode(text)
        assert library.decode(ids, skip_special_tokens=False) == text


def test_runs_are_merged_in_the_same_order(tokenizer: Tokenizer, folder: Path) -> None:
    library = Library.from_file(str(folder / "tokenizer.json"))
    library.encode_special_tokens = True
    rng = random.Random(0)
    for _ in range(3000):
        unit = "".join(rng.choice(" \n-=.*#aelt'_(") for _ in range(rng.randint(1, 4)))
        text = unit * rng.randint(1, 30) + rng.choice(["", " ", "x", "\n", unit[:1]]) + unit * rng.randint(0, 9)
        assert library.encode(text, add_special_tokens=False).ids == tokenizer.encode(text), repr(text)


def test_ids_are_equal_in_transformers(tokenizer: Tokenizer, foreign: Any, texts: list[str], nasty: list[str]) -> None:
    compared = [*texts, *nasty, *fuzz_texts(700, 0)]
    assert len(compared) > 1000
    for text in compared:
        if {"\ufdda\ufde7", "\ufdda\ufdd3"} & {text[at : at + 2] for at in range(len(text))}:
            continue  # the template's escapes
        exact = foreign(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert exact == tokenizer.encode(text)
        if not _looks_special(tokenizer, text):  # by default transformers reads control symbols out of text
            assert foreign(text)["input_ids"] == tokenizer.encode_prompt(text)
        assert foreign.decode(exact) == text
    assert (foreign.bos_token_id, foreign.eos_token_id, foreign.pad_token_id) == (1, 2, 3)
    assert foreign.convert_tokens_to_ids("<|end|>") == 8 and len(foreign) == tokenizer.vocab_size


def _conversation(rng: random.Random, said: list[str]) -> list[dict[str, str]]:
    def text() -> str:
        return "".join(rng.choice(said) for _ in range(rng.randint(0, 6)))

    messages = [{"role": "system", "content": text()}] if rng.random() < 0.3 else []
    for _ in range(rng.randint(1, 3)):
        messages += [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
        if rng.random() < 0.2:
            messages += [{"role": "tool", "content": text()}, {"role": "assistant", "content": text()}]
    return messages + ([{"role": "user", "content": text()}] if rng.random() < 0.5 else [])


def test_the_template_gives_the_renderers_ids(tokenizer: Tokenizer, foreign: Any, nasty: list[str]) -> None:
    rng = random.Random(1)
    said = ["<|user|>", "<|end|>", "<s>", "</s>", "<unk>", "<|think|>", "<", "|>", "user", " ", "\n", "{{ 7 * 7 }}"]
    said += ["{% for %}", "'", '"', "\\n", "\ufdda", "\ufdd3", "\ufde7", "\u2581", "Hello", " world.\n"]
    said += [text for text in nasty if len(text) < 40]
    for _ in range(400):
        messages, more = _conversation(rng, said), rng.random() < 0.5
        theirs = foreign.apply_chat_template(messages, add_generation_prompt=more, return_dict=False)
        assert theirs == render(tokenizer, messages, add_generation_prompt=more).ids


def test_the_template_refuses_unknown_roles(foreign: Any) -> None:
    with pytest.raises(Exception, match="unknown role"):
        foreign.apply_chat_template([{"role": "boss", "content": "x"}])
