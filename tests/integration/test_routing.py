"""One request through gateway, scorer and upstream, whole."""

import asyncio
import io
import json
from pathlib import Path

import pytest

from pointsman.routing import CHOICES
from pointsman.scorer.v1 import scorer_pb2
from tests.fakes.cluster import HELLO, RunningCluster, cluster, models_of
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.integration


async def test_decision_follows_the_win_rate_that_grpc_gives(running: RunningCluster) -> None:
    """Equal goes to strong, and the header's decimal is exactly the scorer's double."""
    request = scorer_pb2.ScoreRequest(router="random", prompt="Hello!")
    rate = (await running.score.Score(request)).strong_win_rate
    for threshold, decision in ((rate, "strong"), (rate + 1e-9, "weak"), (0.0, "strong")):
        async with running.chat(f"router-random-{threshold!r}") as response:
            assert response.status == 200
            assert response.headers["x-pointsman-decision"] == decision
            assert response.headers["x-pointsman-model"] == decision
            assert response.headers["x-pointsman-router"] == "random"
            assert float(response.headers["x-pointsman-threshold"]) == threshold
            assert float(response.headers["x-pointsman-strong-win-rate"]) == rate
            assert response.headers["x-pointsman-revision"] == "random-seed-0"
            assert (await response.json())["model"] == f"fake-{decision}"


async def test_provider_gets_the_body_as_the_client_wrote_it_but_for_the_model(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """Fields that nobody has invented yet, odd numbers and escapes go through untouched."""
    body = (
        b'{"temperature": 1.0, "seed": 123456789012345678901234567890, "model": "router-random-0",'
        b' "messages": [{"role": "user", "content": "caf\\u00e9 \\ud83d"}], "new_field": [1e2, {}]}'
    )
    async with (
        running.http.post(f"{running.url}/v1/chat/completions", data=body) as response,
    ):
        assert response.status == 200
    sent = json.loads(body, parse_float=str, parse_int=str)
    got = json.loads(provider.calls[0].body, parse_float=str, parse_int=str)
    assert got == {**sent, "model": "fake-strong"}


async def test_keys_stay_where_they_belong(tmp_path: Path, provider: FakeProvider) -> None:
    """The client's key stops at the gateway, the operator's at the provider; no log has either."""
    models = models_of(provider.url, api_key_env="FAKE_KEY")
    environ = {"FAKE_KEY": "operator-secret", "POINTSMAN_LOG_LEVEL": "DEBUG"}
    secret_prompt = [{"role": "user", "content": "prompt-secret"}]
    async with cluster(tmp_path, models, environ=environ) as running:
        headers = {"authorization": "Bearer client-secret"}
        async with running.chat(messages=secret_prompt, headers=headers) as response:
            assert response.status == 200
            answer = await response.text()
        metrics = [
            str(await running.metrics(process))
            for process in (running.gateway, running.scorer, running.upstream)
        ]
    assert provider.calls[0].headers["Authorization"] == "Bearer operator-secret"
    assert "client-secret" not in str(provider.calls[0])
    logs = [running.log(service) for service in ("gateway", "scorer", "upstream")]
    for text in (*logs, *metrics, answer):
        for secret in ("operator-secret", "client-secret", "prompt-secret", "An answer."):
            assert secret not in text.replace(answer, "")


async def test_named_model_is_asked_directly(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """The name of a configured model skips the router."""
    async with running.chat("weak") as response:
        assert response.status == 200
        assert response.headers["x-pointsman-model"] == "weak"
        assert "x-pointsman-decision" not in response.headers
    assert provider.calls[0].json["model"] == "fake-weak"


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("", 400, None),
        ("router-mf", 400, None),
        ("router-random-2", 400, None),
        ("router-random-nan", 400, None),
        ("router--0.5", 400, None),
        ("router-random-0.5\n", 400, None),
        ("routerX-random-0.5", 404, "model_not_found"),
        ("router-nobody-0.5", 404, "model_not_found"),
        ("gpt-unknown", 404, "model_not_found"),
        (5, 400, None),
        (None, 400, None),
    ],
)
async def test_wrong_model_field_is_refused_in_openais_shape(
    running: RunningCluster, model: object, status: int, code: str | None
) -> None:
    """Never a 5xx and never a hang; the message names the value and the remedy."""
    async with running.chat(model) as response:
        error = (await response.json())["error"]
        assert response.status == status
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["param"], error["code"]) == (
            "invalid_request_error",
            "model",
            code,
        )
        named = model.split("-")[1] if model == "router-nobody-0.5" else model
        if isinstance(model, str) and "2" not in model:
            assert f"`{named}`".replace("\n", "\\n") in error["message"] or not model


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "router-random-0.5"}',
        b'{"model": "router-random-0.5", "messages": []}',
        b'{"model": "router-random-0.5", "messages": null}',
        b'{"model": "router-random-0.5", "messages": "hi"}',
        b'{"model": "router-random-0.5", "messages": [1]}',
        b'{"model": "router-random-0.5", "messages": [{"role": "user"}], "stream": "yes"}',
        b'{"model": "router-random-0.5", "messages": [{"role": "user", "content": NaN}]}',
        b'{"messages": ' + b"[" * 100_000,
    ],
)
async def test_malformed_body_is_400(running: RunningCluster, body: bytes) -> None:
    """Whatever arrives, the client hears that it is wrong, in a shape it can read."""
    url = f"{running.url}/v1/chat/completions"
    async with running.http.post(url, data=body) as response:
        assert response.status == 400
        assert set((await response.json())["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
        [{"role": "tool", "content": "42", "tool_call_id": "1"}],
        [{"role": "system", "content": "Only this."}],
        [{"content": "no role"}],
        [{}],
        [{"role": "user", "content": 42}],
        [{"role": "user", "content": "\ud83d"}],
    ],
)
async def test_every_message_shape_is_routed(
    running: RunningCluster, messages: list[object]
) -> None:
    """What carries no text must not break routing; the provider judges the rest."""
    async with running.chat("router-random-0", messages) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        pytest.param(b"content-length: 1001\r\n\r\n", b"", id="by-its-length-alone"),
        pytest.param(
            b"transfer-encoding: chunked\r\n\r\n",
            b"3E9\r\n" + b" " * 1001 + b"\r\n",
            id="as-soon-as-the-limit-is-passed",
        ),
    ],
)
async def test_body_over_the_limit_is_refused_before_it_is_read_whole(
    tmp_path: Path, provider: FakeProvider, head: bytes, sent: bytes
) -> None:
    """The rest of the body need not be there for the answer to be 413."""
    settings = {"body_limit_bytes": 1000}
    async with cluster(tmp_path, models_of(provider.url), gateway=settings) as running:
        host, port = running.gateway.announcement.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + head + sent)
        assert b" 413 " in await reader.readline()
        await reader.readuntil(b"\r\n\r\n")
        assert b'"request_too_large"' in await reader.readuntil(b"}}")
        writer.close()
    assert not provider.calls


async def test_large_body_within_the_limit_goes_through(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """The gRPC message limits follow the body limit: 20 MB passes every hop."""
    messages = [{"role": "user", "content": "word " * 4_000_000}]
    body = io.BytesIO(json.dumps({"model": "router-random-0", "messages": messages}).encode())
    async with (
        running.http.post(f"{running.url}/v1/chat/completions", data=body) as response,
    ):
        assert response.status == 200
        assert "x-pointsman-fallback" not in response.headers
    assert len(provider.calls[0].body) > 20_000_000


async def test_request_id_is_accepted_made_and_logged(running: RunningCluster) -> None:
    """One id joins the client's view, the gateway's line and the upstream's."""
    async with running.chat(headers={"x-request-id": "my-id.1"}) as response:
        assert response.headers["x-request-id"] == "my-id.1"
    async with running.chat(headers={"x-request-id": "no good"}) as response:
        assert len(response.headers["x-request-id"]) == 32
    async with running.http.get(f"{running.url}/nowhere") as response:
        assert response.status == 404
        assert len(response.headers["x-request-id"]) == 32
    for service in ("gateway", "scorer", "upstream"):
        lines = [json.loads(line) for line in running.log(service).splitlines()]
        assert any(line.get("request_id") == "my-id.1" for line in lines)


async def test_gateway_writes_one_line_a_request(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """An operator can tell from one line what was decided, by what, and how long it took."""
    async with running.chat("router-random-0.25", headers={"x-request-id": "line"}) as response:
        rate = float(response.headers["x-pointsman-strong-win-rate"])
    lines = [json.loads(line) for line in running.log("gateway").splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "line"]
    assert (line["event"], line["outcome"], line["status"]) == ("request", "ok", 200)
    assert (line["router"], line["threshold"], line["strong_win_rate"]) == ("random", 0.25, rate)
    assert line["choice"] == line["model"] == ("strong" if rate >= 0.25 else "weak")
    assert line["seconds"] >= sum(line["stages"].values()) > 0


async def test_counters_add_up_to_the_requests_sent(
    running: RunningCluster, provider: FakeProvider
) -> None:
    """Metrics are on the metrics port only, and every request is counted once in each service."""
    async with (
        running.growth(running.gateway) as gateway,
        running.growth(running.scorer) as scorer,
        running.growth(running.upstream) as upstream,
    ):
        for index in range(20):
            turn = [{"role": "user", "content": str(index)}]
            async with running.chat("router-random-0.5", turn) as response:
                assert response.status == 200
        async with running.chat("router-nobody-0.5") as response:
            assert response.status == 404
        async with running.http.get(f"{running.url}/metrics") as response:
            assert response.status == 404
    requests = "pointsman_gateway_requests_total"
    assert gateway[f'{requests}{{outcome="ok",router="random"}}'] == 20
    assert gateway[f'{requests}{{outcome="unknown_router",router="other"}}'] == 1
    decisions = "pointsman_gateway_decisions_total"
    choices = [gateway[f'{decisions}{{choice="{c}",router="random"}}'] for c in CHOICES]
    assert min(choices) > 0
    assert sum(choices) == 20
    assert scorer['pointsman_scorer_strong_win_rate_count{router="random"}'] == 20
    calls = "pointsman_upstream_requests_total"
    assert [upstream[f'{calls}{{model="{c}",outcome="ok"}}'] for c in CHOICES] == choices
    tokens = "pointsman_upstream_tokens_total"
    asked = [upstream[f'{tokens}{{direction="input",model="{c}"}}'] for c in CHOICES]
    assert asked == [7 * calls for calls in choices]


async def test_models_are_listed_with_usable_routers(running: RunningCluster) -> None:
    """A client that picks any id from the list can send it."""
    async with running.http.get(f"{running.url}/v1/models") as response:
        listed = await response.json()
    names = [entry["id"] for entry in listed["data"]]
    shares = [f"router-random-p{percent}" for percent in range(10, 100, 10)]
    assert names == ["strong", "weak", *shares]
    assert {"id", "object", "created", "owned_by"} <= set(listed["data"][0])
    for name in names:
        async with running.chat(name, HELLO) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    ("policy", "scored"),
    [
        ("last_user_turn", "second"),
        ("first_user_turn", "first"),
        ("whole_conversation", "first\n\nanswer\n\nsecond"),
    ],
)
async def test_configured_policy_decides_what_is_scored(
    tmp_path: Path, provider: FakeProvider, policy: str, scored: str
) -> None:
    """The same conversation gets the win rate of the text that the policy picks."""
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": "second"},
    ]
    settings = {"prompt_policy": policy}
    async with cluster(tmp_path, models_of(provider.url), gateway=settings) as running:
        request = scorer_pb2.ScoreRequest(router="random", prompt=scored)
        rate = (await running.score.Score(request)).strong_win_rate
        async with running.chat("router-random-0", messages) as response:
            assert float(response.headers["x-pointsman-strong-win-rate"]) == rate


async def test_a_prompt_is_scored_once(running: RunningCluster) -> None:
    """Chats repeat their prompts, and a win rate that is known costs no inference."""
    request = scorer_pb2.ScoreRequest(router="random", prompt="Asked twice, scored once?")
    async with running.growth(running.scorer) as grown:
        first, second = await running.score.Score(request), await running.score.Score(request)
    assert (first.cached, second.cached) == (False, True)
    assert first.strong_win_rate == second.strong_win_rate
    assert second.inference_seconds == 0
    assert grown['pointsman_scorer_cache_lookups_total{outcome="kept"}'] == 1
    assert grown['pointsman_scorer_stage_seconds_count{stage="infer"}'] == 1
