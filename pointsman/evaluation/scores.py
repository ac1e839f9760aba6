"""A router and a benchmark's prompts → win rates, each computed once and kept on disk.

Scoring is nearly all of an evaluation's time. What was scored is kept in pieces of a few hundred
prompts, so an interrupted evaluation goes on where it stopped, and two may run at once.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pointsman.errors import ConfigError
from pointsman.files import write_whole
from pointsman.routers.bulk import win_rates
from pointsman.routers.registry import LoadedRouter

logger = logging.getLogger(__name__)

CHUNK = 512
"""Prompts a file: at 10 ms a prompt, Ctrl-C costs at most a few seconds of work."""

_FORMAT = "win rates 1"
"""Part of every key; another number makes all that was kept before unknown."""


def cached_win_rates(
    router: LoadedRouter,
    prompts: Sequence[str],
    *,
    cache: Path | None,
    threads: int | None = None,
    overwrite: bool = False,
) -> NDArray[np.float64]:
    """Returns float64[n], the strong win rate of each prompt, computed on all cores or read.

    Args:
        router: What scores; one whose revision does not tell its win rates apart is never cached.
        prompts: n texts.
        cache: Folder that keeps win rates under ``win_rates/``, keyed by the router's name and
            revision and by the prompts; None keeps none. One that cannot be written to costs a
            warning.
        threads: By default one a core.
        overwrite: Compute anew, and replace what was kept.

    Raises:
        ConfigError: The router returned something that is not a rate in [0, 1].
    """
    folder = cache / "win_rates" if cache and router.cacheable else None
    chunks = [prompts[start : start + CHUNK] for start in range(0, len(prompts), CHUNK)]
    paths = [folder and folder / f"{_key(router, chunk)}.npy" for chunk in chunks]
    rates: list[NDArray[np.float64] | None] = [
        None if overwrite or not path else _kept(path, len(chunk))
        for path, chunk in zip(paths, chunks, strict=True)
    ]
    missing = [index for index, found in enumerate(rates) if found is None]
    pending = (prompt for index in missing for prompt in chunks[index])
    scored = win_rates(router.router, pending, threads=threads)
    title = f"{router.name} {len(prompts)} prompts"
    with tqdm(total=len(prompts), desc=title, unit="prompt", disable=None) as bar:
        bar.update(len(prompts) - sum(len(chunks[index]) for index in missing))
        writable = True
        for index in missing:  # one stream for all: no thread idles between two chunks
            rates[index] = found = _scored(router, islice(scored, len(chunks[index])), bar)
            path = paths[index]
            if path and writable:
                writable = _keep(path, found)
    return np.concatenate([np.empty(0), *(found for found in rates if found is not None)])


def _scored(router: LoadedRouter, rates: Iterator[float], bar: tqdm[Any]) -> NDArray[np.float64]:
    found = []
    try:
        for rate in rates:
            found.append(rate)
            bar.update()
    except ValueError as error:
        raise ConfigError(f"router {router.name} cannot score: {error}") from error
    return np.asarray(found, dtype=np.float64)


def _key(router: LoadedRouter, prompts: Sequence[str]) -> str:
    """Returns a file name that another router, revision or prompt would change."""
    digest = sha256()
    for text in (_FORMAT, router.name, router.revision, *prompts):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _kept(path: Path, count: int) -> NDArray[np.float64] | None:
    """Returns float64[count] from the cache, None if it is not there or not whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    # Compared, not parsed: a damaged header cannot name a type or a size.
    header = _as_npy(np.zeros(count))[: -8 * count]
    if not data.startswith(header) or len(data) != len(header) + 8 * count:
        return None
    rates = np.frombuffer(data, dtype="<f8", offset=len(header)).astype(np.float64)
    return rates if ((rates >= 0.0) & (rates <= 1.0)).all() else None  # NaN is neither


def _keep(path: Path, rates: NDArray[np.float64]) -> bool:
    """Writes win rates to the cache; returns whether it can be written to."""
    try:
        write_whole(path, _as_npy(rates))
    except OSError as error:
        logger.warning(
            "win rates are not kept: %s cannot be written: %s; --cache names another folder",
            *(path.parent, error.strerror or error),
        )
        return False
    return True


def _as_npy(rates: NDArray[np.float64]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, rates.astype("<f8"), allow_pickle=False)
    return stream.getvalue()
