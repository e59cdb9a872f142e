"""Where a run's figures go beside metrics.jsonl; torch-free.

Knows no library: that it is installed is found out when the run begins.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from llmforge.config.schema import Config


class JsonlTracking(Config):
    """metrics.jsonl in the run folder, one object a line; every run writes it, named or not."""

    name: Literal["jsonl"]


class TensorboardTracking(Config):
    """Event files for `tensorboard --logdir FOLDER` (extra `tensorboard`)."""

    name: Literal["tensorboard"]
    # the folder of the event files; null: tensorboard/ in the run folder
    log_dir: Annotated[str, Field(min_length=1)] | None = None


class WandbTracking(Config):
    """A run of Weights & Biases (extra `wandb`), by default kept on this machine only."""

    name: Literal["wandb"]
    project: Annotated[str, Field(min_length=1)] = "llmforge"
    # how the run is called; null: as the run folder
    run_name: Annotated[str, Field(min_length=1)] | None = None
    # offline: files in wandb/ of the run folder, which `wandb sync` uploads; online: to wandb's server as the run goes
    mode: Literal["offline", "online"] = "offline"


Tracking = JsonlTracking | TensorboardTracking | WandbTracking
