"""The model field and the decision: pure, so that nobody disagrees about "≥".

Gateway, SDK, calibration and evaluation all come here.
"""

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from pointsman.errors import InvalidRequest

Choice = Literal["strong", "weak"]
CHOICES: tuple[Choice, ...] = get_args(Choice)

ROUTER_NAME = re.compile(r"[a-z0-9_]+")
"""What a router may be called."""

_PREFIX = "router-"
# A finite decimal as `float` writes and reads it: "0.3", ".3", "1", "1e-05"; ASCII digits only.
_MODEL_FIELD = re.compile(
    r"router-(?P<router>[a-z0-9_]+)-(?P<threshold>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
)
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
class RouterRef:
    """What `router-<name>-<threshold>` asks for; `threshold` is finite and in [0, 1]."""

    router: str
    threshold: float


def parse_model_field(model: str) -> RouterRef | None:
    """Reads the model field: a router and a threshold, or None where it is a model's name.

    Anything that begins with `router-` must be `router-<name>-<threshold>`; model names may not
    begin so.

    Raises:
        InvalidRequest: The field is empty, or begins with `router-` and does not fit the grammar,
            or its threshold is outside [0, 1].
    """
    if not model:
        raise _malformed("The model field is empty.")
    if not model.startswith(_PREFIX):
        return None
    match = _MODEL_FIELD.fullmatch(model)
    if match is None:
        raise _malformed(f"The model field {quote(model)} is malformed.")
    threshold = float(match["threshold"])
    if not (math.isfinite(threshold) and 0.0 <= threshold <= 1.0):
        raise _malformed(f"The threshold {match['threshold'][:_LONGEST_QUOTE]} is not in [0, 1].")
    return RouterRef(match["router"], threshold)


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
        "weak), such as router-mf-0.5, or the name of a model; GET /v1/models lists both."
    )
    return InvalidRequest(f"{problem} {remedy}", param="model")
