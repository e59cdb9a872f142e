"""sentencepiece's trainer in a child process: chunks of text in, a model's bytes out, and how far it is on the way."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from llmforge.errors import MachineError

_SCRIPT = Path(__file__).with_name("training_process.py")
_MERGES = re.compile(rb"merges=(\d+)")
_SIZE = re.compile(rb"EM sub_iter=\d+ size=(\d+)")
Watch = Callable[[int, str], None]


class LearnerError(Exception):
    """sentencepiece refuses; its own words."""


def learn(chunks: Iterable[str], options: Mapping[str, object], watch: Watch) -> bytes:
    """The bytes of the model that sentencepiece learns from chunks without line breaks.

    `watch` is told the merges done so far (bpe), or 0 and how many pieces are left (unigram).

    Raises:
        LearnerError: sentencepiece refuses the options or the text.
        MachineError: the process was ended from outside, most likely for its memory.
    """
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, str(_SCRIPT)], stdin=pipe, stdout=pipe, stderr=pipe)
    assert child.stdin and child.stdout and child.stderr
    faults: list[BaseException] = []
    answer: list[bytes] = []
    output = child.stdout

    def feed() -> None:
        assert child.stdin
        try:
            with child.stdin as stream:
                stream.write(json.dumps(dict(options)).encode() + b"\n")
                for chunk in chunks:
                    stream.write(chunk.encode("utf-8") + b"\n")
        except BrokenPipeError:
            pass  # a child that refuses or dies early stops reading; what it said counts
        except Exception as error:
            faults.append(error)
            child.kill()

    threads = [threading.Thread(target=feed), threading.Thread(target=lambda: answer.append(output.read()))]
    try:
        for thread in threads:
            thread.start()
        for line in child.stderr:
            _tell(line, watch)
        for thread in threads:
            thread.join()
        code = child.wait()
    finally:
        child.kill()
        child.wait()
        for thread in threads:
            thread.join()
        child.stdout.close()
        child.stderr.close()
    if faults:
        raise faults[0]
    found = answer[0] if answer else b""
    if found[:1] == b"E":
        raise LearnerError(found[1:].decode("utf-8", "replace"))
    if code or found[:1] != b"M":
        hint = "give it less text (sample_bytes), or free memory"
        raise MachineError(f"sentencepiece's trainer was ended from outside (exit code {code})", hint=hint)
    return found[1:]


def _tell(line: bytes, watch: Watch) -> None:
    if found := _MERGES.search(line):
        watch(int(found[1]), "")
    elif found := _SIZE.search(line):
        watch(0, f"{int(found[1]):,} pieces left of the candidates")
