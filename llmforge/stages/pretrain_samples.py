"""Samples of text within a pretrain run: what the model writes now, a line of samples.jsonl each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from llmforge.model.transformer import Transformer
    from llmforge.runtime.run_folder import RunFolder
    from llmforge.stages.pretrain import PretrainConfig
    from llmforge.stages.pretrain_data import PretrainData
    from llmforge.training.loop_parts import StepInfo

SAMPLES = "samples.jsonl"
_SAMPLE_TOKENS = 48
_SAMPLES = 3


def make_observers(
    config: PretrainConfig,
    data: PretrainData,
    model: Transformer,
    folder: RunFolder,
    step: int,
    build: Callable[[], Transformer],
) -> Sequence[Callable[[StepInfo], None]]:
    """The observer that writes samples.jsonl, where samples are asked for; lines of steps after `step` are removed.

    `build` makes an empty model, for one that processes hold shares of: those are put together first.
    """
    from llmforge.runtime.files import disk_errors
    from llmforge.training.parallel import gathered

    every = config.train.sample_every
    path = folder.path / SAMPLES
    if not folder.passive and path.exists():
        _cut(path, step)
    if every is None:
        return ()

    def sample(info: StepInfo) -> None:
        if info.step % every and not info.last:
            return
        with info.weights():
            whole = gathered(model, build)  # every process takes part
            rows = [] if folder.passive else _samples(data, whole)
        if not folder.passive:
            if path.exists():
                _cut(path, info.step - 1)  # the run may have gone back and be here once more
            lines = [json.dumps({"step": info.step, **row}, ensure_ascii=False) for row in rows]
            with disk_errors(path), path.open("a", encoding="utf-8") as stream:
                stream.write("".join(line + "\n" for line in lines))

    return (sample,)


def _cut(path: Path, step: int) -> None:
    """Leaves the lines up to `step`; what a kill or a full disk left in the middle of a line goes too."""
    from llmforge.runtime.files import write_atomic

    # Bytes: a text's own line breaks (U+2028, U+0085) end no line here, and half a line may end within a character.
    whole = path.read_bytes().split(b"\n")[:-1]
    write_atomic(path, b"".join(line + b"\n" for line in whole if _step(line) <= step))


def _step(line: bytes) -> float:
    """The step of a sample; without end for what is no sample, which is then removed."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _samples(data: PretrainData, model: Transformer) -> list[dict[str, object]]:
    """Beginnings of held-out documents (of the training text where nothing is held out), continued."""
    from llmforge.inference.generate import generate
    from llmforge.inference.settings import SamplingSettings

    split = (data.valid or data.train)[0]
    prompts = []
    for number in range(min(_SAMPLES, split.num_documents)):
        document = split.document(number * split.num_documents // _SAMPLES)
        prompts.append(split.stream(document.start, min(8, document.length)).tolist())
    room = model.config.max_position_embeddings - 8
    settings = SamplingSettings(max_new_tokens=max(1, min(_SAMPLE_TOKENS, room)), temperature=0.8, top_k=50)
    return [
        {"prompt": data.tokenizer.decode(prompt), "text": answer.text}
        for prompt, answer in zip(prompts, generate(model, data.tokenizer, prompts, settings), strict=True)
    ]
