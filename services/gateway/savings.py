"""Usage and cost of answers → dollars by router, and what the strong model would have cost."""

from collections.abc import Callable, Sequence

from pointsman.prices import Prices
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.gateway.metrics import GatewayMetrics

DIRECT = "direct"
"""The router's label where a model was named: there is nothing to compare its cost with."""


class Savings:
    """Counts what answers cost, and what the same tokens cost at the strong model's prices.

    Args:
        metrics: Where it is counted.
        strong: The pair's strong model.
        models: The upstream's models with their prices, as last heard.
    """

    def __init__(
        self, metrics: GatewayMetrics, strong: str, models: Callable[[], Sequence[pb.Model]]
    ) -> None:
        self._metrics = metrics
        self._strong = strong
        self._models = models

    def count(
        self, router: str, usage: pb.Usage | None, cost_dollars: float, *, whole: bool
    ) -> None:
        """Counts one answer.

        Args:
            router: The label of its router; `direct` where a model was named.
            usage: What it used; None where nobody said.
            cost_dollars: What it cost.
            whole: Whether the client has all of it. Half an answer costs and saves nothing.
        """
        self._metrics.cost_dollars.labels(router).inc(cost_dollars)
        if usage is None or router == DIRECT or not whole:
            return
        for model in self._models():
            if model.name == self._strong:
                self._metrics.always_strong_dollars.labels(router).inc(dollars(usage, model))


def dollars(usage: pb.Usage, model: pb.Model) -> float:
    """Returns what the tokens cost at a model's prices."""
    prices = Prices(
        input=model.input_price_per_million,
        cached_input=model.cached_input_price_per_million,
        output=model.output_price_per_million,
        reasoning=model.reasoning_price_per_million,
    )
    return prices.dollars(usage)
