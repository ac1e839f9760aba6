"""Logged preferences: many model pairs on the same prompts, for benchmarks and for training.

A preference set is a file `<data>/preferences/<name>.jsonl.gz`, one outcome a line. Training
(`pointsman.training.datasets`) and evaluation read it here, so that both cut prompts alike and
give each model one name.
"""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import Benchmark, in_natural_unit
from pointsman.routing import ModelPair, quote

logger = logging.getLogger(__name__)

STRONG_MODELS = "the strong models"
WEAK_MODELS = "the weak models"

_ENDING = ".jsonl.gz"
_MOST_PAIRS_SHOWN = 30
_TURN = re.compile(r"(?:\A|\n\n)(User|Assistant): ?")
_ALIASES = {
    "gpt-4o": "gpt-4o-2024-05-13",
    "mistral-large-2": "mistral-large-2407",
    "llama-3.1-405b-inst": "llama-3.1-405b-instruct",
}


class PreferenceRow(msgspec.Struct, frozen=True):
    """How well a strong and a weak model did on one prompt."""

    prompt: str
    strong: str
    weak: str
    strong_score: float
    weak_score: float
    overlap: list[str] = []
    """Benchmarks whose test prompts hold this one word for word."""


def user_turns(prompt: str) -> list[str]:
    """Returns the user's turns of a ``User: .../Assistant: ...`` transcript, oldest first.

    A text that does not start like a transcript is one turn, whatever it contains.
    """
    if not prompt.startswith("User:"):
        return [prompt]
    pieces = _TURN.split(prompt)[1:]  # speaker, text, speaker, text, ...
    turns = [
        text.strip()
        for speaker, text in zip(pieces[::2], pieces[1::2], strict=True)
        if speaker == "User"
    ]
    return turns or [prompt]


def canonical_model(name: str) -> str:
    """Returns one spelling per model: lower case, without vendor or host."""
    plain = name.strip().lower().rsplit("/", 1)[-1].split("@", 1)[0]
    plain = plain.removeprefix("meta-")
    return _ALIASES.get(plain, plain)


def preference_names(data: Path) -> list[str]:
    """Returns the preference sets that a data folder holds, sorted; none is no error."""
    paths = (data / "preferences").glob(f"*{_ENDING}")
    return sorted(path.name.removesuffix(_ENDING) for path in paths)


def preference_rows(data: Path, name: str) -> Iterator[PreferenceRow]:
    """Yields every row of a preference set, in file order.

    Raises:
        ConfigError: The file cannot be read, or a row lacks a field; names file and line.
    """
    path = data / "preferences" / f"{name}{_ENDING}"
    decoder = msgspec.json.Decoder(PreferenceRow)
    try:
        lines = gzip.decompress(path.read_bytes()).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}; --data must name the folder that holds preferences/"
        ) from error
    for number, line in enumerate(lines, start=1):
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}, line {number}: {error}") from error


def preference_benchmark(
    name: str, data: Path, *, strong_model: str | None = None, weak_model: str | None = None
) -> Benchmark:
    """Returns a preference set as a benchmark: each prompt once, by the mean of its outcomes.

    A prompt is the last user turn, which is what a served router scores. Rows that another
    benchmark's test set holds word for word are left out: they are measured there, and a figure
    here should not be the same figure again.

    Args:
        name: A file in ``<data>/preferences``, without its ending.
        data: The folder that holds ``preferences/``.
        strong_model: Keeps only this model's outcomes, in any spelling; by default all.
        weak_model: Likewise.

    Raises:
        ConfigError: The file cannot be read, or holds no outcome of these models; lists its pairs.
    """
    everything = list(preference_rows(data, name))
    rows = [row for row in everything if not row.overlap]
    if len(rows) < len(everything):
        logger.warning(
            "%s: %d of %d rows are left out, for they are prompts of MMLU, GSM8K or MT-Bench",
            *(name, len(everything) - len(rows), len(everything)),
        )
    pairs = [ModelPair(strong=row.strong, weak=row.weak) for row in rows]
    kept, pair = choose_pair(pairs, strong_model, weak_model, source=f"preference set {name}")
    outcomes: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in (rows[index] for index in kept):
        outcomes[user_turns(row.prompt)[-1]].append((row.weak_score, row.strong_score))
    scores = np.asarray([score for both in outcomes.values() for score in both])
    scale, unit = in_natural_unit(scores)
    means = scale * np.asarray([np.mean(both, axis=0) for both in outcomes.values()])  # (n, 2)
    return Benchmark(
        name=name,
        pair=pair,
        unit=unit,
        prompts=tuple(outcomes),
        weak_scores=means[:, 0],
        strong_scores=means[:, 1],
    )


def choose_pair(
    pairs: Sequence[ModelPair], strong_model: str | None, weak_model: str | None, *, source: str
) -> tuple[list[int], ModelPair]:
    """Returns which rows are of the models asked for, and whose outcomes those are.

    Args:
        pairs: The models of each row, in any spelling.
        strong_model: In any spelling; None keeps every strong model.
        weak_model: Likewise.
        source: Where the rows come from, for the message.

    Raises:
        ConfigError: No row is of these models; lists the pairs that there are.
    """
    named = [ModelPair(canonical_model(pair.strong), canonical_model(pair.weak)) for pair in pairs]
    strong = strong_model and canonical_model(strong_model)
    weak = weak_model and canonical_model(weak_model)
    kept = [
        index
        for index, pair in enumerate(named)
        if strong in {None, pair.strong} and weak in {None, pair.weak}
    ]
    if not kept:
        raise ConfigError(f"{source} {_lacks(strong_model, weak_model, named)}")
    strongs = {named[index].strong for index in kept}
    weaks = {named[index].weak for index in kept}
    pair = ModelPair(
        strong=strongs.pop() if len(strongs) == 1 else STRONG_MODELS,
        weak=weaks.pop() if len(weaks) == 1 else WEAK_MODELS,
    )
    return kept, pair


def _lacks(strong_model: str | None, weak_model: str | None, named: Sequence[ModelPair]) -> str:
    if not named:
        return "has no rows that may be measured"
    counts = Counter(named).most_common()
    shown = [f"{pair.strong} and {pair.weak}" for pair, _ in counts[:_MOST_PAIRS_SHOWN]]
    if len(counts) > len(shown):
        shown.append(f"{len(counts) - len(shown)} more")
    strong = quote(strong_model) if strong_model else "any model"
    weak = quote(weak_model) if weak_model else "any model"
    return f"has no outcomes of {strong} as strong and {weak} as weak; it has: {', '.join(shown)}"
