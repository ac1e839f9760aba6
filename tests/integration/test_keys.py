"""API keys against real processes: who gets in, what they may use, and where keys never show."""

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pointsman.api_keys import new_key, sha256_of
from pointsman.cli.main import main
from tests.fakes.cluster import HELLO, RunningCluster, cluster, models_of
from tests.fakes.provider import FakeProvider

pytestmark = pytest.mark.integration

EVERYTHING, ROUTED, DIRECT = new_key(), new_key(), new_key()
ENTRIES: dict[str, dict[str, Any]] = {
    "everything": {"sha256": sha256_of(EVERYTHING)},
    "routed": {"sha256": sha256_of(ROUTED), "routers": ["random"], "models": []},
    "direct": {"sha256": sha256_of(DIRECT), "routers": [], "models": ["weak", "gone"]},
}


@pytest.fixture(scope="module")
async def keyed_provider() -> AsyncIterator[FakeProvider]:
    """The provider behind the keys."""
    async with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
async def keyed(
    tmp_path_factory: pytest.TempPathFactory, keyed_provider: FakeProvider
) -> AsyncIterator[RunningCluster]:
    """A cluster with three keys, whose services log all they ever would."""
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "keys.yaml").write_text(yaml.safe_dump({"keys": ENTRIES}))
    async with cluster(
        folder,
        models_of(keyed_provider.url),
        environ={
            "POINTSMAN_KEYS_FILE": str(folder / "keys.yaml"),
            "POINTSMAN_LOG_LEVEL": "DEBUG",
        },
    ) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    """Returns the header that shows a key."""
    return {"authorization": f"Bearer {key}"}


def client(running: RunningCluster, key: str) -> openai.AsyncOpenAI:
    """The official client; it retries nothing, so that we see all."""
    return openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)


def answer_to(running: RunningCluster, request: bytes) -> bytes:
    """Returns all that the gateway answers to these bytes before it closes the connection."""
    host, port = running.gateway.announcement.address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def head_with(*lines: bytes, target: bytes = b"/v1/models") -> bytes:
    """Returns a GET with these header lines, after which the gateway closes the connection."""
    first = (b"GET " + target + b" HTTP/1.1", b"host: x", b"connection: close")
    return b"\r\n".join([*first, *lines]) + b"\r\n\r\n"


def status_with(running: RunningCluster, *lines: bytes) -> int:
    """Returns the status of a GET with these header lines; any error has OpenAI's shape."""
    head, _, body = answer_to(running, head_with(*lines)).partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    assert status == 200 or json.loads(body[: body.index(b"}}") + 2])["error"]["message"]
    return status


async def test_without_a_key_only_probes_are_answered(
    keyed: RunningCluster, keyed_provider: FakeProvider
) -> None:
    """Nothing is told and nothing is paid for; load balancers still see whether it is ready."""
    keyed_provider.reset()
    for path in ("/healthz", "/readyz"):
        async with keyed.http.get(keyed.url + path) as response:
            assert response.status == 200
    for method, path in [
        ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"),
        ("OPTIONS", "/v1/chat/completions"),
        ("GET", "/v1/nowhere"),
        ("GET", "/"),
    ]:
        async with keyed.http.request(method, keyed.url + path, data=b"{}") as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"], error["param"]) == (
                401,
                "invalid_api_key",
                None,
            )
            assert error["type"] == "invalid_request_error"
            assert response.headers["www-authenticate"] == "Bearer"
            assert len(response.headers["x-request-id"]) == 32
    assert keyed_provider.calls == []


async def test_the_official_client_raises_its_own_exceptions(keyed: RunningCluster) -> None:
    """`except openai.AuthenticationError` works, and the message says what to do, not the key."""
    wrong = new_key()
    async with client(keyed, wrong) as nobody:
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key") as refused:
            await nobody.chat.completions.create(model="weak", messages=HELLO)  # type: ignore[arg-type]
        with pytest.raises(openai.AuthenticationError):
            await nobody.models.list()
    assert refused.value.code == "invalid_api_key"
    assert refused.value.request_id
    assert wrong not in str(refused.value)
    async with client(keyed, ROUTED) as routed:
        with pytest.raises(openai.PermissionDeniedError, match="model `weak`") as forbidden:
            await routed.chat.completions.create(model="weak", messages=HELLO)  # type: ignore[arg-type]
    assert (forbidden.value.code, forbidden.value.param) == ("key_not_allowed", "model")
    async with client(keyed, EVERYTHING) as anybody:
        answer = await anybody.chat.completions.create(model="weak", messages=HELLO)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == "An answer."


@pytest.mark.parametrize(
    ("key", "model", "status"),
    [
        (EVERYTHING, "router-random-0.5", 200),
        (EVERYTHING, "strong", 200),
        (EVERYTHING, "nobody", 404),
        (ROUTED, "router-random-0", 200),
        (ROUTED, "router-random-1", 200),
        (ROUTED, "router-mf-0.5", 403),
        (ROUTED, "strong", 403),
        (ROUTED, "nobody", 403),
        (ROUTED, "router-random-7", 400),
        (DIRECT, "weak", 200),
        (DIRECT, "strong", 403),
        (DIRECT, "gone", 404),
        (DIRECT, "router-random-0.5", 403),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_may_use_what_it_is_allowed(
    keyed: RunningCluster,
    keyed_provider: FakeProvider,
    key: str,
    model: str,
    status: int,
    stream: bool,
) -> None:
    """A router that is allowed may choose either model; what is not allowed costs nothing."""
    keyed_provider.reset()
    async with keyed.chat(model, headers=bearer(key), stream=stream) as response:
        assert response.status == status
        told = await response.text()
    assert len(keyed_provider.calls) == (status == 200)
    if key == DIRECT:
        assert "strong," not in told, "a name that this key may not use"


@pytest.mark.parametrize(
    ("key", "names"),
    [
        (EVERYTHING, {"strong", "weak", "router-random"}),
        (ROUTED, {"router-random"}),
        (DIRECT, {"weak"}),
    ],
)
async def test_the_list_has_what_the_key_may_use(
    keyed: RunningCluster, key: str, names: set[str]
) -> None:
    """User interfaces offer what the list has, and every offer must work."""
    async with client(keyed, key) as mine:
        ids = {model.id.partition("-p")[0] async for model in mine.models.list()}
    assert ids == names


async def test_the_log_has_the_keys_name(keyed: RunningCluster) -> None:
    """An operator can tell who asked, also for what was not allowed."""
    for key, model, request_id in [
        (ROUTED, "router-random-0.5", "who-1"),
        (ROUTED, "strong", "who-2"),
        (new_key(), "strong", "who-3"),
    ]:
        async with keyed.chat(model, headers={**bearer(key), "x-request-id": request_id}):
            pass
    await keyed.until_idle()
    lines = [json.loads(line) for line in keyed.log("gateway").splitlines()]
    told = {
        line["request_id"]: (line["key"], line["outcome"], line["status"])
        for line in lines
        if line["event"] == "request"
    }
    assert told["who-1"] == ("routed", "ok", 200)
    assert told["who-2"] == ("routed", "key_not_allowed", 403)
    assert told["who-3"] == (None, "invalid_api_key", 401)


RIGHT = EVERYTHING.encode()


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"Authorization: Bearer " + RIGHT,), 200),
        ((b"authorization: bearer " + RIGHT,), 200),
        ((b"AUTHORIZATION:   BEARER   " + RIGHT + b"  ",), 200),
        ((), 401),
        ((b"Authorization:",), 401),
        ((b"Authorization: Bearer",), 401),
        ((b"Authorization: Bearer ",), 401),
        ((b"Authorization: " + RIGHT,), 401),
        ((b"Authorization: Basic " + RIGHT,), 401),
        ((b"X-Api-Key: " + RIGHT, b"Cookie: api_key=" + RIGHT), 401),
        ((b"Proxy-Authorization: Bearer " + RIGHT,), 401),
        ((b"Authorization: Bearer x", b"Authorization: Bearer " + RIGHT), None),
        ((b"Authorization: Bearer " + RIGHT, b"authorization: Bearer x"), None),
        ((b"Authorization: Bearer " + RIGHT, b"Authorization: Bearer " + RIGHT), None),
        ((b"Authorization: Bearer " + RIGHT + b"\xff",), None),
        ((b"Authorization: Bearer " + RIGHT + b"\0",), None),
        ((b"Authorization: Bearer\r\n " + RIGHT,), None),
        ((b"Authorization : Bearer " + RIGHT,), None),
        ((b" Authorization: Bearer " + RIGHT,), None),
        ((b"x-request-id: a\rAuthorization: Bearer " + RIGHT,), None),
        ((b"x-request-id: a\nAuthorization: Bearer " + RIGHT,), None),
        ((b"Authorization: Bearer " + b"x" * 8000,), 401),
        ((b"Authorization: Bearer " + b"x" * 10_000,), None),
        ((b"Authorization: Bearer " + RIGHT * 300,), None),
    ],
)
def test_only_one_plain_header_opens(
    keyed: RunningCluster, lines: tuple[bytes, ...], status: int | None
) -> None:
    """What a proxy might read otherwise is refused: with 401, or with 400 as no HTTP at all."""
    assert status_with(keyed, *lines) in ({400, 401} if status is None else {status})


def test_a_key_in_the_query_string_is_ignored(keyed: RunningCluster) -> None:
    """It would stand in the logs of every proxy on the way."""
    for name in (b"api_key", b"key", b"access_token", b"authorization"):
        answer = answer_to(keyed, head_with(target=b"/v1/models?" + name + b"=" + RIGHT))
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert RIGHT not in answer


def test_a_second_request_on_the_connection_needs_its_own_key(keyed: RunningCluster) -> None:
    """A proxy may send several people's requests down one connection."""
    one = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n"
    first = one + b"authorization: Bearer " + RIGHT + b"\r\n\r\n"
    answers = answer_to(keyed, first + one + b"connection: close\r\n\r\n")
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 401 ") == 1


def test_the_body_of_a_refused_request_is_not_taken_for_a_request(keyed: RunningCluster) -> None:
    """It is passed over, or the connection ends with the answer."""
    inner = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + RIGHT + b"\r\n\r\n"
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    answers = answer_to(keyed, head % len(inner) + inner + last)
    assert answers.startswith(b"HTTP/1.1 401 ")
    assert b"router-random" not in answers


async def test_a_body_is_asked_for_only_when_the_key_is_known(keyed: RunningCluster) -> None:
    """Whoever waits for leave to send 32 MiB hears 401 at once; who has a key is told to go on."""
    host, port = keyed.gateway.announcement.address.split(":")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head + b"content-length: 33554432\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
    with socket.create_connection((host, int(port))) as connection:
        known = b"authorization: Bearer " + RIGHT + b"\r\n"
        connection.sendall(head + known + b"content-length: 33554433\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
    async with keyed.http.post(
        f"{keyed.url}/v1/chat/completions",
        json={"model": "weak", "messages": HELLO},
        headers=bearer(EVERYTHING),
        expect100=True,
    ) as response:
        assert response.status == 200


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=200) | st.binary(max_size=80).map(lambda key: b"Bearer " + key),
)
def test_no_header_whatever_opens_or_breaks_anything(keyed: RunningCluster, value: bytes) -> None:
    """Strangers may send any bytes; none are a fault of ours, and none are let in."""
    assert status_with(keyed, b"Authorization: " + value) in {400, 401}


async def test_keys_stand_in_no_log_metric_or_provider_call(
    keyed: RunningCluster, keyed_provider: FakeProvider, capfd: pytest.CaptureFixture[str]
) -> None:
    """Right and wrong ones, well and badly sent: a log is read by many."""
    planted = "pmk_planted" + "0123456789" * 3
    keyed_provider.reset()
    for key in (planted, EVERYTHING):
        for model in ("router-random-0.5", "nobody", "router-random-7"):
            async with keyed.chat(model, headers=bearer(key)) as response:
                assert key not in await response.text()
        for lines in [
            (f"Authorization: Bearer {key}\0",),
            (f"Authorization : Bearer {key}",),
            (f"x: y\r {key}", f"Authorization: {key}"),
            (f"Authorization: Bearer {key}", f"Authorization: Bearer {key}"),
            (f"Authorization: Bearer {key * 400}",),
            (f"{key}: {key}", f"{key}"),
        ]:
            answer = answer_to(keyed, head_with(*(line.encode() for line in lines)))
            assert key.encode() not in answer
        async with keyed.http.get(f"{keyed.url}/v1/models?api_key={key}") as response:
            assert key not in await response.text()
    await keyed.until_idle()
    written = [keyed.log(service) for service in ("gateway", "scorer", "upstream")]
    for process in (keyed.gateway, keyed.scorer, keyed.upstream):
        written.append(str(await keyed.metrics(process)))
    written += [str(call) for call in keyed_provider.calls]
    captured = capfd.readouterr()
    for key in (planted, EVERYTHING, ROUTED, DIRECT):
        assert key not in "".join(written) + captured.out + captured.err
    assert keyed_provider.calls


def start(environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Starts a gateway that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "services.gateway"],
        env={
            "POINTSMAN_GATEWAY_PORT": "0",
            "POINTSMAN_GATEWAY_METRICS_PORT": "0",
            **environ,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "keys is empty"),
        ("keys: {a: {sha256: pmk_secret}}", "keys.a.sha256 is not the SHA-256 of a key"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_does_not_fit_ends_the_start(
    tmp_path: Path, text: str | None, told: str
) -> None:
    """A gateway with half its keys, or none, must not run; one line says where to look."""
    path = tmp_path / "keys.yaml"
    if text is not None:
        path.write_text(text)
    ended = start({"POINTSMAN_KEYS_FILE": str(path)})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"pointsman gateway: {path}: ")
    assert told in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "pmk_secret" not in ended.stderr


def test_beyond_loopback_it_does_not_start_without_keys() -> None:
    """Whoever binds to every interface decides who may call, and is told both ways."""
    ended = start({"POINTSMAN_GATEWAY_HOST": "0.0.0.0"})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert "pointsman keys create" in ended.stderr
    assert "POINTSMAN_ALLOW_ANONYMOUS=true" in ended.stderr


async def test_beyond_loopback_it_starts_for_everybody_only_if_told_so_and_warns(
    tmp_path: Path, keyed_provider: FakeProvider
) -> None:
    """A private network may be enough for somebody; the log keeps saying that it is open."""
    settings = {"host": "0.0.0.0", "allow_anonymous": True}
    async with cluster(tmp_path, models_of(keyed_provider.url), gateway=settings) as running:
        async with running.chat("weak") as response:
            assert response.status == 200
        lines = [json.loads(line) for line in running.log("gateway").splitlines()]
    (warning,) = [line for line in lines if line["level"] == "WARNING"]
    assert warning["event"] == "no API keys: whoever reaches this gateway may use it"
    assert warning["host"] == "0.0.0.0"


async def test_a_key_that_is_created_works_and_one_that_is_revoked_does_not(
    tmp_path: Path, keyed_provider: FakeProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way, with a restart between, as an operator walks it."""
    path = str(tmp_path / "keys.yaml")
    keys = {}
    for name in ("team-a", "team-b"):
        assert main(["keys", "create", name, "--file", path]) == 0
        keys[name] = capsys.readouterr().out.strip()
    gateway = {"host": "0.0.0.0", "keys_file": path}
    async with cluster(tmp_path, models_of(keyed_provider.url), gateway=gateway) as running:
        for key in keys.values():
            async with running.chat("weak", headers=bearer(key)) as response:
                assert response.status == 200
        assert main(["keys", "revoke", "team-a", "--file", path]) == 0
        await running.gateway.stop()
        await running.gateway.start()
        for key, status in zip(keys.values(), (401, 200), strict=True):
            async with running.chat("weak", headers=bearer(key)) as response:
                assert response.status == status
        assert "WARNING" not in running.log("gateway")
