"""What `clean` tells a person before and after a run: no valid split, bad rows, skipped files, and --reveal alone."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from llmforge import cli
from llmforge.cleaning.settings import CleanConfig
from llmforge.cleaning.splits import SplitSettings, is_held_out, nothing_held_out
from llmforge.config.load import load_config
from llmforge.corpus.folder import read_corpus
from llmforge.runtime.console import Console
from llmforge.stages.clean import run
from llmforge.stages.clean_views import answer

QUIET = Console(quiet=True)
TEXT = "The river carries the names of quiet streets, and it keeps what was said before dawn.\n"


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


def config_of(source: Path, output: Path, *overrides: str) -> CleanConfig:
    given = [
        f"sources=[{{name: texts, path: {source}}}]",
        f"output_dir={output}",
        "rules=[]",
        "dedup={near: null}",
        *overrides,
    ]
    return load_config(CleanConfig, None, given).config


def folder_of(path: Path, count: int) -> Path:
    path.mkdir()
    for number in range(count):
        (path / f"{number}.txt").write_text(f"{number} {TEXT}")
    return path


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


def test_a_run_names_bad_files_the_page_and_that_personal_data_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder_of(tmp_path / "texts", 6)
    (source / "rows.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00cut")
    run(config_of(source, tmp_path / "out", "max_bad_fraction=0.5"), Console())
    said = capsys.readouterr()
    assert "unreadable: rows.jsonl.gz: the file" in said.out and "out/report.html" in said.out
    assert "personal data stays as it is" in said.err
    run(config_of(source, tmp_path / "two", "max_bad_fraction=0.5", "anonymize={}"), Console())
    assert "personal data stays" not in capsys.readouterr().err


def test_a_corpus_without_held_out_text_says_so_and_what_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder_of(tmp_path / "texts", 6)
    run(config_of(source, tmp_path / "out", "split={valid_fraction: 0.01}"), QUIET)
    (line,) = warnings(capsys)
    assert "nothing is held out" in line and "valid_fraction=0.01 takes none of 6 documents" in line
    assert "nothing is held out" in (tmp_path / "out" / "log.txt").read_text()
    value = line.partition("set split.valid_fraction=")[2].partition(",")[0]
    run(config_of(source, tmp_path / "out", f"split={{valid_fraction: {value}}}"), QUIET)
    assert warnings(capsys) == []
    manifest = json.loads((tmp_path / "out" / "corpus" / "manifest.json").read_text())
    assert manifest["facts"]["splits"]["valid"]["documents"] == 1


def test_who_wants_nothing_held_out_is_not_warned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(config_of(folder_of(tmp_path / "texts", 3), tmp_path / "out", "split={valid_fraction: 0}"), QUIET)
    assert warnings(capsys) == []


@pytest.mark.parametrize("count", [1, 2, 3, 17])
@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_what_is_advised_holds_out_one(count: int, fraction: float) -> None:
    ids = [f"file-{number}.txt#1" for number in range(count)]
    note = nothing_held_out(ids, SplitSettings(valid_fraction=fraction))
    assert ("takes all of" if fraction > 0.5 else "takes none of") in note
    if count == 1:
        assert note.endswith("give more text") and "set split" not in note
        return
    advised = SplitSettings(valid_fraction=float(note.partition("set split.valid_fraction=")[2].partition(",")[0]))
    assert sum(is_held_out(identity, advised) for identity in ids) == 1


def test_a_try_foresees_bad_rows_and_names_what_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "picture.png").write_bytes(b"x")
    rows = [json.dumps({"text": f"{number} {TEXT}"}) for number in range(20)]
    (tmp_path / "one" / "a.jsonl").write_text("\n".join([*rows[:5], "no json", *rows[5:], '{"txt": 3}']) + "\n")
    (tmp_path / "two" / "b.jsonl").write_text("\n".join(rows) + "\n")
    sources = f"sources=[{{name: one, path: {tmp_path / 'one'}}}, {{name: two, path: {tmp_path / 'two'}}}]"
    told = answer(config_of(tmp_path, tmp_path / "out", sources), QUIET, sample=22)
    page = capsys.readouterr().out
    assert "unreadable: a.jsonl:6: " in page and "unreadable: a.jsonl:22: " in page
    assert "a run of this would fail: a.jsonl:6: " in page and "max_bad_fraction=0.01" in page
    assert told["dropped"]["unreadable"]["documents"] == 2  # type: ignore[index]
    assert str(told["would_fail"]).startswith("a.jsonl:6: ")
    skipped = [f"{name}: files of unknown kind are skipped: 1 .png" for name in ("one", "two")]
    assert told["skipped"] == skipped and all(f"note: {line}" in page for line in skipped)
    fine = answer(config_of(tmp_path, tmp_path / "out", sources, "max_bad_fraction=0.5"), QUIET, sample=22)
    assert fine["would_fail"] is None and "would fail" not in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_questions_to_a_finished_run_need_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    (source / "a.txt").write_text(f"{TEXT}Write to jane@acme-widgets.com about it.\n" * 40)
    words = [f"sources.0.path={source}", f"output_dir={tmp_path / 'out'}", "rules=[]"]
    words.append(f"anonymize={{key_file: {tmp_path / 'k'}}}")
    run(load_config(CleanConfig, None, words).config, QUIET)
    shutil.rmtree(source)
    text = next(iter(read_corpus(tmp_path / "out" / "corpus", "train"))).text
    assert "jane@" not in text
    for asked, shown in ((["--reveal", text], "jane@acme-widgets.com"), (["--why", "a.txt#1"], "a.txt#1")):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["llmforge", "clean", *words, *asked])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code and shown in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["llmforge", "clean", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 3
