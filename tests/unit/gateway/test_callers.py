"""One `Authorization` header → who calls, and nothing else gets in."""

import logging
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pointsman.api_keys import ApiKey, new_key, sha256_of
from pointsman.errors import InvalidKey, KeyNotAllowed
from services.gateway.access import show_request_id, with_openai_errors, with_request_id
from services.gateway.callers import ANYBODY, CALLER, Caller, KeyRing, with_caller
from services.gateway.metrics import GatewayMetrics

KEY, OTHER = new_key(), new_key()
RING = KeyRing(
    {
        "team-a": ApiKey(sha256=sha256_of(KEY), routers=("mf",), models=()),
        "team-b": ApiKey(sha256=sha256_of(OTHER)),
    }
)


def test_a_key_finds_its_holder_and_what_they_may_use() -> None:
    """Each key is its own; the name is for the log."""
    assert RING.identify([f"Bearer {KEY}"]) == Caller("team-a", ("mf",), ())
    assert RING.identify([f"Bearer {OTHER}"]) == Caller("team-b", None, None)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_schemes_case_and_spaces_after_it_are_free(scheme: str) -> None:
    """RFC 9110 and 6750 say so, and some clients write it small."""
    assert RING.identify([f"{scheme} {KEY}"]).name == "team-a"
    assert RING.identify([f"{scheme}   {KEY}"]).name == "team-a"


@pytest.mark.parametrize(
    "authorization",
    [
        [],
        [""],
        ["Bearer"],
        ["Bearer "],
        ["Bearer none-needed"],
        [KEY],
        [f"Basic {KEY}"],
        [f"Bearer{KEY}"],
        [f"Bearer\t{KEY}"],
        [f" Bearer {KEY}"],
        [f"Bearer {KEY} "],
        [f"Bearer {KEY}\n"],
        [f"Bearer {KEY}, Bearer {OTHER}"],
        [f"Bearer {KEY} {OTHER}"],
        [f"Bearer {KEY[:-1]}"],
        [f"Bearer {KEY}x"],
        [f"Bearer {KEY.upper()}"],
        [f"Bearer {sha256_of(KEY)}"],
        [f"Bearer {KEY}", f"Bearer {KEY}"],
        [f"Bearer {KEY}", f"Bearer {OTHER}"],
        [f"Bearer {KEY}", ""],
        ["Bearer " + "x" * 10_000],
    ],
)
def test_everything_else_is_nobody(authorization: Sequence[str]) -> None:
    """Two headers too: whoever stands between might have read the other one."""
    with pytest.raises(InvalidKey) as raised:
        RING.identify(authorization)
    assert KEY not in raised.value.message
    assert OTHER not in raised.value.message
    assert "pointsman keys create" in raised.value.message


def test_the_file_of_digests_is_no_file_of_keys() -> None:
    """Whoever reads it can call nobody's models."""
    with pytest.raises(InvalidKey):
        KeyRing({"a": ApiKey(sha256=sha256_of(sha256_of(KEY)))}).identify([f"Bearer {KEY}"])


@given(st.lists(st.text(st.characters(exclude_categories=())) | st.just("Bearer x"), max_size=3))
def test_no_header_whatever_is_anything_but_refused(authorization: list[str]) -> None:
    """It is the one text that strangers choose freely before anything else is checked."""
    with pytest.raises(InvalidKey):
        RING.identify(authorization)


def test_a_caller_may_use_what_is_listed_and_without_a_list_everything() -> None:
    """Refusing says what was refused, and never what else there is."""
    limited = Caller("a", routers=("mf",), models=())
    limited.require_router("mf")
    with pytest.raises(KeyNotAllowed, match="may not use the router `bert`"):
        limited.require_router("bert")
    with pytest.raises(KeyNotAllowed, match="may not use the model `strong`"):
        limited.require_model("strong")
    ANYBODY.require_router("bert")
    ANYBODY.require_model("strong")


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry of this test's own."""
    return CollectorRegistry()


@pytest.fixture
async def url(registry: CollectorRegistry) -> AsyncIterator[str]:
    """A server behind the gateway's middlewares, whose handlers tell the caller's name."""

    async def tell(request: web.Request) -> web.Response:
        return web.Response(text=str(request[CALLER].name if CALLER in request else "a probe"))

    metrics = GatewayMetrics(registry)
    app = web.Application(
        middlewares=[with_request_id, with_openai_errors, with_caller(RING.identify, metrics)]
    )
    app.on_response_prepare.append(show_request_id)
    for path in ("/healthz", "/readyz", "/v1/anything"):
        app.router.add_get(path, tell)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/")


async def test_probes_need_no_key_and_everything_else_does(url: str) -> None:
    """A route that somebody adds later is closed unless they say otherwise."""
    async with aiohttp.ClientSession() as http:
        for path in ("/healthz", "/readyz", "/%68ealthz"):
            async with http.get(url + path) as response:
                assert (response.status, await response.text()) == (200, "a probe")
        for path in (
            *("/v1/anything", "/nowhere", "/", "/healthz/", "/healthz/../v1/anything"),
            *("//healthz", "/v1/anything?api_key=" + KEY),
        ):
            async with http.get(url + path) as response:
                assert response.status == 401, path
        async with http.post(f"{url}/healthz") as response:
            assert response.status == 401
        async with http.get(f"{url}/v1/anything", headers={"authorization": f"Bearer {KEY}"}) as ok:
            assert (ok.status, await ok.text()) == (200, "team-a")
        async with http.get(f"{url}/nowhere", headers={"authorization": f"Bearer {KEY}"}) as lost:
            assert lost.status == 404


async def test_a_refused_request_is_counted_and_logged_without_its_key(
    url: str, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody who tries keys is seen, and what they tried is not."""
    caplog.set_level(logging.DEBUG)
    headers = {"authorization": f"Bearer {KEY}x", "x-request-id": "mine-1"}
    async with aiohttp.ClientSession() as http, http.get(f"{url}/v1/x", headers=headers) as refused:
        assert refused.headers["x-request-id"] == "mine-1"
        assert KEY not in await refused.text()
    labels = {"router": "none", "outcome": "invalid_api_key"}
    assert registry.get_sample_value("pointsman_gateway_requests_total", labels) == 1
    (line,) = [vars(one) for one in caplog.records if one.getMessage() == "request"]
    assert (line["request_id"], line["status"], line["key"]) == ("mine-1", 401, None)
    assert KEY not in caplog.text + str([vars(one) for one in caplog.records])


async def test_a_web_page_needs_a_key(registry: CollectorRegistry) -> None:
    """Any page in a browser may post to loopback unasked, and somebody would pay for it."""

    async def tell(request: web.Request) -> web.Response:
        return web.Response(text=await request.text())

    def identify(authorization: Sequence[str]) -> Caller:
        return RING.identify(authorization) if authorization else ANYBODY

    app = web.Application(
        middlewares=[
            with_request_id,
            with_openai_errors,
            with_caller(identify, GatewayMetrics(registry)),
        ]
    )
    app.router.add_post("/v1/chat/completions", tell)
    app.router.add_get("/readyz", tell)
    page = {"origin": "https://example.com", "content-type": "text/plain"}
    async with TestServer(app) as server, aiohttp.ClientSession() as http:
        chat = server.make_url("/v1/chat/completions")
        for origin in (page, {"origin": "null"}, {"Origin": "http://127.0.0.1:6060"}):
            async with http.post(chat, data="{}", headers=origin) as refused:
                assert refused.status == 401
                assert "pointsman keys create" in await refused.text()
        async with http.post(chat, data="{}") as plain:
            assert plain.status == 200
        async with http.post(
            chat, data="{}", headers={**page, "authorization": f"Bearer {KEY}"}
        ) as known:
            assert known.status == 200
        async with http.get(server.make_url("/readyz"), headers=page) as probe:
            assert probe.status == 200
