"""A router in this process, for the tools: loaded once, its failures told in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from pointsman.errors import PointsmanError, RouterNotReady
from pointsman.routers.bulk import win_rates
from pointsman.routers.registry import LoadedRouter
from pointsman.routers.settings import read_config
from pointsman.sdk.embeddings import endpoint_embedder


def local_router(config: str | None, name: str) -> LoadedRouter:
    """Returns the router of a configuration file, or of the built-in configuration.

    What its user should know, such as that it is not RouteLLM's, goes to standard error.

    Raises:
        ConfigError: The file is wrong, or the router's class, options or manifest.
        UnknownRouter: There is no such router.
        RouterNotReady: A file of it is damaged, or its class fails.
    """
    read = read_config(config)
    try:
        loaded = read.load(name, endpoint_embedder)
    except PointsmanError:
        raise
    except Exception as error:  # somebody else's class
        raise RouterNotReady(f"router {name} cannot be loaded: {error!r}") from error
    for note in read.notes([name]):
        print(f"pointsman: {note}", file=sys.stderr)
    if loaded.golden is not None and loaded.golden.verdict != "ok":
        print(f"pointsman: {loaded.golden.message}", file=sys.stderr)
    return loaded


def local_win_rates(loaded: LoadedRouter, prompts: Iterable[str]) -> Iterator[float]:
    """Yields the strong win rate of each prompt, in order, on all cores.

    Raises:
        RouterNotReady: The router fails, or returns what is no win rate.
        PointsmanError: Whatever `prompts` raises.
    """
    try:
        yield from win_rates(loaded.router, prompts)
    except PointsmanError:
        raise
    except Exception as error:  # somebody else's class
        raise RouterNotReady(f"router {loaded.name} cannot score: {error!r}") from error
