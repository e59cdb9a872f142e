"""Which files make a tokenizer, and where they lie: in a tokenizer artefact, a model folder or a run folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from llmforge.errors import DamagedError, DataError
from llmforge.runtime.files import digest_file, disk_errors, restore_folder
from llmforge.runtime.manifest import NAME as MANIFEST
from llmforge.runtime.manifest import load_manifest

MODEL_FILE = "tokenizer.model"
BYTES_FILE = "bytes_per_id.json"  # how many bytes of text each id stands for; 0: a control symbol
JSON_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
FORMAT_KEY = "llmforge_chat_format"  # in tokenizer_config.json: the name of the chat format of our vocabularies
SPECIAL_MAP_FILE = "special_tokens_map.json"
TOKENIZER_FILES = (
    MODEL_FILE,
    JSON_FILE,
    CONFIG_FILE,
    SPECIAL_MAP_FILE,
    "chat_template.jinja",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",  # ids that end an answer
)
_MAX_JSON = 256 << 20


def find_tokenizer(path: Path | str) -> Path:
    """The folder of a tokenizer, given itself, a model folder, a tokens folder, or a run that made one of these.

    Raises:
        DataError: none is there.
    """
    given = Path(path)
    for inner in ("tokenizer", "model"):
        restore_folder(given / inner)
    for folder in (given, given / "tokenizer", given / "model", given / "tokens" / "tokenizer"):
        if (folder / JSON_FILE).is_file() or (folder / MODEL_FILE).is_file():
            return folder
    if not given.exists():
        raise DataError("no such folder", given, "make a tokenizer first: llmforge tokenizer train")
    raise DataError(f"no tokenizer here: no {JSON_FILE} and no {MODEL_FILE}", given, "give a tokenizer or model folder")


def tokenizer_digest(folder: Path) -> str:
    """The digest that stands for a vocabulary: SHA-256 of tokenizer.model, where there is none of tokenizer.json."""
    found = [name for name in (MODEL_FILE, JSON_FILE) if (folder / name).is_file()]
    if not found:
        raise DataError(f"no tokenizer here: no {JSON_FILE} and no {MODEL_FILE}", folder)
    return digest_file(folder / found[0])


def tokenizer_fingerprint(folder: Path) -> str:
    """A digest over all files of a tokenizer, the chat template's included.

    Raises:
        DamagedError: a file is not what the folder's manifest says; a flipped bit can make another vocabulary of it.
    """
    digests = {name: digest_file(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()}
    written = _written(folder)
    for name in TOKENIZER_FILES:
        if name in written and digests.get(name) != written[name]:
            what = "was changed: its SHA-256 differs" if name in digests else "is missing"
            raise DamagedError(f"the file {what}", folder / name, "make or get the tokenizer again")
    return hashlib.sha256("\n".join(f"{name} {digest}" for name, digest in digests.items()).encode()).hexdigest()


def _written(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by the folder's manifest; empty for a folder without one, as foreign ones are."""
    if not (folder / MANIFEST).is_file():
        return {}
    kind = "model" if (folder / "config.json").is_file() else "tokenizer"
    return {name: entry[0] for name, entry in load_manifest(folder, kind).files.items()}


def copy_tokenizer(source: Path, target: Path) -> list[str]:
    """Copies the files of a tokenizer, and nothing else of its folder, into `target`; returns their names."""
    copied = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    with disk_errors(target):  # copyfile would blame the source
        target.mkdir(parents=True, exist_ok=True)
        for name in copied:
            shutil.copyfile(source / name, target / name)
    return copied


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from a file; {} when there is no such file.

    Raises:
        DamagedError: it is not a JSON object, or larger than any tokenizer.
    """
    try:
        if path.stat().st_size > _MAX_JSON:
            raise DamagedError(f"the file is larger than {_MAX_JSON >> 20} MB", path)
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError, RecursionError) as error:
        raise DamagedError("not readable as JSON", path, "get the folder again") from error
    if not isinstance(content, dict):
        raise DamagedError("not a JSON object", path, "get the folder again")
    return content
