"""The scripts' environment: which Python is taken, what a half-made environment gets, and what skips the installation.

Pythons of the test's own stand in for real ones; nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="no bash")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the scripts read."""
    shutil.copytree(ROOT / "scripts", tmp_path / "tree" / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / "tree")
    (tmp_path / "bin").mkdir()
    for tool in ("dirname", "uname", "mktemp", "rm", "cat", "sed", "grep", "tail", "timeout"):
        if found := shutil.which(tool):
            (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path / "tree"


def program(tree: Path, name: str, text: str) -> None:
    path = tree.parent / "bin" / name
    path.write_text(f"#!{BASH}\n{text}\n")
    path.chmod(0o755)


def bash(tree: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs code after sourcing environment.sh, with only the test's own programs to be found."""
    assert BASH is not None
    settings = {"PATH": str(tree.parent / "bin"), "HOME": str(tree.parent), "TMPDIR": str(tree.parent), **environment}
    script = f"set -euo pipefail\n. '{tree}/scripts/environment.sh'\nLOG='{tree.parent}/log'\n{code}"
    return subprocess.run([BASH, "-c", script], capture_output=True, text=True, env=settings, cwd="/")


# Answers the question for the version as a Python of version 3.MINOR would, and everything else by the real one.
FAKE = """case "$*" in
*'(3, 11) <= sys.version_info'*) [ {minor} -ge 11 ] && [ {minor} -le 13 ] ;;
*) exec '{real}' "$@" ;;
esac"""


def test_a_shim_that_does_not_run_and_an_old_python_are_passed_over(tree: Path) -> None:
    program(tree, "python3", "echo 'pyenv: python3: command not found' >&2; exit 127")
    program(tree, "python3.13", FAKE.format(minor=9, real=sys.executable))
    program(tree, "python3.12", FAKE.format(minor=12, real=sys.executable))
    found = bash(tree, "find_python")
    assert found.stdout.strip().endswith("bin/python3.12"), found


def test_without_a_python_the_line_says_what_is_needed(tree: Path) -> None:
    program(tree, "python3", FAKE.format(minor=9, real=sys.executable))
    done = bash(tree, "ensure_environment runtime")
    assert done.returncode == 2 and "Python 3.11 or newer" in done.stderr
    assert not (tree / ".venv").exists() and not list(tree.parent.glob("llmforge-install-*"))


def test_a_missing_venv_part_is_named_and_nothing_is_left(tree: Path) -> None:
    text = f"""case "$*" in
*'-m venv'*) '{shutil.which("mkdir")}' -p "${{@: -1}}/bin"; echo 'ensurepip is not available' >&2; exit 1 ;;
*ensurepip*) exit 1 ;;
*) exec '{sys.executable}' "$@" ;;
esac"""
    program(tree, "python3", text)
    done = bash(tree, "ensure_environment runtime")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert done.returncode == 2 and f"sudo apt install python{version}-venv" in done.stderr
    assert not (tree / ".venv").exists()


@pytest.fixture
def made(tree: Path) -> Path:
    """An environment that is there: a link to the real Python."""
    (tree / ".venv" / "bin").mkdir(parents=True)
    (tree / ".venv" / "bin" / "python").write_text(f"#!{BASH}\nexec '{sys.executable}' \"$@\"\n")
    (tree / ".venv" / "bin" / "python").chmod(0o755)
    return tree


def test_an_equal_stamp_skips_the_installation_and_a_changed_file_does_not(made: Path) -> None:
    code = 'install() { echo "installs $1"; }\nensure_environment test\n'
    assert "installs test" in bash(made, code).stdout
    again = bash(made, code)
    assert (again.stdout, again.stderr, again.returncode) == ("", "", 0)
    # The tests' packages hold all that a run needs.
    assert bash(made, code.replace("environment test", "environment runtime")).stdout == ""
    with (made / "constraints.txt").open("a") as stream:
        stream.write("# changed\n")
    assert "installs test" in bash(made, code).stdout
    assert "installs test" in bash(made, code, LLMFORGE_TORCH="cpu").stdout


def test_a_failed_installation_is_said_and_repeated(made: Path) -> None:
    code = "find_uv() { return 1; }\ninstall_torch() { :; }\npip_install() { echo boom >>$LOG; return 1; }\n"
    for _ in range(2):
        done = bash(made, code + "ensure_environment runtime")
        assert done.returncode == 2 and "boom" in done.stderr and "could not be installed" in done.stderr


def test_pips_settings_become_those_of_uv(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = file:///a/simple\nextra-index-url = file:///b/simple\n  file:///c/simple\n"
        "trusted-host = inside\ncert = /certs.pem\n[install]\nfind-links = /wheels\n"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    settings = kept | {"PIP_CONFIG_FILE": str(config), "PIP_FIND_LINKS": "/mine"}

    def shown(*arguments: str) -> list[str]:
        command = [sys.executable, str(ROOT / "scripts" / "index_options.py"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=settings, check=True).stdout.splitlines()

    assert shown("find-links") == ["/mine"]
    lines = shown()
    assert lines[:3] == ["--default-index=file:///a/simple", "--index=file:///b/simple", "--index=file:///c/simple"]
    assert {"--find-links=/mine", "--allow-insecure-host=inside", "SSL_CERT_FILE=/certs.pem"} <= set(lines)


def test_the_tests_exit_code_and_arguments_are_passed_on(made: Path) -> None:
    python = made / ".venv" / "bin" / "python"
    python.write_text(
        f"#!{BASH}\ncase \"$*\" in\n*'-m pytest'*) echo \"$*\"; exit 5 ;;\n*'-m ruff'*|*'-m mypy'*) exit 0 ;;\n"
        f"*) exec '{sys.executable}' \"$@\" ;;\nesac\n"
    )
    assert "" == bash(made, "install() { :; }\nensure_environment test").stdout
    (made.parent / "bin" / "bash").symlink_to(str(BASH))
    done = subprocess.run(
        [str(BASH), str(made / "scripts" / "test.sh"), "-k", "two words"],
        capture_output=True,
        text=True,
        env={"PATH": str(made.parent / "bin"), "HOME": str(made.parent), "TMPDIR": str(made.parent)},
        cwd="/",
    )
    assert done.returncode == 5 and done.stdout.strip() == "-m pytest -q -k two words", done
