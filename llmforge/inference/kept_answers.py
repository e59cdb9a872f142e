"""Answers that a generation has finished, kept while it goes on, so that one that was stopped or killed loses none.

A file of JSON lines: a header that tells what was asked of which model, then the samples of a prompt, in the order in
which they ended. Half a line, as a kill leaves it, is passed over and written again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from llmforge.inference.answer import Sample
from llmforge.runtime.files import disk_errors


class KeptAnswers:
    """The answers in a file; `asked` is a digest of all that they depend on, `each` how many a prompt gets.

    `found` has the samples of each prompt that is answered whole, by the prompt's number.
    """

    def __init__(self, path: Path, asked: str, each: int) -> None:
        self._path, self._each = path, each
        self._header = json.dumps({"asked": asked, "each": each})
        self.found = _read(path, self._header)
        self._begun: dict[int, dict[int, Sample]] = {}
        lines = [self._header, *(_line(prompt, samples) for prompt, samples in self.found.items())]
        with disk_errors(path):
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def add(self, prompt: int, number: int, sample: Sample) -> None:
        """One more; a prompt's line is written when it has all of its samples."""
        samples = self._begun.setdefault(prompt, {})
        samples[number] = sample
        if len(samples) == self._each:
            del self._begun[prompt]
            self.found[prompt] = [samples[place] for place in range(self._each)]
            with disk_errors(self._path), self._path.open("a", encoding="utf-8") as stream:
                stream.write(_line(prompt, self.found[prompt]) + "\n")

    @property
    def num_tokens(self) -> int:
        """Of all whole answers."""
        return sum(len(sample.ids) for samples in self.found.values() for sample in samples)

    def forget(self) -> None:
        """Removes the file: the answers are elsewhere now."""
        self._path.unlink(missing_ok=True)


def _line(prompt: int, samples: list[Sample]) -> str:
    return json.dumps({"prompt": prompt, "samples": [asdict(sample) for sample in samples]})


def _read(path: Path, header: str) -> dict[int, list[Sample]]:
    """The answers of a file with this header; none when it is another's."""
    if not path.is_file():
        return {}
    first, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    found: dict[int, list[Sample]] = {}
    for line in lines if first == header else ():
        try:
            row = json.loads(line)
            found[int(row["prompt"])] = [Sample(**sample) for sample in row["samples"]]
        except (ValueError, KeyError, TypeError):
            continue
    return found
