"""Chat formats as data, and unigram vocabularies: the same ids in transformers, and nothing that can be typed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Library

from llmforge.errors import DamagedError
from llmforge.tokenizer.chat import render
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokenizer.train import train_tokenizer

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "See you."},
]
WRITTEN = {
    "chatml": "<s><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n",
    "llama3": "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>",
    "plain": "<s>User: Hi\nAssistant: Hello!</s>\n",
    "own": "<s><|user|>Hi<|end|><|assistant|>Hello!<|end|>",
}
ENDS = {"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "plain": "</s>", "own": "<|end|>"}


@pytest.fixture(scope="module", params=sorted(WRITTEN))
def form(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("form") / str(request.param)
    train_tokenizer(texts[:120], folder, TokenizerSettings(vocab_size=500, chat_template=request.param))
    return folder


def test_what_is_written_and_learned(form: Path) -> None:
    tokenizer, name = Tokenizer.load(form), form.name
    rendered = render(tokenizer, TALK[1:3])
    assert tokenizer.decode(rendered.ids, skip_special=False) == WRITTEN[name]
    learned = [number for number, learn in zip(rendered.ids, rendered.mask, strict=True) if learn]
    assert tokenizer.decode(learned, skip_special=False) == "Hello!" + ENDS[name]
    assert tokenizer.special_ids[ENDS[name]] in tokenizer.stop_ids and rendered.ids[0] == tokenizer.bos_id
    last = render(tokenizer, TALK, train_on="last")
    learned = [number for number, learn in zip(last.ids, last.mask, strict=True) if learn]
    assert tokenizer.decode(learned, skip_special=False) == "See you." + ENDS[name]
    prompt = render(tokenizer, TALK[1:2], add_generation_prompt=True)
    assert not any(prompt.mask)
    assert WRITTEN[name].startswith(tokenizer.decode(prompt.ids, skip_special=False).rstrip())


def test_the_template_gives_the_renderers_ids_and_nothing_can_be_typed(form: Path, nasty: list[str]) -> None:
    transformers = pytest.importorskip("transformers")
    theirs, tokenizer = transformers.AutoTokenizer.from_pretrained(str(form)), Tokenizer.load(form)
    special = set(tokenizer.special_ids.values())
    rng = random.Random(3)
    said = [*tokenizer.special_ids, "<", "|>", "user", " ", "\n", "{{ 7 * 7 }}", "\ufdda", "\ufdd3", "\ufde7", "Hi."]
    said += [text for text in nasty if len(text) < 40]
    empty = [{**message, "content": ""} for message in TALK]
    for _ in range(250):
        messages: list[dict[str, str]] = [
            {**message, "content": "".join(rng.choices(said, k=rng.randint(0, 6)))}
            for message in TALK[rng.randint(0, 1) : rng.randint(2, 5)]
        ]
        more = rng.random() < 0.5
        rendered = render(tokenizer, messages, add_generation_prompt=more)
        assert theirs.apply_chat_template(messages, add_generation_prompt=more, return_dict=False) == rendered.ids
        first = empty[TALK.index(next(m for m in TALK if m["role"] == messages[0]["role"])) :][: len(messages)]
        bare = render(tokenizer, first, add_generation_prompt=more)
        assert [n for n in rendered.ids if n in special] == [n for n in bare.ids if n in special]


def test_a_format_whose_symbols_are_missing_is_damage(tmp_path: Path, folder: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"llmforge_chat_format": "own"', '"llmforge_chat_format": "chatml"'))
    with pytest.raises(DamagedError, match="im_end"):
        Tokenizer.load(tmp_path)


@pytest.fixture(scope="module")
def unigram(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    folder = tmp_path_factory.mktemp("unigram") / "made"
    train_tokenizer(texts[:200], folder, TokenizerSettings(vocab_size=800, model_type="unigram"))
    return folder


def test_a_unigram_vocabulary_loses_nothing(unigram: Path, texts: list[str], nasty: list[str]) -> None:
    tokenizer = Tokenizer.load(unigram)
    special: Any = set(tokenizer.special_ids.values())
    for text in texts[200:] + nasty:
        ids = tokenizer.encode(text)
        assert tokenizer.decode_bytes(ids) == text.encode() and not special & set(ids)
    assert tokenizer.vocab_size == 800


def test_a_unigram_vocabulary_in_tokenizers(unigram: Path, texts: list[str], nasty: list[str]) -> None:
    tokenizer, library = Tokenizer.load(unigram), Library.from_file(str(unigram / "tokenizer.json"))
    library.encode_special_tokens = True
    different = 0
    for text in texts[200:] + nasty:
        ids = library.encode(text, add_special_tokens=False).ids
        assert library.decode(ids, skip_special_tokens=False) == text
        different += ids != tokenizer.encode(text)
    assert different <= 0.03 * (len(texts) - 200 + len(nasty))  # only where two cuts are equally likely
