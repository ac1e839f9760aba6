"""What is billed: what was delivered, and what was given up for it; a failure is for nothing."""

from collections.abc import AsyncGenerator

import pytest
from prometheus_client import CollectorRegistry

from pointsman.errors import ProviderTimeout
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.account import Account
from services.upstream.asking import Request
from services.upstream.body import ClientBody
from services.upstream.call import AnswerStream, Call, Reply
from services.upstream.failover import Answer
from services.upstream.metrics import UpstreamMetrics
from services.upstream.models import Endpoint
from services.upstream.refusals import queue_full
from services.upstream.sse import AnswerReader, WholeAnswer
from tests.unit.upstream.scripted import Outcome, answered, catalogue, refused

CATALOGUE = catalogue(
    {
        "strong": {
            "provider": "s",
            "input_price_per_million": 1e6,
            "output_price_per_million": 1e6,
            "fallbacks": ["weak"],
        },
        "weak": {"provider": "w", "input_price_per_million": 1e3},
    }
)
STRONG, WEAK = CATALOGUE["strong"], CATALOGUE["weak"]
AT_STRONG, AT_WEAK = STRONG.endpoints[0], WEAK.endpoints[0]
BODY = ClientBody(b'{"messages": [{"role": "user", "content": "12345678"}]}')  # 2 tokens


class Kept:
    """An account, and what it has counted."""

    def __init__(self, model: str = "strong") -> None:
        self.registry = CollectorRegistry()
        envelope = pb.Envelope(model=model, request_id="r1")
        self.account = Account(envelope, CATALOGUE, UpstreamMetrics(self.registry))

    def answer(
        self,
        answer: Reply,
        *losers: Reply | None,
        model: str = "strong",
        fallback: pb.FallbackReason.ValueType = pb.FALLBACK_REASON_UNSPECIFIED,
    ) -> Account:
        """Notes an answer."""

        async def ask(endpoint: Endpoint) -> Reply:
            raise AssertionError("nobody is asked here")

        self.account.request = Request(ask, lambda: 1.0)
        if answer.attempt.model:
            self.account.request.attempts.append(answer.attempt)
        self.account.request.losers.extend(losers)
        self.account.body = BODY
        self.account.answer = Answer(CATALOGUE[model], answer, fallback)
        self.account.outcome = self.account.outcome_of_answer()
        return self.account

    def counted(self, name: str, **labels: str) -> float | None:
        """Returns a sample, None if there is none."""
        return self.registry.get_sample_value(f"pointsman_upstream_{name}", labels)


def without_usage(endpoint: Endpoint, characters: int) -> Reply:
    """Returns an answer whose provider does not count."""
    reply = answered()(endpoint)
    reply.read = WholeAnswer(None, characters, False)
    return reply


def test_an_answer_costs_what_its_provider_counted() -> None:
    """At the prices of the model that answered."""
    bill = Kept().answer(answered()(AT_STRONG)).bill()
    assert bill.usage == pb.Usage(input_tokens=3, output_tokens=5)
    assert bill.dollars == 8.0
    weak = Kept().answer(answered()(AT_WEAK), model="weak").bill()
    assert weak.dollars == pytest.approx(0.003)


def test_without_the_providers_count_there_is_ours() -> None:
    """A stream that was cut off, or whose provider may not be asked for usage."""
    bill = Kept().answer(without_usage(AT_STRONG, 10)).bill()
    assert bill.usage == pb.Usage(input_tokens=2, output_tokens=3, estimated=True)
    assert bill.dollars == 5.0


@pytest.mark.parametrize("failure", [refused(400), refused(429), refused(500)])
def test_a_failure_costs_nothing(failure: Outcome) -> None:
    """No provider sends a bill for one."""
    bill = Kept().answer(failure(AT_STRONG)).bill()
    assert (bill.usage, bill.dollars) == (None, 0.0)


def test_who_was_slower_is_paid_too_and_delivers_nothing() -> None:
    """Hedging costs money, and the usage that the client reads is that of its answer."""
    kept = Kept()
    late = answered(usage=pb.Usage(input_tokens=3, output_tokens=4))(AT_STRONG)
    bill = kept.answer(answered()(AT_STRONG), late, None, refused(500)(AT_STRONG)).bill()
    assert bill.usage == pb.Usage(input_tokens=3, output_tokens=5)
    assert bill.dollars == 8.0 + 7.0 + 2.0  # the cut one had read the prompt; a failure is free


def test_before_there_is_an_answer_there_is_no_bill() -> None:
    """A request that was refused at the door, or whose client hung up."""
    bill = Kept().account.bill()
    assert (bill.usage, bill.dollars) == (None, 0.0)


def test_everything_is_counted_once() -> None:
    """Dashboards and the bill say the same."""
    kept = Kept()
    usage = pb.Usage(input_tokens=9, output_tokens=5, cached_input_tokens=4, reasoning_tokens=2)
    answer = answered(usage=usage)(AT_STRONG)
    answer.attempt.headers_seconds = 0.25
    kept.answer(answer).close(1.5)
    assert kept.counted("requests_total", model="strong", outcome="ok") == 1
    assert kept.counted("attempts_total", model="strong", provider="s", outcome="ok") == 1
    assert kept.counted("request_seconds_sum", model="strong", outcome="ok") == 1.5
    assert kept.counted("headers_seconds_sum", model="strong") == 0.25
    tokens = {"input": 9, "output": 5, "cached_input": 4, "reasoning": 2}
    for direction, count in tokens.items():
        assert kept.counted("tokens_total", model="strong", direction=direction) == count
    assert kept.counted("cost_dollars_total", model="strong", estimated="false") == 14.0


def test_an_estimate_is_counted_as_one() -> None:
    """Who compares with the provider's invoice must know what is exact."""
    kept = Kept()
    kept.answer(without_usage(AT_STRONG, 10)).close(1.0)
    assert kept.counted("cost_dollars_total", model="strong", estimated="true") == 5.0
    assert kept.counted("cost_dollars_total", model="strong", estimated="false") is None


def test_a_fallbacks_answer_is_counted_as_its_own_and_the_request_as_asked() -> None:
    """Requests are the clients', seconds and tokens the models'."""
    kept = Kept()
    account = kept.answer(answered()(AT_WEAK), model="weak", fallback=pb.FALLBACK_REASON_THROTTLED)
    account.close(1.0)
    assert kept.counted("requests_total", model="strong", outcome="ok") == 1
    assert kept.counted("request_seconds_count", model="weak", outcome="ok") == 1
    assert kept.counted("tokens_total", model="weak", direction="input") == 3
    assert kept.counted("tokens_total", model="strong", direction="input") is None


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (refused(400)(AT_STRONG), "rejected"),
        (refused(401)(AT_STRONG), "unauthorized"),
        (refused(429)(AT_STRONG), "throttled"),
        (refused(500)(AT_STRONG), "unavailable"),
        (queue_full(AT_STRONG, 1.0), "throttled"),
    ],
)
def test_a_failure_is_counted_by_what_it_was(reply: Reply, outcome: str) -> None:
    """Where no call was made too: a full queue is not an attempt."""
    kept = Kept()
    kept.answer(reply).close(1.0)
    assert kept.counted("requests_total", model="strong", outcome=outcome) == 1
    assert kept.counted("cost_dollars_total", model="strong", estimated="false") is None


async def test_a_stream_that_stalls_is_counted_by_its_limit() -> None:
    """A limit that is too low shows on a dashboard before it shows in complaints."""

    async def stalls() -> AsyncGenerator[bytes, None]:
        raise ProviderTimeout("late", budget="idle")
        yield b""

    call = Call(AT_STRONG, lambda: 0.0)
    reply = call.began(AnswerStream(call, b"data: 1\n\n", stalls()))
    reply.read = AnswerReader(hide_usage=False)
    assert reply.stream is not None
    assert [frames async for frames in reply.stream.frames()] == [b"data: 1\n\n"]
    kept = Kept()
    kept.answer(reply).close(1.0)
    assert kept.counted("timeouts_total", model="strong", budget="idle") == 1
    assert kept.counted("requests_total", model="strong", outcome="timeout") == 1


def test_a_name_that_nobody_configured_is_no_label() -> None:
    """Whoever sends names at random must not make metric series."""
    kept = Kept("gpt-99")
    kept.account.outcome = "unknown_model"
    kept.account.close(1.0)
    assert kept.counted("requests_total", model="other", outcome="unknown_model") == 1


def test_a_line_in_the_log_says_it_all(caplog: pytest.LogCaptureFixture) -> None:
    """One line an rpc: who was asked, who answered, why, and for how much."""
    caplog.set_level("INFO", logger="services.upstream.account")
    kept = Kept()
    kept.answer(answered()(AT_WEAK), model="weak", fallback=pb.FALLBACK_REASON_BREAKER_OPEN).close(
        1.25
    )
    (record,) = caplog.records
    fields = {
        "request_id": "r1",
        "model": "strong",
        "answered_by": "weak",
        "fallback": "breaker_open",
        "provider": "w",
        "attempts": 1,
        "stream": False,
        "outcome": "ok",
        "status": 200,
        "seconds": 1.25,
        "input_tokens": 3,
        "output_tokens": 5,
        "estimated": False,
        "cost_dollars": 0.003,
    }
    assert {name: vars(record)[name] for name in fields} == fields


def test_the_log_of_a_failure_has_no_bill(caplog: pytest.LogCaptureFixture) -> None:
    """None is not zero tokens."""
    caplog.set_level("INFO", logger="services.upstream.account")
    Kept().answer(refused(500)(AT_STRONG)).close(1.0)
    (record,) = caplog.records
    for name in ("fallback", "input_tokens", "output_tokens", "estimated"):
        assert vars(record)[name] is None
    assert vars(record)["cost_dollars"] == 0.0
