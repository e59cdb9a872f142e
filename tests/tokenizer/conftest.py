"""One small vocabulary for all tests of this folder, trained on the source text of standard modules."""

from __future__ import annotations

import argparse
import inspect
import textwrap
from pathlib import Path

import pytest

from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokenizer.train import train_tokenizer

VOCAB = 1500
NASTY = [
    "",
    " ",
    "  ",
    "\n",
    "\t",
    "\r\n",
    "\n\n\n  \t \n",
    " leading and trailing ",
    "a  b   c    d",
    "\0",
    "a\0b\0\0",
    "".join(map(chr, range(32))),
    "\x7f\x80\x9f\xa0",
    "\u2581",
    "\u2581\u2581 \u2581a \u2581",
    "a\u2581b",
    "\u2585",
    "\u2047",
    "\uf8d0\uf8d1",
    "a\uf8d0b\n\uf8d1",
    "\ue000\uf8ff",
    "\ufeffbom",
    "\ufffd",
    "\ufffe\uffff",
    "\U0010ffff\U000f0000",
    "".join(map(chr, range(0xFDD0, 0xFDF0))),
    "zero\u200bwidth\u200c\u200d\u2060",
    "\u202eright to left\u202c",
    "e\u0301 \u00e9",
    "\u1e9b\u0323",
    "\ufb01 \u2460 \u00bd \uff21",
    "日本語のテキスト。中文。한국어",
    "العربية עברית हिन्दी ไทย",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "<s>",
    "</s><s><unk><pad>",
    "<|user|>hello<|end|><|assistant|>",
    "<|system|> <|tool|> <|end",
    "<0x41><0x0A>",
    "<unk>",
    "0123456789 3.14159 1e-5",
    "-" * 200,
    "-=" * 100,
    " " * 333,
    "\n" * 77,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "def f(x):\n\treturn x\n\n\tif x:\n        pass\n",
    "x" * 5000,
    "ab" * 4000,
    "é" * 3000,
    "a\u2028b\u2029c\x0bd\x0ce\x85f",
]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """About 400 pieces of real text."""
    whole = "\n".join(inspect.getsource(module) for module in (argparse, textwrap, inspect))
    return [whole[start : start + 400] for start in range(0, 160_000, 400)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    """A tokenizer folder."""
    made = tmp_path_factory.mktemp("tokenizer")
    settings = TokenizerSettings(vocab_size=VOCAB, phrase_share=0.09, special_tokens=("<|think|>",))
    train_tokenizer(["".join(texts[:300])], made, settings)
    return made


@pytest.fixture(scope="session")
def tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in it."""
    return Tokenizer.load(folder)


@pytest.fixture(scope="session")
def nasty() -> list[str]:
    """Texts that tokenizers lose."""
    return NASTY
