"""YAML 1.2 scalars, places, and everything that is refused at the level of the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llmforge.config.yaml_tree import parse, read_tree
from llmforge.errors import ConfigError, LlmforgeError, UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("3E5", 3e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("12:30:45", "12:30:45"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("'1e-4'", "1e-4"),
        ("1_000", "1_000"),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse(f"key: {text}\n", "a.yaml").plain()["key"]
    assert found == value and type(found) is type(value)


def test_places_are_those_of_the_keys() -> None:
    root = parse("a: 1\nb:\n  c:\n    - 1\n    - 2\n", "a.yaml")
    assert root.child("a").where == "a.yaml:1"
    assert root.child("b").child("c").where == "a.yaml:3"
    assert root.child("b").child("c").child(1).where == "a.yaml:5"


BAD_TEXT = {
    "tag": ("a: !!python/object/apply:os.system [x]\n", "a.yaml:1", "tags"),
    "alias bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "a.yaml:1", "anchors"),
    "alias": ("a: 1\nb: *a\n", "a.yaml:2", "alias"),
    "deep flow": ("a: " + "[" * 5000, "a.yaml:1", "nested"),
    "deep maps": ("\n".join(" " * i + "a:" for i in range(1500)), "a.yaml:", "nested"),
    "duplicate key": ("a: 1\nb: 2\na: 3\n", "a.yaml:3", "twice"),
    "nan": ("a: .nan\n", "a.yaml:1", "finite"),
    "inf": ("a: -.inf\n", "a.yaml:1", "finite"),
    "overflow": ("a: 1e999\n", "a.yaml:1", "too large"),
    "2^63": ("a: 9223372036854775808\n", "a.yaml:1", "too large"),
    "ten thousand digits": ("a: " + "9" * 10000 + "\n", "a.yaml:1", "too large"),
    "tab": ("a:\n\tb: 1\n", "a.yaml:2", "spaces"),
    "unclosed": ("a: [1, 2\nb: 3\n", "a.yaml:", "YAML"),
    "NUL": ("a: x\0y\n", "a.yaml:1", "U+0000"),
    "two documents": ("a: 1\n---\nb: 2\n", "a.yaml:2", "second"),
    "map as key": ("{a: 1}: 2\n", "a.yaml:1", "key"),
}


@pytest.mark.parametrize("case", BAD_TEXT)
def test_bad_yaml_is_refused_with_its_line(case: str) -> None:
    text, where, words = BAD_TEXT[case]
    with pytest.raises(ConfigError) as caught:
        parse(text, "a.yaml")
    assert caught.value.exit_code == 2
    assert any(str(fault).startswith(where) and words in str(fault) for fault in caught.value.faults), caught.value


def test_several_faults_of_one_file_come_together() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("a: .inf\nb: !x 1\nb: 2\n", "a.yaml")
    assert [fault.where for fault in caught.value.faults] == ["a.yaml:1", "a.yaml:2", "a.yaml:3"]


def _bad_file(case: str, folder: Path) -> Path:
    path = folder / "a.yaml"
    if case == "folder":
        path.mkdir()
    elif case == "fifo":
        os.mkfifo(path)
    elif case == "symlink loop":
        path.symlink_to(path)
    elif case == "no permission":
        path.write_text("a: 1\n")
        path.chmod(0)
    elif case != "missing":
        contents = {
            "0 bytes": b"",
            "comments": b"# nothing\n",
            "utf-16": "a: 1\n".encode("utf-16"),
            "utf-16 without mark": "a: 1\n".encode("utf-16-le"),
            "latin-1": "a: 1\nb: é\n".encode("latin-1"),
            "a list": b"- 1\n",
            "too large": b"a: 1\n" * 300_000,
        }
        path.write_bytes(contents[case])
    return path


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing", "no such"),
        ("folder", "folder"),
        ("fifo", "regular"),
        ("symlink loop", "symbolic"),
        ("no permission", "Permission"),
        ("0 bytes", "empty"),
        ("comments", "empty"),
        ("utf-16", "UTF-16"),
        ("utf-16 without mark", "UTF-16"),
        ("latin-1", "UTF-8"),
        ("a list", "map"),
        ("too large", "bytes"),
    ],
)
def test_bad_files_are_refused(case: str, words: str, tmp_path: Path) -> None:
    if case == "no permission" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = _bad_file(case, tmp_path)
    with pytest.raises(LlmforgeError) as caught:
        read_tree(path)
    assert isinstance(caught.value, UsageError) and words in str(caught.value) and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_byte_order_mark_and_crlf_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: x\r\n")
    assert read_tree(path).plain() == {"a": 1, "b": "x"}
