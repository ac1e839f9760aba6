"""`GET /v1/models`: every id in it can be asked for."""

import json
import re
from collections.abc import Mapping
from typing import Any

from aiohttp.test_utils import make_mocked_request

from pointsman.routing import RouterRef, StrongShare, parse_model_field
from pointsman.scorer.v1 import scorer_pb2
from pointsman.upstream.v1 import upstream_pb2
from services.gateway.callers import ANYBODY, CALLER, Caller
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


async def listed(
    *routers: scorer_pb2.Router,
    models: Any = MODELS,
    caller: Caller = ANYBODY,
    aliases: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Returns the entries of a listing."""

    async def list_models() -> upstream_pb2.ListModelsResponse:
        return upstream_pb2.ListModelsResponse(models=models)

    async def list_routers() -> scorer_pb2.ListRoutersResponse:
        return scorer_pb2.ListRoutersResponse(routers=routers)

    directory = Directory({"pair.strong": "big"}, "x", list_models, list_routers)
    await directory.refresh()
    request = make_mocked_request("GET", "/v1/models")
    request[CALLER] = caller
    response = await ModelListing(directory, aliases or {}, 17).show(request)
    body = json.loads(response.body)  # type: ignore[attr-defined]
    assert (response.status, body["object"]) == (200, "list")
    entries: list[dict[str, Any]] = body["data"]
    return entries


async def test_models_and_routers_are_listed_as_openai_lists_models() -> None:
    """`client.models.list()` parses it, and user interfaces offer it."""
    big, small, mf, *_ = await listed(router(ready=True, revision="r1"))
    assert big == {"id": "big", "object": "model", "created": 17, "owned_by": "openai"}
    assert small["owned_by"] == "vllm"
    assert mf == {
        "id": "router-mf-p10",
        "object": "model",
        "created": 17,
        "owned_by": "pointsman",
        "ready": True,
        "revision": "r1",
    }


async def test_a_calibrated_router_is_listed_by_strong_share() -> None:
    """A share is what people know; what is offered must not be refused."""
    entries = (await listed(router(ready=True)))[2:]
    shares = [StrongShare(percent) for percent in (10, 20, 30, 40, 50, 60, 70, 80, 90)]
    refs = [parse_model_field(entry["id"]) for entry in entries]
    assert refs == [RouterRef("mf", share) for share in shares]


async def test_a_router_without_calibration_is_offered_in_the_middle() -> None:
    """Another team's router has no percentiles, and a share of it would be refused."""
    entries = (await listed(scorer_pb2.Router(name="theirs", ready=True)))[2:]
    assert [parse_model_field(entry["id"]) for entry in entries] == [RouterRef("theirs", 0.5)]


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
    assert example([broken, control, router(ready=True, training_pair=pair)]) == "router-mf-p50"
    assert example([broken, control]) == "router-random-p50"
    assert example([broken]) == ""
    assert example([scorer_pb2.Router(name="theirs", ready=True)]) == "router-theirs-0.5"


async def test_a_key_is_shown_only_what_it_may_use() -> None:
    """What is offered must not be refused, and what is refused is nobody's business."""
    routers = (router(ready=True), router("bert", ready=True))
    for caller, expected in [
        (Caller("a", routers=("mf",), models=()), ["router-mf"]),
        (Caller("b", routers=(), models=("small", "gone")), ["small"]),
        (Caller("c", routers=None, models=("big",)), ["big", "router-mf", "router-bert"]),
    ]:
        entries = await listed(*routers, caller=caller)
        names = [re.sub(r"-p[1-9]0", "", entry["id"]) for entry in entries]
        assert list(dict.fromkeys(names)) == expected


async def test_an_empty_cluster_is_an_empty_list() -> None:
    """Nothing is known yet, and that is no error."""
    assert await listed(models=[]) == []


ALIASES = {"gpt-4o": "router-mf-p30", "cheap": "small", "big": "small"}


async def test_aliases_are_listed_and_one_that_hides_a_model_is_listed_once() -> None:
    """User interfaces offer what can be asked for; an id that stands there twice confuses them."""
    entries = await listed(aliases=ALIASES)
    assert [(one["id"], one["owned_by"]) for one in entries] == [
        ("small", "vllm"),
        ("gpt-4o", "pointsman"),
        ("cheap", "pointsman"),
        ("big", "pointsman"),
    ]


async def test_an_alias_is_shown_to_whoever_may_use_what_it_stands_for() -> None:
    """What is offered must not be refused, under whatever name."""
    for caller, expected in [
        (Caller("a", routers=("mf",), models=()), ["gpt-4o"]),
        (Caller("b", routers=(), models=("small",)), ["small", "cheap", "big"]),
        (Caller("c", routers=("bert",), models=("big",)), []),
    ]:
        entries = await listed(caller=caller, aliases=ALIASES)
        assert [entry["id"] for entry in entries] == expected
