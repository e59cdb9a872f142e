"""Where tensors lie in a safetensors file, against what safetensors itself writes and reads."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llmforge.checkpoint.tensor_spans import read_spans
from llmforge.errors import DamagedError


def write(path: Path) -> dict[str, torch.Tensor]:
    tensors = {
        "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "b": torch.arange(5, dtype=torch.int64),
        "c": torch.ones(3, dtype=torch.bfloat16),
        "empty": torch.zeros(0),
    }
    save_file(tensors, path, metadata={"format": "pt"})
    return tensors


def test_the_bytes_of_a_span_are_the_tensor(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    tensors = write(path)
    content = path.read_bytes()
    spans = {span.name: span for span in read_spans(path)}
    assert spans.keys() == tensors.keys()
    for name, span in spans.items():
        assert content[span.start : span.stop] == tensors[name].view(torch.uint8).numpy().tobytes()
        assert span.shape == tuple(tensors[name].shape)
    span = spans["a"]
    at = span.start + 4 * 4 + 1
    assert span.element_at(at) == 4 and struct.unpack("<f", content[at - 1 : at + 3]) == (4.0,)


@pytest.mark.parametrize("length", [0, 5, 8, 40])
def test_a_cut_file_is_refused_by_its_place(tmp_path: Path, length: int) -> None:
    path = tmp_path / "t.safetensors"
    write(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedError, match="bytes 0-7"):
        read_spans(path)


def test_a_cut_tail_names_the_tensor(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write(path)
    last = read_spans(path)[-1]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=f"{last.name} would lie in bytes"):
        read_spans(path)


@pytest.mark.parametrize("header", [b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [1]}}', b"\xff\xfe"])
def test_another_header_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "t.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(DamagedError, match="header in bytes 8"):
        read_spans(path)
