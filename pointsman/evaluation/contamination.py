"""Training prompts that equal or nearly equal test prompts: what makes a figure worthless.

Near means a cosine of at least 0.95 between embeddings, RouteLLM's limit. Its embedding is a paid
service's; the one here is the shipped router's own, so that no prompt leaves the machine.

The served embedding as it is does not tell: any two exam questions have a cosine of over 0.9, for
they share what all exam questions share. Less the mean over the golden prompts it does. Measured at
0.95 on the encoder before it was fine-tuned, over 1,307 GSM8K and 2,000 MMLU test prompts:

=====================================================  ========  ======================
texts                                                  centred   sentence embedding
=====================================================  ========  ======================
the 25 copies that RouteLLM found                      21 found  21 found
450 prompts with a letter changed                      95 %      75 %
450 prompts with a word left out                       98 %      96 %
450 prompts with a sentence added at the end           75 %      99 %
2,000 GSM8K training questions (different ones)        2 marked  0 marked
2,000 MMLU-Pro questions that are not in MMLU          0 marked  0 marked
=====================================================  ========  ======================

Both that were marked are one question with other numbers. At 0.9 it finds 22 of the 25 and 95 % of
the lengthened prompts, and marks 5 and 2. In a prompt of a dozen words one letter weighs more: such
a copy lies at about 0.94. The sentence embedding, the last layer's token mean, is
what training cleans with; it is no part of what is served.

The fine-tuned encoder that ships, over as many prompts, drawn anew: 20 of the 25 copies, 98 % with
a letter changed, 99 % with a word left out, 95 % with a sentence of three words added at the end
and 48 % with one of eleven; no GSM8K training question is marked. At 0.9 it finds 21 copies and
80 % of those lengthened by eleven words, and marks 4. MMLU-Pro was not measured again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pointsman.errors import ConfigError
from pointsman.routers.bulk import cores
from pointsman.routers.bundle import load_bundle, prompt_digest
from pointsman.routers.embedding import Embedder
from pointsman.routers.registry import SHIPPED_BUNDLES

NEAR_DUPLICATE_COSINE = 0.95
"""RouteLLM's own limit for contamination (its find_contaminated.py)."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""n texts → float32[n, d], whose cosine tells topic and wording."""

_BLOCK = 512
"""Training prompts compared at once: 30 MB for the 15,000 test prompts."""


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """A training prompt and a test prompt that it equals or nearly equals."""

    training_index: int
    test_index: int
    cosine: float
    """1 if they differ in case and white space at most."""


def contaminated(
    training: Sequence[str],
    tests: Sequence[str],
    embed: Embed,
    minimum: float = NEAR_DUPLICATE_COSINE,
) -> list[Match]:
    """Returns every pair of a training and a test prompt that are at least so near, in order.

    Args:
        training: n texts; repeated ones are embedded once.
        tests: m texts.
        embed: For example `shipped_embed()`.
        minimum: Cosine from which a pair counts; above 1, only equal prompts do.
    """
    found = {(match.training_index, match.test_index): match for match in _equal(training, tests)}
    if training and tests and minimum <= 1.0:
        ours, theirs = _unit(_embedded(training, embed)), _unit(_embedded(tests, embed))
        for start in range(0, len(ours), _BLOCK):
            cosines = ours[start : start + _BLOCK] @ theirs.T  # (at most 512, m)
            for row, column in np.argwhere(cosines >= minimum).tolist():
                cosine = min(1.0, float(cosines[row, column]))
                match = Match(start + row, column, cosine)
                found.setdefault((match.training_index, match.test_index), match)
    return sorted(found.values())


def nearest_cosines(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns float32[n]: for each row of float32[n, d] the largest cosine to any of the others."""
    unit_rows, unit_others = _unit(rows), _unit(others)
    blocks = [
        (unit_rows[start : start + _BLOCK] @ unit_others.T).max(axis=1)
        for start in range(0, len(unit_rows), _BLOCK)
    ]
    return np.concatenate(blocks)


def shipped_embed() -> Embed:
    """Returns the shipped mf router's, see `embed_of`."""
    return embed_of(SHIPPED_BUNDLES / "mf")


def embed_of(folder: Path) -> Embed:
    """Returns an embedding that runs on this machine: a bundle's, centred.

    It uses all cores, and shows a bar on standard error if that is a terminal.

    Args:
        folder: The bundle's.

    Raises:
        RouterNotReady: A file of the bundle is damaged.
        ConfigError: The bundle has no encoder or no golden prompts, as an imported one may.
    """
    bundle = load_bundle(folder)
    golden = bundle.manifest.golden
    if golden is None:
        raise ConfigError(
            f"the bundle at {folder} has no golden prompts to centre embeddings on; name one that "
            "`pointsman train` made"
        )
    settings = bundle.manifest.embedder
    embedder = Embedder(bundle.read_file("encoder"), bundle.read_file("tokenizer"), settings)
    center = embedder.embed([case.prompt for case in golden.cases]).mean(axis=0)  # (d,)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.empty((len(texts), settings.dimension), dtype=np.float32)
        with ThreadPoolExecutor(cores()) as pool:
            vectors = pool.map(lambda text: embedder.embed([text])[0], texts)
            progress = tqdm(vectors, total=len(texts), desc="embedding", unit="text", disable=None)
            try:
                for index, vector in enumerate(progress):
                    rows[index] = vector - center
            finally:  # after Ctrl-C nobody waits for the rest
                pool.shutdown(wait=False, cancel_futures=True)
        return rows

    return embed


def _equal(training: Sequence[str], tests: Sequence[str]) -> list[Match]:
    where = defaultdict(list)
    for column, text in enumerate(tests):
        where[prompt_digest(text)].append(column)
    return [
        Match(row, column, 1.0)
        for row, text in enumerate(training)
        for column in where.get(prompt_digest(text), ())
    ]


def _embedded(texts: Sequence[str], embed: Embed) -> NDArray[np.float32]:
    """Returns float32[n, d], each distinct text embedded once."""
    numbers = {text: index for index, text in enumerate(dict.fromkeys(texts))}
    rows: NDArray[np.float32] = embed(list(numbers))[[numbers[text] for text in texts]]
    return rows


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = rows / np.maximum(norms, 1e-12)
    return unit
