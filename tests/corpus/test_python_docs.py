"""The built-in corpus: extraction by child processes, pages, cache, and the real one of this machine."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from llmforge.corpus.python_docs import built_in, cache, extract, roots
from llmforge.corpus.python_docs.extract import Extraction
from llmforge.corpus.python_docs.pages import MAX_PAGE, build_pages
from llmforge.corpus.python_docs.parse import Entry, ParsedModule
from llmforge.corpus.python_docs.questions import VALID_FRACTION
from llmforge.corpus.python_docs.roots import SourceFile
from llmforge.corpus.rows import read_rows
from llmforge.corpus.source_config import SourceConfig
from llmforge.corpus.sources import check_source, read_source, source_fingerprint
from llmforge.corpus.split import is_valid


def package(folder: Path, count: int = 12) -> list[SourceFile]:
    files = []
    for index in range(count):
        path = folder / f"part{index}.py"
        path.write_text(f'"""Part {index}."""\ndef work{index}(a):\n    """Return the work of part {index}."""\n')
        files.append(SourceFile("networkx", str(path), f"networkx.part{index}", False, path.stat().st_size))
    (folder / "broken.py").write_text('"""Broken."""\ndef (')
    return [*files, SourceFile("networkx", str(folder / "broken.py"), "networkx.broken", False, 10)]


def test_however_the_work_is_shared_the_result_is_the_same(tmp_path, monkeypatch):
    files = package(tmp_path)
    results = []
    for cores in (1, 2):
        monkeypatch.setattr(extract, "_free_cores", lambda cores=cores: cores)
        results.append(extract.extract(files, with_c=False).modules)
    monkeypatch.setattr(sys, "executable", "/nothing/python")
    results.append(extract.extract(files, with_c=False).modules)
    assert results[0] == results[1] == results[2]
    assert [module.name for module in results[0]["networkx"]] == [file.name for file in files[:-1]]


def test_a_child_that_dies_is_made_up_for(tmp_path, monkeypatch):
    files = package(tmp_path)
    whole = extract.extract(files, with_c=False).modules
    monkeypatch.setattr(extract, "_finished_rows", lambda child, out: None)
    assert extract.extract(files, with_c=False).modules == whole


def test_c_documentation_comes_from_a_child_that_imports_only_the_standard_library(tmp_path):
    out = tmp_path / "c.jsonl"
    subprocess.run([sys.executable, "-I", "-S", str(extract._C_SCRIPT), str(out)], check=True, capture_output=True)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows.pop() == "done"
    found = {f"{row['name']}.{entry['name']}": entry for row in rows for entry in row["entries"]}
    assert found["builtins.str.partition"]["doc"] == str.partition.__doc__
    assert found["builtins.str.partition"]["kind"] == "method"
    assert found["functools.reduce"]["kind"] == "function"
    assert found["collections.deque.append"] and found["builtins.len"]["signature"] == "(obj, /)"
    assert not any(name.startswith(("turtle", "antigravity", "idlelib", "posix.")) for name in found)


def test_pages_group_what_is_small_divide_what_is_large_and_write_a_text_once():
    long_doc = "A long line of words that says something. " * 30
    methods = [Entry("method", f"Big.m{index}", "(x)", f"Way {index}: {long_doc}") for index in range(12)]
    small = [Entry("function", f"f{index}", "()", f"Return number {index} of many.") for index in range(40)]
    same = Entry("function", "again", "()", methods[0].doc)
    module = ParsedModule(
        "json.tool",
        False,
        [Entry("module", "", "", "Tools."), Entry("class", "Big", "", "Big."), *methods, *small, same],
    )
    pages, objects = build_pages(Extraction({"stdlib": [module]}, {"assert": "The assert statement. " * 20}))
    assert [page.id for page in pages[:2]] == ["stdlib/json.tool.Big", "stdlib/json.tool.Big#2"]
    assert pages[0].text.startswith(
        "The class json.tool.Big\n\nclass json.tool.Big\n\nBig.\n\njson.tool.Big.m0(x)\n\nWay 0: A long"
    )
    assert all(len(page.text) <= MAX_PAGE + 500 for page in pages)
    text = "".join(page.text for page in pages)
    assert text.count(methods[0].doc) == 1 and "json.tool.f39()" in text
    by_id = {page.id: page.text for page in pages}
    assert len(objects) == 1 + 12 + 40 + 1
    assert all(entry.doc in by_id[entry.page] for entry in objects)
    assert pages[-1].source == "topics" and pages[-1].text.startswith("Python topic: assert\n\n")


def test_a_package_is_found_without_being_imported(tmp_path, monkeypatch):
    (tmp_path / "networkx" / "tests").mkdir(parents=True)
    (tmp_path / "networkx" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "networkx" / "a.py").write_text("")
    (tmp_path / "networkx" / "tests" / "b.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "networkx", raising=False)
    found = [file for file in roots.source_files() if file.source == "networkx"]
    assert [(file.name, file.is_package) for file in found] == [("networkx", True), ("networkx.a", False)]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = []

    def make():
        made.append(1)
        return {"documents": [{"id": "a"}], "choices": []}, {"missing": []}

    return make, made


def test_the_cache_is_made_once_and_again_when_a_file_changed(own_cache):
    make, made = own_cache
    folder = cache.open_folder(make)
    assert cache.open_folder(make) == folder == cache.cached_folder() and len(made) == 1
    file = folder / "documents.jsonl.zst"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert cache.open_folder(make) == folder and len(made) == 2
    (folder / "facts.json").write_text("{")
    assert cache.cached_folder() is None
    assert cache.open_folder(make) == folder and len(made) == 3
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_interrupted_extraction_leaves_nothing_behind(own_cache):
    make, _ = own_cache

    def rows():
        yield {"id": "a"}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.open_folder(lambda: ({"documents": rows()}, {}))
    folder = cache.open_folder(make)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_cache_that_cannot_be_written_falls_back_to_a_folder_of_this_process(own_cache, tmp_path, monkeypatch):
    make, _ = own_cache
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    folder = cache.open_folder(make)
    assert folder.is_dir() and tmp_path not in folder.parents
    assert cache.open_folder(make) == folder


def test_the_corpus_of_this_machine_keeps_its_promises():
    source = SourceConfig(path="python-docs")
    before = source_fingerprint(source)
    documents = list(read_source(source))
    assert source_fingerprint(source) == before
    pages = {document.id: document for document in documents}
    assert len(pages) == len(documents) > 500
    assert {"stdlib", "torch", "numpy"} <= {document.source for document in documents}
    assert check_source(source).bytes == sum(len(document.text.encode()) for document in documents)
    train = {str(row["id"]).partition("?")[0] for row, _ in read_rows("python-docs:conversations")}
    held_out = {str(row["id"]).partition("?")[0] for row, _ in read_rows("python-docs:conversations-heldout")}
    choices = [row for row, _ in read_rows("python-docs:choices")]
    questions = [row for row, _ in read_rows("python-docs:questions")]
    assert not train & held_out and len(train) > 3 * len(held_out) > 300
    assert {row["id"] for row in choices} <= held_out and {row["id"] for row in questions} == held_out
    gold = Counter(int(str(row["gold"])) for row in choices)
    assert max(gold.values()) - min(gold.values()) <= 1
    seen_text = "\n".join(d.text for d in documents if not is_valid(d.id, VALID_FRACTION))
    for row in questions[:100]:
        assert str(row["id"]) in seen_text
    facts = built_in.facts()
    assert facts["key"] == built_in.fingerprint() and set(facts["digests"]) == {built_in.DOCUMENTS, *built_in.PARTS}
