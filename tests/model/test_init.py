"""The table in the docstring of `initialize` against what it does."""

from __future__ import annotations

import math
import re

import torch

from llmforge.model.config import ModelConfig
from llmforge.model.init import initialize, parameter_roles
from llmforge.model.transformer import Transformer


def build(tied: bool, biased: bool = False, seed: int = 0) -> Transformer:
    config = ModelConfig(
        vocab_size=2000,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        intermediate_size=160,
        tie_word_embeddings=tied,
        attention_bias=biased,
        attention_output_bias=biased,
    )
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(77.0)
    initialize(model, seed)
    return model


def table() -> dict[str, str]:
    """Name of a module -> what the docstring says of it."""
    rows = re.findall(r"^ *\| (.+?) *\| (.+?) *\|$", initialize.__doc__ or "", flags=re.MULTILINE)
    return {name.strip(): text for names, text in rows for name in names.split(",") if not name.startswith("-")}


def holds(text: str, values: torch.Tensor, tied: bool) -> bool:
    if stds := re.findall(r"std ([\d.]+)", text):
        std = float(stds[1] if tied and len(stds) > 1 else stds[0])
        fourth = (values / std).pow(4).mean().item()  # 3 for a normal distribution, 1.8 for a uniform one
        return abs(values.std().item() / std - 1) < 0.02 and abs(fourth - 3) < 0.15 and abs(values.mean()) < std / 50
    if text.startswith("uniform within sqrt(3 / hidden_size)"):
        bound = math.sqrt(3 / 96)
        near = 0.98 * bound < values.abs().max() <= bound
        return bool(near) and abs(values.std().item() * math.sqrt(96) - 1) < 0.05
    constant = 0.0 if text.startswith("zero") else float(text)
    return bool((values == constant).all())


def test_table_is_true() -> None:
    said = table()
    for tied in (False, True):
        seen = set()
        for name, parameter in build(tied, biased=True).named_parameters():
            module, kind = name.split(".")[-2:]
            row = "biases" if kind == "bias" else module
            seen.add(row)
            assert holds(said[row], parameter.detach(), tied), f"{name}: {said[row]}"
        assert seen == set(said) - {"parameter"} - ({"lm_head"} if tied else set())


def test_a_seed_gives_the_same_weights() -> None:
    first, again, other = build(False), build(False), build(False, seed=1)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.embed_tokens.weight, other.embed_tokens.weight)


def test_the_untrained_model_is_uniform() -> None:
    """The start is the identity with a small head: the first loss is that of guessing."""
    model = build(False)
    ids = torch.randint(0, 2000, (4, 32))
    logits = model.head(model(ids))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
    assert abs(loss.item() - math.log(2000)) < 0.01


def test_roles() -> None:
    roles = parameter_roles(build(False, biased=True))
    by_role: dict[str, list[str]] = {}
    for name, role in roles.items():
        by_role.setdefault(role, []).append(name)
    assert by_role["embedding"] == ["embed_tokens.weight"] and by_role["head"] == ["lm_head.weight"]
    assert len(by_role["matrix"]) == 2 * 7 and len(by_role["vector"]) == 2 * (2 + 2 + 4) + 1
    assert "head" not in parameter_roles(build(True)).values()
