"""The tools' embeddings, by the real `openai` client, from an endpoint that really listens."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from pointsman.errors import ConfigError, RouterNotReady
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.endpoint_settings import EmbeddingsSettings
from pointsman.routers.settings import RouterSettings, config_of
from pointsman.sdk.embeddings import EndpointEmbedder, endpoint_embedder
from tests.fakes.embeddings import (
    FakeEmbeddings,
    rate_of,
    refuse,
    remote_bundle,
    say,
    vector_of,
)

ENCODER = EmbedderSettings(max_tokens=64, dimension=4, model="text-embedding-3-small")


@pytest.fixture
async def fake() -> AsyncIterator[FakeEmbeddings]:
    """An endpoint that works."""
    async with FakeEmbeddings() as opened:
        yield opened


@pytest.fixture
def embedder(fake: FakeEmbeddings) -> Iterator[EndpointEmbedder]:
    """Asks the fake, three texts at a time, and nothing twice."""
    settings = EmbeddingsSettings(base_url=fake.url, model="an-alias", max_batch=3, retries=0)
    with closing(EndpointEmbedder(settings, ENCODER, "sk-1")) as opened:
        yield opened


@pytest.mark.parametrize("base64", [True, False], ids=["base64", "lists"])
async def test_texts_are_asked_for_in_batches_and_come_back_in_order(
    embedder: EndpointEmbedder, fake: FakeEmbeddings, base64: bool
) -> None:
    """In either encoding, bit for bit."""
    fake.base64 = base64
    texts = [f"text {number}" for number in range(7)]
    rows = await asyncio.to_thread(embedder.embed, texts)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, [vector_of(text, 4) for text in texts])
    assert [len(batch) for batch in fake.batches] == [3, 3, 1]
    assert fake.asked[0].headers["Authorization"] == "Bearer sk-1"
    assert fake.asked[0].body["model"] == "an-alias"


async def test_no_texts_are_no_request(embedder: EndpointEmbedder, fake: FakeEmbeddings) -> None:
    """An empty file of prompts is a file of prompts."""
    rows = await asyncio.to_thread(embedder.embed, [])
    assert rows.shape == (0, 4)
    assert fake.asked == []


async def test_an_empty_and_a_long_text_have_embeddings_too(
    embedder: EndpointEmbedder, fake: FakeEmbeddings
) -> None:
    """As in the scorer, so that what is calibrated is what is served."""
    fake.longest = 130
    rows = await asyncio.to_thread(embedder.embed, ["", "x" * 5000])
    np.testing.assert_array_equal(rows, [vector_of(" ", 4), vector_of("x" * 128, 4)])


@pytest.mark.parametrize(
    ("reply", "said"),
    [(refuse(401), "status 401"), (refuse(503), "status 503"), (say(b"{}"), "no embeddings")],
    ids=["401", "503", "nonsense"],
)
async def test_a_failure_is_one_line_that_quotes_nothing(
    embedder: EndpointEmbedder, fake: FakeEmbeddings, reply, said: str
) -> None:
    """The address and the status tell what to do."""
    fake.replies = [reply]
    with pytest.raises(RouterNotReady, match=said) as caught:
        await asyncio.to_thread(embedder.embed, ["a text"])
    assert fake.url in caught.value.message
    assert "sk-secret" not in caught.value.message


async def test_a_wrong_dimension_is_told_with_both_numbers(
    embedder: EndpointEmbedder, fake: FakeEmbeddings
) -> None:
    """Another model than the one the router was trained on."""
    fake.dimension = 5
    with pytest.raises(ConfigError, match="5 numbers and the bundle names 4"):
        await asyncio.to_thread(embedder.embed, ["a text"])


async def test_an_endpoint_that_is_gone_is_told(embedder: EndpointEmbedder, tmp_path: Path) -> None:
    """The client's own word for it goes along."""
    async with FakeEmbeddings() as gone:
        settings = EmbeddingsSettings(base_url=gone.url, retries=0)
    with (
        closing(EndpointEmbedder(settings, ENCODER, None)) as unreachable,
        pytest.raises(RouterNotReady, match="Connection error"),
    ):
        await asyncio.to_thread(unreachable.embed, ["a text"])


async def test_a_configured_router_scores_by_its_endpoint(
    fake: FakeEmbeddings, tmp_path: Path
) -> None:
    """RouteLLM's formula on the endpoint's embeddings."""
    bundle, weights = remote_bundle(tmp_path)
    router = {"bundle": str(bundle), "embeddings": {"base_url": fake.url}}
    config = config_of({"routers": {"mf": router}}, source="config")
    with ExitStack() as stack:

        def embedder_for(name: str, settings: RouterSettings) -> EndpointEmbedder | None:
            made = endpoint_embedder(name, settings, {})
            return made if made is None else stack.enter_context(closing(made))

        loaded = config.load("mf", embedder_for)
        rates = await asyncio.to_thread(loaded.router.strong_win_rates, ["Hello", ""])
    assert rates.tolist() == pytest.approx([rate_of(weights, "Hello"), rate_of(weights, " ")])


def test_a_router_that_embeds_by_itself_needs_no_endpoint() -> None:
    """And no key."""
    assert endpoint_embedder("random", RouterSettings(), {}) is None


def test_a_key_that_is_not_set_is_named(tmp_path: Path) -> None:
    """Before anything is asked."""
    bundle, _ = remote_bundle(tmp_path)
    settings = RouterSettings(bundle=str(bundle), embeddings=EmbeddingsSettings())
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        endpoint_embedder("mf", settings, {})
