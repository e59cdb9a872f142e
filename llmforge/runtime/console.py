"""What a person sees while a command runs: text and progress on stderr, data on stdout.

Makes of events either rich bars (on a terminal) or plain lines every few seconds (pipes, CI, NO_COLOR); knows no stage.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

_PLAIN_EVERY_SECONDS = 5.0


class Bar(Protocol):
    """A running progress display."""

    def advance(self, n: float = 1, note: str = "") -> None:
        """Moves on by `n` units; `note` replaces the text behind the figures."""

    def set_total(self, total: float) -> None:
        """Sets or corrects the number of units that make it whole."""


def duration(seconds: float) -> str:
    """`12 s`, `3:05`, `1:02:03`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def quantity(count: float, unit: str) -> str:
    """A count with a sensible number of digits: `1,234 documents`, `12.3 MB` for bytes."""
    if unit == "B":
        for scale, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
            if count >= scale:
                return f"{count / scale:.1f} {name}"
        return f"{count:.0f} B"
    return f"{count:,.0f} {unit}".rstrip()


def pace(rate: float, unit: str) -> str:
    """So many a second, or how long one takes: `12.3 MB/s`, `4.5 steps/s`, `2.0 s each`."""
    if rate < 1:
        return f"{1 / max(rate, 1e-9):.1f} s each"
    return f"{rate:.1f} {unit}/s" if unit != "B" and rate < 10 else f"{quantity(rate, unit)}/s"


class _PlainBar:
    def __init__(self, console: Console, label: str, total: float | None, unit: str, done: float, paced: bool) -> None:
        self._console, self._label, self._total, self._unit = console, label, total, unit
        self._before, self._paced = done, paced
        self._done, self._note, self._reported = done, "", done or -1.0
        self._start = self._shown = time.monotonic()

    def advance(self, n: float = 1, note: str = "") -> None:
        self._done += n
        self._note = note or self._note
        now = time.monotonic()
        if now - self._shown >= _PLAIN_EVERY_SECONDS:
            self._shown = now
            self._reported = self._done
            self._console.say(self.line(now))

    def set_total(self, total: float) -> None:
        self._total = total

    def line(self, now: float) -> str:
        elapsed = max(now - self._start, 1e-9)
        rate = (self._done - self._before) / elapsed
        parts = [f"{self._label}: {quantity(self._done, self._unit)}"]
        if self._total:
            parts[0] += f" of {quantity(self._total, self._unit)} ({min(1.0, self._done / self._total):.0%})"
        if rate > 0:
            if self._paced:
                parts.append(pace(rate, self._unit))
            if self._total:
                parts.append(f"{duration(max(0.0, self._total - self._done) / rate)} left")
        if self._note:
            parts.append(self._note)
        return ", ".join(parts)


class _SilentBar:
    def advance(self, n: float = 1, note: str = "") -> None:
        return

    def set_total(self, total: float) -> None:
        return


class Console:
    """The terminal of one command: `say`, `warn` and `detail` go to stderr, `result` to stdout."""

    def __init__(self, quiet: bool = False, verbose: bool = False, json: bool = False) -> None:
        self.quiet, self.verbose, self.json = quiet, verbose, json
        plain = bool(os.environ.get("NO_COLOR") or os.environ.get("CI")) or os.environ.get("TERM") == "dumb"
        self.fancy = sys.stderr.isatty() and not plain
        self._rich: RichConsole | None = None

    def _write(self, text: str) -> None:
        if self._rich is not None:  # a bar is on the screen: print above it
            self._rich.print(text, markup=False, highlight=False, soft_wrap=True)
            return
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def say(self, text: str) -> None:
        """A line of progress; silent with --quiet."""
        if not self.quiet:
            self._write(text)

    def warn(self, text: str) -> None:
        """A line that is shown even with --quiet."""
        self._write(f"warning: {text}")

    def detail(self, text: str) -> None:
        """A line for --verbose only."""
        if self.verbose and not self.quiet:
            self._write(text)

    def result(self, text: str) -> None:
        """The command's answer for a person, on stdout; left out with --json, where one JSON object stands instead."""
        if not self.json:
            sys.stdout.write(text if text.endswith("\n") else text + "\n")
            sys.stdout.flush()

    @contextmanager
    def progress(
        self, label: str, total: float | None = None, unit: str = "", done: float = 0.0, paced: bool = True
    ) -> Iterator[Bar]:
        """A progress display of `total` units (unknown: None); `unit` "B" counts bytes.

        `done` of them were done before, which says nothing of the pace. Not `paced`: its notes tell the pace.
        """
        if self.quiet:
            yield _SilentBar()
        elif self.fancy and self._rich is None:
            with self._rich_progress(label, total, unit, done) as bar:
                yield bar
        else:
            plain = _PlainBar(self, label, total, unit, done, paced)
            yield plain
            if time.monotonic() - plain._start >= _PLAIN_EVERY_SECONDS and plain._reported != plain._done:
                self.say(plain.line(time.monotonic()))

    @contextmanager
    def _rich_progress(self, label: str, total: float | None, unit: str, done: float) -> Iterator[Bar]:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self._rich = RichConsole(stderr=True)
        try:
            with Progress(*columns, console=self._rich, transient=True) as display:
                yield _RichBar(display, label, total, unit, done)
        finally:
            self._rich = None


class _RichBar:
    def __init__(self, display: object, label: str, total: float | None, unit: str, done: float) -> None:
        from rich.progress import Progress

        assert isinstance(display, Progress)
        self._display, self._unit, self._total, self._done = display, unit, total, done
        self._task = display.add_task(label, total=total, completed=round(done), figures="", note="")

    def advance(self, n: float = 1, note: str = "") -> None:
        self._done += n
        figures = quantity(self._done, self._unit)
        if self._total:
            figures = f"{self._done / self._total:.0%} " + figures
        fields = {"figures": figures} | ({"note": note} if note else {})
        self._display.update(self._task, advance=n, **fields)  # type: ignore[arg-type]

    def set_total(self, total: float) -> None:
        self._total = total
        self._display.update(self._task, total=total)
