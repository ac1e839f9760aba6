"""Requests to an embeddings endpoint that really listens: tried again, cut up, or given up."""

import json
import logging
from collections.abc import AsyncIterator

import aiohttp
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from pointsman.chassis.config import Secret
from pointsman.errors import PointsmanError, RouterNotReady
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.endpoint_settings import EmbeddingsSettings
from services.scorer.endpoint import (
    Address,
    EmbeddingsEndpoint,
    EndpointFailed,
)
from services.scorer.metrics import ScorerMetrics
from tests.fakes.embeddings import FakeEmbeddings, answer, refuse, say, say_json, vector_of

ENCODER = EmbedderSettings(max_tokens=64, dimension=4, model="text-embedding-3-small")
KEY = "sk-secret"


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        """Returns the time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Lets the time pass at once."""
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session of the test's own."""
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
async def fake() -> AsyncIterator[FakeEmbeddings]:
    """An endpoint that works."""
    async with FakeEmbeddings() as opened:
        yield opened


@pytest.fixture
def clock() -> Clock:
    """Time that passes only by sleeping."""
    return Clock()


@pytest.fixture
def endpoint(
    session: aiohttp.ClientSession, fake: FakeEmbeddings, metrics: ScorerMetrics, clock: Clock
) -> EmbeddingsEndpoint:
    """Asks the fake; jitter is always the longest."""
    return endpoint_at(fake.url, session, metrics, clock)


def endpoint_at(
    base_url: str, session: aiohttp.ClientSession, metrics: ScorerMetrics, clock: Clock
) -> EmbeddingsEndpoint:
    """Returns a client of an endpoint with two retries."""
    settings = EmbeddingsSettings(base_url=base_url)
    return EmbeddingsEndpoint(
        session,
        Address(url=settings.url, model="an-alias", key=Secret(KEY)),
        ENCODER,
        settings,
        metrics,
        clock=clock,
        sleep=clock.sleep,
        random=lambda: 1.0,
    )


def outcomes(registry: CollectorRegistry) -> dict[str, float]:
    """Returns the requests that Prometheus sees, by outcome."""
    return {
        sample.labels["outcome"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "pointsman_scorer_embedding_requests_total"
    }


async def only_error(endpoint: EmbeddingsEndpoint, until: float = 105.0) -> PointsmanError:
    """Returns why there is no embedding of one text."""
    (row,) = await endpoint.rows(["a text"], lambda: until)
    assert isinstance(row, PointsmanError)
    return row


@pytest.mark.parametrize("base64", [True, False], ids=["base64", "lists"])
async def test_each_text_gets_its_own_embedding(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings, registry: CollectorRegistry, base64: bool
) -> None:
    """One request with the model, the key and the texts, whatever order the answer is in."""
    fake.base64 = base64
    texts = ["one", "two", "three"]
    rows = await endpoint.rows(texts, lambda: 105.0)
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_array_equal(row, vector_of(text, 4))
    (asked,) = fake.asked
    assert asked.texts == texts
    assert asked.body["model"] == "an-alias"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert outcomes(registry) == {"ok": 1}
    assert registry.get_sample_value("pointsman_scorer_embedding_batch_size_sum") == 3


@pytest.mark.parametrize(
    ("status", "outcome"), [(408, "refused"), (429, "throttled"), (500, "failed"), (503, "failed")]
)
async def test_what_might_pass_is_tried_again(
    endpoint: EmbeddingsEndpoint,
    fake: FakeEmbeddings,
    clock: Clock,
    registry: CollectorRegistry,
    status: int,
    outcome: str,
) -> None:
    """Waits grow, and each is drawn up to its longest."""
    fake.replies = [refuse(status), refuse(status)]
    (row,) = await endpoint.rows(["a text"], lambda: 105.0)
    np.testing.assert_array_equal(row, vector_of("a text", 4))
    assert clock.slept == [0.1, 0.2]
    assert outcomes(registry) == {outcome: 2, "ok": 1}


async def test_after_its_retries_it_gives_up(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings
) -> None:
    """The caller falls back; the next request asks anew."""
    fake.replies = [refuse(503)] * 9
    error = await only_error(endpoint)
    assert isinstance(error, EndpointFailed)
    assert "status 503" in error.message
    assert len(fake.asked) == 3


async def test_an_endpoint_that_asks_for_a_pause_gets_it(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings, clock: Clock
) -> None:
    """Retry-After is a promise of refusal until then."""
    fake.replies = [refuse(429, {"retry-after": "1.5"}), refuse(429, {"retry-after-ms": "250"})]
    (row,) = await endpoint.rows(["a text"], lambda: 105.0)
    assert not isinstance(row, PointsmanError)
    assert clock.slept == [1.5, 0.25]


async def test_a_pause_beyond_the_deadline_is_not_begun(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings, clock: Clock
) -> None:
    """Nobody would be there when it ends."""
    fake.replies = [refuse(429, {"retry-after": "5"})]
    assert "status 429" in (await only_error(endpoint)).message
    assert clock.slept == []


@pytest.mark.parametrize("status", [401, 403, 404, 302])
async def test_what_cannot_pass_is_not_tried_again(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings, status: int
) -> None:
    """A wrong key stays wrong; and a redirect is not followed with it."""
    fake.replies = [refuse(status, {"location": "/v1/embeddings"})]
    error = await only_error(endpoint)
    assert f"status {status}" in error.message
    assert len(fake.asked) == 1


async def test_what_a_refusal_quotes_is_not_repeated(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenAI quotes the key, and others the prompt: neither belongs in a log or in an answer."""
    caplog.set_level(logging.DEBUG)
    fake.replies = [refuse(401), refuse(500), refuse(500), refuse(500)]
    said = [(await only_error(endpoint)).message for _ in range(2)]
    said += [str(vars(record)) for record in caplog.records if record.name.startswith("services")]
    assert len(said) > 2
    assert not [text for text in said if KEY in text or "a text" in text]


async def test_an_endpoint_that_is_not_there_is_tried_again_and_told(
    session: aiohttp.ClientSession,
    metrics: ScorerMetrics,
    clock: Clock,
    registry: CollectorRegistry,
) -> None:
    """A restart may take a moment."""
    async with FakeEmbeddings() as gone:
        base_url = gone.url
    endpoint = endpoint_at(base_url, session, metrics, clock)
    assert "cannot be reached" in (await only_error(endpoint)).message
    assert outcomes(registry) == {"unreachable": 3}


async def test_no_host_of_that_name_is_told(
    session: aiohttp.ClientSession, metrics: ScorerMetrics, clock: Clock
) -> None:
    """A name that no resolver takes raises an error of its own kind."""
    endpoint = endpoint_at(f"http://{'a' * 70}.invalid", session, metrics, clock)
    assert "cannot be reached" in (await only_error(endpoint)).message


async def test_without_time_left_nothing_is_asked(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings
) -> None:
    """The answer would be for nobody."""
    assert "no time left" in (await only_error(endpoint, until=100.0)).message
    assert fake.asked == []


async def test_an_endpoint_that_says_nothing_is_a_timeout(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings, registry: CollectorRegistry
) -> None:
    """However long the endpoint thinks, the time limit is the caller's."""
    fake.open.clear()
    error = await only_error(endpoint, until=100.05)
    assert "in time" in error.message
    assert outcomes(registry)["timeout"] >= 1
    fake.open.set()


@pytest.mark.parametrize(
    "reply",
    [
        say(b"<html>It works!</html>"),
        say_json({"data": []}),
        say_json(answer(["a text", "another"], 4)),
        say_json({"data": [{"index": 0, "embedding": [1.0, 2.0, float("nan"), 4.0]}]}),
        say(json.dumps(answer(["a text"], 4)).encode() + b" " * 100_000),
    ],
    ids=["html", "none", "too many", "NaN", "too long"],
)
async def test_an_answer_that_is_none_gives_no_win_rate(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings, registry: CollectorRegistry, reply
) -> None:
    """Whatever stands where an endpoint should: it is told, counted, and not asked again."""
    fake.replies = [reply]
    assert isinstance(await only_error(endpoint), EndpointFailed)
    assert outcomes(registry) == {"nonsense": 1}


async def test_a_wrong_dimension_is_no_passing_trouble(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings, registry: CollectorRegistry
) -> None:
    """Waiting does not mend it: both numbers are told, and the router is refused."""
    fake.dimension = 5
    error = await only_error(endpoint)
    assert isinstance(error, RouterNotReady)
    assert not isinstance(error, EndpointFailed)
    assert "5 numbers and the bundle names 4" in error.message
    assert outcomes(registry) == {"nonsense": 1}


async def test_a_text_that_is_refused_costs_the_others_nothing(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings
) -> None:
    """One caller's prompt must not fail those it shares a request with."""
    fake.longest = 10
    texts = ["one", "two", "a text too long", "four", "five"]
    rows = await endpoint.rows(texts, lambda: 105.0)
    assert isinstance(rows.pop(2), EndpointFailed)
    texts.pop(2)
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_array_equal(row, vector_of(text, 4))


async def test_a_text_that_may_be_too_long_is_cut_until_it_is_read(
    endpoint: EmbeddingsEndpoint, fake: FakeEmbeddings
) -> None:
    """Only the endpoint's tokenizer knows what 64 tokens are; routers read the start of a text."""
    fake.longest = 130
    text = "x" * 1024
    (row,) = await endpoint.rows([text], lambda: 105.0)
    np.testing.assert_array_equal(row, vector_of(text[:128], 4))
