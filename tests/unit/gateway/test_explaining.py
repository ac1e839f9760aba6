"""`POST /v1/route`: the whole decision, and nothing is asked, counted or told that must not be."""

import asyncio
import logging

import pytest

from services.gateway.callers import Caller
from services.gateway.rules import RuleSettings
from tests.unit.gateway.running import FakeScorer, FakeUpstream, gateway_of


async def test_a_decision_is_told_and_no_model_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """What it would cost is known before it is spent; dashboards of decisions do not move."""
    caplog.set_level(logging.INFO)
    upstream, scorer = FakeUpstream(), FakeScorer()
    async with (
        gateway_of(upstream, scorer=scorer) as gateway,
        gateway.route("router-mf-0.5", stream=True) as response,
    ):
        assert (response.status, response.content_type) == (200, "application/json")
        told = await response.json()
    costs = told.pop("costs")
    assert told == {
        "object": "pointsman.route",
        "model": "small",
        "reason": "win_rate",
        "router": "mf",
        "revision": "r1",
        "strong_win_rate": pytest.approx(0.1),
        "percentile": 12.5,
        "threshold": 0.5,
        "decision": "weak",
        "fallback": None,
        "input_tokens": 2,
    }
    assert costs["big"]["input_dollars"] == pytest.approx(2 * 2.0 / 1e6)
    assert costs["small"]["output_dollars_per_token"] == pytest.approx(0.4 / 1e6)
    assert scorer.prompts == ["Hello!"]
    assert upstream.asked.empty()
    assert gateway.value("decisions_total", router="mf", choice="weak") is None
    assert gateway.value("requests_total", router="mf", outcome="explained") == 1
    assert gateway.value("unanswered") == 0
    (line,) = [vars(one) for one in caplog.records if one.getMessage() == "request"]
    assert (line["outcome"], line["reason"], line["choice"]) == ("explained", "win_rate", "weak")


@pytest.mark.parametrize(
    ("model", "chosen", "reason"),
    [("small", "small", "direct"), ("cheap", "small", "alias"), ("router-mf-1", "big", "rule:all")],
)
async def test_what_no_router_chose_has_no_win_rate(model: str, chosen: str, reason: str) -> None:
    """A null would look like a router that failed."""
    rules = {"all": RuleSettings(model="big", characters_over=0)}
    async with (
        gateway_of(FakeUpstream(), aliases={"cheap": "small"}, rules=rules) as gateway,
        gateway.route(model) as response,
    ):
        told = await response.json()
    assert (told["model"], told["reason"]) == (chosen, reason)
    assert set(told) == {"object", "model", "reason", "input_tokens", "costs"}


async def test_a_scorer_that_is_down_is_told_and_not_counted_as_a_fallback() -> None:
    """Nobody was answered by the strong model, so no alert about it."""
    scorer = FakeScorer()
    scorer.fails = True
    async with (
        gateway_of(FakeUpstream(), scorer=scorer) as gateway,
        gateway.route("router-mf-0.5") as response,
    ):
        told = await response.json()
    assert (told["model"], told["reason"]) == ("big", "fallback")
    assert (told["fallback"], told["strong_win_rate"]) == ("scorer_unavailable", None)
    assert gateway.value("fallbacks_total", reason="scorer_unavailable") == 0


async def test_a_key_sees_prices_of_what_it_may_name_and_of_what_was_chosen() -> None:
    """Names and prices of other teams' models are theirs."""
    caller = Caller("team", routers=("mf",), models=())
    async with (
        gateway_of(FakeUpstream(), caller=caller) as gateway,
        gateway.route("router-mf-0.5") as response,
    ):
        assert set((await response.json())["costs"]) == {"small"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"model": "small"}', 400, None),
        (b'{"model": "router-mf-7", "messages": []}', 400, None),
        (b'{"model": "nobody", "messages": [{}]}', 404, "model_not_found"),
        (b'{"model": "router-fm-0.5", "messages": [{}]}', 404, "model_not_found"),
        (b"x" * 2000, 413, None),
    ],
)
async def test_errors_are_those_of_a_chat_request(body: bytes, status: int, code: object) -> None:
    """It takes the body of one, so what is wrong with it is said in the same words."""
    async with gateway_of(FakeUpstream()) as gateway:
        told = []
        for path in ("chat/completions", "route"):
            async with gateway.http.post(f"{gateway.url}/v1/{path}", data=body) as response:
                error = (await response.json())["error"]
                told.append((response.status, error))
    assert told[0] == told[1]
    assert told[0][0] == status
    assert code is None or told[0][1]["code"] == code


async def test_it_is_refused_as_chat_requests_are_when_there_is_too_much() -> None:
    """A body costs memory and a win rate a core, whoever asks for them."""
    upstream = FakeUpstream()
    upstream.may_answer.clear()
    async with gateway_of(upstream, max_unanswered=1) as gateway:
        waiting = asyncio.ensure_future(gateway.chat("small"))
        await upstream.asked.get()
        async with gateway.route("router-mf-0.5") as response:
            assert (response.status, response.headers["retry-after"]) == (503, "1")
        upstream.may_answer.set()
        async with await waiting as response:
            assert response.status == 200
