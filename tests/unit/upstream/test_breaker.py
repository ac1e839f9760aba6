"""An endpoint that fails is left alone, tried by one request at a time, and taken back."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pointsman.reliability import BreakerSettings
from services.upstream.breaker import BreakerState, CircuitBreaker
from tests.unit.upstream.scripted import SteppedTime

CLOSED, HALF_OPEN, OPEN = BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN


class Watched:
    """A breaker whose calls end as soon as they begin, in a time that the test moves."""

    def __init__(self, **settings: float) -> None:
        self.time = SteppedTime()
        self.breaker = CircuitBreaker(BreakerSettings(**settings), self.time)  # type: ignore[arg-type]

    @property
    def state(self) -> BreakerState:
        """Where the breaker stands."""
        return self.breaker.state

    def fail(self, times: int = 1) -> None:
        """Has calls fail."""
        for _ in range(times):
            self.breaker.begin()
            self.breaker.failed()

    def succeed(self, times: int = 1) -> None:
        """Has calls be answered."""
        for _ in range(times):
            self.breaker.begin()
            self.breaker.succeeded()

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self.time.now += seconds


@pytest.fixture
def one() -> Watched:
    """A breaker that opens after 5 failures in a row or 50 % of 20 calls, for 5 to 20 seconds."""
    return Watched()


def test_failures_in_a_row_open_it(one: Watched) -> None:
    """The fifth request to a dead provider is the last that waits for it."""
    one.fail(4)
    assert (one.state, one.breaker.seconds_until_callable()) == (CLOSED, 0.0)
    one.fail()
    assert (one.state, one.breaker.seconds_until_callable()) == (OPEN, 5.0)


def test_one_answer_begins_the_count_again(one: Watched) -> None:
    """Four failures today and one next week are no outage."""
    one.succeed(20)
    for _ in range(3):
        one.fail(4)
        assert one.state is CLOSED
        one.succeed(5)


def test_a_large_share_of_failures_opens_it(one: Watched) -> None:
    """A provider that fails every second time never fails five times in a row."""
    for _ in range(9):
        one.succeed()
        one.fail()
    one.succeed()
    assert one.state is CLOSED
    one.fail()
    assert one.state is OPEN


def test_the_share_of_few_calls_says_nothing(one: Watched) -> None:
    """Two of three at night are no outage."""
    for _ in range(9):
        one.fail()
        one.succeed()
    assert one.state is CLOSED


def test_what_happened_before_the_window_is_forgotten(one: Watched) -> None:
    """Last hour's outage must not open it at the first failure of this one."""
    for _ in range(9):
        one.fail()
        one.succeed()
    one.wait(31)
    one.succeed()
    one.fail()
    assert one.state is CLOSED


def test_the_window_slides_and_does_not_jump(one: Watched) -> None:
    """Failures on both sides of a full half minute belong together."""
    one.wait(29)
    for _ in range(5):
        one.fail()
        one.succeed()
    one.wait(4)
    for _ in range(4):
        one.fail()
        one.succeed()
    one.succeed()
    assert one.state is CLOSED
    one.fail()
    assert one.state is OPEN


def test_after_its_time_one_request_is_let_through(one: Watched) -> None:
    """A provider that comes back is met by one request and not by all who waited."""
    one.fail(5)
    one.wait(4.99)
    assert one.state is OPEN
    one.wait(0.01)
    assert (one.state, one.breaker.seconds_until_callable()) == (HALF_OPEN, 0.0)
    assert one.breaker.begin()
    assert (one.state, one.breaker.seconds_until_callable()) == (HALF_OPEN, 5.0)


def test_a_probe_that_is_answered_closes_it(one: Watched) -> None:
    """One answer is enough, and what came before counts no more."""
    one.fail(5)
    one.wait(5)
    one.succeed()
    assert (one.state, one.breaker.seconds_until_callable()) == (CLOSED, 0.0)
    one.fail(4)
    assert one.state is CLOSED


def test_failures_before_a_probe_do_not_count_in_the_share_after_it() -> None:
    """Otherwise the first failure after an outage would open it again."""
    one = Watched(min_calls=6, consecutive_failures=100)
    one.fail(6)
    one.wait(5)
    one.succeed(3)
    one.fail(2)
    assert one.state is CLOSED


def test_each_probe_that_fails_doubles_the_time_up_to_a_ceiling(one: Watched) -> None:
    """A provider that stays dead is asked ever more rarely, but never forgotten."""
    one.fail(5)
    waits = []
    for _ in range(4):
        one.wait(one.breaker.seconds_until_callable())
        one.fail()
        waits.append(one.breaker.seconds_until_callable())
    assert waits == [10.0, 20.0, 20.0, 20.0]


def test_after_an_answer_the_doubling_begins_again(one: Watched) -> None:
    """The next outage may be a short one."""
    one.fail(5)
    for _ in range(3):
        one.wait(one.breaker.seconds_until_callable())
        one.fail()
    one.wait(20)
    one.succeed()
    one.fail(5)
    assert one.breaker.seconds_until_callable() == 5.0


def test_a_probe_that_is_abandoned_leaves_the_chance_to_the_next(one: Watched) -> None:
    """A client that hung up says nothing of the provider, and must not lock it out either."""
    one.fail(5)
    one.wait(5)
    one.breaker.begin()
    one.breaker.abandoned()
    assert (one.state, one.breaker.seconds_until_callable()) == (HALF_OPEN, 0.0)
    one.succeed()
    assert one.state is CLOSED


def test_a_refused_key_opens_it_for_longer(one: Watched) -> None:
    """The operator has to do something first; then one request finds out."""
    one.breaker.begin()
    one.breaker.refused_the_key()
    assert one.breaker.seconds_until_callable() == 60.0
    one.wait(60)
    assert one.state is HALF_OPEN
    one.breaker.begin()
    one.breaker.refused_the_key()
    assert one.breaker.seconds_until_callable() == 60.0
    one.wait(60)
    one.succeed()
    assert one.state is CLOSED


def test_calls_that_began_before_it_opened_do_not_keep_it_open(one: Watched) -> None:
    """A hundred of them time out one after the other; the first of them opened it."""
    for _ in range(100):
        one.breaker.begin()
    for _ in range(100):
        one.breaker.failed()
        one.wait(0.01)
    assert one.state is OPEN
    assert one.breaker.seconds_until_callable() <= 5.0


@pytest.mark.parametrize("how", ["failed", "succeeded"])
def test_a_call_that_began_before_it_opened_says_nothing_after(one: Watched, how: str) -> None:
    """An answer that was under way when the provider went down is no sign that it is back."""
    one.breaker.begin()
    one.fail(5)
    one.wait(1)
    getattr(one.breaker, how)()
    assert (one.state, one.breaker.seconds_until_callable()) == (OPEN, 4.0)


class AnyOrder(RuleBasedStateMachine):
    """Requests that begin where they may and end in any order, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.time = SteppedTime()
        self.breaker = CircuitBreaker(BreakerSettings(), self.time)
        self.probes = 0
        self.others = 0

    @property
    def may_begin(self) -> bool:
        """Whether a request would be let through."""
        return self.breaker.seconds_until_callable() == 0

    @precondition(lambda self: self.may_begin)
    @rule()
    def begin(self) -> None:
        """Begins a call, as every caller does only where it may."""
        if self.breaker.begin():
            self.probes += 1
        else:
            self.others += 1

    @precondition(lambda self: self.probes)
    @rule(how=st.sampled_from(["failed", "abandoned", "refused_the_key"]))
    def end_probe_badly(self, how: str) -> None:
        """Ends the probe."""
        self.probes -= 1
        getattr(self.breaker, how)()
        assert self.breaker.state is not CLOSED

    @precondition(lambda self: self.probes)
    @rule()
    def end_probe_well(self) -> None:
        """Ends the probe."""
        self.probes -= 1
        self.breaker.succeeded()
        assert self.breaker.state is CLOSED

    @precondition(lambda self: self.others and not self.probes)
    @rule(how=st.sampled_from(["failed", "succeeded"]))
    def end_another(self, how: str) -> None:
        """Ends a call that began while it was closed; once it is open that is no news."""
        self.others -= 1
        state, wait = self.breaker.state, self.breaker.seconds_until_callable()
        getattr(self.breaker, how)()
        if state is not CLOSED:
            assert (self.breaker.state, self.breaker.seconds_until_callable()) == (state, wait)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 20.0, 60.0]))
    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self.time.now += seconds

    @invariant()
    def one_probe_at_most(self) -> None:
        """A provider that comes back gets one request."""
        assert self.probes <= 1

    @invariant()
    def never_locked_for_good(self) -> None:
        """Whatever happened, there is a time after which a request is let through."""
        assert self.breaker.seconds_until_callable() <= 60.0
        assert (self.breaker.state is CLOSED) <= self.may_begin


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40)
