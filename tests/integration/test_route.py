"""Aliases, rules, `POST /v1/route` and `GET /v1/models/{id}` through real processes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from pointsman.api_keys import new_key, sha256_of
from tests.fakes.cluster import HELLO, RunningCluster, cluster, models_of
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.integration

ALL, FEW = new_key(), new_key()
PICTURE = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png,"}}]}
]
GATEWAY: dict[str, Any] = {
    "keys": {
        "all": {"sha256": sha256_of(ALL)},
        "few": {"sha256": sha256_of(FEW), "routers": [], "models": ["weak"]},
    },
    "aliases": {"gpt-4o": "router-random-1", "org/cheap": "weak"},
    "rules": {
        "pictures": {"model": "org/eyes", "has": ["image"]},
        "tools": {"model": "strong", "has": ["tools"]},
        "legal": {"model": "strong", "headers": {"x-team": "legal"}},
    },
}


@pytest.fixture(scope="module")
async def seeing() -> AsyncIterator[FakeProvider]:
    """The provider of all three models."""
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
async def ruled(
    tmp_path_factory: pytest.TempPathFactory, seeing: FakeProvider
) -> AsyncIterator[RunningCluster]:
    """A cluster with aliases, rules, keys, and a model whose name has a slash."""
    models = models_of(seeing.url)
    models["models"]["org/eyes"] = {"provider": "fake", "model": "fake-eyes"}
    async with cluster(tmp_path_factory.mktemp("ruled"), models, gateway=GATEWAY) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    """Returns the header that shows a key."""
    return {"authorization": f"Bearer {key}"}


def client(running: RunningCluster, key: str = ALL) -> openai.AsyncOpenAI:
    """The official client; it retries nothing, so that we see all."""
    return openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize(
    ("model", "fields", "headers", "answers", "reason"),
    [
        ("router-random-1", {}, {}, "weak", "win_rate"),
        ("gpt-4o", {}, {}, "weak", "win_rate"),
        ("gpt-4o", {"messages": PICTURE}, {}, "org/eyes", "rule:pictures"),
        ("router-random-1", {"tools": [{"type": "function"}]}, {}, "strong", "rule:tools"),
        ("router-random-1", {}, {"X-Team": "legal"}, "strong", "rule:legal"),
        ("org/cheap", {}, {"X-Team": "legal"}, "weak", "alias"),
        ("weak", {"messages": PICTURE}, {}, "weak", "direct"),
    ],
)
async def test_an_explanation_says_what_the_request_then_does(
    ruled: RunningCluster,
    seeing: FakeProvider,
    model: str,
    fields: dict[str, Any],
    headers: dict[str, str],
    answers: str,
    reason: str,
) -> None:
    """One path decides for both; asking where it would go costs nothing."""
    seeing.reset()
    sent = {**bearer(ALL), **headers}
    body = {"model": model, "messages": HELLO, **fields}
    async with ruled.http.post(f"{ruled.url}/v1/route", json=body, headers=sent) as response:
        told = await response.json()
        assert response.status == 200
    assert seeing.calls == []
    assert (told["model"], told["reason"]) == (answers, reason)
    async with ruled.http.post(
        f"{ruled.url}/v1/chat/completions", json=body, headers=sent
    ) as response:
        assert response.status == 200
        assert response.headers["x-pointsman-model"] == answers
        assert response.headers["x-pointsman-reason"] == reason
    assert len(seeing.calls) == 1


async def test_an_explanation_is_counted_as_one(ruled: RunningCluster) -> None:
    """Error rates and shares of decisions are of requests that were answered."""
    body = {"model": "router-random-1", "messages": HELLO}
    async with (
        ruled.growth(ruled.gateway) as grown,
        ruled.http.post(
            f"{ruled.url}/v1/route", json=body, headers={**bearer(ALL), "x-request-id": "why"}
        ) as response,
    ):
        assert response.status == 200
    series = 'pointsman_gateway_requests_total{outcome="explained",router="random"}'
    assert grown[series] == 1
    assert not [name for name, by in grown.items() if "decisions_total{" in name and by]
    lines = [json.loads(line) for line in ruled.log("gateway").splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "why"]
    assert (line["outcome"], line["reason"]) == ("explained", "win_rate")


@pytest.mark.parametrize(
    ("name", "model", "status"),
    [
        ("nobody", "weak", 401),
        ("few", "gpt-4o", 403),
        ("few", "router-random-1", 403),
        ("few", "org/cheap", 200),
        ("all", "nobody", 404),
        ("all", "router-nobody-1", 404),
        ("all", "router-random-7", 400),
    ],
)
async def test_keys_and_mistakes_are_answered_alike_everywhere(
    ruled: RunningCluster, name: str, model: str, status: int
) -> None:
    """Three doors to one model, and one answer at each."""
    headers = {"few": bearer(FEW), "all": bearer(ALL)}.get(name, {})
    body = {"model": model, "messages": HELLO}
    for method, path, sent in [
        ("POST", "chat/completions", body),
        ("POST", "route", body),
        ("GET", f"models/{model}", None),
    ]:
        async with ruled.http.request(
            method, f"{ruled.url}/v1/{path}", json=sent, headers=headers
        ) as response:
            told = await response.json()
            assert response.status == status, path
            assert status == 200 or told["error"]["message"]
            if (status, model) == (403, "gpt-4o"):
                assert "random" not in told["error"]["message"], "what the alias stands for"


async def test_the_official_client_retrieves_models(ruled: RunningCluster) -> None:
    """It escapes slashes; routers may be asked for by any threshold, listed or not."""
    async with client(ruled) as mine:
        for name, owner in [
            ("weak", "fake"),
            ("org/eyes", "fake"),
            ("router-random-0.3", "pointsman"),
            ("router-random-p30", "pointsman"),
            ("gpt-4o", "pointsman"),
            ("org/cheap", "pointsman"),
        ]:
            found = await mine.models.retrieve(name)
            assert (found.id, found.object, found.owned_by) == (name, "model", owner)
        ids = [model.id async for model in mine.models.list()]
        assert {"gpt-4o", "org/cheap", "org/eyes"} < set(ids)
        assert len(ids) == len(set(ids))
        with pytest.raises(openai.NotFoundError):
            await mine.models.retrieve("org/nobody")
        with pytest.raises(openai.BadRequestError):
            await mine.models.retrieve("router-random-7")
    async with client(ruled, FEW) as few:
        assert [model.id async for model in few.models.list()] == ["weak", "org/cheap"]
        with pytest.raises(openai.PermissionDeniedError):
            await few.models.retrieve("gpt-4o")
