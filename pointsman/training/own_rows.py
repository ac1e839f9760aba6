"""One line of a user's own data → two models on one prompt, or what is wrong with the line.

::

    {"prompt": ..., "strong": "gpt-4o", "weak": "mixtral", "label": "strong" | "weak" | "tie"}
    {"prompt": ..., "strong_score": 0.9, "weak_score": 0.4}            scores in [0, 1]
    {"prompt": ..., "model_a": ..., "model_b": ..., "winner": "model_a" | "model_b" | "tie"}

The second may name its models as the first does, and where a row has scores and a label, the
scores count. A field that is null is as good as absent, and other fields are not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from pointsman.evaluation.preferences import canonical_model, user_turns
from pointsman.json_text import JsonDecoder, RawObject
from pointsman.routing import quote


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on one prompt, as any good row says it."""

    prompt: str
    """What the router will see: the last user's turn, of an arena's conversation the first."""

    models: tuple[str, str] | None
    """Canonical names; None where the row names none."""

    scores: tuple[float, float]
    """Of each, in [0, 1]; of a battle 1 for winning, 0.5 for a tie, 0 for losing."""

    is_battle: bool = False
    """Whether it is not said which of the models is the strong one; otherwise the first is."""


class _Labelled(msgspec.Struct):
    prompt: str
    strong: str
    weak: str
    label: Literal["strong", "weak", "tie"]


class _Scored(msgspec.Struct):
    prompt: str
    strong_score: float | bool
    weak_score: float | bool
    strong: str | None = None
    weak: str | None = None


class _Battle(msgspec.Struct):
    prompt: str | list[str | None]
    model_a: str
    model_b: str
    winner: Literal["model_a", "model_b", "tie", "tie (bothbad)"]


_FIRST_SCORES = {"strong": 1.0, "weak": 0.0, "model_a": 1.0, "model_b": 0.0}
"""Label or winner → score of the first model; all others are ties."""

_fields = JsonDecoder[RawObject](RawObject)
_labelled = JsonDecoder[_Labelled](_Labelled)
_scored = JsonDecoder[_Scored](_Scored)
_battle = JsonDecoder[_Battle](_Battle)
_turns = JsonDecoder[list[str | None]](list[str | None])


def read_comparison(line: bytes) -> Comparison:
    """Return the row that a line holds.

    Raises:
        ValueError: the line is no such row; says what is wrong with it.
    """
    fields = {name for name, value in _fields.decode(line).items() if bytes(value) != b"null"}
    if "winner" in fields:
        return _of_battle(_battle.decode(line))
    if "label" in fields and not {"strong_score", "weak_score"} <= fields:
        return _of_labelled(_labelled.decode(line))
    if "strong_score" in fields or "weak_score" in fields:
        return _of_scored(_scored.decode(line))
    known = ", ".join(map(quote, sorted(fields))) or "none"
    raise ValueError(
        "there is neither `label`, nor `strong_score` and `weak_score`, nor `winner`; "
        f"its fields: {known}"
    )


def _of_labelled(row: _Labelled) -> Comparison:
    first = _FIRST_SCORES.get(row.label, 0.5)
    return Comparison(
        prompt=_prompt(user_turns(row.prompt)[-1]),
        models=_models(row.strong, row.weak),
        scores=(first, 1.0 - first),
    )


def _of_scored(row: _Scored) -> Comparison:
    for name in ("strong_score", "weak_score"):
        score = getattr(row, name)
        if not 0.0 <= score <= 1.0:
            raise ValueError(
                f"`{name}` is {score:g}, not in [0, 1]; divide a judge's score by the highest one"
            )
    if (row.strong is None) != (row.weak is None):
        raise ValueError("only one of `strong` and `weak` is named; name both models or neither")
    named = row.strong is not None and row.weak is not None
    return Comparison(
        prompt=_prompt(user_turns(row.prompt)[-1]),
        models=_models(row.strong or "", row.weak or "") if named else None,
        scores=(float(row.strong_score), float(row.weak_score)),
    )


def _of_battle(row: _Battle) -> Comparison:
    first = _FIRST_SCORES.get(row.winner, 0.5)
    return Comparison(
        prompt=_prompt(_first_turn(row.prompt)),
        models=_models(row.model_a, row.model_b),
        scores=(first, 1.0 - first),
        is_battle=True,
    )


def _first_turn(prompt: str | list[str | None]) -> str:
    """Return the first turn of an arena's conversation: a list, or the JSON of one as text."""
    if isinstance(prompt, str):
        try:
            prompt = _turns.decode(prompt.encode())
        except ValueError:  # a text like any other
            return user_turns(str(prompt))[0]
    return (prompt[0] if prompt else None) or ""


def _prompt(text: str) -> str:
    if not text.strip():
        raise ValueError("the prompt is empty")
    return text


def _models(first: str, second: str) -> tuple[str, str]:
    names = canonical_model(first), canonical_model(second)
    if not all(names):
        raise ValueError("a model's name is empty")
    if names[0] == names[1]:
        raise ValueError(f"both models are {quote(names[0])}")
    return names
