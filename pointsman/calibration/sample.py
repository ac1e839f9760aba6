"""Whose win rates a calibration works on: prompts scored here, or quantiles that are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pointsman.errors import ConfigError, RouterNotReady
from pointsman.routers.bulk import win_rates
from pointsman.routers.registry import LoadedRouter


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Win rates to calibrate on, and whose they are."""

    router: str
    """Name of the router."""

    win_rates: NDArray[np.float64]
    """float64[n]: one a prompt, or evenly spaced quantiles."""

    prompts: int | None
    """How many prompts there are behind the win rates; None where there are none."""

    source: str
    """The prompts in words."""

    are_quantiles: bool = False
    """Whether the win rates are evenly spaced quantiles, ascending, and not one a prompt."""

    def __str__(self) -> str:
        """Names the prompts as the texts do."""
        if self.prompts is None:
            return self.source
        known = "quantiles of " if self.are_quantiles else ""
        prompts = "prompt" if self.prompts == 1 else "prompts"
        return f"{known}{self.prompts:,} {prompts} ({self.source})"


def known_sample(loaded: LoadedRouter) -> Sample:
    """Returns the quantiles that come with a router; nothing is scored.

    Raises:
        ConfigError: none come with it.
    """
    if not len(loaded.quantiles):
        raise ConfigError(
            f"router {loaded.name} knows of no calibration prompts; give yours with --data FILE"
        )
    return Sample(
        router=loaded.name,
        win_rates=loaded.quantiles,
        prompts=loaded.calibration_count,
        source=loaded.calibration_prompts,
        are_quantiles=True,
    )


def scored_sample(loaded: LoadedRouter, prompts: Sequence[str], source: str) -> Sample:
    """Returns the win rates of these prompts, on all cores, with a bar on standard error.

    Args:
        loaded: the router.
        prompts: at least one text.
        source: the prompts in words.

    Raises:
        ConfigError: there is no prompt.
        RouterNotReady: the router returned something that is not a rate in [0, 1].
    """
    if not prompts:
        raise ConfigError(f"{source}: there is no prompt in it")
    rates = win_rates(loaded.router, prompts)
    bar = tqdm(rates, total=len(prompts), desc=loaded.name, unit=" prompts", disable=None)
    try:
        scored = np.fromiter(bar, dtype=np.float64, count=len(prompts))
    except ValueError as error:
        raise RouterNotReady(f"router {loaded.name}: {error}") from error
    return Sample(router=loaded.name, win_rates=scored, prompts=len(prompts), source=source)
