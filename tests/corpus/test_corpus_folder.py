"""The corpus artefact: what is written is what is read, by split, in either format."""

import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmforge.corpus.document import Document
from llmforge.corpus.folder import CorpusWriter, StoredDocument, corpus_files, document_line, read_corpus
from llmforge.corpus.split import is_valid
from llmforge.errors import DamagedError, DataError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, lambda inner: st.lists(inner, max_size=3)
)
DOCUMENTS = st.lists(st.builds(Document, TEXT, TEXT, TEXT, st.dictionaries(TEXT, VALUE, max_size=3)), max_size=12)


@pytest.mark.parametrize("format", ["jsonl.zst", "parquet"])
@given(documents=DOCUMENTS, shard_bytes=st.integers(1, 400))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_in_order(tmp_path_factory, format, documents, shard_bytes):
    folder = tmp_path_factory.mktemp("corpus")
    with CorpusWriter(folder, shard_bytes, format) as writer:
        writer.write("dropped", Document("d", "x", "s", {"reason": "too short"}))
        for document in documents:
            writer.write("train", document)
    assert list(read_corpus(folder, "train")) == documents
    assert list(read_corpus(folder, "valid")) == []
    assert [d.metadata["reason"] for d in read_corpus(folder, "dropped")] == ["too short"]
    assert writer.documents == {"train": len(documents), "valid": 0, "dropped": 1}
    assert writer.text_bytes["train"] == sum(len(d.text.encode()) for d in documents)


def stored(document):
    text = document.text
    return StoredDocument(document.id, orjson.dumps(text), document.source, document.metadata, len(text.encode()))


@pytest.mark.parametrize("format", ["jsonl.zst", "parquet"])
@given(documents=DOCUMENTS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_json_already_gives_the_same_bytes(tmp_path_factory, format, documents):
    folders = [tmp_path_factory.mktemp(name) for name in ("parsed", "stored")]
    with CorpusWriter(folders[0], 300, format) as parsed, CorpusWriter(folders[1], 300, format) as copied:
        for document in documents:
            assert stored(document).line() == document_line(document)
            parsed.write("train", document)
            copied.write_stored("train", stored(document))
    assert parsed.text_bytes == copied.text_bytes and parsed.documents == copied.documents
    one, two = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert one == two


def test_the_level_makes_shards_smaller_and_changes_no_document(tmp_path):
    for level in (1, 19):
        (tmp_path / str(level)).mkdir()
        with CorpusWriter(tmp_path / str(level), 1 << 20, level=level) as writer:
            for number in range(500):
                writer.write("train", Document(str(number), f"some text of number {number * 7919} " * 9, "s"))
    fast, small = ((tmp_path / str(level) / "train-00000.jsonl.zst").stat().st_size for level in (1, 19))
    assert small < fast
    assert list(read_corpus(tmp_path / "1", "train")) == list(read_corpus(tmp_path / "19", "train"))


def test_shards_close_at_their_size(tmp_path):
    with CorpusWriter(tmp_path, 1000) as writer:
        for number in range(100):
            writer.write("train", Document(str(number), "word " * 20, "s"))
    names = [path.name for path in corpus_files(tmp_path, "train")]
    assert names == [f"train-{number:05d}.jsonl.zst" for number in range(len(names))]
    assert 10 <= len(names) <= 20


@pytest.mark.parametrize("damage", ["cut", "flip", "rows"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    with CorpusWriter(tmp_path, 1 << 20) as writer:
        for number in range(300):
            writer.write("train", Document(str(number), f"text {number * 7919}", "s"))
    path = tmp_path / "train-00000.jsonl.zst"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flip":
        data[len(data) // 2] ^= 0x10
    else:
        data = bytearray(zstandard.ZstdCompressor().compress(b'{"id": "a"}\n'))
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="train-00000.jsonl.zst: is damaged"):
        list(read_corpus(tmp_path, "train"))


def test_a_folder_that_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(DataError, match="is not a corpus folder"):
        list(read_corpus(tmp_path, "train"))


def test_metadata_that_json_cannot_hold_is_an_error_that_names_the_document(tmp_path):
    with CorpusWriter(tmp_path, 100) as writer, pytest.raises(DataError, match="doc-1: cannot be written"):
        writer.write("train", Document("doc-1", "x", "s", {"a": object()}))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.floats(0, 1), st.floats(0, 1))
def test_a_document_held_out_at_one_fraction_is_held_out_at_every_larger_one(document_id, one, two):
    small, large = sorted((one, two))
    assert not is_valid(document_id, small) or is_valid(document_id, large)
    assert not is_valid(document_id, 0.0) and is_valid(document_id, 1.0)


def test_the_share_held_out_is_the_fraction_and_the_choice_is_frozen():
    held_out = sum(is_valid(f"doc-{number}", 0.05) for number in range(20_000))
    assert 900 < held_out < 1100
    assert [number for number in range(100) if is_valid(f"doc-{number}", 0.05)] == FROZEN


FROZEN = [4, 13, 22, 55, 60, 68, 84, 91]
