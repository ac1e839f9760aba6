"""An endpoint gets as many calls as it may have, and requests go where they wait the least."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pointsman.reliability import BreakerSettings
from services.upstream.breaker import BreakerState
from services.upstream.endpoints import EndpointAtWork, NotReady, QueueFull, Turn, less_loaded
from services.upstream.models import Endpoint
from tests.unit.upstream.scripted import Outcome, SteppedTime, answered, refused

Make = Callable[..., EndpointAtWork]


@pytest.fixture
def time() -> SteppedTime:
    """A clock that the test moves."""
    return SteppedTime()


@pytest.fixture
def make(endpoint: Callable[..., Endpoint], time: SteppedTime) -> Make:
    """Puts an endpoint to work."""

    def make(breaker: BreakerSettings | None = None, **settings: Any) -> EndpointAtWork:
        return EndpointAtWork(endpoint(**settings), breaker or BreakerSettings(), time)

    return make


async def call(at: EndpointAtWork, outcome: Outcome) -> None:
    """Makes one call."""
    turn = await at.begin()
    turn.heard(outcome(at.endpoint))
    turn.end()


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_calls_and_queue_are_bounded(make: Make) -> None:
    """Full means an error now; a queue without end is a slow outage."""
    at = make(max_in_flight=2, max_queued=1)
    turns = [await at.begin(), await at.begin()]
    waiting = asyncio.create_task(at.begin())
    await settle()
    assert (at.in_flight, at.queued, at.is_full) == (2, 1, True)
    with pytest.raises(QueueFull):
        await at.begin()
    assert (at.in_flight, at.queued) == (2, 1)
    turns.pop().end()
    turns.append(await waiting)
    assert (at.in_flight, at.queued) == (2, 0)
    for turn in turns:
        turn.end()
    assert (at.in_flight, at.queued, at.is_full) == (0, 0, False)


async def test_without_a_queue_the_next_request_is_turned_away(make: Make) -> None:
    """`max_queued: 0` is for those who would rather try elsewhere than wait."""
    at = make(max_in_flight=1, max_queued=0)
    turn = await at.begin()
    with pytest.raises(QueueFull):
        await at.begin()
    turn.end()
    (await at.begin()).end()


async def test_who_is_turned_away_hears_when_to_come_back(make: Make) -> None:
    """Two before it at 4 seconds each, one at a time; a second where nothing is known."""
    at = make(max_in_flight=1, max_queued=1)
    await call(at, answered(seconds=4.0))
    turn = await at.begin()
    waiting = asyncio.create_task(at.begin())
    await settle()
    with pytest.raises(QueueFull) as full:
        await at.begin()
    assert full.value.retry_after_seconds == 8.0
    turn.end()
    (await waiting).end()
    unknown = make(max_in_flight=1, max_queued=0)
    turn = await unknown.begin()
    with pytest.raises(QueueFull) as full:
        await unknown.begin()
    assert full.value.retry_after_seconds == 1.0
    turn.end()


async def test_who_leaves_the_queue_takes_no_place(make: Make) -> None:
    """Clients hang up while they wait; each one lost place would shrink the endpoint for good."""
    at = make(max_in_flight=1, max_queued=5)
    turn = await at.begin()
    leaving, staying = (asyncio.create_task(at.begin()) for _ in range(2))
    await settle()
    leaving.cancel()
    await settle()
    assert (at.in_flight, at.queued) == (1, 1)
    turn.end()
    (await staying).end()
    assert (at.in_flight, at.queued, at.is_full) == (0, 0, False)


async def test_who_leaves_at_the_moment_of_its_turn_takes_no_place(make: Make) -> None:
    """The place was given and nobody is there to give it back."""
    at = make(max_in_flight=1, max_queued=5)
    turn = await at.begin()
    leaving = asyncio.create_task(at.begin())
    await settle()
    turn.end()
    leaving.cancel()
    await settle()
    assert (at.in_flight, at.queued, at.is_full) == (0, 0, False)


async def test_a_place_at_an_endpoint_that_has_failed_since_is_none(make: Make) -> None:
    """Who waited for it must not run into what the one before has run into."""
    at = make(max_in_flight=1, max_queued=5)
    turn = await at.begin()
    waiting = [asyncio.create_task(at.begin()) for _ in range(3)]
    await settle()
    turn.heard(refused(429, retry_after=7.0)(at.endpoint))
    turn.end()
    for one in waiting:
        with pytest.raises(NotReady):
            await one
    assert (at.in_flight, at.queued, at.is_full) == (0, 0, False)


async def test_a_turn_that_is_ended_twice_gives_one_place(make: Make) -> None:
    """A second place from nowhere would break the limit."""
    at = make(max_in_flight=1, max_queued=0)
    turn = await at.begin()
    turn.end()
    turn.end()
    assert at.in_flight == 0
    await at.begin()
    with pytest.raises(QueueFull):
        await at.begin()


async def test_the_less_loaded_of_two_is_chosen(make: Make) -> None:
    """Two are drawn, and the one with fewer calls gets the next."""
    busy, idle = make(), make()
    await busy.begin()

    def sample(endpoints: Sequence[EndpointAtWork], count: int) -> list[EndpointAtWork]:
        assert count == min(2, len(endpoints))
        return list(endpoints[:count])

    assert less_loaded([busy, idle, make()], sample) is idle
    assert less_loaded([busy], sample) is busy


async def test_a_faster_endpoint_may_have_more_calls(make: Make) -> None:
    """Load is time to wait, not a number of calls."""
    fast, slow = make(), make()
    await call(fast, answered(seconds=0.1))
    await call(slow, answered(seconds=1.0))
    for _ in range(5):
        await fast.begin()
    assert fast.load < slow.load


async def test_those_who_wait_are_load(make: Make) -> None:
    """An endpoint with a long queue is not as attractive as its speed."""
    at = make(max_in_flight=1)
    turn = await at.begin()
    before = at.load
    waiting = asyncio.create_task(at.begin())
    await settle()
    assert at.load > before
    turn.end()
    (await waiting).end()


async def test_weight_divides_the_load(make: Make) -> None:
    """With twice the weight it is as attractive at twice the load."""
    light, heavy = make(weight=1.0), make(weight=2.0)
    await call(light, answered(seconds=1.0))
    await call(heavy, answered(seconds=2.0))
    assert light.load == heavy.load


async def test_an_endpoint_that_fails_at_once_does_not_look_fast(make: Make) -> None:
    """A dead server refuses in a millisecond and would draw all requests to itself."""
    healthy, dead = make(), make()
    await call(healthy, answered(seconds=0.4))
    await call(dead, refused(500, seconds=0.001))
    assert dead.load > healthy.load


async def test_a_refused_request_says_nothing_of_the_endpoints_speed(make: Make) -> None:
    """A client with broken requests must not make an endpoint look fast, or dead."""
    at = make(BreakerSettings(consecutive_failures=1))
    await call(at, answered(seconds=1.0))
    before = at.load
    await call(at, refused(400, seconds=0.001))
    await call(at, refused(429, seconds=0.001))
    assert at.load == before
    assert at.breaker_state is BreakerState.CLOSED
    assert at.slow_seconds(2) is None


@pytest.mark.parametrize(("wants", "rests"), [(7.0, 7.0), (0.0, 0.0), (86_400.0, 60.0)])
async def test_an_endpoint_rests_for_as_long_as_it_wants(
    make: Make, time: SteppedTime, wants: float, rests: float
) -> None:
    """No other request runs into the same 429; a day is not believed for longer than a minute."""
    at = make()
    await call(at, refused(429, retry_after=wants))
    assert at.rest_seconds() == at.seconds_until_ready() == rests
    time.now += rests
    assert at.seconds_until_ready() == 0.0


async def test_a_shorter_wish_does_not_end_a_longer_rest(make: Make) -> None:
    """Answers to calls that began together come in any order."""
    at = make()
    first, second = await at.begin(), await at.begin()
    first.heard(refused(429, retry_after=7.0)(at.endpoint))
    second.heard(refused(503, retry_after=1.0)(at.endpoint))
    assert at.rest_seconds() == 7.0


async def test_ready_means_rested_and_let_through(make: Make) -> None:
    """Of two reasons to wait the longer counts."""
    at = make(BreakerSettings(consecutive_failures=1, open_seconds=5.0))
    await call(at, refused(503, retry_after=2.0))
    assert (at.rest_seconds(), at.seconds_until_breaker_lets_through()) == (2.0, 5.0)
    assert at.seconds_until_ready() == 5.0


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_takes_the_endpoint_out_and_an_answer_brings_it_back(
    make: Make, time: SteppedTime, status: int
) -> None:
    """Every request would be refused; one a minute finds out that the key was mended."""
    at = make()
    await call(at, refused(status))
    assert at.refuses_the_key
    assert at.seconds_until_ready() == 60.0
    time.now += 60
    await call(at, answered())
    assert not at.refuses_the_key
    assert at.breaker_state is BreakerState.CLOSED


async def test_an_older_calls_answer_does_not_make_a_refused_key_good(make: Make) -> None:
    """A long answer that began before the key was withdrawn ends well, and says nothing of now."""
    at = make()
    older, newer = await at.begin(), await at.begin()
    newer.heard(refused(401)(at.endpoint))
    older.heard(answered()(at.endpoint))
    assert at.refuses_the_key
    assert at.seconds_until_ready() == 60.0


async def test_an_endpoint_that_fails_in_another_way_does_not_refuse_the_key(
    make: Make, time: SteppedTime
) -> None:
    """The operator who has mended the key must not be told to mend it again."""
    at = make()
    await call(at, refused(401))
    time.now += 60
    await call(at, refused(500))
    assert not at.refuses_the_key
    assert at.seconds_until_ready() == 10.0


async def test_slow_is_what_19_of_20_calls_are_faster_than(make: Make) -> None:
    """A second endpoint is asked for the slowest twentieth, once enough is known."""
    at = make()
    for seconds in range(1, 20):
        await call(at, answered(seconds=float(seconds)))
    assert at.slow_seconds(20) is None
    await call(at, answered(seconds=20.0))
    assert at.slow_seconds(20) == 19.0
    for _ in range(100):
        await call(at, answered(seconds=0.5))
    assert at.slow_seconds(20) == 0.5


async def ends_badly(turn: Turn, at: EndpointAtWork) -> None:
    """Begins a stream that breaks off."""
    turn.heard(answered()(at.endpoint))
    turn.broke_off()


async def test_streams_that_break_off_open_the_breaker(make: Make) -> None:
    """Each of them began well: without their ends the endpoint would look healthy."""
    at = make(BreakerSettings(failure_share=0.5, min_calls=4, consecutive_failures=100))
    for _ in range(2):
        turn = await at.begin()
        await ends_badly(turn, at)
        turn.end()
    assert at.breaker_state is BreakerState.OPEN


async def test_a_call_that_was_given_up_leaves_the_probe_to_the_next(
    make: Make, time: SteppedTime
) -> None:
    """Its client hung up: that says nothing of the endpoint."""
    at = make(BreakerSettings(consecutive_failures=1))
    await call(at, refused(500))
    time.now += 5
    turn = await at.begin()
    assert at.seconds_until_ready() > 0
    turn.end()
    assert at.seconds_until_ready() == 0.0


async def test_who_gives_up_an_older_call_does_not_let_a_second_probe_through(
    make: Make, time: SteppedTime
) -> None:
    """Clients of an outage hang up one after the other, and each would send another request."""
    at = make(BreakerSettings(consecutive_failures=1))
    older = await at.begin()
    await call(at, refused(500))
    time.now += 5
    probe = await at.begin()
    older.end()
    assert at.seconds_until_ready() > 0
    probe.end()
    assert at.seconds_until_ready() == 0.0
