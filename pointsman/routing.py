"""The model field and the decision: pure, so that nobody disagrees about "≥".

Gateway, SDK, calibration and evaluation all come here.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pointsman.errors import InvalidRequest

Choice = Literal["strong", "weak"]
CHOICES: tuple[Choice, ...] = get_args(Choice)

ROUTER_NAME = re.compile(r"[a-z0-9_]+")
"""What a router may be called."""

_PREFIX = "router-"
# A finite decimal as `float` writes and reads it: "0.3", ".3", "1", "1e-05"; ASCII digits only.
_THRESHOLD = r"(?P<threshold>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
_SHARE = r"p(?P<percent>[0-9]{1,3})"
_BAR = re.compile(f"{_THRESHOLD}|{_SHARE}")
_MODEL_FIELD = re.compile(r"router-(?P<router>[a-z0-9_]+)-(?P<bar>p[0-9]{1,3}|[0-9.][0-9.eE+-]*)")
_LONGEST_QUOTE = 100


@dataclass(frozen=True, slots=True)
class ModelPair:
    """Two models of which a router predicts which answers better."""

    strong: str
    weak: str

    def pick(self, choice: Choice) -> str:
        """Returns the name of the chosen model."""
        return self.strong if choice == "strong" else self.weak


@dataclass(frozen=True, slots=True)
class StrongShare:
    """About so many percent of calls to the strong model, `p30`: an integer in [0, 100]."""

    percent: int

    def threshold_among(self, quantiles: Sequence[float]) -> float:
        """Returns the threshold that sends this share of the calibration prompts to strong.

        0 percent is a threshold of 1 and 100 percent one of 0, whatever was calibrated.

        Args:
            quantiles: Win rates at evenly spaced quantiles, ascending: a hundred steps or a
                multiple of it, so that nothing is interpolated.
        """
        if self.percent in {0, 100}:
            return 1.0 - self.percent / 100
        return float(quantiles[(100 - self.percent) * (len(quantiles) - 1) // 100])


Bar = float | StrongShare
"""What a win rate has to reach for strong: a threshold in [0, 1], or one named by its effect."""


@dataclass(frozen=True, slots=True)
class RouterRef:
    """What `router-<name>-<threshold>` or `router-<name>-p<percent>` asks for."""

    router: str
    bar: Bar

    def threshold_among(self, quantiles: Sequence[float]) -> float:
        """Returns the threshold in [0, 1]; a strong share is looked up among the quantiles.

        Raises:
            InvalidRequest: A strong share is asked for and the router has no calibration.
        """
        if not isinstance(self.bar, StrongShare):
            return self.bar
        if not len(quantiles):
            raise InvalidRequest(
                f"The router {self.router} has no calibration prompts, so p{self.bar.percent} says "
                f"nothing; write a threshold, such as router-{self.router}-0.5.",
                param="model",
            )
        return self.bar.threshold_among(quantiles)


def parse_model_field(model: str) -> RouterRef | None:
    """Reads the model field: a router with its bar, or None where it is a model's name.

    Anything that begins with `router-` must be `router-<name>-<threshold>` or
    `router-<name>-p<percent>`; model names may not begin so.

    Raises:
        InvalidRequest: The field is empty, or begins with `router-` and does not fit the grammar,
            or its threshold is outside [0, 1], or its percentage outside 0 to 100.
    """
    if not model:
        raise _malformed("The model field is empty.")
    if not model.startswith(_PREFIX):
        return None
    match = _MODEL_FIELD.fullmatch(model)
    if match is None:
        raise _malformed(f"The model field {quote(model)} is malformed.")
    return RouterRef(match["router"], parse_bar(match["bar"]))


def parse_bar(text: str) -> Bar:
    """Reads what stands behind a router's name: a threshold such as `0.3`, or a share, `p30`.

    Raises:
        InvalidRequest: It is neither, or out of range.
    """
    match = _BAR.fullmatch(text)
    if match is None:
        raise _malformed(f"{quote(text)} is neither a threshold nor a share.")
    if match["percent"]:
        if int(match["percent"]) > 100:
            raise _malformed(f"The share {text} is over p100.")
        return StrongShare(int(match["percent"]))
    threshold = float(match["threshold"])
    if not (math.isfinite(threshold) and 0.0 <= threshold <= 1.0):
        raise _malformed(f"The threshold {text[:_LONGEST_QUOTE]} is not in [0, 1].")
    return threshold


def decide(strong_win_rate: float, threshold: float) -> Choice:
    """Returns `strong` iff `strong_win_rate >= threshold` (Ong et al. 2024, arXiv:2406.18665)."""
    return "strong" if strong_win_rate >= threshold else "weak"


def quote(value: str) -> str:
    """Returns the value as an error message may show it: printable, one line, at most 100 chars."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value[: _LONGEST_QUOTE + 1])
    cut = shown if len(shown) <= _LONGEST_QUOTE else shown[: _LONGEST_QUOTE - 1] + "…"
    return f"`{cut}`"


def _malformed(problem: str) -> InvalidRequest:
    remedy = (
        "Write router-<name>-<threshold> with a threshold from 0 (all strong) to 1 (almost all "
        "weak), such as router-mf-0.5, or router-<name>-p<percent> for a share of strong calls, "
        "such as router-mf-p30, or the name of a model; GET /v1/models lists them."
    )
    return InvalidRequest(f"{problem} {remedy}", param="model")
