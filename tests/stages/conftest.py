"""A model folder that was taught three conversations by heart, so that generate and chat have something to say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # what the tests of one command share lies beside this file

TAUGHT = {
    "What is a list?": "A list holds values in order. «日本» 👍",
    "What is a dict?": "A dict maps keys to values.\n\nIts keys are unique.",
    "Hello": "Hi there!",
}


def _teach(folder: Path, tokenizer_folder: Path, context: int, steps: int) -> None:
    import torch

    from llmforge.checkpoint.model_folder import write_model_folder
    from llmforge.model.config import ModelConfig
    from llmforge.model.init import initialize
    from llmforge.model.transformer import Transformer
    from llmforge.tokenizer.chat import render
    from llmforge.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(tokenizer_folder)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=64,
        max_position_embeddings=context,
        tie_word_embeddings=True,
    )
    model = Transformer(config)
    initialize(model, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    talks = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in TAUGHT.items()
    ]
    rendered = [render(tokenizer, talk) for talk in talks]
    for _ in range(steps):
        for row in rendered:
            ids, learned = torch.tensor([row.ids]), torch.tensor(row.mask[1:])
            logits = model.head(model(ids[:, :-1]))[0, learned]
            torch.nn.functional.cross_entropy(logits, ids[0, 1:][learned]).backward()
        optimizer.step()
        optimizer.zero_grad()
    folder.mkdir()
    facts: dict[str, object] = {"chat": True}
    write_model_folder(folder, model, config, tokenizer_folder, facts=facts, stop_ids=sorted(tokenizer.stop_ids))


@pytest.fixture(scope="session")
def small_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder of a few hundred ids."""
    from llmforge.tokenizer.settings import TokenizerSettings
    from llmforge.tokenizer.train import train_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    texts = [f"{question} {answer}" for question, answer in TAUGHT.items()] * 20
    train_tokenizer(texts, folder, TokenizerSettings(vocab_size=340))
    return folder


@pytest.fixture(scope="session")
def talking_model(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: Path) -> Path:
    """Answers the three questions of `TAUGHT` by heart; context of 64 tokens."""
    folder = tmp_path_factory.mktemp("talking") / "model"
    _teach(folder, small_tokenizer, context=64, steps=120)
    return folder


@pytest.fixture(scope="session")
def endless_model(tmp_path_factory: pytest.TempPathFactory, small_tokenizer: Path) -> Path:
    """Says anything and hardly ever ends: untaught weights, a context of 16,384 tokens."""
    folder = tmp_path_factory.mktemp("endless") / "model"
    _teach(folder, small_tokenizer, context=16_384, steps=0)
    return folder


@pytest.fixture
def taught() -> dict[str, str]:
    return dict(TAUGHT)
