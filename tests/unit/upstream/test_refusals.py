"""What is said where nobody may be asked: why, and when somebody may be."""

import json

import pytest

from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.refusals import given_up, queue_full, refusal
from tests.unit.upstream.scripted import Outcome, Upstream, refused

OPENS = refused(500)
REFUSES = refused(401)


@pytest.mark.parametrize(
    ("a", "b", "status", "code", "retry_after"),
    [
        (REFUSES, REFUSES, 502, "provider_unauthorized", "60"),
        (REFUSES, OPENS, 503, "breaker_open", "5"),
        (OPENS, OPENS, 503, "breaker_open", "5"),
        (OPENS, refused(429, retry_after=40.0), 429, "throttled", "5"),
        (REFUSES, refused(429, retry_after=40.0), 429, "throttled", "40"),
        (refused(429, retry_after=50.0), refused(429, retry_after=39.2), 429, "throttled", "40"),
    ],
)
async def test_the_reason_is_that_of_all_and_the_time_that_of_the_first(
    a: Outcome, b: Outcome, status: int, code: str, retry_after: str
) -> None:
    """One closed account beside a provider that rests is no reason to call the operator."""
    upstream = Upstream(
        {"strong": {"endpoints": [{"provider": "a"}, {"provider": "b"}]}},
        reliability={"breaker": {"consecutive_failures": 1}},
    )
    model = upstream.model()
    for endpoint, outcome in zip(model.endpoints, (a, b), strict=True):
        turn = await endpoint.begin()
        turn.heard(outcome(endpoint.endpoint))
        turn.end()
    reply = refusal(model.model, model.endpoints)
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"], reply.headers["retry-after"]) == (
        status,
        code,
        retry_after,
    )
    assert reply.headers.get("x-should-retry") == ("false" if status == 502 else None)
    assert reply.failure is not None
    assert not reply.failure.again
    assert not reply.failure.blame


async def test_a_full_queue_names_the_limit_and_no_call() -> None:
    """Another endpoint may have room, and nothing is on the record."""
    (endpoint,) = Upstream({"strong": {"provider": "a"}}).model().endpoints
    reply = queue_full(endpoint.endpoint, 0.2)
    assert (reply.status, reply.headers) == (429, {"retry-after": "1"})
    assert "strong" in json.loads(reply.body)["error"]["message"]
    assert reply.failure is not None
    assert reply.failure.elsewhere
    assert reply.attempt == pb.Attempt()
    record = given_up(endpoint.endpoint)
    assert (record.provider, record.outcome) == ("a", pb.ATTEMPT_OUTCOME_CANCELLED)
