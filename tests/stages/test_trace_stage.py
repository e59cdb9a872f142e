"""`trace` over a whole way: raw files, cleaning, tokens, a short run; what it tells is held against the files."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmforge.corpus.folder import read_corpus
from llmforge.errors import DamagedError, DataError, UsageError
from llmforge.runtime.console import Console
from llmforge.runtime.manifest import read_manifest, write_manifest
from llmforge.stages import clean, pretrain, tokenize
from llmforge.stages.pretrain_data import open_data
from llmforge.stages.trace import answer, trace_document, trace_step
from llmforge.stages.trace_run import open_run
from llmforge.tokenizer.settings import TokenizerSettings
from llmforge.tokenizer.tokenizer import Tokenizer
from llmforge.tokenizer.train import train_tokenizer

QUIET = Console(quiet=True, json=True)
WORDS = "a list holds values in order and the item that is called with a key returns what was read from it".split()


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words)) + ".\n"


def _raw(folder: Path) -> None:
    """A file of JSON lines (blank and broken lines between, a copy, an address, a text too short) and text files."""
    rng = random.Random(0)
    rows = [json.dumps({"text": f"Row {n}. " + _text(rng, 40 + n), "license": "CC0"}) for n in range(30)]
    rows[4] = json.dumps({"text": f"Mail to jane.doe@brightwater.net — «ü». {_text(rng, 50)}"}, ensure_ascii=False)
    rows[7] = rows[6]
    rows[9] = json.dumps({"text": "too short"})
    (folder / "rows").mkdir(parents=True)
    (folder / "rows" / "all.jsonl").write_text("\n".join([*rows[:10], "", *rows[10:]]) + "\n", encoding="utf-8")
    (folder / "notes").mkdir()
    for number in range(6):
        (folder / "notes" / f"note{number}.txt").write_text(f"Note {number}.\n" + _text(rng, 90), encoding="utf-8")


def _run_all(place: Path) -> Path:
    """The run folder of pretrain; two token folders in a staged mixture."""
    _raw(place / "raw")
    rules = [{"name": "gopher_quality", "min_words": 5, "min_stop_words": 0, "max_bullet_line_ratio": 1.0}]
    train_tokenizer([" ".join(WORDS)] * 20, _made(place / "tokenizer"), TokenizerSettings(vocab_size=330))
    for name, licence in (("rows", None), ("notes", "CC BY 4.0")):
        values: dict[str, Any] = {"output_dir": str(place / f"clean-{name}"), "rules": rules, "workers": 1}
        values |= {"sources": [{"name": name, "path": str(place / "raw" / name), "license": licence}]}
        values |= {"anonymize": {"action": "mask"}, "split": {"valid_fraction": 0.1}}
        clean.run(clean.CleanConfig.model_validate(values), QUIET)
        made = {"corpus": str(place / f"clean-{name}"), "tokenizer": str(place / "tokenizer"), "workers": 1}
        made["output_dir"] = str(place / f"tokens-{name}")
        tokenize.run(tokenize.TokenizeConfig.model_validate(made), QUIET)
    config = config_of(place)
    pretrain.run(pretrain.PretrainConfig.model_validate(config), QUIET)
    return place / "run"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def config_of(place: Path) -> dict[str, Any]:
    sources = [
        {"name": f"{name}-mix", "path": str(place / f"tokens-{name}"), "weight": 2.0} for name in ("rows", "notes")
    ]
    return {
        "output_dir": str(place / "run"),
        "device": "cpu",
        "precision": "fp32",
        "model": {"preset": "tiny", "hidden_size": 32, "num_hidden_layers": 1},
        "data": {"sources": sources, "stages": [{"start_step": 6, "weights": {"notes-mix": 1}}], "seq_len": 24},
        "train": {"micro_batch_size": 4, "max_steps": 10, "compile": False},
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("way")
    _run_all(place)
    return place


@pytest.mark.parametrize("step", [1, 4, 7, 10])
def test_a_step_leads_to_raw_bytes_and_back_to_its_ids(place: Path, step: int) -> None:
    """The raw bytes of each document hold its row, its cleaned text gives the ids, and the parts fill the batch."""
    config = pretrain.PretrainConfig.model_validate(config_of(place))
    batch = open_data(config).batches(config, 4).batches(step - 1).input_ids
    tokenizer = Tokenizer.load(place / "tokenizer")
    texts = {
        (document.source, document.id): document.text
        for name in ("rows", "notes")
        for document in read_corpus(place / f"clean-{name}" / "corpus", "train")
    }
    told = trace_step(open_run(place / "run"), step)
    assert told["notes"] == [] and told["rows"] == 4 and told["seq_len"] == 24
    found = [[-1] * 24 for _ in range(4)]
    for entry in told["documents"]:
        text = texts[entry["source"], entry["id"]]
        raw = Path(entry["raw"]["path"]).read_bytes()[slice(*entry["raw"]["bytes"])]
        if entry["source"] == "rows":
            row = json.loads(raw)
            assert row.get("license") == entry["license"] and entry["file"] == "all.jsonl"
            assert row["text"] == text or "@" in row["text"]
        else:
            assert raw.decode() == text and entry["license"] == "CC BY 4.0" and entry["row"] == 1
        ids = [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]
        for span in entry["spans"]:
            part = ids[span["start"] : span["start"] + span["length"]]
            found[span["row"]][span["column"] : span["column"] + span["length"]] = part
            assert text.encode()[slice(*span["text_bytes"])] == tokenizer.decode_bytes(part)
    assert found == batch.tolist()


def test_the_stages_of_the_mixture_are_seen(place: Path) -> None:
    traced = open_run(place / "run")
    assert {entry["mixture"] for entry in trace_step(traced, 6)["documents"]} == {"rows-mix", "notes-mix"}
    assert {entry["mixture"] for entry in trace_step(traced, 7)["documents"]} == {"notes-mix"}


def test_a_document_leads_to_every_step_that_saw_it(place: Path) -> None:
    traced = open_run(place / "run")
    seen: dict[str, dict[int, set[int]]] = {}
    for step in range(1, 11):
        for entry in trace_step(traced, step)["documents"]:
            steps = seen.setdefault(entry["id"], {})
            steps.setdefault(step, set()).update(span["row"] for span in entry["spans"])
    everything = {
        document.id
        for name in ("rows", "notes")
        for document in read_corpus(place / f"clean-{name}" / "corpus", "train")
    }
    assert set(seen) <= everything
    for identity in everything:
        [entry] = trace_document(traced, identity)["found"]
        expected = [{"step": step, "rows": len(rows)} for step, rows in sorted(seen.get(identity, {}).items())]
        assert entry["steps"] == expected and entry["fate"] == ("seen" if expected else "not_reached")


def test_what_cleaning_did_is_told(place: Path) -> None:
    traced = open_run(place / "run")
    [masked] = trace_document(traced, "all.jsonl#5")["found"]
    assert masked["cleaning"]["anonymized"] == {"email": 1} and masked["fate"] in ("seen", "not_reached", "held_out")
    [short] = trace_document(traced, "all.jsonl#10")["found"]
    assert short["fate"] == "dropped" and short["reason"] == "gopher_quality" and "min_words" in short["detail"]
    [copy] = trace_document(traced, "all.jsonl#8")["found"]
    assert copy["fate"] == "dropped" and copy["kept"] == "all.jsonl#7"
    held_out = next(read_corpus(place / "clean-rows" / "corpus", "valid")).id
    assert [entry["fate"] for entry in trace_document(traced, held_out)["found"]] == ["held_out"]


def test_measurements_beside_the_corpus_are_told(place: Path, tmp_path: Path) -> None:
    """signals.parquet, as cleaning writes it: what each step removed and replaced, in JSON."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from llmforge.stages.trace_corpus import TracedCorpus

    corpus = tmp_path / "corpus"
    shutil.copytree(place / "clean-notes" / "corpus", corpus)
    columns = {
        "id": ["note1.txt#1", "note2.txt#1", "note1.txt#1"],
        "source": ["notes", "notes", "another"],
        "language": ["en", "en", "de"],
        "removed": ['{"repair": 12}', "", '{"repair": 99}'],
        "replaced": ["", '{"email": 2}', ""],
        "words": [90.0, 91.0, 1.0],
    }
    pq.write_table(pa.table(columns), corpus / "signals.parquet")
    write_manifest(corpus, "corpus", config=read_manifest(place / "clean-notes" / "corpus", "corpus").config)
    found = TracedCorpus(corpus, tmp_path).find(
        [("notes", "note1.txt#1"), ("notes", "note2.txt#1")], ["train", "valid"]
    )
    assert found["notes", "note1.txt#1"].as_json()["cleaning"]["removed"] == {"repair": 12}
    assert found["notes", "note2.txt#1"].as_json()["cleaning"]["replaced"] == {"email": 2}


def test_the_same_from_the_command_line_without_torch(place: Path, tmp_path: Path) -> None:
    code = (
        "import sys, json\nfrom llmforge.cli import main\nsys.argv = ['llmforge', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules"
    )
    asked = ["trace", "--run", str(place / "run"), "--step", "3"]
    done = subprocess.run([sys.executable, "-c", code, *asked, "--json"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert json.loads(done.stdout) == json.loads(json.dumps(trace_step(open_run(place / "run"), 3)))
    done = subprocess.run([sys.executable, "-c", code, *asked], capture_output=True, text=True, cwd=tmp_path)
    assert "rows of 24 tokens of step 3" in done.stdout and "all.jsonl, bytes " in done.stdout


def test_pages_for_people(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(place / "run", None, "all.jsonl#10", False)
    answer(place / "run", None, "all.jsonl#5", False)
    shown = capsys.readouterr().out
    assert "dropped by gopher_quality: min_words" in shown and "replaced 1 email" in shown


def test_questions_that_cannot_be_answered(place: Path, tmp_path: Path) -> None:
    traced = open_run(place / "run")
    for step in (0, 11, -1):
        with pytest.raises(UsageError, match="the run took 10 steps"):
            trace_step(traced, step)
    with pytest.raises(DataError, match="no document has this id"):
        trace_document(traced, "nobody")
    for step, document in ((None, None), (1, "x")):
        with pytest.raises(UsageError, match="exactly one"):
            answer(place / "run", step, document, False)
    with pytest.raises(UsageError, match="no run was given"):
        answer(None, 1, None, False)
    with pytest.raises(UsageError, match="no such folder"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"no run\.json"):
        open_run(tmp_path)
    with pytest.raises(UsageError, match="a run of clean"):
        open_run(place / "clean-rows")


def _moved(place: Path, tmp_path: Path) -> Path:
    """The whole way copied, with relative paths in the config, as if it had been called from its folder."""
    copy = tmp_path / "copy"
    shutil.copytree(place, copy)
    path = copy / "run" / "config.yaml"
    path.write_text(path.read_text().replace(f"{place}/", ""))
    return copy


def test_a_run_that_was_moved_with_its_artefacts_is_found(place: Path, tmp_path: Path) -> None:
    copy = _moved(place, tmp_path)
    told = trace_step(open_run(copy / "run"), 2)
    assert [entry["id"] for entry in told["documents"]] == [
        entry["id"] for entry in trace_step(open_run(place / "run"), 2)["documents"]
    ]


def test_moved_deleted_and_changed_artefacts_are_named(place: Path, tmp_path: Path) -> None:
    copy = _moved(place, tmp_path)
    for path in (copy / "tokens-rows" / "tokens").glob("manifest.json"):
        body = json.loads(path.read_text())
        body["config"]["corpus"] = "elsewhere/clean-rows"
        del body["seal"]  # as in manifests of earlier versions
        path.write_text(json.dumps(body))
    told = trace_step(open_run(copy / "run"), 2)
    assert any("elsewhere/clean-rows" in note and "moved or deleted" in note for note in told["notes"])
    assert all("file" in entry for entry in told["documents"] if entry["mixture"] == "notes-mix")
    shutil.rmtree(copy / "tokens-notes")
    with pytest.raises(DataError, match="tokens-notes: the tokens of notes-mix are not there: moved or deleted"):
        open_run(copy / "run")
    shutil.copytree(copy / "tokens-rows", copy / "tokens-notes")
    with pytest.raises(DamagedError, match="the tokens of notes-mix in this folder were made anew"):
        open_run(copy / "run")


def test_raw_input_that_changed_since_is_told(place: Path, tmp_path: Path) -> None:
    raw = place / "raw" / "notes" / "note1.txt"
    before, times = raw.read_bytes(), raw.stat()
    try:
        raw.write_bytes(before + b"more")
        told = trace_step(open_run(place / "run"), 8)
        assert any("raw input of notes has changed" in note for note in told["notes"])
    finally:
        raw.write_bytes(before)
        os.utime(raw, ns=(times.st_atime_ns, times.st_mtime_ns))
