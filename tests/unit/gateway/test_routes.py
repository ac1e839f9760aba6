"""Which model is asked, and what decided it: aliases, rules, routers, names."""

import logging
from typing import Any

import pytest

from services.gateway.callers import Caller
from services.gateway.rules import RuleSettings
from tests.unit.gateway.running import WANTED, FakeScorer, FakeUpstream, gateway_of

ALIASES = {"gpt-4o": "router-mf-0.5", "cheap": "small", "again": "cheap", "odd": "router-fm-0.5"}
RULES = {
    "tools": RuleSettings(model="big", has=["tools"]),
    "every": RuleSettings(model="small", characters_over=20),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "fields", "fails", "asked", "reason"),
    [
        ("router-mf-0.5", {}, False, "small", "win_rate"),
        ("router-mf-0.5", {}, True, "big", "fallback"),
        ("router-mf-0.5", {"tools": [{}]}, False, "big", "rule:tools"),
        ("small", {}, False, "small", "direct"),
        ("small", {"tools": [{}]}, False, "small", "direct"),
        ("cheap", {}, False, "small", "alias"),
        ("gpt-4o", {}, False, "small", "win_rate"),
        ("gpt-4o", {"tools": [{}]}, False, "big", "rule:tools"),
    ],
)
async def test_header_and_log_say_what_decided(
    caplog: pytest.LogCaptureFixture,
    stream: bool,
    model: str,
    fields: Any,
    fails: bool,
    asked: str,
    reason: str,
) -> None:
    """Whoever wonders about a bill finds the line of the configuration that made it."""
    caplog.set_level(logging.INFO)
    upstream, scorer = FakeUpstream(), FakeScorer()
    scorer.fails = fails
    async with (
        gateway_of(upstream, scorer=scorer, aliases=ALIASES, rules=RULES) as gateway,
        gateway.chat(model, stream=stream, **fields) as response,
    ):
        await response.read()
    assert upstream.asked.get_nowait() == asked
    (line,) = [vars(one) for one in caplog.records if one.getMessage() == "request"]
    assert line["reason"] == reason
    if not stream:  # the stream has no parts here, and ends before its head
        assert response.headers["x-pointsman-reason"] == reason
        routed = "x-pointsman-router" in response.headers
        assert routed == (reason in {"win_rate", "fallback"})


async def test_a_rule_needs_no_win_rate_and_counts_no_decision() -> None:
    """It is ahead of the router: a scorer that is down changes nothing."""
    upstream, scorer = FakeUpstream(), FakeScorer()
    scorer.fails = True
    async with (
        gateway_of(upstream, scorer=scorer, rules=RULES) as gateway,
        gateway.chat("router-mf-0.5", tools=[{}]) as response,
    ):
        assert response.headers["x-pointsman-model"] == "big"
        assert "x-pointsman-fallback" not in response.headers
    assert scorer.prompts == []
    assert gateway.value("decisions_total", router="mf", choice="strong") is None


@pytest.mark.parametrize(
    ("model", "status", "told"),
    [
        ("again", 404, "`cheap`"),
        ("odd", 404, "`fm`"),
        ("gpt-4", 404, "`gpt-4`"),
        ("router-mf-7", 400, "threshold 7"),
    ],
)
async def test_what_does_not_exist_is_said_in_openais_shape(
    model: str, status: int, told: str
) -> None:
    """An alias of an alias is not followed, so no file can send a request in circles."""
    upstream = FakeUpstream()
    async with (
        gateway_of(upstream, aliases=ALIASES) as gateway,
        gateway.chat(model) as response,
    ):
        assert response.status == status
        assert told in (await response.json())["error"]["message"]
    assert upstream.asked.empty()


@pytest.mark.parametrize("path", ["chat", "route", "models"])
@pytest.mark.parametrize(("model", "target"), [("gpt-4o", "mf"), ("cheap", "small")])
async def test_a_key_reaches_nothing_by_an_alias_and_learns_nothing(
    path: str, model: str, target: str
) -> None:
    """403 as for the target itself; its name is not told to who may not use it."""
    upstream, caller = FakeUpstream(), Caller("team", routers=("bert",), models=("big",))
    async with gateway_of(upstream, aliases=ALIASES, caller=caller) as gateway:
        ask = {"chat": gateway.chat, "route": gateway.route}.get(path)
        one = ask(model) if ask else gateway.http.get(f"{gateway.url}/v1/models/{model}")
        async with one as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"]) == (403, "key_not_allowed")
    assert f"alias `{model}`" in error["message"]
    assert target not in error["message"].replace(model, "")
    assert upstream.asked.empty()


async def test_a_key_that_may_use_the_target_may_use_the_alias() -> None:
    """An alias is another name and no right of its own."""
    caller = Caller("team", routers=("mf",), models=("small",))
    async with gateway_of(FakeUpstream(), aliases=ALIASES, caller=caller) as gateway:
        for model in ("gpt-4o", "cheap"):
            async with gateway.chat(model) as response:
                assert response.status == 200


async def test_a_rule_for_a_model_that_does_not_exist_keeps_the_gateway_from_being_ready() -> None:
    """The operator reads which line it is; what names a model itself still works."""
    wanted = {**WANTED, "rules.tools.model": "bigg"}
    async with gateway_of(FakeUpstream(), rules=RULES, wanted=wanted) as gateway:
        async with gateway.http.get(f"{gateway.url}/readyz") as response:
            assert response.status == 503
            assert "rules.tools.model is `bigg` in gateway.yaml" in await response.text()
        async with gateway.chat("router-mf-0.5") as response:
            assert response.status == 503
