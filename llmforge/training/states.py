"""The saved states of one run: written behind the training by the first process, and gone back to by all.

Knows the run's folder and its processes, and not what a state is made of.
"""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import cast

from torch import Tensor

from llmforge.checkpoint.state_writer import StateWriter
from llmforge.checkpoint.train_state import Retention, latest_state
from llmforge.errors import DamagedError
from llmforge.runtime.distributed import World
from llmforge.runtime.launch_note import is_launched, note_begun
from llmforge.runtime.run_folder import RunFolder
from llmforge.training.settings import TrainSettings
from llmforge.training.state import CHECKPOINTS, Saved, open_state


class States:
    """`with` waits at its end until the last state is on the disk."""

    def __init__(self, run: RunFolder, world: World, settings: TrainSettings) -> None:
        self._world, self._settings = world, settings
        self.folder = run.path / CHECKPOINTS
        self._writer = StateWriter(self.folder)
        # the step of the last state that was saved as the run is now
        self.newest: int | None = None

    def __enter__(self) -> States:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, value, trace)

    def save(
        self, step: int, tensors: dict[str, Tensor], meta: dict[str, object], best: Collection[int], reach: int
    ) -> None:
        """Takes a state; it is on the disk after `wait`, or after the next `save`.

        `best` are steps whose states are kept, and one stays that is `reach` steps old.

        Raises:
            MachineError: this save, or the one before, failed.
        """
        if self._world.first:
            settings = self._settings
            keep = Retention(settings.keep_last, settings.keep_every, best, step - reach if reach else None)
            self._writer.save(step, tensors, meta, keep)
        self.newest = step

    def due(self, step: int) -> bool:
        """Whether a state of this step is asked for."""
        return self._settings.save_every is not None and step % self._settings.save_every == 0

    def resumed(self, saved: Saved) -> None:
        """The run is as it was when this state was saved."""
        self.newest = saved.step if saved.path.resolve().parent == self.folder.resolve() else None

    def begun(self) -> None:
        """From here on a restart by the agent goes on with what lies in this folder, whatever --resume said."""
        if is_launched():
            self.wait()
            if self._world.first:
                note_begun(self.folder.parent)

    def settle(self) -> None:
        """Returns when weights and optimizer may change."""
        self._writer.settle()

    def look(self) -> None:
        """Raises MachineError when the last save has failed by now."""
        self._writer.look()

    def wait(self) -> None:
        """Returns, on every process, when the last state is on the disk.

        Raises:
            MachineError: it is not.
        """
        self._writer.wait()
        self._world.wait()

    def back_to(self, step: int) -> tuple[Saved, list[str]]:
        """The newest whole state of at most `step` steps, the same on every process, and notes for the log.

        Raises:
            DamagedError: there is none.
        """
        self.wait()
        found = latest_state(self.folder, at_most=step) if self._world.first else None
        place = (None if found[0] is None else found[0].name, found[1]) if found is not None else None
        name, notes = cast(tuple[str | None, list[str]], self._world.agree(place))
        if name is None:
            raise DamagedError(f"there is no saved state of step {step} or before to go back to", self.folder)
        self.newest = None
        return open_state(self.folder / name), notes
