"""Requests are refused for what the cluster cannot do, never for what providers take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pointsman.errors import Overloaded
from services.gateway.admission import Admission, Place
from services.gateway.config import AdmissionSettings, GatewaySettings
from services.gateway.metrics import GatewayMetrics

SETTINGS = AdmissionSettings(max_unanswered=100, max_delay_seconds=0.2, calm_unanswered=10)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Returns the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The admission's clock."""
    return Clock()


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of this test's own."""
    return CollectorRegistry()


@pytest.fixture
def admission(registry: CollectorRegistry, clock: Clock) -> Admission:
    """Room for 100."""
    return Admission(SETTINGS, GatewayMetrics(registry), clock)


def filled(admission: Admission, count: int) -> list[Place]:
    """Returns so many places."""
    return [admission.admit() for _ in range(count)]


def observe(admission: Admission, clock: Clock, delay_seconds: float, seconds: float) -> None:
    """Lets requests with such a delay come back for so long, 100 a second."""
    for _ in range(round(seconds * 100)):
        clock.now += 0.01
        admission.observe(delay_seconds)


def refused(registry: CollectorRegistry, reason: str) -> float | None:
    """Returns how many requests were refused for a reason."""
    return registry.get_sample_value("pointsman_gateway_refused_total", {"reason": reason})


def test_over_the_limit_is_refused_and_counted(
    admission: Admission, registry: CollectorRegistry
) -> None:
    """A full gateway says so at once, and the operator can see why."""
    places = filled(admission, 100)
    assert (refused(registry, "unanswered"), refused(registry, "delay")) == (0, 0)
    with pytest.raises(Overloaded, match="100 requests to answer"):
        admission.admit()
    assert (refused(registry, "unanswered"), refused(registry, "delay")) == (1, 0)
    assert registry.get_sample_value("pointsman_gateway_unanswered") == 100
    with places[0]:
        pass
    assert filled(admission, 1)


def test_refusals_are_one_line_in_ten_seconds(
    admission: Admission, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Thousands of lines a second would slow down what is too slow already."""
    places = filled(admission, 100)
    for _ in range(30):
        clock.now += 1.0
        for _ in range(100):
            with pytest.raises(Overloaded):
                admission.admit()
    lines = [vars(one) for one in caplog.records]
    assert [line["refused"] for line in lines] == [1, 1000, 1000]
    assert {(line["reason"], line["limit"]) for line in lines} == {("unanswered", 100)}
    assert len(places) == 100


def test_a_stream_that_has_begun_takes_no_place(admission: Admission) -> None:
    """Open streams cost little; however many there are, nobody is refused for them."""
    for _ in range(1000):
        with admission.admit() as place:
            place.answering()
            place.answering()
    assert len(filled(admission, 100)) == 100


def test_a_request_that_fails_frees_its_place(admission: Admission) -> None:
    """A place that is lost is lost until the gateway's next start."""
    for _ in range(1000):
        with pytest.raises(KeyError), admission.admit():
            raise KeyError
    assert len(filled(admission, 100)) == 100


def test_delay_lowers_the_limit_to_what_is_there_and_below(
    admission: Admission, clock: Clock, registry: CollectorRegistry
) -> None:
    """A queue that grows is cut at once: what is let in must be answered in time."""
    filled(admission, 60)
    observe(admission, clock, 1.0, 0.5)
    assert 30 < admission.limit() < 60
    with pytest.raises(Overloaded):
        admission.admit()
    assert (refused(registry, "unanswered"), refused(registry, "delay")) == (0, 1)
    assert registry.get_sample_value("pointsman_gateway_unanswered_limit") == admission.limit()


def test_one_slow_request_among_many_changes_nothing(admission: Admission, clock: Clock) -> None:
    """A pause for garbage is no overload."""
    filled(admission, 60)
    observe(admission, clock, 0.01, 1.0)
    observe(admission, clock, 1.0, 0.03)
    assert admission.limit() == 100


def test_few_requests_are_never_refused_for_delay(admission: Admission, clock: Clock) -> None:
    """The first request after a cold start may be slow, and must not close the door to others."""
    filled(admission, 1)
    observe(admission, clock, 60.0, 30.0)
    assert admission.limit() == 10
    assert len(filled(admission, 9)) == 9


def test_the_limit_rises_again_once_requests_are_fast(admission: Admission, clock: Clock) -> None:
    """An overload that is over must not leave a slow gateway behind."""
    filled(admission, 60)
    observe(admission, clock, 1.0, 20.0)
    assert admission.limit() == 10
    observe(admission, clock, 0.01, 10.0)
    assert admission.limit() == 100


def test_the_limit_rises_in_silence(admission: Admission, clock: Clock) -> None:
    """After an overload all that were let in may wait for one provider, and others are well."""
    filled(admission, 60)
    observe(admission, clock, 1.0, 20.0)
    clock.now += 4.0
    assert admission.limit() == 10
    clock.now += 6.0
    assert admission.limit() == 100


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=50))
def test_the_limit_stays_between_its_bounds(observed: list[tuple[float, float]]) -> None:
    """Whatever is measured, some requests are taken and no more than memory has room for."""
    clock = Clock()
    admission = Admission(SETTINGS, GatewayMetrics(CollectorRegistry()), clock)
    for delay, seconds in observed:
        clock.now += seconds
        admission.observe(delay)
        assert 10 <= admission.limit() <= 100


def test_an_overload_settles_where_the_delay_is_what_is_allowed(
    admission: Admission, clock: Clock
) -> None:
    """A queue of requests that are served 200 a second delays by its length: 0.2 s are 40."""
    waiting: list[tuple[float, Place]] = []
    limits = []
    for step in range(40 * 200):  # an arrival and a half for each that is served
        clock.now += 1 / 200
        for _ in range(1 + step % 2):
            if len(waiting) < admission.limit():
                waiting.append((clock.now, admission.admit()))
        if waiting:
            asked_at, place = waiting.pop(0)
            place.answering()
            admission.observe(clock.now - asked_at)
        limits.append(admission.limit())
    settled = limits[len(limits) // 2 :]
    assert 25 < min(settled) <= sum(settled) / len(settled) < 55
    assert max(settled) < 80


def test_by_default_500_that_wait_are_no_overload() -> None:
    """Slow answers in one piece are what models do."""
    admission = Admission(GatewaySettings().admission, GatewayMetrics(CollectorRegistry()))
    assert len(filled(admission, 500)) == 500
