"""A model that does not answer is left for another, and the client hears which and why."""

import json
from typing import Any

import pytest

from pointsman.errors import ProviderNonsense, ProviderTimeout, ProviderUnavailable
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.failover import Answer
from tests.unit.upstream.scripted import Outcome, Upstream, answered, broken, refused
from tests.unit.upstream.test_failures import TOO_LONG_BODIES, error

UNAVAILABLE = pb.FALLBACK_REASON_PROVIDER_UNAVAILABLE
THROTTLED = pb.FALLBACK_REASON_THROTTLED
TIMEOUT = pb.FALLBACK_REASON_TIMEOUT
CONTEXT_LENGTH = pb.FALLBACK_REASON_CONTEXT_LENGTH
BREAKER_OPEN = pb.FALLBACK_REASON_BREAKER_OPEN

TOO_LONG = refused(400, body=TOO_LONG_BODIES["openai"])
NO_MONEY = refused(429, body=error("no", code="insufficient_quota"))


def upstream(
    models: dict[str, dict[str, Any]] | None = None, *, max_retries: int = 0, **outcomes: Any
) -> Upstream:
    """The models `strong`, `weak` and `spare`, in this order, at the providers `s`, `w` and `p`."""
    default: dict[str, dict[str, Any]] = {
        "strong": {"provider": "s", "fallbacks": ["weak", "spare"]},
        "weak": {"provider": "w"},
        "spare": {"provider": "p"},
    }
    scripts = {name: one if isinstance(one, list) else [one] for name, one in outcomes.items()}
    reliability = {"retries": {"max_retries": max_retries}}
    return Upstream(models or default, reliability=reliability, **scripts)


def told(answer: Answer) -> tuple[str, int, int]:
    """Returns who answers, with which status, and why."""
    return answer.model.name, answer.reply.status, answer.fallback


async def test_a_model_that_answers_is_not_left() -> None:
    """No fallback is asked in advance."""
    one = upstream()
    assert told(await one.ask()) == ("strong", 200, 0)
    assert one.asked == ["s"]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (refused(401), UNAVAILABLE),
        (refused(402), UNAVAILABLE),
        (refused(403), UNAVAILABLE),
        (refused(404), UNAVAILABLE),
        (refused(408), TIMEOUT),
        (refused(409), UNAVAILABLE),
        (refused(429), THROTTLED),
        (NO_MONEY, THROTTLED),
        (refused(500), UNAVAILABLE),
        (refused(503), UNAVAILABLE),
        (refused(504), TIMEOUT),
        (broken(ProviderUnavailable("gone")), UNAVAILABLE),
        (broken(ProviderNonsense("what?")), UNAVAILABLE),
        (broken(ProviderTimeout("late", budget="total")), TIMEOUT),
    ],
)
async def test_a_model_that_fails_is_left_for_its_fallback(
    failure: Outcome, reason: pb.FallbackReason.ValueType
) -> None:
    """The client has an answer, and the metrics have the reason."""
    one = upstream(s=failure)
    assert told(await one.ask()) == ("weak", 200, reason)
    assert one.asked == ["s", "w"]
    assert [attempt.model for attempt in one.requests[0].attempts] == ["strong", "weak"]
    label = pb.FallbackReason.Name(reason).removeprefix("FALLBACK_REASON_").lower()
    assert one.counted("fallbacks", model="strong", to="weak", reason=label) == 1


@pytest.mark.parametrize(
    "failure",
    [
        refused(400),
        refused(413),
        refused(422),
        refused(400, body=error("filtered", code="content_filter")),
    ],
)
async def test_a_request_that_is_at_fault_goes_nowhere_else(failure: Outcome) -> None:
    """Its sender hears of it, and no filter is got round."""
    one = upstream(s=failure)
    answer = await one.ask()
    assert (answer.model.name, answer.fallback, one.asked) == ("strong", 0, ["s"])
    assert answer.reply.status in (400, 413, 422)
    assert "x-should-retry" not in answer.reply.headers


async def test_fallbacks_are_asked_in_order() -> None:
    """The operator has written down who is next."""
    one = upstream(s=refused(500), w=refused(429))
    assert told(await one.ask()) == ("spare", 200, UNAVAILABLE)
    assert one.asked == ["s", "w", "p"]


async def test_a_fallbacks_own_fallbacks_are_not_followed() -> None:
    """Two models that name each other would go on for ever."""
    one = upstream(
        {
            "strong": {"provider": "s", "fallbacks": ["weak"]},
            "weak": {"provider": "w", "fallbacks": ["strong"]},
        },
        s=refused(500),
        w=refused(500),
    )
    assert told(await one.ask()) == ("strong", 500, 0)
    assert one.asked == ["s", "w"]


async def test_where_all_fail_the_client_hears_of_the_model_it_asked_for() -> None:
    """A refusal by a model that it never named would be a riddle; trying again was done here."""
    one = upstream(
        s=refused(429, retry_after=2.0, body=error("slow down")), w=refused(500), p=refused(500)
    )
    answer = await one.ask()
    assert told(answer) == ("strong", 429, 0)
    assert json.loads(answer.reply.body)["error"]["message"] == "slow down"
    assert answer.reply.headers == {"retry-after": "2", "x-should-retry": "false"}
    assert [attempt.model for attempt in one.requests[0].attempts] == ["strong", "weak", "spare"]
    assert one.registry.get_sample_value("pointsman_upstream_fallbacks_total") is None


async def test_a_failure_after_one_attempt_may_be_tried_again() -> None:
    """The client's own retries are the only ones then."""
    one = upstream({"strong": {"provider": "s"}}, s=refused(500))
    answer = await one.ask()
    assert "x-should-retry" not in answer.reply.headers


async def test_a_failure_after_retries_is_not_to_be_tried_again() -> None:
    """Three tries here times three there are nine."""
    one = upstream({"strong": {"provider": "s"}}, max_retries=2, s=refused(500))
    answer = await one.ask()
    assert (answer.reply.status, len(one.asked)) == (500, 3)
    assert answer.reply.headers["x-should-retry"] == "false"


async def test_an_open_breaker_goes_straight_to_the_fallback() -> None:
    """A dead provider costs its clients no time at all."""
    one = upstream(s=refused(500))
    for _ in range(5):
        await one.ask()
    assert told(await one.ask()) == ("weak", 200, BREAKER_OPEN)
    assert one.asked[-2:] == ["w", "w"]
    assert one.time.slept == []
    assert one.counted("fallbacks", model="strong", to="weak", reason="breaker_open") == 1


async def test_where_every_breaker_is_open_it_is_told_when_to_come_back() -> None:
    """No call is made, so the client may well try again."""
    one = upstream(s=refused(500), w=refused(500), p=refused(500))
    for _ in range(5):
        await one.ask()
    calls = len(one.asked)
    answer = await one.ask()
    assert told(answer) == ("strong", 503, 0)
    assert answer.reply.headers == {"retry-after": "5"}
    assert len(one.asked) == calls


async def test_a_model_that_has_recovered_answers_again() -> None:
    """One request finds out; a failed probe is answered by the fallback all the same."""
    one = upstream(s=refused(500))
    for _ in range(5):
        await one.ask()
    one.time.now += 5
    assert told(await one.ask()) == ("weak", 200, UNAVAILABLE)
    assert told(await one.ask()) == ("weak", 200, BREAKER_OPEN)
    one.time.now += 10
    one.script.set("s", answered())
    assert [told(await one.ask()) for _ in range(2)] == [("strong", 200, 0)] * 2


WINDOWS: dict[str, dict[str, Any]] = {
    "strong": {
        "provider": "s",
        "context_window_tokens": 8000,
        "fallbacks": ["weak", "same", "unknown", "large"],
    },
    "weak": {"provider": "w", "context_window_tokens": 4000},
    "same": {"provider": "e", "context_window_tokens": 8000},
    "unknown": {"provider": "u"},
    "large": {"provider": "l", "context_window_tokens": 128_000},
}


async def test_a_prompt_that_is_too_long_goes_to_who_can_take_more() -> None:
    """The others would refuse it too, each for its own price in time."""
    one = upstream(WINDOWS, s=TOO_LONG)
    assert told(await one.ask()) == ("large", 200, CONTEXT_LENGTH)
    assert one.asked == ["s", "l"]


async def test_a_prompt_that_is_too_long_for_all_is_the_clients_to_shorten() -> None:
    """It reads the window of the model that it asked for."""
    one = upstream({**WINDOWS, "large": {"provider": "l"}}, s=TOO_LONG)
    answer = await one.ask()
    assert told(answer) == ("strong", 400, 0)
    assert b"context_length_exceeded" in answer.reply.body
    assert one.asked == ["s"]


async def test_any_other_failure_goes_to_smaller_windows_too() -> None:
    """Most prompts are short."""
    one = upstream(WINDOWS, s=refused(500))
    assert (await one.ask()).model.name == "weak"


async def test_only_the_last_in_line_is_waited_for() -> None:
    """A wait that another could have filled is a wait for nothing."""
    wants_ten = [refused(429, retry_after=10.0), answered()]
    one = upstream(max_retries=2, s=list(wants_ten), w=list(wants_ten), p=list(wants_ten))
    assert told(await one.ask()) == ("spare", 200, THROTTLED)
    assert (one.asked, one.time.slept) == (["s", "w", "p", "p"], [10.0])


async def test_the_deadline_is_one_for_all_models_together() -> None:
    """What one has waited is gone for the next: they are asked at once while there is time."""
    wants = refused(429, retry_after=0.9)
    one = upstream(max_retries=2, s=wants, w=wants, p=wants)
    answer = await one.ask(seconds=1.0)
    assert told(answer) == ("strong", 429, 0)
    assert (one.asked, one.time.slept) == (["s", "s", "w", "p"], [0.9])


async def test_a_fallback_whose_queue_is_full_is_passed_over() -> None:
    """Its own requests come first, and the next in line has room."""
    one = Upstream(
        {
            "strong": {"provider": "s", "fallbacks": ["weak", "spare"]},
            "weak": {"provider": "w"},
            "spare": {"provider": "p"},
        },
        settings={"max_in_flight": 1, "max_queued": 0},
        s=[refused(401)],
    )
    turn = await one.model("weak").endpoints[0].begin()
    assert told(await one.ask()) == ("spare", 200, UNAVAILABLE)
    assert one.asked == ["s", "p"]
    turn.end()


async def test_a_full_model_is_left_for_its_fallback() -> None:
    """A limit of the operator's own is no reason to turn a client away."""
    one = Upstream(
        {"strong": {"provider": "s", "fallbacks": ["weak"]}, "weak": {"provider": "w"}},
        settings={"max_in_flight": 1, "max_queued": 0},
    )
    turn = await one.model().endpoints[0].begin()
    assert told(await one.ask()) == ("weak", 200, THROTTLED)
    turn.end()


def test_the_gauges_say_how_every_endpoint_stands() -> None:
    """One line an endpoint, with the label that tells it from the others."""
    one = Upstream(
        {
            "strong": {"endpoints": [{"provider": "a", "model": "x"}, {"provider": "a"}]},
            "weak": {"provider": "b"},
        }
    )
    assert list(one.failover.gauges()) == [
        ("strong", "a/x", 0, 0, 0),
        ("strong", "a/strong", 0, 0, 0),
        ("weak", "b", 0, 0, 0),
    ]
