"""Where compiled kernels are kept, what small models are compiled with, and that compiled gives the eager answer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from shared_model import SHAPE, small_transformer
from torch import nn
from toy import LENGTH, VOCAB, ToyModel, toy_batch

from llmforge.model.checkpointing import Recomputing, recompute
from llmforge.tokens.batch import IGNORED, Batch
from llmforge.training import compiler
from llmforge.training.compiler import SMALL, compile_options, keep_compiled
from llmforge.training.objective import CausalLMObjective
from llmforge.training.parallel import choose_compile, compile_objective

CPU = torch.device("cpu")


def test_kernels_lie_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert keep_compiled() == tmp_path / "llmforge" / "inductor"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "llmforge" / "inductor")


def test_the_users_own_place_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    assert keep_compiled() == tmp_path / "mine"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "mine")


def test_no_folder_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert keep_compiled() is None and "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def test_only_small_models_on_a_cpu_are_called_from_c() -> None:
    assert compile_options(nn.Linear(10, 10)) == {"cpp_wrapper": True}
    assert compile_options(nn.Linear(10, 10, device="meta")) is None
    assert compile_options(nn.ParameterList([torch.empty(SMALL + 1)])) is None


@pytest.mark.filterwarnings("default")  # the compiler's own, which are errors elsewhere
@pytest.mark.skipif(choose_compile("auto", CPU, 1e20)[0] is False, reason="this machine has no C++ compiler")
def test_a_compiled_step_gives_the_eager_gradients() -> None:
    eager, compiled = CausalLMObjective(ToyModel()), CausalLMObjective(ToyModel())
    compile_objective(compiled)
    for step in (0, 1):
        losses = [objective(toy_batch(step)) for objective in (eager, compiled)]
        torch.testing.assert_close(*losses)
        for loss in losses:
            loss.backward()
    for wanted, found in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)


@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(choose_compile("auto", CPU, 1e20)[0] is False, reason="this machine has no C++ compiler")
def test_batches_with_few_trained_positions_are_not_compiled_one_by_one() -> None:
    from torch._dynamo.utils import counters

    eager, compiled = CausalLMObjective(ToyModel()), CausalLMObjective(ToyModel())
    compile_objective(compiled)
    graphs = []
    for step in range(4):
        batch = toy_batch(step)
        labels = torch.where(torch.arange(batch.labels.shape[1]) < 5 - step, batch.labels, IGNORED)
        losses = [objective(Batch(batch.input_ids, labels)) for objective in (eager, compiled)]
        torch.testing.assert_close(*losses)
        for loss in losses:
            loss.backward()
        graphs.append(counters["stats"]["unique_graphs"])
    assert len(set(graphs)) == 1, graphs
    for wanted, found in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)


@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(choose_compile("auto", CPU, 1e20)[0] is False, reason="this machine has no C++ compiler")
def test_what_gates_give_is_not_kept_for_the_backward_pass() -> None:
    kept: list[tuple[int, ...]] = []

    def note(value: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(value.shape))
        return value

    objective = CausalLMObjective(small_transformer())
    compile_objective(objective)
    ids = torch.arange(3 * LENGTH).view(3, LENGTH) % VOCAB
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        objective(Batch(ids, ids)).backward()
    sizes = [shape[-1] for shape in kept if shape[:-1] in ((3, LENGTH), (3 * LENGTH,))]
    width = SHAPE.intermediate_size
    assert sizes.count(2 * width) == 2, "both halves of each layer's gate, from which its result is made again"
    assert sizes.count(width) == 0


@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(choose_compile("auto", CPU, 1e20)[0] is False, reason="this machine has no C++ compiler")
@pytest.mark.parametrize("what", ["none", "selective", "full"])
def test_larger_models_are_compiled_one_layer_for_all(what: Recomputing, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setattr(compiler, "SMALL", 0)
    eager, compiled = (CausalLMObjective(small_transformer()) for _ in range(2))
    compiled.load_state_dict(eager.state_dict())
    recompute(compiled.model, what)
    torch._dynamo.reset()  # of graphs that another test compiled
    before = counters["stats"]["unique_graphs"]
    compile_objective(compiled, by_layer=True)
    ids = torch.arange(3 * LENGTH).view(3, LENGTH) % VOCAB
    for _ in range(2):
        losses = [objective(Batch(ids, ids)) for objective in (eager, compiled)]
        torch.testing.assert_close(*losses)
        for loss in losses:
            loss.backward()
        compiled.eval()
        with torch.no_grad():  # as samples and validation
            compiled.model(ids[:, :3])
        compiled.train()
    for wanted, found in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)
    assert SHAPE.num_hidden_layers > 1
    assert counters["stats"]["unique_graphs"] - before == 3, "one layer, the last norm and the loss"
