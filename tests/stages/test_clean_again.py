"""A clean that is killed, run again with another rule, or run where the machine cannot: nothing is lost or doubled."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from llmforge.cleaning.pieces import PARTS, plan_stretches
from llmforge.cleaning.preparation import chain_settings
from llmforge.corpus.folder import read_corpus
from llmforge.errors import DataError, UsageError
from llmforge.runtime.console import Console
from llmforge.stages.clean import run
from llmforge.stages.clean_views import answer
from tests.stages.test_clean_stage import config_of, files, prose

ROOT = Path(__file__).resolve().parents[2]
QUIET = Console(quiet=True, verbose=False, json=False)
DOCUMENTS = 9000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 10 MB in one file: several parts."""
    path = tmp_path_factory.mktemp("many") / "texts.jsonl"
    with path.open("w") as out:
        for number in range(DOCUMENTS):
            # Every 9th is short, every 50th a copy.
            text = "too short" if number % 9 == 0 else prose(number if number % 50 else 1, 12)
            out.write(json.dumps({"text": text}) + "\n")
    return path


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


def command(source: Path, output: Path, *overrides: str) -> list[str]:
    sources = f"sources=[{{name: texts, path: {source}}}]"
    return [sys.executable, "-m", "llmforge", "clean", sources, f"output_dir={output}", "-q", *overrides]


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(home)}


def parts(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (output / PARTS).glob("*.part")}


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(many: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run(config_of(many, undisturbed, "workers=1"), QUIET)
    seen = 0
    for _ in range(3):
        process = subprocess.Popen(
            command(many, killed, "workers=2"), env=environment(tmp_path), start_new_session=True
        )
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            finished = list((killed / PARTS).glob("*.part")) if (killed / PARTS).exists() else []
            if len(finished) > seen:
                seen = len(finished)
                break
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (killed / "corpus").exists()
    assert seen >= 1, "something was measured before the first kill"
    before = parts(killed)
    done = subprocess.run(command(many, killed, "workers=2"), env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert before.items() <= parts(killed).items(), "what was measured before the kill was measured again"
    assert files(killed / "corpus") == files(undisturbed / "corpus")
    assert not [path for path in killed.rglob("*") if "tmp" in path.name or "survivors" in path.name]


def test_another_threshold_measures_nothing_again(many: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = run(config_of(many, output), QUIET)
    before = parts(output)
    assert len(before) > 2
    rules = (
        "rules=[{name: gopher_quality, min_words: 1, min_stop_words: 0}, {name: gopher_repetition}, {name: fineweb}]"
    )
    second = run(config_of(many, output, rules), QUIET)
    assert parts(output) == before
    assert second["dropped"] != first["dropped"]
    run(config_of(many, tmp_path / "fresh", rules), QUIET)
    assert files(output / "corpus") == files(tmp_path / "fresh" / "corpus")


def test_a_changed_file_measures_only_what_changed(tmp_path: Path) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for name in "abc":
        rows = [{"text": prose(1000 * ord(name) + number)} for number in range(1500)]
        (source / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(config_of(source, tmp_path / "out"), QUIET)
    before = parts(tmp_path / "out")
    with (source / "c.jsonl").open("a") as out:
        out.write(json.dumps({"text": prose(7)}) + "\n")
    answer = run(config_of(source, tmp_path / "out"), QUIET)
    assert answer["input"]["documents"] == 4501  # type: ignore[index]
    same = before.keys() & parts(tmp_path / "out").keys()
    assert same and len(same) < len(parts(tmp_path / "out"))
    assert all(before[name] == parts(tmp_path / "out")[name] for name in same)


def twins(folder: Path, **texts: str) -> None:
    """A folder for each text, all with a file of the same name, size and time of change."""
    for name, text in texts.items():
        (folder / name).mkdir()
        (folder / name / "a.txt").write_text(text)
        os.utime(folder / name / "a.txt", ns=(1, 1))


def test_two_sources_with_equal_file_facts_are_two_inputs(tmp_path: Path) -> None:
    texts = {"one": prose(1), "two": prose(1).replace("the", "The", 1)[::-1]}
    twins(tmp_path, **texts)
    sources = ", ".join(f"{{path: {tmp_path / name}}}" for name in texts)
    made = run(config_of(tmp_path, tmp_path / "out", f"sources=[{sources}]", "rules=[]", "repair=null"), QUIET)
    assert made["kept"]["documents"] == 2  # type: ignore[index]
    corpus = tmp_path / "out" / "corpus"
    kept = [document for split in ("train", "valid") for document in read_corpus(corpus, split)]
    assert {document.source: document.text for document in kept} == texts


def test_a_renamed_folder_gives_its_new_name(tmp_path: Path) -> None:
    twins(tmp_path, one=prose(1))
    for name in ("one", "other"):
        (tmp_path / "one").rename(tmp_path / name)
        run(config_of(tmp_path, tmp_path / "out", f"sources=[{{path: {tmp_path / name}}}]"), QUIET)
        assert {document.source for document in read_corpus(tmp_path / "out" / "corpus", "train")} == {name}


def test_another_extractor_on_the_machine_reads_pages_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trafilatura", reason="needs the extra html")
    (tmp_path / "a.html").write_text(f"<html><body><article><p>{prose(1, 20)}</p></article></body></html>")
    made = []
    for has_it in (False, True):
        monkeypatch.setattr("llmforge.corpus.html_extractors.has_extra", lambda name, has_it=has_it: has_it)
        run(config_of(tmp_path / "a.html", tmp_path / "out"), QUIET)
        made.append(set(parts(tmp_path / "out")))
    assert len(made[0]) == 1 and not made[0] & made[1]


@pytest.mark.parametrize("library", ["ftfy", "selectolax", "py3langid"])
def test_another_version_of_a_library_measures_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    (tmp_path / "a.txt").write_text(prose(1))
    config = config_of(tmp_path / "a.txt", tmp_path / "out", "language.keep=[en]")
    made = set()
    for version in ("1", "2", "2"):
        versions = {library: version}
        for module in ("llmforge.cleaning.pipeline", "llmforge.corpus.unit_reading"):
            monkeypatch.setattr(f"{module}.version_of", lambda name, known=versions: known.get(name, ""))
        measured = chain_settings(config, None, print).measured()
        made |= {stretch.record for stretch in plan_stretches(config.sources, measured, tmp_path, print)}
    assert len(made) == 2


def test_changed_fields_of_a_dataset_come_into_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rows").write_text("what check_source finds")
    sources = f"sources=[{{dataset: {tmp_path / 'data'}}}]"
    for stars in (1, 2):
        rows = [(1, {"text": prose(1), "stars": stars})]
        monkeypatch.setattr("llmforge.corpus.units.read_dataset", lambda name, rows=rows: iter(rows))
        run(config_of(tmp_path, tmp_path / "out", sources), QUIET)
        (document,) = read_corpus(tmp_path / "out" / "corpus", "train")
        assert document.metadata["stars"] == stars


def test_a_broken_part_is_made_again(tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"text": prose(number)}) + "\n" for number in range(50)))
    run(config_of(source, tmp_path / "out"), QUIET)
    expected = files(tmp_path / "out" / "corpus")
    (part,) = (tmp_path / "out" / PARTS).glob("*.part")
    data = part.read_bytes()
    for change in (
        lambda: data[: len(data) // 2],
        lambda: b"",
        lambda: bytes([*data[:200], data[200] ^ 4, *data[201:]]),
    ):
        part.write_bytes(change())
        run(config_of(source, tmp_path / "out"), QUIET)
        assert files(tmp_path / "out" / "corpus") == expected


def test_without_keep_parts_nothing_but_the_corpus_stays(tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"text": prose(number)}) + "\n" for number in range(50)))
    run(config_of(source, tmp_path / "out", "keep_parts=false"), QUIET)
    assert not (tmp_path / "out" / PARTS).exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_told_and_the_old_corpus_stays(many: Path, tmp_path: Path, workers: int) -> None:
    """A file-size limit stands for the full disk: the operating system refuses the write in the same way."""
    output = tmp_path / "out"
    small = tmp_path / "small.jsonl"
    small.write_text("".join(json.dumps({"text": prose(number)}) + "\n" for number in range(50)))
    run(config_of(small, output), QUIET)
    before = files(output / "corpus")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = subprocess.run(
        command(many, output, f"workers={workers}"),
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        preexec_fn=limit,
    )
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert files(output / "corpus") == before
    assert not [path for path in output.rglob("*") if "survivors" in path.name or path.name.endswith(".tmp")]


def test_a_stop_keeps_what_was_measured(many: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = subprocess.Popen(
        command(many, output, "workers=2"), env=environment(tmp_path), stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 60
    while time.monotonic() < end and not list(output.glob(f"{PARTS}/*.part")):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert list(output.glob(f"{PARTS}/*.part")) and not (output / "corpus").exists()
    assert subprocess.run(command(many, output), env=environment(tmp_path)).returncode == 0


def test_shards_made_apart_and_merged_are_the_corpus_of_one_run(tmp_path: Path) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for name in "abcde":
        rows = [{"text": prose(100 * ord(name) + number, 10), "id": f"{number}"} for number in range(1500)]
        (source / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (source / f"{name}.txt").write_text(prose(7 * ord(name)))
    config = config_of(source, tmp_path / "apart", "sources.0.id_key=id", "workers=1")
    run(config_of(source, tmp_path / "whole", "sources.0.id_key=id", "workers=1"), QUIET)
    for shard in ("3/3", "1/3"):
        answer(config, QUIET, shard=shard)
    with pytest.raises(DataError, match="no finished parts"):
        answer(config, QUIET, merge=True)
    assert not (tmp_path / "apart" / "corpus").exists()
    assert answer(config, QUIET, shard="2/3")["parts"] > 0  # type: ignore[operator]
    before = parts(tmp_path / "apart")
    answer(config, QUIET, merge=True)
    assert parts(tmp_path / "apart") == before
    assert files(tmp_path / "apart" / "corpus") == files(tmp_path / "whole" / "corpus")


@pytest.mark.parametrize("wrong", ["0/3", "4/3", "3", "a/b", "1/0"])
def test_a_wrong_shard_is_refused(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "a.txt").write_text(prose(1))
    with pytest.raises(UsageError, match="shard"):
        answer(config_of(tmp_path / "a.txt", tmp_path / "out"), QUIET, shard=wrong)


def test_a_damaged_file_is_one_bad_row_and_the_others_stay(tmp_path: Path) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for number in range(20):
        (source / f"{number:02}.txt").write_text(prose(number))
    (source / "cut.txt.gz").write_bytes(gzip.compress(prose(99).encode())[:-20])
    with pytest.raises(DataError, match="cut.txt.gz"):
        run(config_of(source, tmp_path / "strict"), QUIET)
    made = run(config_of(source, tmp_path / "out", "max_bad_fraction=0.1"), QUIET)
    assert made["kept"]["documents"] == 20 and made["dropped"]["unreadable"]["documents"] == 1  # type: ignore[index]


def test_what_can_be_read_of_damaged_files_is_kept_for_any_number_of_workers(tmp_path: Path) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    for number in range(20):
        (source / f"{number:02}.txt").write_text(prose(number))
    rows = "".join(json.dumps({"text": prose(100 + number)}) + "\n" for number in range(1500))
    (source / "rows.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:-20])
    with zipfile.ZipFile(source / "texts.zip", "w") as archive:
        for number in range(250):
            archive.writestr(f"{number:03}.txt", prose(2000 + number))
    data = bytearray((source / "texts.zip").read_bytes())
    data[data.index(prose(2249).encode())] ^= 1
    (source / "texts.zip").write_bytes(data)
    made = {}
    for workers in (1, 2, 4):
        config = config_of(source, tmp_path / str(workers), "max_bad_fraction=0.02", f"workers={workers}")
        made[workers] = run(config, QUIET)
    kept = made[1]["kept"]["documents"]  # type: ignore[index]
    assert 20 + 1498 + 249 <= kept <= 20 + 1500 + 249
    assert made[1]["dropped"]["unreadable"]["documents"] == 2  # type: ignore[index]
    assert files(tmp_path / "1" / "corpus") == files(tmp_path / "2" / "corpus") == files(tmp_path / "4" / "corpus")
