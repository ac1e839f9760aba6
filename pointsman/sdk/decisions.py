"""Routers, a model field or a threshold, and messages → a choice: the SDK's part of deciding."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from tqdm import tqdm

from pointsman.errors import InvalidRequest
from pointsman.prompts import prompt_text
from pointsman.routers.bulk import win_rate
from pointsman.routers.registry import LoadedRouter
from pointsman.routers.settings import ToolsConfig
from pointsman.routing import Choice, decide, parse_model_field, quote
from pointsman.sdk.arguments import RoutingError, as_mapping
from pointsman.sdk.embeddings import endpoint_embedder

logger = logging.getLogger(__name__)


def load_routers(
    names: Sequence[str], config: ToolsConfig, *, progress_bar: bool
) -> dict[str, LoadedRouter]:
    """Returns name → router; warns in the log of what differs from what one might expect.

    Raises:
        UnknownRouter: There is no such router.
        ConfigError: Its class, options or manifest are wrong.
        RouterNotReady: A file of it is damaged.
    """
    routers: dict[str, LoadedRouter] = {}
    for name in tqdm(names, desc="Loading routers", disable=not progress_bar):
        routers[name] = loaded = config.load(name, endpoint_embedder)
        if loaded.golden is not None and loaded.golden.verdict != "ok":
            logger.warning(loaded.golden.message)
    for note in config.notes(names):
        logger.warning(note)
    return routers


class Decisions:
    """Decides by the routers that were loaded; may be shared by threads."""

    def __init__(self, routers: Mapping[str, LoadedRouter]) -> None:
        self._routers = routers

    def decide(
        self,
        messages: Sequence[Any],
        model: str | None,
        router: str | None,
        threshold: float | None,
    ) -> tuple[str, Choice]:
        """Returns the router's name and its choice: by `model`, or by router and threshold.

        Raises:
            RoutingError: They are missing or wrong, or a message is no message.
        """
        if model is not None:
            router, threshold = self._named(model)
        elif router is None or threshold is None:
            raise RoutingError(
                "nothing says how to route; give model, such as router-mf-0.5, or both router and "
                "threshold",
                param="model",
            )
        loaded = self.router(router)
        if not isinstance(threshold, Real) or not 0.0 <= threshold <= 1.0:
            raise RoutingError(
                f"threshold {quote(str(threshold))} is not a number from 0 (all strong) to 1 "
                "(almost all weak)",
                param="threshold",
            )
        prompt = prompt_text([as_mapping(message) for message in messages])
        return router, decide(win_rate(loaded.router, prompt), float(threshold))

    def _named(self, model: object) -> tuple[str, float]:
        """Returns router and threshold of a model field."""
        try:
            ref = parse_model_field(str(model))
        except InvalidRequest as error:
            raise self._unnamed(model) from error
        if ref is None:
            raise self._unnamed(model)
        quantiles = self.router(ref.router).quantiles.tolist()
        try:
            return ref.router, ref.threshold_among(quantiles)
        except InvalidRequest as error:
            raise RoutingError(error.message, param="model") from error

    def _unnamed(self, model: object) -> RoutingError:
        return RoutingError(
            f"the model field {quote(str(model))} names no router and threshold; write "
            "router-<name>-<threshold> with a threshold from 0 (all strong) to 1 (almost all "
            "weak), or router-<name>-p<percent> for a share of strong calls, p0 to p100; routers "
            f"here: {', '.join(self._routers) or 'none'}",
            param="model",
        )

    def router(self, name: object) -> LoadedRouter:
        """Returns a router.

        Raises:
            RoutingError: It was not loaded.
        """
        loaded = self._routers.get(name) if isinstance(name, str) else None
        if loaded is None:
            raise RoutingError(
                f"no router {quote(str(name))} was loaded; there are: "
                f"{', '.join(self._routers) or 'none'}",
                param="router",
            )
        return loaded
