"""DDP, FSDP2, and FSDP2 with tensor parallelism on four processes give the gradients, norm and weights of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from groups import on_ranks
from safetensors.torch import load_file
from shared_model import ROWS, averaged_weights, gradients_norm_weights, small_transformer
from shared_worker import AVERAGED, WAYS
from toy import toy_batch

from llmforge.runtime.distributed import World

LARGEST = 3e-7  # difference of a gradient


def reference_gradients() -> dict[str, torch.Tensor]:
    """The mean loss of all trained tokens of the batch, by torch's own cross-entropy in float64."""
    model, batch = small_transformer().double(), toy_batch(0, ROWS)
    model.compute_dtype = torch.float64
    logits = model(batch.input_ids).double() @ model.head_weight.t()
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=-100).backward()
    return {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    on_ranks("shared_worker", (4, str(folder)))
    return folder


@pytest.mark.parametrize(("strategy", "tensor", "optimizer"), WAYS)
def test_gradients_of_one_process(shared: Path, tmp_path: Path, strategy: str, tensor: int, optimizer: str) -> None:
    found = load_file(shared / f"{strategy}-{tensor}-{optimizer}.safetensors")
    alone = gradients_norm_weights(tmp_path / "alone", World(), "none", optimizer)
    assert found.keys() == alone.keys()
    wanted = reference_gradients()
    assert {f"gradient.{name}" for name in wanted} == {name for name in found if name.startswith("gradient.")}
    for name, value in wanted.items():
        torch.testing.assert_close(found[f"gradient.{name}"].double(), value, rtol=0, atol=LARGEST, msg=name)
    torch.testing.assert_close(found["norm"], alone["norm"], rtol=1e-6, atol=0)
    torch.testing.assert_close(found["loss"], alone["loss"], rtol=1e-6, atol=0)
    # Adam divides a gradient by its own size and Muon iterates in bf16: both make more of its last bit.
    tolerance = 1e-5 if optimizer == "adamw" else 2e-3
    for name in (name for name in found if name.startswith("weight.")):
        torch.testing.assert_close(found[name], alone[name], rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize("strategy", AVERAGED)
def test_an_average_that_is_validated_on_the_way_is_that_of_one_process(
    shared: Path, tmp_path: Path, strategy: str
) -> None:
    """A pass without gradients leaves FSDP2's parameters whole, and on a GPU in bf16, unless they are put back."""
    found = load_file(shared / f"{strategy}-averaged.safetensors")
    alone = averaged_weights(tmp_path / "alone", World(), "none")
    assert found.keys() == alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=name)
