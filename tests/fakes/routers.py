"""Routers of somebody else's making, loaded by name as a user's own would be."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointsman.routers.base import Router


class GatedRouter(Router):
    """Blocks in each inference until the test lets it go; both ends are named pipes.

    It names no revision: no win rate of its is kept, and each prompt is an inference.

    Args:
        started: Opened for writing, and given a byte, when an inference begins.
        gate: Read until its writer closes it.
    """

    def __init__(self, started: str, gate: str) -> None:
        self._started = Path(started)
        self._gate = Path(gate)

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Returns 0.25 for each prompt, once the gate is open; a warm-up is not held."""
        if not prompts[0].startswith("Which of these"):
            with self._started.open("wb", buffering=0) as started:
                started.write(b"x")
            with self._gate.open("rb", buffering=0) as gate:
                gate.read()
        return np.full(len(prompts), 0.25, dtype=np.float32)


class BrokenRouter(Router):
    """Returns what no router may return, or raises."""

    def __init__(self, value: float | None = None) -> None:
        self._value = value

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Returns the value for each prompt; without one it raises on anything but a warm-up."""
        if self._value is None and not prompts[0].startswith("Which of these"):
            raise RuntimeError("broken on purpose")
        return np.full(len(prompts), self._value or 0.0, dtype=np.float32)
