"""Graded prompts from a file, for calibration by quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointsman.calibration.quality import UNIT_RANGE
from pointsman.errors import ConfigError
from pointsman.routing import quote
from pointsman.rows import Row, read_rows


@dataclass(frozen=True, kw_only=True)
class LabelledFields:
    """What the columns are called."""

    prompt: str = "prompt"
    strong_score: str = "strong_score"
    weak_score: str = "weak_score"


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Prompts and how well each model answered them."""

    prompts: tuple[str, ...]
    """n texts."""

    strong_scores: NDArray[np.float64]
    """float64[n]."""

    weak_scores: NDArray[np.float64]
    """float64[n], on the same scale."""

    @property
    def repeated(self) -> int:
        """How many rows hold a prompt that an earlier row holds."""
        return len(self.prompts) - len(set(self.prompts))


def read_labelled(
    name: str,
    fields: LabelledFields,
    score_range: tuple[float, float] = UNIT_RANGE,
) -> Labelled:
    """Returns the graded prompts of a file, JSON Lines or CSV; true and false count as 1 and 0.

    Args:
        name: a path, or `-` for standard input.
        fields: what the columns are called.
        score_range: the lowest and the highest score there can be.

    Raises:
        ConfigError: the file cannot be read, or a row lacks a field or has a score
            that is no number in the range; names file, line and value.
    """
    prompts: list[str] = []
    strong: list[float] = []
    weak: list[float] = []
    for row in read_rows(name):
        prompts.append(row.text(fields.prompt))
        strong.append(_score(row, fields.strong_score, score_range))
        weak.append(_score(row, fields.weak_score, score_range))
    return Labelled(
        prompts=tuple(prompts), strong_scores=np.asarray(strong), weak_scores=np.asarray(weak)
    )


def _score(row: Row, field: str, score_range: tuple[float, float]) -> float:
    low, high = score_range
    score = row.number(field)
    if not low <= score <= high:
        raise ConfigError(
            f"{row.place}: the field {quote(field)} is {score:g}, outside {low:g} to {high:g}; "
            "give the range of your scores with --score-range LOW HIGH"
        )
    return score
