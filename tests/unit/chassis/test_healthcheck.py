"""A health check asks where the service of the same environment listens."""

import sys
from types import ModuleType

import pytest

from pointsman.chassis.healthcheck import FLAG, asked_for
from services.demo_provider import __main__ as demo_provider
from services.demo_provider.config import DemoSettings
from services.demo_provider.config import load as load_demo
from services.gateway import __main__ as gateway
from services.gateway.config import GatewaySettings
from services.gateway.config import load as load_gateway
from services.scorer import __main__ as scorer
from services.scorer.config import ScorerSettings
from services.scorer.config import load as load_scorer
from services.upstream import __main__ as upstream
from services.upstream.config import UpstreamSettings
from services.upstream.config import load as load_upstream


@pytest.mark.parametrize(
    ("module", "settings", "load"),
    [
        (gateway, GatewaySettings(), load_gateway),
        (scorer, ScorerSettings(), load_scorer),
        (upstream, UpstreamSettings(), load_upstream),
        (demo_provider, DemoSettings(), load_demo),
    ],
)
def test_it_knows_the_services_own_defaults_and_variables(
    module: ModuleType, settings: object, load: object
) -> None:
    """It does not load the service's settings, which takes long, and must not drift from them."""
    place = module.PLACE
    assert place.default_port == settings.port  # type: ignore[attr-defined]
    found = load({place.host_variable: "::1", place.port_variable: "7"})  # type: ignore[operator]
    assert (found.host, found.port) == ("::1", 7)


@pytest.mark.parametrize(
    ("arguments", "expected"), [([FLAG], True), ([], False), ([FLAG, "please"], False)]
)
def test_it_is_asked_for_by_one_word(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: bool
) -> None:
    """Without it the service starts."""
    monkeypatch.setattr(sys, "argv", ["services/scorer/__main__.py", *arguments])
    assert asked_for() is expected
