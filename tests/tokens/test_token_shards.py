"""Shards: what goes in comes out, the same for any number of workers, and damage is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llmforge.corpus.document import Document
from llmforge.errors import DamagedError, DataError
from llmforge.runtime.files import digest_file, files_below
from llmforge.runtime.manifest import write_manifest
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokens.encoding import number_of_workers
from llmforge.tokens.folder import TokenFolder
from llmforge.tokens.shard import width_of

Documents = Callable[..., list[Document]]
WriteTokens = Callable[..., TokenFolder]


def test_every_document_is_in_the_stream_with_its_place(tokens: TokenFolder, documents: Documents) -> None:
    tokenizer, split = Tokenizer.load(tokens.tokenizer_folder), tokens.split("train")
    expected = documents(120)
    assert split.num_documents == 120 and tokens.vocab_size == tokenizer.vocab_size
    position = 0
    for number, wanted in enumerate(expected):
        found = split.document(number)
        ids = split.stream(found.start, found.length).tolist()
        assert (found.id, found.source, found.start) == (wanted.id, wanted.source, position)
        assert found.text_bytes == len(wanted.text.encode())
        assert ids == [1, *tokenizer.encode(wanted.text), 2]
        assert split.document_at(position) == number == split.document_at(position + found.length - 1)
        position += found.length
    assert position == split.num_tokens
    assert split.token_bytes_total == sum(len(document.text.encode()) for document in expected)
    whole = split.stream(0, split.num_tokens + 99)
    assert whole.tolist() == [
        i for n in range(120) for i in split.stream(split.document(n).start, split.document(n).length)
    ]


def test_there_are_several_shards_and_windows_cross_them(tokens: TokenFolder) -> None:
    assert len(list(tokens.path.glob("train-*.bin"))) > 1
    split = tokens.split("train")
    whole = split.stream(0, split.num_tokens)
    for start in range(0, split.num_tokens, 777):
        assert split.stream(start, 1500).tolist() == whole[start : start + 1500].tolist()


def test_the_bytes_do_not_depend_on_the_workers(
    tmp_path: Path,
    tokenizer_folder: Path,
    documents: Documents,
    write_tokens: WriteTokens,
) -> None:
    digests = []
    for workers in (1, 2):
        folder = write_tokens(tmp_path / str(workers), tokenizer_folder, {"train": documents(60)}, workers).path
        names = [name for name in files_below(folder) if name.name != "manifest.json"]
        digests.append({str(name): digest_file(folder / name) for name in names})
    assert digests[0] == digests[1] and len(digests[0]) > 6


def test_empty_documents_are_left_out(tmp_path: Path, tokenizer_folder: Path, write_tokens: WriteTokens) -> None:
    rows = [Document("a", "", "s"), Document("b", "text", "s"), Document("c", "", "s")]
    folder = write_tokens(tmp_path / "t", tokenizer_folder, {"train": rows, "valid": []})
    assert folder.split("train").num_documents == 1 and folder.split_names == ["train"]
    with pytest.raises(DataError, match="no documents in the split `valid`, it holds train"):
        folder.split("valid")


def test_text_that_is_not_unicode_names_its_document(
    tmp_path: Path, tokenizer_folder: Path, write_tokens: WriteTokens
) -> None:
    for workers in (1, 2):
        with pytest.raises(DataError, match=r"document bad: U\+D800"):
            write_tokens(
                tmp_path / str(workers), tokenizer_folder, {"train": [Document("bad", "\ud800", "s")]}, workers
            )


def test_widths_and_workers() -> None:
    assert width_of(65_536) == 2 and width_of(65_537) == 4
    assert number_of_workers(3, 0) == 3 and number_of_workers(0, 0) == 1 and number_of_workers(0, 1 << 30) >= 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def _flip_magic(path: Path) -> None:
    path.write_bytes(b"XX" + path.read_bytes()[2:])


def _width(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[10] = 6 - data[10]  # 2 for 4 and 4 for 2
    path.write_bytes(bytes(data))


def _version(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] = 9
    path.write_bytes(bytes(data))


def _digest(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[40] ^= 255
    path.write_bytes(bytes(data))


def _swap(path: Path) -> None:
    path.write_bytes(path.with_name(path.name.replace("00000", "00001")).read_bytes())


def _count(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[16] ^= 1
    path.write_bytes(bytes(data))


def _source(path: Path) -> None:
    """The number of a document's source, just before the names."""
    data = bytearray(path.with_suffix(".idx").read_bytes())
    data[data.index(b"doc-0-") - 2] = 7
    path.with_suffix(".idx").write_bytes(bytes(data))


def _offsets(path: Path) -> None:
    """An offset into the names that lies beyond the next one."""
    data = bytearray(path.with_suffix(".idx").read_bytes())
    count = int.from_bytes(data[24:32], "little")
    data[64 + 16 * count + 8 + 8 : 64 + 16 * count + 8 + 16] = (2**40).to_bytes(8, "little")
    path.with_suffix(".idx").write_bytes(bytes(data))


@pytest.mark.parametrize("resealed", [False, True])
@pytest.mark.parametrize("file", ["train-00000.bin", "train-00000.idx"])
@pytest.mark.parametrize("harm", [_cut, _flip_magic, _version, _width, _digest, _swap, _count, Path.unlink])
def test_damage_is_refused_by_name(
    tokens: TokenFolder, tmp_path: Path, harm: Callable[[Path], None], file: str, resealed: bool
) -> None:
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    harm(folder / file)
    if resealed:  # as if someone had made a new manifest over the damage
        write_manifest(folder, "tokens", config={})
    with pytest.raises(DamagedError, match=r"train-00000\.(bin|idx)"):
        TokenFolder.open(folder).split("train")


@pytest.mark.parametrize("harm", [_source, _offsets])
def test_an_index_that_contradicts_itself_is_refused(
    tokens: TokenFolder, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    harm(folder / "train-00000.bin")
    with pytest.raises(DamagedError, match=r"train-00000\.idx"):
        TokenFolder.open(folder).split("train")


def test_documents_are_found_by_their_id(tokens: TokenFolder) -> None:
    split = tokens.split("train")
    for number in range(split.num_documents):
        assert split.find(split.document(number).id) == [number]
    for name in ("doc-0-", "oc-0-1", "", "doc-0-1doc-0-2", "nobody"):
        assert split.find(name) == []


def test_ids_beyond_the_vocabulary_are_refused(tokens: TokenFolder, tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    data = bytearray((folder / "train-00000.bin").read_bytes())
    data[64 + 2 * 10 : 64 + 2 * 10 + 2] = b"\xff\xff"
    (folder / "train-00000.bin").write_bytes(bytes(data))
    split = TokenFolder.open(folder).split("train")
    with pytest.raises(DamagedError, match=r"train-00000\.bin: id 65535 lies beyond the vocabulary of 600"):
        split.stream(0, 100)


def test_folders_that_are_none(tmp_path: Path, tokens: TokenFolder) -> None:
    with pytest.raises(DataError, match="no such folder"):
        TokenFolder.open(tmp_path / "none")
    with pytest.raises(DataError, match="no tokens here"):
        TokenFolder.open(tmp_path)
    folder = tmp_path / "tokens"
    shutil.copytree(tokens.path, folder)
    (folder / "tokens.json").write_text(json.dumps({"vocab_size": "many"}))
    write_manifest(folder, "tokens", config={})
    with pytest.raises(DamagedError, match=r"tokens\.json"):
        TokenFolder.open(folder)
