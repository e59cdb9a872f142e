"""What a general compressor needs for the held-out text: the bar that a language model has to pass.

`xz -9` on the concatenated documents of a corpus's valid split (https://tukaani.org/xz/), in bits per byte of text.
"""

from __future__ import annotations

import json
import lzma
from pathlib import Path

from llmforge.runtime.files import write_atomic
from llmforge.runtime.manifest import find_artefact, manifest_digest

# xz at level 9 takes about half a second a megabyte; beyond this much text its answer changes little.
MOST_BYTES = 32_000_000
_LEVEL = 9


def held_out_xz(corpus: str, cache: Path) -> dict[str, float] | None:
    """`bits_per_byte` of xz -9 and the `bytes` it was given, kept in `cache`; None when nothing is held out."""
    digest = manifest_digest(corpus, "corpus")
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
        if known["corpus"] == digest:
            return {"bits_per_byte": float(known["bits_per_byte"]), "bytes": int(known["bytes"])}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = _measure(corpus)
    if found is not None:
        write_atomic(cache, json.dumps({"corpus": digest, **found}) + "\n")
    return found


def _measure(corpus: str) -> dict[str, float] | None:
    from llmforge.corpus.folder import read_corpus

    packer = lzma.LZMACompressor(format=lzma.FORMAT_XZ, preset=_LEVEL)
    given = packed = 0
    for document in read_corpus(find_artefact(corpus, "corpus"), "valid"):
        data = document.text.encode("utf-8")
        given += len(data)
        packed += len(packer.compress(data))
        if given >= MOST_BYTES:
            break
    if not given:
        return None
    packed += len(packer.flush())
    return {"bits_per_byte": 8 * packed / given, "bytes": given}
