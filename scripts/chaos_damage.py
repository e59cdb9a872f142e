"""F6, F11 and F12: flipped bits, truncations, zeroed pages, swapped and deleted files; changed configs and data.

Damage is done to a copy and read back by the very functions that the commands read with. It is survived when it was
noticed (an error of ours that names the file), when the one before was loaded and that was said, or when what was
loaded is what was written. Anything else is a failure: other content, or an exception that would be a bug of ours.
`doctor`, which reads every byte, must notice every one of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos_lab import SAVE_EVERY, Budget, Lab, Outcome

from llmforge.errors import LlmforgeError
from llmforge.stages.doctor import examine

_PAGE = 4096


@dataclass(frozen=True)
class Target:
    """A folder that is damaged, and what reads it: a digest of its content, and which state or version it came from."""

    name: str
    folder: Path
    read: Callable[[Path], dict[str, str]]
    doctor: Callable[[Path], bool] = lambda folder: _told(folder)


def _told(folder: Path) -> bool:
    """Whether doctor sees that something is not as it was written."""
    found = examine(folder)
    return bool(found.of("damaged") or found.of("leftover")) or "there is no manifest" in found.page()


def damage(lab: Lab, budget: Budget) -> Outcome:
    """F6 over checkpoints, model, tokens, corpus and tokenizer folders."""
    done = Outcome("F6", "bit flips, truncations, zeroed pages, swapped and deleted files")
    kinds: dict[str, tuple[int, Callable[[Lab, Path], str]]] = {
        "flip": (1000, _flip),
        "truncation": (200, _truncate),
        "zeroed page": (200, _zero),
        "deletion": (50, _delete),
        "swap": (50, _swap),
    }
    targets = _targets(lab)
    budget = Budget(max(budget.scale, 0.1), budget.end)  # each takes a moment only
    counts: dict[str, int] = {}
    for target in targets:
        wanted = target.read(target.folder)
        for kind, (full, harm) in kinds.items():
            tries = budget.tries(full // len(targets), 4)
            for _ in range(tries):
                answer = _try(lab, target, harm, wanted)
                counts[answer[0]] = counts.get(answer[0], 0) + 1
                done.check(answer[0] != "WRONG", f"{target.name}, {kind}: {answer[1]}")
    done.notes.append(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return done


def _targets(lab: Lab) -> list[Target]:
    whole, _ = lab.whole
    return [
        Target("checkpoints", whole / "pretrain" / "checkpoints", _read_states),
        Target("model", whole / "pretrain" / "model", _read_model),
        Target("tokens", whole / "tokenize" / "tokens", _read_tokens),
        Target("corpus", whole / "clean" / "corpus", _read_corpus),
        Target("tokenizer", whole / "tokenizer" / "tokenizer", _read_tokenizer),
    ]


def _try(lab: Lab, target: Target, harm: Callable[[Lab, Path], str], wanted: dict[str, str]) -> tuple[str, str]:
    """What became of one damage, and in words."""
    folder = lab.place("damaged") / target.folder.name
    shutil.copytree(target.folder, folder)
    where = harm(lab, folder)
    try:
        if not target.doctor(folder):
            return "WRONG", f"{where}: doctor calls it whole"
        found = target.read(folder)
    except LlmforgeError as error:
        return "noticed", str(error)
    except Exception as error:
        return "WRONG", f"{where}: {type(error).__name__}, a bug of ours: {error}"
    finally:
        shutil.rmtree(folder.parent, ignore_errors=True)
    version, content = found["version"], found["content"]
    if version != wanted["version"]:
        earlier = found.get("earlier", "")
        return ("fell back", version) if earlier and found["notes"] else ("WRONG", f"{where}: {version} without a word")
    return ("harmless", where) if content == wanted["content"] else ("WRONG", f"{where}: other content was loaded")


def _file(lab: Lab, folder: Path) -> Path:
    """A file, large ones more often, as bits of a disk are hit."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    if lab.rng.random() < 0.3:
        return lab.rng.choice(files)
    return lab.rng.choices(files, [path.stat().st_size for path in files])[0]


def _flip(lab: Lab, folder: Path) -> str:
    path = _file(lab, folder)
    content = bytearray(path.read_bytes())
    at, bit = lab.rng.randrange(len(content)), lab.rng.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(bytes(content))
    return f"bit {bit} of byte {at} of {path.name}"


def _truncate(lab: Lab, folder: Path) -> str:
    path = _file(lab, folder)
    size = path.stat().st_size
    length = lab.rng.randrange(size)
    os.truncate(path, length)
    return f"{path.name} cut from {size} to {length} bytes"


def _zero(lab: Lab, folder: Path) -> str:
    path = _file(lab, folder)
    content = bytearray(path.read_bytes())
    pages = [at for at in range(0, len(content), _PAGE) if any(content[at : at + _PAGE])]
    if not pages:  # as moments before the first step are: nothing would change
        return _flip(lab, folder)
    at = lab.rng.choice(pages)
    size = len(content[at : at + _PAGE])
    content[at : at + _PAGE] = bytes(size)
    path.write_bytes(bytes(content))
    return f"bytes {at} to {at + size - 1} of {path.name} zeroed"


def _delete(lab: Lab, folder: Path) -> str:
    path = _file(lab, folder)
    path.unlink()
    return f"{path.name} deleted"


def _swap(lab: Lab, folder: Path) -> str:
    """Two files of the folder in each other's place, of one suffix where there are two."""
    first = _file(lab, folder)
    others = sorted(path for path in folder.rglob("*") if path.is_file() and path != first)
    alike = [path for path in others if path.suffix == first.suffix] or others
    second = lab.rng.choice(alike)
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    return f"{first.relative_to(folder)} and {second.relative_to(folder)} swapped"


# ---------------------------------------------------------------------- what reads each folder


def _digest(*parts: bytes) -> str:
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little") + part)
    return state.hexdigest()


def _read_states(folder: Path) -> dict[str, str]:
    """As `--resume auto` does: the newest whole state, its tensors and everything else."""
    from llmforge.checkpoint.train_state import latest_state, load_state

    path, notes = latest_state(folder)
    if path is None:
        raise AssertionError("no state is seen where there were two")
    tensors, meta = load_state(path)
    named = [name.encode() + value.contiguous().numpy().tobytes() for name, value in sorted(tensors.items())]
    return {
        "version": path.name,
        "content": _digest(*named, repr(_plain(meta)).encode()),
        "earlier": path.name,
        "notes": "; ".join(notes),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.tolist() if hasattr(value, "tolist") else value


def _read_model(folder: Path) -> dict[str, str]:
    """As `generate` and `finetune` do: the weights and the tokenizer beside them."""
    from llmforge.checkpoint.model_folder import load_model
    from llmforge.tokenizer.tokenizer import Tokenizer

    model = load_model(folder)
    parts = [name.encode() + value.numpy().tobytes() for name, value in sorted(model.state_dict().items())]
    return {"version": "model", "content": _digest(*parts, *_vocabulary(Tokenizer.load(folder)))}


def _vocabulary(tokenizer: Any) -> list[bytes]:
    texts = ["The river carries a list of names before dawn. 17 «日本» 👍\n", "  x = {'a': [1, 2]}\t"]
    ids = [tokenizer.encode(text) for text in texts]
    pieces = [tokenizer.decode([number]) for number in range(tokenizer.vocab_size)]
    return [repr(ids).encode(), repr(pieces).encode(), repr(sorted(tokenizer.stop_ids)).encode()]


def _read_tokens(folder: Path) -> dict[str, str]:
    """As `pretrain` does: sizes and headers at once, every byte in the background of the run."""
    from llmforge.tokenizer.tokenizer import Tokenizer
    from llmforge.tokens.folder import TokenFolder
    from llmforge.tokens.verify import BackgroundCheck

    opened = TokenFolder.open(folder)
    with BackgroundCheck([opened.path]) as check:
        parts = []
        for name in sorted(opened.split_names):
            split = opened.split(name)
            documents = [repr(split.document(number)).encode() for number in range(split.num_documents)]
            parts += [split.stream(0, split.num_tokens).tobytes(), *documents]
        parts += _vocabulary(Tokenizer.load(opened.tokenizer_folder))
        if not check.finish(60.0):
            raise AssertionError("the background check did not end")
    return {"version": "tokens", "content": _digest(*parts)}


def _read_corpus(folder: Path) -> dict[str, str]:
    """As `tokenize` does: the manifest, and every document that it encodes."""
    from llmforge.corpus.folder import read_corpus
    from llmforge.runtime.manifest import find_artefact, read_manifest

    found = find_artefact(folder, "corpus")
    read_manifest(found, "corpus")
    rows = [repr(row).encode() for split in ("train", "valid") for row in read_corpus(found, split)]
    return {"version": "corpus", "content": _digest(*rows)}


def _read_tokenizer(folder: Path) -> dict[str, str]:
    """As `tokenize` does."""
    from llmforge.tokenizer.files import find_tokenizer, tokenizer_fingerprint
    from llmforge.tokenizer.tokenizer import Tokenizer

    found = find_tokenizer(folder)
    tokenizer_fingerprint(found)
    return {"version": "tokenizer", "content": _digest(*_vocabulary(Tokenizer.load(found)))}


# ---------------------------------------------------------------------- changes between a stop and a resume


def changed_config(lab: Lab, budget: Budget) -> Outcome:
    """F11: each of these keys changed on resume is refused by name, and the state stays as it was."""
    done = Outcome("F11", "a changed config on resume")
    base = lab.partial()
    changes: list[tuple[str, Any, str]] = [
        ("optimizer__lr", 0.01, "optimizer.lr"),
        ("seed", 3, "seed"),
        ("data__seq_len", 32, "data.seq_len"),
        ("train__global_batch_size", 16, "train.global_batch_size"),
        ("model__hidden_size", 64, "model.hidden_size"),
        ("scheduler__warmup_steps", 3, "scheduler.warmup_steps"),
        ("train__max_steps", 200, "train.max_steps"),
        ("precision", "bf16", "precision"),
    ]
    for key, value, named in changes[: budget.tries(len(changes) * 4, 3)]:
        output = lab.copy(base)
        before = _tree(output / "checkpoints")
        child = lab.run("pretrain", lab.pretrain(output, **{key: value}))
        fine = child.returncode == 2 and named in child.said
        done.check(fine, f"{named}: exit code {child.returncode}: {child.last_line}")
        done.check(_tree(output / "checkpoints") == before, f"{named}: the states were touched")
        lab.drop(output)
    child = lab.run("pretrain", lab.pretrain(base))
    difference = lab.compare(base) if child.returncode == 0 else child.last_line
    done.check(difference is None, f"with the config as it was: {difference}")
    lab.drop(base)
    return done


def _tree(folder: Path) -> dict[str, str]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): _digest(path.read_bytes()) for path in paths}


def changed_data(lab: Lab, budget: Budget) -> Outcome:
    """F12: tokens made anew or damaged after the start, another run's state, and a worker that dies."""
    done = Outcome("F12", "changed data, a foreign state, a dead worker")
    tokens = lab.copy(lab.tokens)
    base = lab.partial(data__sources=[{"name": "made", "path": str(tokens)}])
    source = {"data__sources": [{"name": "made", "path": str(tokens)}]}
    shard = sorted(tokens.glob("train-*.bin"))[0]
    content = shard.read_bytes()

    shard.write_bytes(content[:-2] + bytes(2))
    child = lab.run("pretrain", lab.pretrain(base, **source))
    fine = child.returncode in (3, 6) and shard.name in child.said
    done.check(fine, f"ids changed in {shard.name}: exit code {child.returncode}: {child.last_line}")
    shard.write_bytes(content)

    _made_anew(lab, tokens)
    child = lab.run("pretrain", lab.pretrain(base, **source))
    done.check(child.returncode == 3, f"tokens made anew: exit code {child.returncode}: {child.last_line}")
    lab.drop(tokens)

    other = lab.partial(seed=9)
    child = lab.run("pretrain", lab.pretrain(lab.place("fresh")), "--resume", str(other))
    done.check(child.returncode in (2, 3), f"another run's state: exit code {child.returncode}: {child.last_line}")
    lab.drop(base, other)
    _dead_worker(lab, done)
    return done


def _made_anew(lab: Lab, tokens: Path) -> None:
    """Tokens of other text in the same place."""
    from llmforge.runtime.manifest import read_manifest, write_manifest

    shard = sorted(tokens.glob("train-*.bin"))[0]
    content = bytearray(shard.read_bytes())
    content[-4:] = content[-8:-4]
    shard.write_bytes(bytes(content))
    made_from = read_manifest(tokens, "tokens").made_from
    write_manifest(tokens, "tokens", config={}, made_from=made_from)


def _dead_worker(lab: Lab, done: Outcome) -> None:
    """A worker of `clean` is killed: one clear line, and the same command then makes the same corpus."""
    from llmforge.runtime.process_tree import descendants

    output = lab.place("workers")
    text = lab.place("much").with_suffix(".jsonl")
    text.write_bytes(lab.text.read_bytes() * 120)  # enough to be at work for some seconds
    values = {**lab.clean(output, workers=2)}
    values["sources"] = [{**values["sources"][0], "path": str(text)}]
    child = lab.start("clean", values, real=True)
    workers: list[int] = []
    while child.poll() is None and len(workers) < 2:
        # Forked ones have their parent's words, spawned ones their own; what watches over shared memory is neither.
        workers = [pid for pid in descendants(child.pid) if b"resource_tracker" not in _words(pid)]
        time.sleep(0.02)
    time.sleep(0.5)
    if not workers or child.poll() is not None:
        done.check(False, "clean had ended before a worker could be killed")
        return
    os.kill(workers[0], signal.SIGKILL)
    code = lab.finish(child, 120)
    told = code in (0, 4) and "Traceback" not in child.said
    done.check(told, f"a killed worker of clean: exit code {code}: {child.last_line}")
    again = lab.run("clean", values, real=True)
    done.check(again.returncode == 0, f"clean after it: exit code {again.returncode}: {again.last_line}")
    lab.drop(output)


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def damaged_resume(lab: Lab, budget: Budget) -> Outcome:
    """F6 through the command line: the newest state is damaged, the one before is taken, the bits are the same."""
    done = Outcome("F6", "a run goes on from the state before a damaged one")
    base = lab.partial(2 * SAVE_EVERY + 2)
    harms = (_flip, _truncate, _zero, _delete, _swap)
    for number in range(budget.tries(20, 2)):
        output = lab.copy(base)
        states = sorted(output.glob("checkpoints/step-*"), key=lambda path: int(path.name.split("-")[1]))
        where = harms[number % len(harms)](lab, states[-1])
        child = lab.run("pretrain", lab.pretrain(output))
        difference = lab.compare(output) if child.returncode == 0 else f"{child.returncode} {child.last_line}"
        said = states[-1].name in child.said
        if done.check(difference is None and said, f"{where}: {difference or 'not a word of the damaged state'}"):
            lab.drop(output)
    lab.drop(base)
    output = lab.copy(lab.straight[0])
    where = _flip(lab, output / "model")
    child = lab.run("pretrain", lab.pretrain(output))
    difference = lab.compare(output) if child.returncode == 0 else f"{child.returncode} {child.last_line}"
    if done.check(difference is None, f"a damaged model ({where}) published again: {difference}"):
        lab.drop(output)
    return done
