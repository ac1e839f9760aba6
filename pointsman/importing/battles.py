"""RouteLLM's data sets of battles and of their embeddings → arrays, row for row as it reads them.

A battle is two models' answers to one conversation and which was preferred. RouteLLM keeps the
first turn, drops those that are short, and takes row i of the embeddings for the i-th that is left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pointsman.errors import ConfigError
from pointsman.importing.tables import read_table, table_files
from pointsman.routing import quote
from pointsman.rows import Row

SHORTEST_PROMPT = 16
"""Characters; RouteLLM drops battles over anything shorter, greetings for the most part."""

A_WON, TIE, B_WON = 0, 1, 2
"""How a battle may end."""

_COLUMNS = ("prompt", "model_a", "model_b", "winner", "winner_model_a", "winner_model_b")
_WINNERS = {"model_a": A_WON, "model_b": B_WON, "tie": TIE, "tie (bothbad)": TIE}


@dataclass(frozen=True, kw_only=True, eq=False)
class Battles:
    """n battles, in the order of their data sets."""

    prompts: tuple[str, ...]
    """n first turns."""

    model_a: tuple[str, ...]
    model_b: tuple[str, ...]
    outcome: NDArray[np.int8]
    """int8[n]: 0 a won, 1 a tie, 2 b won."""


def read_battles(sources: Sequence[Path]) -> Battles:
    """Return the battles of several data sets, one after the other, short prompts left out.

    Rows have `model_a`, `model_b`, `prompt` (a conversation's user turns as a JSON list, or one
    text) and `winner`, or `winner_model_a` and `winner_model_b` as in LMSYS's data.

    Raises:
        ConfigError: a file cannot be read or a row is wrong; names file, row and value.
    """
    kept: list[tuple[str, str, str, int]] = []
    for source in sources:
        for path in table_files(source):
            rows = read_table(path, _COLUMNS)
            for row in tqdm(rows, desc=path.name, unit="battle", disable=None, leave=False):
                prompt = _first_turn(row)
                if len(prompt) >= SHORTEST_PROMPT:
                    kept.append((prompt, row.text("model_a"), row.text("model_b"), _outcome(row)))
    if not kept:
        raise ConfigError(f"{', '.join(map(str, sources))}: there are no battles")
    prompts, model_a, model_b, outcome = zip(*kept, strict=True)
    return Battles(
        prompts=prompts,
        model_a=model_a,
        model_b=model_b,
        outcome=np.asarray(outcome, dtype=np.int8),
    )


def _first_turn(row: Row) -> str:
    """Return the first user turn without the white space round it."""
    raw = bytes(row.members.get("prompt", b"null"))
    turns: object = json.loads(raw) if raw.startswith(b"[") else _turns_in(row.text("prompt"))
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
        shown = quote(raw.decode("utf-8", "replace"))
        raise ConfigError(f"{row.place}: the prompt has no first turn that is text: {shown}")
    return turns[0].strip()


def _turns_in(text: str) -> list[object]:
    """Return the turns in a text that is a JSON list, as LMSYS writes them, or else the text."""
    try:
        turns = json.loads(text)  # the library's own takes lone surrogates, which the data has
    except ValueError:
        return [text]
    return turns if isinstance(turns, list) else [text]


def _outcome(row: Row) -> int:
    """Return how a battle ended, as RouteLLM reads it: what neither won is a tie."""
    if row.has("winner"):
        winner = row.text("winner")
        if winner not in _WINNERS:
            known = ", ".join(_WINNERS)
            raise ConfigError(f"{row.place}: winner is {quote(winner)}; write one of {known}")
        return _WINNERS[winner]
    if row.number("winner_model_a") == 1:
        return A_WON
    return B_WON if row.number("winner_model_b") == 1 else TIE
