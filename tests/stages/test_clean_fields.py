"""Personal data beside the text: nothing of fields and ids reaches a file, and the key's owner gets it back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from llmforge.cleaning.parts import read_part
from llmforge.cleaning.pieces import PARTS
from llmforge.cleaning.signal_store import SignalStore
from llmforge.corpus.folder import read_corpus
from llmforge.errors import DataError, UsageError
from llmforge.runtime.console import Console
from llmforge.stages.clean import run
from llmforge.stages.clean_views import answer
from tests.stages.test_clean_stage import config_of, files, prose

QUIET = Console(quiet=True, json=True)
MAIL = "jane.doe@acme-widgets.com"
SECRETS = ("jane.doe", "hunter2pass", "736-5000", "joe@acme")
EVALUATION = " ".join(prose(900).split()[:40])


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Documents that stay, a copy of one, one of which half stands in two, one too short, and one that is no text."""
    fields = {"author": MAIL, "url": "https://bob:hunter2pass@host.org/x", "to": [{"phone": "+1 212 736-5000"}]}
    kept = [{"text": f"{prose(number)}Write to {MAIL}.\n", **fields, "id": f"id{number}"} for number in range(40)]
    named = [{"text": prose(50 + number), **fields, "id": MAIL} for number in range(2)]
    gone = [
        {"text": prose(50), "id": "joe@acme.org"},
        {"text": "too short", "id": "short joe@acme.org", **fields},
        {"text": f"{prose(70)}{EVALUATION}\n", "id": "item joe@acme.org", **fields},
        {"text": 3, "id": "bad", "joe@acme.org": 1},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*kept, *named, *gone]))
    (tmp_path / "items.jsonl").write_text(json.dumps({"question": EVALUATION}) + "\n")
    return path


def clean(rows: Path, output: str, *overrides: str) -> Any:
    folder = rows.parent
    key, against = f"anonymize.key_file={folder / 'secret'}", f"decontaminate.against=[{folder / 'items.jsonl'}]"
    config = config_of(rows, folder / output, "sources.0.id_key=id", key, against, "max_bad_fraction=0.5", *overrides)
    run(config, QUIET)
    return config


def written(folder: Path) -> bytes:
    """All that a run left, unpacked."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            if path.suffix == ".zst":
                data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
            elif path.suffix == ".part":
                data = repr(read_part(path)).encode()
            found.append(data)
    found.append(repr(list(SignalStore(folder / "corpus").rows())).encode())
    return b"\0".join(found)


def test_no_file_holds_what_fields_and_ids_held(rows: Path) -> None:
    config = clean(rows, "out")
    everything = written(rows.parent / "out")
    assert not [secret for secret in SECRETS if secret.encode() in everything]
    corpus = rows.parent / "out" / "corpus"
    kept = {one.id: one for split in ("train", "valid") for one in read_corpus(corpus, split)}
    dropped = {one.metadata["reason"]: one for one in read_corpus(corpus, "dropped")}
    assert set(dropped) == {"exact_duplicate", "gopher_quality", "decontaminate", "unreadable"}
    stand_in = next(name for name in kept if "@example" in name and "~" not in name)
    assert kept["id3"].metadata["author"] == stand_in and stand_in in kept["id3"].text
    assert f"{stand_in}~2" in kept and dropped["exact_duplicate"].metadata["kept"] == stand_in
    found = json.loads((corpus / "contamination.json").read_text())["items"]
    assert [one["document"] for one in found["items.jsonl:1"]] == [dropped["decontaminate"].id]
    metadata = json.dumps(kept["id3"].metadata, ensure_ascii=False)
    revealed = json.loads(str(answer(config, QUIET, reveal=metadata)["text"]))
    assert (revealed["author"], revealed["url"]) == (MAIL, "https://bob:hunter2pass@host.org/x")
    assert revealed["to"] == [{"phone": "+1 212 736-5000"}]
    assert kept["id3"].metadata["anonymized"] == {"email": 2, "password": 1, "phone": 1}
    with pytest.raises(DataError, match="no document of this id"):
        answer(config, QUIET, why=MAIL)
    assert answer(config, QUIET, why=stand_in)["fate"] == "kept"


def test_any_number_of_workers_hides_alike(rows: Path) -> None:
    for workers in (1, 2):
        clean(rows, f"out{workers}", f"workers={workers}")
    one, two = (rows.parent / f"out{workers}" for workers in (1, 2))
    assert files(one / "corpus") == files(two / "corpus") and files(one / PARTS) == files(two / PARTS)


def test_fields_and_ids_stay_where_that_is_asked_for(rows: Path) -> None:
    clean(rows, "out")
    before = set((rows.parent / "out" / PARTS).iterdir())
    clean(rows, "out", "anonymize.metadata=false")
    assert not before & set((rows.parent / "out" / PARTS).iterdir())  # what was measured holds for one setting only
    kept = {one.id: one for split in ("train", "valid") for one in read_corpus(rows.parent / "out" / "corpus", split)}
    assert kept[MAIL].metadata["author"] == MAIL and MAIL not in kept["id3"].text


def test_what_was_cut_with_an_item_comes_back_by_the_key(tmp_path: Path) -> None:
    item = f"{EVALUATION} Write to {MAIL} about the forty eight clips of Natalia and the rest of them."
    texts = [*(prose(number) for number in range(9)), f"{prose(10)}{item}\n{prose(11)}"]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "items.jsonl").write_text(json.dumps({"question": item}) + "\n")
    against = f"decontaminate={{against: [{tmp_path / 'items.jsonl'}], action: cut}}"
    key = f"anonymize.key_file={tmp_path / 'secret'}"
    config = config_of(tmp_path / "texts.jsonl", tmp_path / "out", against, key, "rules=[]")
    run(config, QUIET)
    told = (tmp_path / "out" / "corpus" / "contamination.json").read_text()
    assert MAIL not in told and MAIL in str(answer(config, QUIET, reveal=told)["text"])


def test_the_key_is_not_kept_among_what_a_run_removes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(prose(1))
    for folder in (PARTS, "corpus", "classifier", "scale", f"x/../{PARTS}"):
        key = f"anonymize.key_file={tmp_path / 'out' / folder / 'secret'}"
        with pytest.raises(UsageError, match="made anew"):
            answer(config_of(tmp_path / "a.txt", tmp_path / "out", key), QUIET)


def test_ids_of_an_earlier_corpus_made_without_are_hidden(rows: Path) -> None:
    clean(rows, "first", "anonymize=null")
    later = rows.parent / "later.jsonl"
    texts = [prose(50), *(prose(number) for number in range(200, 230))]
    later.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = config_of(
        later,
        rows.parent / "second",
        f"anonymize.key_file={rows.parent / 'secret'}",
        f"dedup.against=[{rows.parent / 'first'}]",
    )
    run(config, QUIET)
    assert not [secret for secret in SECRETS if secret.encode() in written(rows.parent / "second")]
    (dropped,) = read_corpus(rows.parent / "second" / "corpus", "dropped")
    assert MAIL in str(answer(config, QUIET, reveal=str(dropped.metadata["kept"]))["text"])
