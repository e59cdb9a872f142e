"""The parent of every config class: frozen, unknown keys refused, no NaN or infinity.

A component's config class lives beside the component and is composed by the stage's class; this file knows none.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen group of settings; a key that is not declared is a fault, and so is a value of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    # Groups of keys of which one is given at most: an override of one takes the place of the file's other one.
    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = ()
