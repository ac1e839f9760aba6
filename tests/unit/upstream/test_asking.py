"""One model is asked: which endpoint, how often, and after what wait."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import (
    ProviderError,
    ProviderNonsense,
    ProviderTimeout,
    ProviderUnauthorized,
    ProviderUnavailable,
)
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.asking import Asked, Request
from services.upstream.call import AnswerStream, Call, Reply
from services.upstream.endpoints import EndpointAtWork
from services.upstream.models import Endpoint
from tests.unit.upstream.scripted import Outcome, Upstream, answered, broken, refused

ONE = {"strong": {"provider": "a"}}
TWO = {"strong": {"endpoints": [{"provider": "a"}, {"provider": "b"}]}}
NEVER_OPENS = {"consecutive_failures": 10_000, "min_calls": 10_000}
SLOW = ProviderTimeout("late", budget="first_token")
GONE = ProviderUnavailable("gone")


def one(*outcomes: Outcome, **reliability: Any) -> Upstream:
    """A model with one endpoint."""
    return Upstream(ONE, reliability=reliability, a=outcomes)


def two(a: list[Outcome], b: list[Outcome], **reliability: Any) -> Upstream:
    """A model with two endpoints, of which the first is drawn first."""
    upstream = Upstream(TWO, reliability=reliability, a=a, b=b)

    def in_order(endpoints: Sequence[EndpointAtWork], count: int) -> list[EndpointAtWork]:
        return list(endpoints[:count])

    upstream.model()._sample = in_order  # type: ignore[assignment]
    return upstream


def code(asked: Asked) -> str:
    """Returns the code of a failure that is ours to tell."""
    told: str = json.loads(asked.reply.body)["error"]["code"]
    return told


def wait(asked: Asked) -> str:
    """Returns when the client is told to come back."""
    return asked.reply.headers["retry-after"]


async def test_an_answer_is_an_answer() -> None:
    """Nothing is asked twice, and nobody waits."""
    upstream = one(answered())
    asked = await upstream.ask_model()
    assert (asked.reply.status, asked.reply.failure) == (200, None)
    assert (upstream.asked, upstream.time.slept) == (["a"], [])
    assert [attempt.outcome for attempt in upstream.requests[0].attempts] == [pb.ATTEMPT_OUTCOME_OK]


@pytest.mark.parametrize(
    "failure",
    [*map(refused, (408, 409, 429, 500, 502, 503, 529)), broken(GONE)],
)
async def test_what_may_pass_is_tried_again_after_a_wait_that_grows(failure: Outcome) -> None:
    """Most failures are over in a second; all clients at once would make the next one."""
    upstream = one(failure, failure, answered())
    asked = await upstream.ask_model()
    assert asked.reply.status == 200
    assert upstream.asked == ["a"] * 3
    first, second = upstream.time.slept
    assert 0 <= first <= 0.25
    assert 0 <= second <= 0.5
    assert upstream.counted("retries", model="strong") == 2
    assert len(upstream.requests[0].attempts) == 3


async def test_there_is_an_end_to_it() -> None:
    """A dead provider is asked three times, and its own words are what remains."""
    upstream = one(refused(500, body=b'{"error": {"message": "broken"}}'))
    asked = await upstream.ask_model()
    assert (asked.reply.status, upstream.asked) == (500, ["a"] * 3)
    assert b"broken" in asked.reply.body


async def test_without_retries_there_is_one_call() -> None:
    """`max_retries: 0` leaves it all to the fallbacks."""
    upstream = one(refused(500), retries={"max_retries": 0})
    await upstream.ask_model()
    assert (upstream.asked, upstream.time.slept) == (["a"], [])


@pytest.mark.parametrize(
    "failure",
    [
        *map(refused, (400, 402, 404, 413, 422)),
        refused(429, body=b'{"error": {"message": "no money", "code": "insufficient_quota"}}'),
        broken(GONE, repeatable=False),
        broken(SLOW),
        broken(ProviderNonsense("what?")),
        broken(ProviderUnauthorized("who?")),
    ],
)
async def test_what_will_not_pass_is_not_tried_again(failure: Outcome) -> None:
    """The same mistake, an empty purse, or an answer that somebody has begun to read."""
    upstream = one(failure)
    await upstream.ask_model()
    assert (upstream.asked, upstream.time.slept) == (["a"], [])


async def test_what_the_provider_wants_is_waited_for() -> None:
    """Sooner would be the same refusal, and later a client that waits for nothing."""
    upstream = one(refused(429, retry_after=7.0), answered())
    asked = await upstream.ask_model()
    assert (asked.reply.status, upstream.time.slept) == (200, [7.0])


@pytest.mark.parametrize(
    ("wants", "is_last", "waits"),
    [
        (1.0, False, True),
        (1.5, False, False),
        (30.0, True, True),
        (31.0, True, False),
        (86_400.0, True, False),
    ],
)
async def test_patience_ends_where_another_can_answer(
    wants: float, is_last: bool, waits: bool
) -> None:
    """With a fallback a second is long; without one half a minute is better than nothing."""
    upstream = one(refused(429, retry_after=wants), answered())
    asked = await upstream.ask_model(is_last=is_last)
    assert upstream.time.slept == ([wants] if waits else [])
    assert asked.reply.status == (200 if waits else 429)


async def test_no_wait_passes_the_deadline() -> None:
    """The client has gone by then: it is told at once, with what the provider said."""
    upstream = one(refused(429, retry_after=7.0))
    asked = await upstream.ask_model(seconds=7.0)
    assert (asked.reply.status, wait(asked), upstream.time.slept) == (429, "7", [])


@pytest.mark.parametrize("failure", [refused(500), refused(429), broken(GONE), broken(SLOW)])
async def test_another_endpoint_is_asked_at_once(failure: Outcome) -> None:
    """What one cannot do the other can do now; nothing is gained by waiting."""
    upstream = two([failure], [answered()])
    asked = await upstream.ask_model()
    assert (asked.reply.status, asked.reply.attempt.provider) == (200, "b")
    assert (upstream.asked, upstream.time.slept) == (["a", "b"], [])


async def test_where_both_fail_the_third_call_waits() -> None:
    """Two endpoints are no reason to ask twice as often."""
    upstream = two([refused(500)], [refused(500)])
    await upstream.ask_model()
    assert (upstream.asked[:2], len(upstream.asked)) == (["a", "b"], 3)
    assert len(upstream.time.slept) == 1


async def test_an_endpoint_that_was_slow_is_not_asked_again() -> None:
    """Its time limit would pass a second time, while the client waits."""
    upstream = two([broken(SLOW)], [refused(500)])
    await upstream.ask_model()
    assert upstream.asked == ["a", "b", "b"]


async def test_where_every_endpoint_was_slow_it_ends() -> None:
    """Two limits have passed; a third would be the client's."""
    upstream = two([broken(SLOW)], [broken(SLOW)])
    asked = await upstream.ask_model()
    assert (upstream.asked, asked.reply.status) == (["a", "b"], 504)
    assert upstream.counted("timeouts", model="strong", budget="first_token") == 2


async def test_a_refused_key_leaves_the_requests_to_the_others() -> None:
    """A closed account must not cost a request more than the one that found out."""
    upstream = two([refused(401)], [answered()])
    for _ in range(20):
        assert (await upstream.ask_model()).reply.status == 200
    assert Counter(upstream.asked) == {"a": 1, "b": 20}


async def test_a_refused_key_is_remembered_as_what_it_is() -> None:
    """The client is told of the operator's key again, and not of a provider that fails."""
    upstream = one(refused(401))
    first, second = await upstream.ask_model(), await upstream.ask_model()
    for asked in (first, second):
        assert (asked.reply.status, code(asked)) == (502, "provider_unauthorized")
        assert asked.reply.headers["x-should-retry"] == "false"
    assert upstream.asked == ["a"]
    upstream.time.now += 60
    upstream.script.set("a", answered())
    assert (await upstream.ask_model()).reply.status == 200


async def test_an_open_breaker_answers_for_its_endpoint() -> None:
    """A dead provider costs its clients nothing but the news, and when to come back."""
    upstream = one(refused(500), breaker={"consecutive_failures": 3})
    await upstream.ask_model()
    asked = await upstream.ask_model()
    assert upstream.asked == ["a"] * 3
    assert (asked.reply.status, code(asked), wait(asked)) == (503, "breaker_open", "5")
    assert asked.reply.failure is not None
    assert asked.reply.failure.reason == pb.FALLBACK_REASON_BREAKER_OPEN
    assert upstream.requests[1].attempts == []


async def test_a_breaker_that_opens_ends_the_trying() -> None:
    """The retry that opened it is the last; what the provider said is told."""
    upstream = one(refused(500), breaker={"consecutive_failures": 2})
    asked = await upstream.ask_model()
    assert (asked.reply.status, len(upstream.asked)) == (500, 2)


async def test_nobody_runs_into_a_wait_that_is_known() -> None:
    """The next request waits for what the last was told, instead of being told it again."""
    upstream = one(
        refused(429, retry_after=5.0, body=b'{"error": {"code": "insufficient_quota"}}'), answered()
    )
    await upstream.ask_model()
    asked = await upstream.ask_model()
    assert (asked.reply.status, upstream.time.slept) == (200, [5.0])


async def test_where_nobody_may_wait_so_long_it_is_told_at_once() -> None:
    """No call is made: the answer is known."""
    upstream = one(refused(429, retry_after=40.0))
    await upstream.ask_model()
    asked = await upstream.ask_model()
    assert (asked.reply.status, code(asked), wait(asked)) == (429, "throttled", "40")
    assert asked.reply.failure is not None
    assert asked.reply.failure.reason == pb.FALLBACK_REASON_THROTTLED
    assert upstream.asked == ["a"]


async def test_an_outage_is_not_multiplied() -> None:
    """Three times its load is the last thing that a provider needs which is down for overload."""
    upstream = one(refused(500), breaker=NEVER_OPENS)
    for _ in range(200):
        await upstream.ask_model()
    assert len(upstream.asked) <= 200 * 1.2 + 10
    assert upstream.counted("retries", model="strong") == len(upstream.asked) - 200


async def test_a_full_endpoint_leaves_requests_to_the_others() -> None:
    """Places are there: nobody queues beside an empty endpoint, be it the slower one."""
    upstream = Upstream(TWO, settings={"max_in_flight": 1})
    busy, idle = upstream.model().endpoints
    turn = await idle.begin()
    turn.heard(answered(seconds=10.0)(idle.endpoint))
    turn.end()
    turn = await busy.begin()
    for _ in range(10):
        assert (await upstream.ask_model()).reply.attempt.provider == idle.endpoint.provider
    turn.end()


async def test_over_limit_and_queue_the_client_is_told_when_to_come_back() -> None:
    """Full means an error now, and no call; it is nobody's failure."""
    upstream = Upstream(ONE, settings={"max_in_flight": 1, "max_queued": 0})
    turn = await upstream.model().endpoints[0].begin()
    asked = await upstream.ask_model()
    assert (asked.reply.status, code(asked), wait(asked)) == (429, "overloaded", "1")
    assert (upstream.asked, upstream.requests[0].attempts) == ([], [])
    turn.end()
    assert (await upstream.ask_model()).reply.status == 200


class Gate:
    """Providers that answer when the test opens."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.asked = 0
        self.open = asyncio.Event()

    async def __call__(self, endpoint: Endpoint) -> Reply:
        """Makes one call."""
        self.asked += 1
        await self.open.wait()
        return self.outcome(endpoint)


def request(ask: Any) -> Request:
    """Returns a request without a deadline."""
    return Request(ask, lambda: float("inf"))


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    """Lets every task go on until this holds."""
    for _ in range(100):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never holds")


@pytest.mark.parametrize(
    ("outcome", "status"), [(refused(500), 503), (refused(429, retry_after=40.0), 429)]
)
async def test_a_queue_does_not_run_into_a_provider_that_has_failed(
    outcome: Outcome, status: int
) -> None:
    """Who waited for a place is told what everybody is told since; a thousand would hammer it."""
    upstream = Upstream(
        ONE,
        settings={"max_in_flight": 2, "max_queued": 100},
        reliability={"breaker": {"consecutive_failures": 2}, "retries": {"max_retries": 0}},
    )
    gate = Gate(outcome)
    tasks = [
        asyncio.create_task(upstream.model().ask(request(gate), is_last=True)) for _ in range(50)
    ]
    await settle()
    gate.open.set()
    asked = [await task for task in tasks]
    assert gate.asked == 2
    assert Counter(one.reply.status for one in asked[2:]) == {status: 48}
    endpoint = upstream.model().endpoints[0]
    assert (endpoint.in_flight, endpoint.queued) == (0, 0)


async def test_a_queue_waits_for_a_short_rest() -> None:
    """What would have been waited for before the queue is waited for after it."""
    upstream = Upstream(ONE, settings={"max_in_flight": 1}, a=[answered()])
    gate = Gate(refused(429, retry_after=2.0, body=b'{"error": {"code": "insufficient_quota"}}'))
    first = asyncio.create_task(upstream.model().ask(request(gate), is_last=True))
    await settle()
    second = asyncio.create_task(upstream.ask_model())
    await settle()
    gate.open.set()
    assert (await first).reply.status == 429
    assert (await second).reply.status == 200
    assert upstream.time.slept == [2.0]


async def test_a_half_open_breaker_lets_one_of_a_crowd_through() -> None:
    """All who come in the same moment see it half-open; the provider gets one of them."""
    upstream = one(refused(500), breaker={"consecutive_failures": 3})
    await upstream.ask_model()
    upstream.time.now += 5
    gate = Gate(answered())
    tasks = [
        asyncio.create_task(upstream.model().ask(request(gate), is_last=True)) for _ in range(20)
    ]
    await settle()
    assert gate.asked == 1
    gate.open.set()
    statuses = Counter([(await task).reply.status for task in tasks])
    assert statuses == {200: 1, 503: 19}


async def test_who_hangs_up_leaves_no_place_taken_and_is_on_the_record() -> None:
    """Its provider was asked and may send a bill."""
    upstream = Upstream(ONE)
    asking = request(Gate(answered()))
    task = asyncio.create_task(upstream.model().ask(asking, is_last=True))
    await settle()
    endpoint = upstream.model().endpoints[0]
    assert endpoint.in_flight == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert endpoint.in_flight == 0
    assert [attempt.outcome for attempt in asking.attempts] == [pb.ATTEMPT_OUTCOME_CANCELLED]


async def test_a_fault_of_ours_leaves_no_place_taken() -> None:
    """It is logged, and the next request is answered."""

    async def fault(endpoint: Endpoint) -> Reply:
        raise RuntimeError("a fault of ours")

    upstream = Upstream(ONE)
    with pytest.raises(RuntimeError):
        await upstream.model().ask(request(fault), is_last=True)
    assert upstream.model().endpoints[0].in_flight == 0


def streamed(error: ProviderError | None = None, *, seconds: float = 0.5) -> Any:
    """Returns an `ask` whose answers are streams that end so."""

    async def rest() -> AsyncGenerator[bytes, None]:
        yield b"data: 2\n\n"
        if error is not None:
            raise error

    async def ask(endpoint: Endpoint) -> Reply:
        call = Call(endpoint, iter((0.0, seconds, *[9.0] * 9)).__next__)
        return call.began(AnswerStream(call, b"data: 1\n\n", rest()))

    return ask


async def test_a_stream_holds_its_place_to_its_end() -> None:
    """A limit on calls at a time that forgets streams is none."""
    upstream = Upstream(ONE)
    asked = await upstream.model().ask(request(streamed()), is_last=True)
    endpoint = upstream.model().endpoints[0]
    assert asked.reply.stream is not None
    assert [frames async for frames in asked.reply.stream.frames()] == [
        b"data: 1\n\n",
        b"data: 2\n\n",
    ]
    assert endpoint.in_flight == 1
    await asked.aclose()
    assert endpoint.in_flight == 0
    assert asked.reply.attempt.outcome == pb.ATTEMPT_OUTCOME_OK


async def test_a_stream_that_is_given_up_gives_its_place_back() -> None:
    """Whether it was read or not."""
    upstream = Upstream(ONE, reliability={"breaker": {"consecutive_failures": 1}})
    asked = await upstream.model().ask(request(streamed()), is_last=True)
    await asked.aclose()
    endpoint = upstream.model().endpoints[0]
    assert (endpoint.in_flight, endpoint.seconds_until_ready()) == (0, 0.0)
    assert asked.reply.attempt.outcome == pb.ATTEMPT_OUTCOME_CANCELLED


async def test_a_stream_that_breaks_off_is_blamed_on_its_endpoint() -> None:
    """It began well; only its end says that the provider fails."""
    upstream = Upstream(ONE, reliability={"breaker": {"consecutive_failures": 1}})
    asked = await upstream.model().ask(request(streamed(GONE)), is_last=True)
    assert asked.reply.stream is not None
    async for _ in asked.reply.stream.frames():
        pass
    await asked.aclose()
    assert upstream.model().endpoints[0].seconds_until_ready() == 5.0
    assert asked.reply.attempt.outcome == pb.ATTEMPT_OUTCOME_UNAVAILABLE


async def read_stream(upstream: Upstream, error: ProviderError | None) -> None:
    """Has a stream be read to its end, as it ends."""
    asked = await upstream.model().ask(request(streamed(error)), is_last=True)
    assert asked.reply.stream is not None
    async for _ in asked.reply.stream.frames():
        pass
    await asked.aclose()


async def test_streams_that_break_off_one_after_the_other_are_an_outage() -> None:
    """Each begins well: a first token must not wipe out that the last answer broke."""
    upstream = Upstream(ONE, reliability={"breaker": {"consecutive_failures": 3}})
    (endpoint,) = upstream.model().endpoints
    for error in (GONE, GONE, None, GONE, GONE):
        await read_stream(upstream, error)
        assert endpoint.seconds_until_ready() == 0.0
    await read_stream(upstream, GONE)
    assert endpoint.seconds_until_ready() == 5.0


async def test_a_probes_first_token_brings_the_endpoint_back() -> None:
    """Its answer may run for minutes, and the provider answers."""
    upstream = Upstream(ONE, reliability={"breaker": {"consecutive_failures": 1}})
    (endpoint,) = upstream.model().endpoints
    await read_stream(upstream, GONE)
    upstream.time.now += 5
    asked = await upstream.model().ask(request(streamed()), is_last=True)
    assert endpoint.seconds_until_ready() == 0.0
    await asked.aclose()


async def test_a_slow_endpoint_is_raced_by_another() -> None:
    """The client gets the faster answer; the other is cut, and known to be paid for."""
    upstream = Upstream(TWO, reliability={"hedging": {"share": 1.0, "min_calls": 1}})
    slow, fast = upstream.model().endpoints
    for endpoint in (slow, fast):
        turn = await endpoint.begin()
        turn.heard(answered(seconds=0.5)(endpoint.endpoint))
        turn.end()
    asked_first: list[str] = []

    async def ask(endpoint: Endpoint) -> Reply:
        asked_first.append(endpoint.provider)
        if len(asked_first) == 1:
            await asyncio.Event().wait()
        return answered()(endpoint)

    asking = request(ask)
    asked = await upstream.model().ask(asking, is_last=True)
    assert asked.reply.attempt.provider == asked_first[1] != asked_first[0]
    assert upstream.time.slept == [0.5]
    assert asking.losers == [None]
    assert [attempt.outcome for attempt in asking.attempts] == [
        pb.ATTEMPT_OUTCOME_OK,
        pb.ATTEMPT_OUTCOME_CANCELLED,
    ]
    assert upstream.counted("hedges", model="strong") == 1
    assert (slow.in_flight, fast.in_flight) == (0, 0)


async def test_an_endpoint_that_has_failed_meanwhile_does_not_spoil_the_race() -> None:
    """It was ready when the race began; when its turn comes the first call goes on without it."""
    upstream = Upstream(TWO, reliability={"hedging": {"share": 1.0, "min_calls": 1}})
    for endpoint in upstream.model().endpoints:
        turn = await endpoint.begin()
        turn.heard(answered(seconds=0.5)(endpoint.endpoint))
        turn.end()
    gate = Gate(answered())
    task = asyncio.create_task(upstream.model().ask(request(gate), is_last=True))
    await until(lambda: gate.asked == 1)
    for endpoint in upstream.model().endpoints:
        endpoint.heard(refused(429, retry_after=9.0)(endpoint.endpoint))
    await until(lambda: upstream.time.slept == [0.5])
    await settle()
    gate.open.set()
    assert (await task).reply.status == 200
    assert gate.asked == 1


async def test_a_call_that_was_never_sent_is_not_paid_for() -> None:
    """It waited for a place while the other answered: no provider knows of it."""
    upstream = Upstream(
        TWO,
        reliability={"hedging": {"share": 1.0, "min_calls": 1}},
        settings={"max_in_flight": 1},
    )
    slow, fast = upstream.model().endpoints
    for endpoint in (slow, fast):
        turn = await endpoint.begin()
        turn.heard(answered(seconds=0.5)(endpoint.endpoint))
        turn.end()
    taken = [await slow.begin(), await fast.begin()]
    asking = request(Gate(answered()))
    task = asyncio.create_task(upstream.model().ask(asking, is_last=True))
    await until(lambda: slow.queued + fast.queued == 2)
    asking.ask.open.set()  # type: ignore[attr-defined]
    taken.pop().end()
    assert (await task).reply.status == 200
    taken.pop().end()
    assert (len(asking.attempts), asking.losers) == (1, [])
    assert upstream.counted("hedges", model="strong") == 0
    assert (slow.in_flight, slow.queued, fast.in_flight, fast.queued) == (0, 0, 0, 0)


async def test_who_hangs_up_is_no_lost_race() -> None:
    """The metric says what hedging costs, and nothing else."""
    upstream = Upstream(TWO, reliability={"hedging": {"share": 0.01, "min_calls": 1}})
    for endpoint in upstream.model().endpoints:
        turn = await endpoint.begin()
        turn.heard(answered(seconds=0.5)(endpoint.endpoint))
        turn.end()
    gate = Gate(answered())
    task = asyncio.create_task(upstream.model().ask(request(gate), is_last=True))
    await until(lambda: gate.asked == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upstream.counted("hedges", model="strong") == 0


async def test_one_endpoint_is_never_raced_against_itself() -> None:
    """It would only be asked for the same work twice."""
    upstream = Upstream(ONE, reliability={"hedging": {"share": 1.0, "min_calls": 1}})
    for _ in range(3):
        await upstream.ask_model()
    assert (upstream.asked, upstream.time.slept) == (["a"] * 3, [])


async def test_requests_are_spread_over_endpoints() -> None:
    """All at the first would be an endpoint that is overloaded and one that is paid for nothing."""
    upstream = Upstream(TWO)
    for _ in range(200):
        await upstream.ask_model()
    assert min(Counter(upstream.asked).values()) > 50


ANY_OUTCOME = st.sampled_from(
    [
        *(answered(), answered(seconds=3.0), broken(GONE), broken(GONE, repeatable=False)),
        *(broken(SLOW), refused(400), refused(401), refused(404), refused(429), refused(500)),
        *(
            refused(429, retry_after=0.5),
            refused(503, retry_after=9.0),
            refused(429, retry_after=99.0),
        ),
        refused(500, seconds=2.0),
    ]
)
SCRIPT = st.lists(ANY_OUTCOME, min_size=1, max_size=12)
REQUESTS = st.lists(
    st.tuples(st.sampled_from([0.3, 5.0, 60.0]), st.booleans(), st.sampled_from([0.0, 1.0, 30.0])),
    min_size=1,
    max_size=12,
)


@given(SCRIPT, SCRIPT, REQUESTS)
def test_whatever_happens_there_is_an_end_in_time(
    a: list[Outcome], b: list[Outcome], requests: list[tuple[float, bool, float]]
) -> None:
    """No more calls or longer waits than are allowed, and no place that stays taken."""

    async def ask_all() -> None:
        upstream = Upstream(TWO, a=a, b=b)
        slept = upstream.time.slept
        for seconds, is_last, pause in requests:
            upstream.time.now += pause
            calls, waits = len(upstream.asked), len(slept)
            asked = await upstream.ask_model(is_last=is_last, seconds=seconds)
            await asked.aclose()
            assert len(upstream.asked) - calls <= 3
            assert len(upstream.requests[-1].attempts) == len(upstream.asked) - calls
            assert all(one <= (30.0 if is_last else 1.0) for one in slept[waits:])
            assert sum(slept[waits:]) < seconds
            if asked.reply.failure is None:
                assert asked.reply.status == 200
            else:
                assert asked.reply.status >= 400
            if len(upstream.asked) == calls:
                assert int(wait(asked)) >= 1
            assert not any(one.in_flight or one.queued for one in upstream.model().endpoints)

    asyncio.run(ask_all())
