"""The SDK and the cluster decide alike."""

from pathlib import Path

import pytest

from pointsman import Controller
from pointsman.routing import StrongShare
from tests.fakes.cluster import cluster, models_of
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.integration

PROMPTS = [
    "What is the capital of France?",
    "Prove that there are infinitely many primes congruent to 3 modulo 4.",
    "Schreibe ein Gedicht über den Herbst.",
    "Half an emoji \ud83d, as JavaScript cuts it.",
    "",
]


async def test_the_sdk_decides_as_the_gateway_does(tmp_path: Path) -> None:
    """The same for the same prompt: also where rate and threshold are equal, and by share."""
    sdk = Controller(["mf"], "strong", "weak")
    quantiles = sdk.routers["mf"].quantiles.tolist()
    rates = sdk.batch_calculate_win_rate(PROMPTS, router="mf")
    bars = {f"{rate!r}": rate for rate in rates.tolist()}
    bars |= {f"p{n}": StrongShare(n).threshold_among(quantiles) for n in (0, 30, 50, 100)}
    async with (
        FakeProvider() as provider,
        cluster(tmp_path, models_of(provider.url), scorer={"routers": {"mf": {}}}) as running,
    ):
        for name, threshold in bars.items():
            for prompt in PROMPTS:
                turn = [{"role": "user", "content": prompt}]
                async with running.chat(f"router-mf-{name}", turn) as response:
                    assert response.status == 200
                    assert "x-pointsman-fallback" not in response.headers
                    decision = response.headers["x-pointsman-decision"]
                assert sdk.route(prompt, "mf", threshold) == decision
