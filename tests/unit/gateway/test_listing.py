"""`GET /v1/models`: every id in it can be asked for."""

import json
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from pointsman.routing import ModelPair, RouterRef, parse_model_field
from pointsman.scorer.v1 import scorer_pb2
from pointsman.upstream.v1 import upstream_pb2
from services.gateway.directory import Directory
from services.gateway.listing import ModelListing, example

MODELS = [
    upstream_pb2.Model(name="big", provider="openai"),
    upstream_pb2.Model(name="small", provider="vllm"),
]


def router(name: str = "mf", *, median: float = 0.25, **fields: Any) -> scorer_pb2.Router:
    """A router whose win rates have this median."""
    rates = [0.0] * 50 + [median] + [1.0] * 50
    return scorer_pb2.Router(name=name, win_rate_percentiles=rates, **fields)


async def listed(*routers: scorer_pb2.Router, models: Any = MODELS) -> list[dict[str, Any]]:
    """Returns the entries of a listing."""

    async def list_models() -> upstream_pb2.ListModelsResponse:
        return upstream_pb2.ListModelsResponse(models=models)

    async def list_routers() -> scorer_pb2.ListRoutersResponse:
        return scorer_pb2.ListRoutersResponse(routers=routers)

    directory = Directory(ModelPair("big", "small"), "x", list_models, list_routers)
    await directory.refresh()
    response = await ModelListing(directory, 17).show(make_mocked_request("GET", "/v1/models"))
    body = json.loads(response.body)  # type: ignore[attr-defined]
    assert (response.status, body["object"]) == (200, "list")
    entries: list[dict[str, Any]] = body["data"]
    return entries


async def test_models_and_routers_are_listed_as_openai_lists_models() -> None:
    """`client.models.list()` parses it, and user interfaces offer it."""
    big, small, mf = await listed(router(ready=True, revision="r1"))
    assert big == {"id": "big", "object": "model", "created": 17, "owned_by": "openai"}
    assert small["owned_by"] == "vllm"
    assert mf == {
        "id": "router-mf-0.25",
        "object": "model",
        "created": 17,
        "owned_by": "pointsman",
        "ready": True,
        "revision": "r1",
    }


@pytest.mark.parametrize("median", [0.0, 1.0, 1e-07, 0.5, 1 / 3, 0.9999999, 5e-324])
async def test_a_listed_router_can_be_asked_for(median: float) -> None:
    """What a user interface offers must not be refused; half the calls are strong."""
    *_, entry = await listed(router(median=median))
    ref = parse_model_field(entry["id"])
    assert ref is not None
    assert ref.router == "mf"
    assert ref.threshold == pytest.approx(median, rel=1e-5, abs=1e-320)


async def test_a_router_without_calibration_is_offered_in_the_middle() -> None:
    """Another team's router has no percentiles."""
    *_, entry = await listed(scorer_pb2.Router(name="theirs", ready=True))
    assert parse_model_field(entry["id"]) == RouterRef("theirs", 0.5)


async def test_a_router_that_is_not_ready_says_why() -> None:
    """It is shown, so that nobody looks for it in vain."""
    *_, entry = await listed(router(not_ready_reason="the bundle is damaged"))
    assert entry["ready"] is False
    assert entry["not_ready_reason"] == "the bundle is damaged"
    assert "revision" not in entry


def test_the_example_is_a_trained_router_that_is_ready() -> None:
    """The first run shows a command that works, and shows what this is about."""
    pair = scorer_pb2.ModelPair(strong="big", weak="small")
    broken = router("bert", training_pair=pair)
    control = router("random", median=0.5, ready=True)
    assert example([broken, control, router(ready=True, training_pair=pair)]) == "router-mf-0.25"
    assert example([broken, control]) == "router-random-0.5"
    assert example([broken]) == ""


async def test_an_empty_cluster_is_an_empty_list() -> None:
    """Nothing is known yet, and that is no error."""
    assert await listed(models=[]) == []
