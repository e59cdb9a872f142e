"""A run goes back in its course: the state to take up, told to the person, written into the log and run.json."""

from __future__ import annotations

from llmforge.runtime.run_folder import RunFolder
from llmforge.training.loop_parts import Loop
from llmforge.training.spikes import Found, SpikeWatch, shortened
from llmforge.training.state import Saved
from llmforge.training.states import States


def go_back(found: Found, watch: SpikeWatch, states: States, loop: Loop, run: RunFolder) -> Saved:
    """Leaves out the data of a guilty step and returns the newest state before it.

    Raises:
        DataError: the run has gone back too often; the line names the documents.
        DamagedError: no state from before is whole.
    """
    skip = watch.leave_out(found, loop.documents)
    saved, notes = states.back_to(skip.at)
    told = f"{found.text}; going back to step {saved.step}, and on without the data of {len(skip.data)} steps: "
    for note in [*notes, told + shortened(skip.documents)]:
        loop.console.warn(note)
        run.log(note)
    record_skips(watch, run)
    return saved


def record_skips(watch: SpikeWatch, run: RunFolder) -> None:
    """Writes what was left out so far into run.json as `rewinds`."""
    if watch.skips:
        run.record(rewinds=[skip.as_json() for skip in watch.skips])
