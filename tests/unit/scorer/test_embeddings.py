"""One caller, many callers, equal callers, callers that leave: what the endpoint gets to see."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import aiohttp
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from pointsman.errors import (
    DeadlineExceeded,
    Overloaded,
    PointsmanError,
    RouterNotReady,
    ScorerUnavailable,
)
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.endpoint_settings import EmbeddingsSettings
from services.scorer.embedders import beside
from services.scorer.embeddings import EmbeddingsClient
from services.scorer.endpoint import Address, EmbeddingsEndpoint
from services.scorer.metrics import ScorerMetrics
from tests.fakes.embeddings import FakeEmbeddings, refuse, vector_of

ENCODER = EmbedderSettings(max_tokens=64, dimension=4, model="text-embedding-3-small")

Open = Callable[..., "asyncio.Future[EmbeddingsClient]"]


@pytest.fixture
async def fake() -> AsyncIterator[FakeEmbeddings]:
    """An endpoint that works."""
    async with FakeEmbeddings() as opened:
        yield opened


@pytest.fixture
async def opened(fake: FakeEmbeddings, metrics: ScorerMetrics) -> AsyncIterator[Open]:
    """Opens clients of the fake that are closed at the end."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def make(**settings: object) -> EmbeddingsClient:
            client = client_of(fake.url, session, metrics, **settings)
            await stack.enter_async_context(beside(client.send()))
            return client

        yield make


def client_of(
    base_url: str, session: aiohttp.ClientSession, metrics: ScorerMetrics, **settings: object
) -> EmbeddingsClient:
    """Returns a client that does not send yet."""
    given = EmbeddingsSettings(base_url=base_url, **settings)  # type: ignore[arg-type]
    endpoint = EmbeddingsEndpoint(
        session,
        Address(url=given.url, model=ENCODER.model, key=None),
        ENCODER,
        given,
        metrics,
        clock=asyncio.get_running_loop().time,
        sleep=asyncio.sleep,
        random=lambda: 0.0,
    )
    return EmbeddingsClient(endpoint, ENCODER, given, metrics)


def lookups(registry: CollectorRegistry) -> dict[str, float]:
    """Returns where embeddings were found, as Prometheus sees it."""
    return {
        sample.labels["outcome"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "pointsman_scorer_embedding_lookups_total"
    }


async def asking(client: EmbeddingsClient, *texts: str) -> list[asyncio.Task[object]]:
    """Asks for each text in a task of its own; returns once all of them wait."""
    tasks = [asyncio.ensure_future(client.embed(text)) for text in texts]
    await asyncio.sleep(0)  # one turn of the loop: each has been queued
    return tasks


async def test_who_comes_together_travels_together(opened: Open, fake: FakeEmbeddings) -> None:
    """Ten callers, one request, and everybody gets what is theirs."""
    client = await opened()
    texts = [f"text {number}" for number in range(10)]
    rows = await asyncio.gather(*(client.embed(text) for text in texts))
    assert fake.batches == [texts]
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_array_equal(row, vector_of(text, 4))


async def test_a_request_holds_no_more_than_it_may(opened: Open, fake: FakeEmbeddings) -> None:
    """And nobody is left behind."""
    client = await opened(max_batch=4)
    texts = [f"text {number}" for number in range(10)]
    await asyncio.gather(*(client.embed(text) for text in texts))
    assert sorted(len(batch) for batch in fake.batches) == [2, 4, 4]
    assert sorted(text for batch in fake.batches for text in batch) == texts


async def test_who_comes_while_a_request_is_out_is_gathered(
    opened: Open, fake: FakeEmbeddings
) -> None:
    """A slow endpoint makes fuller requests, and not more of them."""
    client = await opened(max_in_flight=1, max_wait_seconds=0)
    fake.open.clear()
    first = await asking(client, "first")
    await fake.arrived.wait()
    others = [await asking(client, f"text {number}") for number in range(5)]
    fake.open.set()
    await asyncio.gather(*first, *(task for tasks in others for task in tasks))
    assert [len(batch) for batch in fake.batches] == [1, 5]


async def test_equal_texts_are_asked_for_once(
    opened: Open, fake: FakeEmbeddings, registry: CollectorRegistry
) -> None:
    """At the same time, and later: each costs money and a fifth of a second."""
    client = await opened()
    rows = await asyncio.gather(*(client.embed("the same") for _ in range(3)))
    rows.append(await client.embed("the same"))
    assert fake.batches == [["the same"]]
    assert all(row is rows[0] for row in rows)
    assert lookups(registry) == {"asked": 1, "shared": 2, "kept": 1}
    with pytest.raises(ValueError, match="read-only"):
        rows[0][0] = 1.0


async def test_the_least_recently_used_embedding_goes_first(
    opened: Open, fake: FakeEmbeddings
) -> None:
    """Memory is bounded, and what is asked for often stays."""
    client = await opened(cache_entries=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await client.embed(text)
    assert fake.batches == [["a"], ["b"], ["c"], ["b"]]


async def test_without_a_cache_every_text_is_asked_for(opened: Open, fake: FakeEmbeddings) -> None:
    """0 keeps none."""
    client = await opened(cache_entries=0)
    await client.embed("a")
    await client.embed("a")
    assert fake.batches == [["a"], ["a"]]


async def test_a_failure_is_for_all_who_wait_and_is_not_kept(
    opened: Open, fake: FakeEmbeddings
) -> None:
    """The next caller finds the endpoint well again."""
    client = await opened(retries=0)
    fake.replies = [refuse(503)]
    results = await asyncio.gather(
        *(client.embed(text) for text in ("a", "a", "b")), return_exceptions=True
    )
    assert [type(result).__mro__[1] for result in results] == [RouterNotReady] * 3
    np.testing.assert_array_equal(await client.embed("a"), vector_of("a", 4))


async def test_a_caller_waits_no_longer_than_it_may(opened: Open, fake: FakeEmbeddings) -> None:
    """Neither beyond its deadline nor beyond the setting's; and who has time goes on waiting."""
    client = await opened(timeout_seconds=30)
    hasty = await opened(timeout_seconds=0.01)
    fake.open.clear()
    (patient,) = await asking(client, "a")
    with pytest.raises(DeadlineExceeded, match=r"0\.02 s"):
        await client.embed("a", 0.02)
    with pytest.raises(DeadlineExceeded, match=r"0\.01 s"):
        await hasty.embed("a", 30)
    with pytest.raises(DeadlineExceeded):
        await client.embed("b", 0)
    fake.open.set()
    np.testing.assert_array_equal(await patient, vector_of("a", 4))
    assert fake.batches == [["a"], ["a"]]


async def test_a_request_lasts_as_long_as_its_most_patient_caller(
    opened: Open, fake: FakeEmbeddings
) -> None:
    """Whoever asked first does not take the answer away from who shares it."""
    client = await opened(timeout_seconds=30)
    fake.open.clear()
    hasty = asyncio.ensure_future(client.embed("a", 0.01))
    patient = asyncio.ensure_future(client.embed("a"))
    with pytest.raises(DeadlineExceeded):
        await hasty
    fake.open.set()
    np.testing.assert_array_equal(await patient, vector_of("a", 4))
    assert fake.batches == [["a"]]


async def test_a_request_ends_with_the_last_of_its_callers(
    opened: Open, fake: FakeEmbeddings, registry: CollectorRegistry
) -> None:
    """Its place is free for others, and whoever asks next is not cancelled with it."""
    client = await opened(max_in_flight=1)
    fake.open.clear()
    tasks = await asking(client, "a", "b")
    await fake.arrived.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    again = asyncio.ensure_future(client.embed("a"))
    await fake.hung_up.wait()
    fake.open.set()
    np.testing.assert_array_equal(await again, vector_of("a", 4))
    assert registry.get_sample_value("pointsman_scorer_dropped_total") == 2


async def test_a_caller_that_leaves_the_queue_is_not_asked_for(
    opened: Open, fake: FakeEmbeddings
) -> None:
    """Its answer would be read by nobody."""
    client = await opened(max_in_flight=1)
    fake.open.clear()
    first = await asking(client, "first")
    await fake.arrived.wait()
    left, stayed = await asking(client, "left", "stayed")
    left.cancel()
    await asyncio.wait([left])
    fake.open.set()
    await asyncio.gather(*first, stayed)
    assert fake.batches == [["first"], ["stayed"]]


async def test_one_that_stays_keeps_the_request_alive(opened: Open, fake: FakeEmbeddings) -> None:
    """And the embedding of the one that left is kept, since it is paid for."""
    client = await opened()
    fake.open.clear()
    left, stayed = await asking(client, "left", "stayed")
    await fake.arrived.wait()
    left.cancel()
    await asyncio.wait([left])
    fake.open.set()
    await stayed
    await client.embed("left")
    assert fake.batches == [["left", "stayed"]]


async def test_a_full_queue_refuses_at_once(opened: Open, fake: FakeEmbeddings) -> None:
    """Waiting behind a queue that is too long only makes a time-out of it."""
    client = await opened(max_in_flight=1, queue_limit=2)
    fake.open.clear()
    first = await asking(client, "first")
    await fake.arrived.wait()
    waiting = await asking(client, "a", "b")
    with pytest.raises(Overloaded, match="2 prompts"):
        await client.embed("one too many")
    shared = await asking(client, "a")  # takes no place
    fake.open.set()
    await asyncio.gather(*first, *waiting, *shared)


async def test_an_empty_text_has_an_embedding_too(opened: Open, fake: FakeEmbeddings) -> None:
    """Endpoints refuse it, and a router may not."""
    client = await opened()
    np.testing.assert_array_equal(await client.embed(""), vector_of(" ", 4))


async def test_only_the_start_of_a_long_text_is_sent(opened: Open, fake: FakeEmbeddings) -> None:
    """A megabyte costs no more than what the model can read of it."""
    client = await opened()
    await client.embed("y" * 1_000_000)
    assert fake.batches == [["y" * ENCODER.max_characters]]


async def test_stopping_fails_whoever_still_waits(
    fake: FakeEmbeddings, metrics: ScorerMetrics
) -> None:
    """In words of ours, and at once."""
    fake.open.clear()
    async with aiohttp.ClientSession() as session:
        client = client_of(fake.url, session, metrics)
        async with beside(client.send()):
            (task,) = await asking(client, "a")
            await fake.arrived.wait()
        with pytest.raises(ScorerUnavailable, match="stopping"):
            await task


async def test_a_fault_of_ours_fails_its_callers_and_nobody_after_them(
    metrics: ScorerMetrics,
) -> None:
    """The sender outlives a bug."""

    class Broken:
        async def rows(self, texts: list[str], until: object) -> list[PointsmanError]:
            raise ZeroDivisionError

    client = EmbeddingsClient(Broken(), ENCODER, EmbeddingsSettings(), metrics)  # type: ignore[arg-type]
    async with beside(client.send()):
        for text in ("a", "b"):
            with pytest.raises(ZeroDivisionError):
                await client.embed(text)
