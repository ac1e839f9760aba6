"""The user's own outcomes: JSON Lines on disk → the columns that every training reads.

`own_rows` says what a row may look like. Every row is used or named by file, line and reason, and
unless the user says that bad rows may be skipped, one of them stops everything.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import Benchmark, in_natural_unit
from pointsman.routers.bradley_terry import FIRST_WON, SECOND_WON, TIE, global_ratings
from pointsman.routers.bundle import prompt_digest
from pointsman.routing import ModelPair
from pointsman.training.datasets import Outcomes
from pointsman.training.own_rows import Comparison, read_comparison

logger = logging.getLogger(__name__)

MOST_NAMED = 20
"""Bad rows that are named; of the others, the number is told."""

_ENDINGS = (".jsonl", ".jsonl.gz")

T = TypeVar("T", bound=Hashable)


class BadRows(ConfigError):
    """Rows that cannot be trained on, and no word that they may be skipped."""


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be trained on."""

    place: str
    """``file, line 3``."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class OwnRows:
    """What the files hold: every row is in one of the two."""

    good: tuple[tuple[str, Comparison], ...]
    """Each with its source: the file's name without its ending."""

    bad: tuple[BadRow, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Battles:
    """n battles of m models over p prompts, in columns."""

    prompts: tuple[str, ...]
    prompt_index: NDArray[np.int64]
    """int64[n]."""

    models: tuple[str, ...]
    """m canonical names, sorted."""

    first: NDArray[np.int64]
    """int64[n], indices into ``models``."""

    second: NDArray[np.int64]
    """int64[n], likewise."""

    outcome: NDArray[np.int64]
    """int64[n]: `FIRST_WON`, `TIE` or `SECOND_WON`."""

    def ratings(self) -> dict[str, float]:
        """Return each model's Elo rating over all battles."""
        ratings = global_ratings(self.first, self.second, self.outcome, len(self.models))
        return dict(zip(self.models, ratings.tolist(), strict=True))


def read_own_outcomes(
    paths: Sequence[Path], pair: ModelPair, *, skip_bad_rows: bool = False
) -> Outcomes:
    """Return all rows of the files as outcomes; prompts that differ in form only share a root.

    A row without models is put down to ``pair``. Of a battle's two models, the strong one is that
    of the pair, or else the one with the higher rating over all battles.

    Args:
        paths: files, or folders whose ``.jsonl`` and ``.jsonl.gz`` files are read.
        pair: canonical names.
        skip_bad_rows: leave bad rows out, with a warning.

    Raises:
        BadRows: there are bad rows, and they may not be skipped.
        ConfigError: a file cannot be read, or no row is good.
    """
    rows = read_own_rows(paths)
    if rows.bad and not skip_bad_rows:
        raise BadRows(f"{_named(rows.bad)}\nmend them, or leave them out with --skip-bad-rows")
    if rows.bad:
        logger.warning("left out: %s", _named(rows.bad))
    if not rows.good:
        named = ", ".join(map(str, paths))
        raise ConfigError(f"{named}: there is no row to train on; see `pointsman train --help`")
    return _outcomes(rows.good, pair)


def read_own_rows(paths: Sequence[Path]) -> OwnRows:
    """Return every row of the files, good or bad; empty lines are none.

    Raises:
        ConfigError: a file or folder cannot be read, or a folder holds no such files.
    """
    good: list[tuple[str, Comparison]] = []
    bad: list[BadRow] = []
    for path in _files(paths):
        source = path.name.removesuffix(".gz").removesuffix(".jsonl")
        for number, line in _lines(path):
            try:
                good.append((source, read_comparison(line)))
            except ValueError as error:
                bad.append(BadRow(place=f"{path}, line {number}", reason=str(error)))
    return OwnRows(good=tuple(good), bad=tuple(bad))


def battles_of(rows: Sequence[Comparison]) -> Battles:
    """Return the rows that are battles, in columns and in their order."""
    fought = [(row, row.models) for row in rows if row.is_battle and row.models]
    prompts = _numbered(row.prompt for row, _ in fought)
    models = _numbered(sorted({name for _, names in fought for name in names}))
    outcomes = {1.0: FIRST_WON, 0.5: TIE, 0.0: SECOND_WON}
    return Battles(
        prompts=tuple(prompts),
        prompt_index=np.asarray([prompts[row.prompt] for row, _ in fought], dtype=np.int64),
        models=tuple(models),
        first=np.asarray([models[first] for _, (first, _) in fought], dtype=np.int64),
        second=np.asarray([models[second] for _, (_, second) in fought], dtype=np.int64),
        outcome=np.asarray([outcomes[row.scores[0]] for row, _ in fought], dtype=np.int64),
    )


def held_out_benchmark(outcomes: Outcomes, held_out: NDArray[np.bool_]) -> Benchmark:
    """Return the prompts that ``held_out`` (bool[p]) marks as a test set, each by its means.

    Raises:
        ConfigError: it marks none.
    """
    kept = outcomes.keep_prompts(held_out)
    count = len(kept.prompts)
    if not count:
        raise ConfigError(
            f"{len(outcomes.prompts)} prompts are too few to hold any out; bring more data"
        )
    scale, unit = in_natural_unit(np.concatenate([kept.weak_scores, kept.strong_scores]))
    rows = scale / np.bincount(kept.prompt_index, minlength=count)
    strong, weak = set(kept.strong_models), set(kept.weak_models)
    return Benchmark(
        name="own data, held out",
        prompts=kept.prompts,
        pair=ModelPair(
            strong=strong.pop() if len(strong) == 1 else "the strong models",
            weak=weak.pop() if len(weak) == 1 else "the weak models",
        ),
        unit=unit,
        weak_scores=rows * np.bincount(kept.prompt_index, kept.weak_scores, minlength=count),
        strong_scores=rows * np.bincount(kept.prompt_index, kept.strong_scores, minlength=count),
    )


def _outcomes(rows: Sequence[tuple[str, Comparison]], pair: ModelPair) -> Outcomes:
    ratings = battles_of([row for _, row in rows]).ratings()
    sides = [_sides(row, pair, ratings) for _, row in rows]
    prompts = _numbered(row.prompt for _, row in rows)
    sources = _numbered(source for source, _ in rows)
    roots = _numbered(prompt_digest(prompt) for prompt in prompts)
    return Outcomes(
        prompts=tuple(prompts),
        roots=np.asarray([roots[prompt_digest(prompt)] for prompt in prompts]),
        prompt_index=np.asarray([prompts[row.prompt] for _, row in rows]),
        source_index=np.asarray([sources[source] for source, _ in rows]),
        sources=tuple(f"own data: {source}" for source in sources),
        strong_models=tuple(strong for strong, _, _, _ in sides),
        weak_models=tuple(weak for _, weak, _, _ in sides),
        strong_scores=np.asarray([score for _, _, score, _ in sides]),
        weak_scores=np.asarray([score for _, _, _, score in sides]),
    )


def _sides(
    row: Comparison, pair: ModelPair, ratings: dict[str, float]
) -> tuple[str, str, float, float]:
    """Return strong model, weak model, strong score, weak score."""
    first, second = row.models or (pair.strong, pair.weak)
    first_score, second_score = row.scores
    if row.is_battle:
        named = {(pair.strong, pair.weak): True, (pair.weak, pair.strong): False}
        in_order = named.get((first, second), ratings[first] >= ratings[second])
        if not in_order:
            return second, first, second_score, first_score
    return first, second, first_score, second_score


def _numbered(values: Iterable[T]) -> dict[T, int]:
    """Return each distinct value's place, in the order in which they come."""
    return {value: number for number, value in enumerate(dict.fromkeys(values))}


def _named(bad: Sequence[BadRow]) -> str:
    lines = [f"{row.place}: {row.reason}" for row in bad[:MOST_NAMED]]
    if len(bad) > MOST_NAMED:
        lines.append(f"and {len(bad) - MOST_NAMED} more")
    rows = "1 bad row" if len(bad) == 1 else f"{len(bad)} bad rows"
    return "\n  ".join([f"{rows}:", *lines])


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.iterdir() if file.name.endswith(_ENDINGS))
        if not found:
            raise ConfigError(
                f"{path} holds neither preferences/ nor a file that ends in .jsonl or .jsonl.gz; "
                "name the folder or the files of your data with --data"
            )
        yield from found


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not empty, with its number."""
    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if path.name.endswith(".gz") else data
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be read: {error}; name your data with --data") from error
    for number, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if stripped := line.strip():
            yield number, stripped
