"""Prints pip's configured package indexes as options of uv, one a line: uv does not read pip's configuration.

Reads `pip config list` (files and PIP_* variables). A line `SSL_CERT_FILE=...` is meant for the environment. With the
argument `find-links` it prints the configured link folders instead.
"""

import ast
import subprocess
import sys

# Where pip looks, later ones win.
SECTIONS = ("global", "install", ":env:")


def settings() -> dict[str, str]:
    """pip's settings by key."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"], capture_output=True, text=True
    )
    found: dict[str, tuple[int, str]] = {}
    for line in listed.stdout.splitlines():
        name, _, text = line.partition("=")
        section, _, key = name.rpartition(".")
        if section in SECTIONS:
            value = (SECTIONS.index(section), str(ast.literal_eval(text)))
            found[key] = max(found.get(key, value), value)
    return {key: value for key, (_, value) in found.items()}


def options(pip: dict[str, str]) -> list[str]:
    """The same for uv, one option a line."""
    lines = [f"--default-index={url}" for url in pip.get("index-url", "").split()]
    lines += [f"--index={url}" for url in pip.get("extra-index-url", "").split()]
    if lines:
        # pip takes the best version of all indexes; uv by itself stops at the first one that has the package.
        lines.append("--index-strategy=unsafe-best-match")
    lines += [f"--find-links={place}" for place in pip.get("find-links", "").split()]
    lines += [f"--allow-insecure-host={host}" for host in pip.get("trusted-host", "").split()]
    if pip.get("no-index", "").lower() in ("1", "true", "yes"):
        lines.append("--no-index")
    if "cert" in pip:
        lines.append(f"SSL_CERT_FILE={pip['cert']}")
    return lines


if __name__ == "__main__":
    configured = settings()
    shown = configured.get("find-links", "").split() if "find-links" in sys.argv[1:] else options(configured)
    print("\n".join(shown))
