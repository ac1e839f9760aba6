"""Requests reach the endpoint signed in as openai's own clients would, and tokens are kept well."""

import asyncio
import gc
import json
import logging
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import aiohttp
import pytest
from aiohttp import web
from azure.core.credentials import AccessTokenInfo
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncAzureOpenAI, AsyncOpenAI
from yarl import URL

from pointsman.errors import ConfigError, ProviderUnauthorized
from pointsman.models_file import ProviderSettings
from pointsman.providers import address_of
from services.upstream.authentication import EntraTokens, authentication, chat_url
from tests.conftest import missing
from tests.fakes.web import Asked, FakeWeb, Reply, said

ROOT = Path(__file__).parents[3]
KEY = "sk-very-secret"
TOKEN = "eyJ" + "a" * 1200
VERSION = "2024-10-21"


def azure(base_url: str = "https://eu.openai.azure.com", **settings: Any) -> ProviderSettings:
    """Returns an Azure provider."""
    return ProviderSettings(base_url=base_url, api="azure", api_version=VERSION, **settings)


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("gpt-4.1", "https://api.openai.com/v1/chat/completions"),
        ("anthropic/claude", "https://api.anthropic.com/v1/chat/completions"),
        (
            "gemini/flash",
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
        ),
        ("together_ai/m", "https://api.together.xyz/v1/chat/completions"),
        ("groq/m", "https://api.groq.com/openai/v1/chat/completions"),
        ("hosted_vllm/m", "http://localhost:8000/v1/chat/completions"),
        ("ollama/m", "http://localhost:11434/v1/chat/completions"),
    ],
)
def test_compatible_providers_are_asked_where_they_say(model: str, url: str) -> None:
    """Each documents this address for OpenAI's clients; none needs code of its own."""
    address = address_of(model, base_url=None, environ={})
    assert chat_url(ProviderSettings(base_url=address.base_url), "m") == url
    assert chat_url(ProviderSettings(base_url=address.base_url + "/"), "m") == url


@pytest.mark.parametrize("end", ["", "/", "/openai", "/openai/"])
def test_azures_resource_may_be_given_with_openai_at_its_end_or_without(end: str) -> None:
    """Azure's portal shows it in both ways."""
    assert chat_url(azure(f"https://eu.openai.azure.com{end}"), "gpt-4o") == (
        "https://eu.openai.azure.com/openai/deployments/gpt-4o/chat/completions"
        "?api-version=2024-10-21"
    )


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda n: n.strip(".")))
def test_any_deployments_name_is_one_segment_of_the_path(name: str) -> None:
    """A name with a slash, a question mark or a percent sign must not ask somewhere else."""
    url = URL(chat_url(azure(), name))  # what aiohttp makes of it
    segments = url.raw_path.split("/")
    assert [unquote(segment) for segment in segments] == [
        *("", "openai", "deployments", name),
        *("chat", "completions"),
    ]
    assert url.query == {"api-version": VERSION}


SIGNED = ("authorization", "api-key")


async def ask(web_: FakeWeb, settings: ProviderSettings, model: str, key: str | None) -> Asked:
    """Returns a request of ours as the provider sees it."""
    sign_in = authentication("acme", settings, key, "models.yaml")
    async with aiohttp.ClientSession() as session:
        url = chat_url(settings, model)
        async with session.post(url, data=b"{}", headers=await sign_in()) as response:
            await response.read()
    await sign_in.close()
    return web_.asked[-1]


def as_signed(asked: Asked) -> tuple[str, list[str | None]]:
    """Returns where a request went and how it is signed in."""
    return unquote(asked.path), [asked.headers.get(name) for name in SIGNED]


@pytest.fixture
def provider() -> Iterator[FakeWeb]:
    """A provider that answers everything with a chat completion."""
    with FakeWeb(lambda _: said("Hello")) as fake:
        yield fake


@pytest.mark.parametrize("deployment", ["gpt-4o", "my deployment", "a/b?c", "größer@100%"])
async def test_azure_is_asked_as_openais_client_asks_it(provider: FakeWeb, deployment: str) -> None:
    """Path, version and header are Azure's interface, and openai's package knows it."""
    async with AsyncAzureOpenAI(
        azure_endpoint=provider.url, api_version=VERSION, api_key=KEY
    ) as client:
        await client.chat.completions.create(model=deployment, messages=[])
    theirs = as_signed(provider.asked[-1])
    assert as_signed(await ask(provider, azure(provider.url), deployment, KEY)) == theirs
    assert theirs[1] == [None, KEY]


async def test_others_are_asked_as_openais_client_asks_them(provider: FakeWeb) -> None:
    """An endpoint that calls itself compatible was tried with that client."""
    base_url = f"{provider.url}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key=KEY) as client:
        await client.chat.completions.create(model="m", messages=[])
    theirs = as_signed(provider.asked[-1])
    ours = await ask(provider, ProviderSettings(base_url=base_url), "m", KEY)
    assert as_signed(ours) == theirs == ("/v1/chat/completions", [f"Bearer {KEY}", None])


@pytest.mark.parametrize("settings", [ProviderSettings(base_url="http://gpu:8000/v1"), azure()])
async def test_without_a_key_nothing_is_sent(settings: ProviderSettings) -> None:
    """A server at home wants none, and may refuse an empty one."""
    sign_in = authentication("acme", settings, None, "models.yaml")
    assert await sign_in() == {}
    await sign_in.close()


@pytest.mark.parametrize("settings", [ProviderSettings(base_url="http://x"), azure()])
def test_a_key_shows_nowhere(settings: ProviderSettings) -> None:
    """Logs and tracebacks print representations."""
    assert KEY not in repr(authentication("acme", settings, KEY, "models.yaml"))


@pytest.mark.parametrize("key", ["sk-1\nsk-2", "sk-\u20131", "sk-1\x00"])
def test_a_key_that_no_header_may_have_is_found_at_the_start(key: str) -> None:
    """A file pasted into a variable would fail every request, each with a fault of ours."""
    settings = ProviderSettings(base_url="http://x", api_key_env="ACME_KEY")
    with pytest.raises(ConfigError) as caught:
        authentication("acme", settings, key, "models.yaml")
    for word in ("models.yaml", "acme", "ACME_KEY"):
        assert word in caught.value.message
    assert "sk" not in caught.value.message


class Identity:
    """A credential in azure-core's protocol: it gives what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gives: AccessTokenInfo | Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_closed = False

    async def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        """Returns the token of the day, once it may."""
        self.asked += scopes
        await self.may_answer.wait()
        if isinstance(self.gives, Exception):
            raise self.gives
        assert self.gives is not None
        return self.gives

    async def close(self) -> None:
        """Remembers it."""
        self.is_closed = True

    async def __aenter__(self) -> "Identity":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Entra:
    """Tokens of an identity at a time of the test's choice."""

    def __init__(self, **limits: float) -> None:
        self.identity = Identity()
        self.now = 1000.0
        self.tokens = EntraTokens(
            self.identity, "azure-eu", "the-scope", clock=lambda: self.now, **limits
        )

    def give(self, token: str, *, seconds: int, refresh_seconds: int | None = None) -> None:
        """Has the identity give this token from now on."""
        refresh_on = None if refresh_seconds is None else int(self.now) + refresh_seconds
        self.identity.gives = AccessTokenInfo(
            token, int(self.now) + seconds, token_type="Bearer", refresh_on=refresh_on
        )

    async def settle(self) -> None:
        """Lets a fetch in the background end."""
        if (fetch := self.tokens._fetch) is not None:
            await asyncio.wait({fetch})


@pytest.fixture
async def entra() -> AsyncIterator[Entra]:
    """Tokens that are valid for an hour."""
    entra = Entra()
    entra.give("one", seconds=3600)
    yield entra
    await entra.tokens.close()


async def test_a_token_is_fetched_once_however_many_wait(entra: Entra) -> None:
    """A start under load asks Entra ID once, and not once a request."""
    entra.identity.may_answer.clear()
    async with asyncio.TaskGroup() as requests:
        tasks = [requests.create_task(entra.tokens()) for _ in range(100)]
        await asyncio.sleep(0)
        entra.identity.may_answer.set()
    assert {task.result() for task in tasks} == {"one"}
    assert entra.identity.asked == ["the-scope"]


async def test_a_token_serves_until_shortly_before_its_end(entra: Entra) -> None:
    """Nothing is fetched in between."""
    await entra.tokens()
    entra.now += 3299
    assert await entra.tokens() == "one"
    assert len(entra.identity.asked) == 1


@pytest.mark.parametrize(("refresh_seconds", "passed"), [(None, 3301), (1800, 1801)])
async def test_a_token_is_replaced_while_it_still_serves(
    refresh_seconds: int | None, passed: int
) -> None:
    """No request waits for the next token; Entra ID may say when to ask for it."""
    entra = Entra()
    entra.give("one", seconds=3600, refresh_seconds=refresh_seconds)
    await entra.tokens()
    entra.now += passed
    entra.give("two", seconds=3600)
    entra.identity.may_answer.clear()
    assert [await entra.tokens() for _ in range(3)] == ["one"] * 3
    entra.identity.may_answer.set()
    await entra.settle()
    assert await entra.tokens() == "two"
    assert len(entra.identity.asked) == 2
    await entra.tokens.close()


async def test_a_replacement_that_fails_is_tried_again_and_harms_nobody(
    entra: Entra, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage of Entra ID's ends before the token does, or should; it is not asked each time."""
    await entra.tokens()
    entra.now += 3400
    entra.identity.gives = OSError("no route")
    for _ in range(5):
        assert await entra.tokens() == "one"
        await entra.settle()
    assert len(entra.identity.asked) == 2
    entra.now += 31
    entra.give("two", seconds=3600)
    assert await entra.tokens() == "one"
    await entra.settle()
    assert await entra.tokens() == "two"
    gc.collect()  # asyncio reports failures that nobody looked at when it forgets them
    assert [record.getMessage() for record in caplog.records] == ["no token from Entra ID"]


async def test_a_token_that_is_given_again_is_not_asked_for_each_time(entra: Entra) -> None:
    """A credential that keeps tokens itself may give the same one until its last second."""
    await entra.tokens()
    entra.now += 3400
    for _ in range(5):
        assert await entra.tokens() == "one"
        await entra.settle()
    assert len(entra.identity.asked) == 2


async def test_an_expired_token_is_never_sent(entra: Entra) -> None:
    """It would be answered with 401, and the endpoint left alone for minutes."""
    await entra.tokens()
    entra.now += 3600
    entra.give("two", seconds=3600)
    assert await entra.tokens() == "two"


async def test_who_hangs_up_ends_the_fetch_for_nobody_else(entra: Entra) -> None:
    """The first request begins the fetch, and the others wait for it."""
    entra.identity.may_answer.clear()
    first, second = (asyncio.create_task(entra.tokens()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    entra.identity.may_answer.set()
    assert await second == "one"
    assert len(entra.identity.asked) == 1


class AzureError(Exception):
    """Stands for azure-core's, of which only the text counts."""


@pytest.mark.parametrize(
    "error",
    [
        AzureError("EnvironmentCredential: AADSTS7000215:\n\nInvalid secret"),
        OSError("no route to host"),
        KeyError("access_token"),
    ],
)
async def test_without_a_token_the_endpoint_fails_and_says_why(
    entra: Entra, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Another endpoint is asked, and this one and Entra ID are left alone for a while."""
    entra.identity.gives = error
    with pytest.raises(ProviderUnauthorized) as caught:
        await entra.tokens()
    assert "azure-eu" in caught.value.message
    assert "AZURE_*" in caught.value.message
    (record,) = caplog.records
    assert (record.provider, "\n" in record.error) == ("azure-eu", False)  # type: ignore[attr-defined]
    assert str(error.args[0]).split()[-1] in record.error  # type: ignore[attr-defined]
    entra.give("two", seconds=3600)
    assert await entra.tokens() == "two"


@pytest.mark.parametrize("token", ["", "a\nb"])
async def test_a_token_that_no_header_may_have_is_none(entra: Entra, token: str) -> None:
    """It would fail in the middle of a call, as a fault of ours."""
    entra.give(token, seconds=3600)
    with pytest.raises(ProviderUnauthorized):
        await entra.tokens()


async def test_a_failure_is_shared_by_all_who_wait_for_it(entra: Entra) -> None:
    """A hundred requests in a row, each with its own 30 seconds, would hang for an hour."""
    entra.identity.gives = OSError("no route")
    entra.identity.may_answer.clear()
    tasks = [asyncio.create_task(entra.tokens()) for _ in range(100)]
    await asyncio.sleep(0)
    entra.identity.may_answer.set()
    await asyncio.wait(tasks)
    assert {type(task.exception()) for task in tasks} == {ProviderUnauthorized}
    assert len(entra.identity.asked) == 1


async def test_a_fetch_that_takes_too_long_fails_too(caplog: pytest.LogCaptureFixture) -> None:
    """An identity that does not answer must not hold requests for ever."""
    entra = Entra(fetch_seconds=0)
    entra.identity.may_answer.clear()
    with pytest.raises(ProviderUnauthorized):
        await entra.tokens()
    assert caplog.records[0].error == "no token came within 0 s"  # type: ignore[attr-defined]
    await entra.tokens.close()


async def test_closing_ends_the_fetch_and_closes_the_credential(entra: Entra) -> None:
    """At shutdown nothing is left behind, whatever Entra ID does."""
    entra.identity.may_answer.clear()
    waiting = asyncio.create_task(entra.tokens())
    await asyncio.sleep(0)
    await entra.tokens.close()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    assert entra.identity.is_closed


async def test_tokens_are_a_token_provider_of_openais_clients(
    entra: Entra, provider: FakeWeb
) -> None:
    """Whoever uses openai's client beside us signs in with the same object."""
    async with AsyncAzureOpenAI(
        azure_endpoint=provider.url, api_version=VERSION, azure_ad_token_provider=entra.tokens
    ) as client:
        await client.chat.completions.create(model="gpt-4o", messages=[])
    assert provider.asked[-1].headers["authorization"] == "Bearer one"
    assert "api-key" not in provider.asked[-1].headers


def a_token(asked: Asked) -> Reply:
    """Answers as the managed identity endpoint of Azure's App Service does."""
    resource = unquote(re.findall(r"resource=([^&]+)", asked.path)[0])
    body = {
        "access_token": TOKEN,
        "expires_on": str(int(time.time()) + 3600),
        "resource": resource,
        "token_type": "Bearer",
    }
    return Reply(body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


@pytest.fixture
def managed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Makes this a machine with a managed identity, whose endpoint answers by a function."""
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    webs: list[FakeWeb] = []

    def manage(respond: Callable[[Asked], Reply]) -> FakeWeb:
        webs.append(FakeWeb(respond))
        webs[-1].__enter__()
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{webs[-1].url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "not-for-logs")
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "prod")
        return webs[-1]

    level = logging.getLogger("azure").level
    yield manage
    logging.getLogger("azure").setLevel(level)
    for one in webs:
        one.__exit__()


@pytest.mark.parametrize(
    ("base_url", "resource"),
    [
        ("https://eu.openai.azure.com", "https://cognitiveservices.azure.com"),
        ("https://gov.openai.azure.us/openai", "https://cognitiveservices.azure.us"),
        ("https://cn.openai.azure.cn", "https://cognitiveservices.azure.cn"),
        ("https://gateway.example.com/azure.us", "https://cognitiveservices.azure.com"),
    ],
)
async def test_a_managed_identity_signs_in_with_a_token_for_the_resources_cloud(
    managed: Callable[..., FakeWeb], base_url: str, resource: str
) -> None:
    """The whole way through azure-identity; a token for another cloud would be refused."""
    identity = managed(a_token)
    sign_in = authentication("azure-eu", azure(base_url, entra_id=True), None, "models.yaml")
    async with asyncio.TaskGroup() as requests:
        tasks = [requests.create_task(sign_in()) for _ in range(20)]
    await sign_in.close()
    assert [dict(task.result()) for task in tasks] == [{"authorization": f"Bearer {TOKEN}"}] * 20
    (asked,) = identity.asked
    assert f"resource={resource}" in unquote(asked.path)
    assert asked.headers["x-identity-header"] == "not-for-logs"
    assert TOKEN not in repr(sign_in)


@pytest.mark.parametrize(
    "body", [f'{{"access_token": "{TOKEN}', f'{{"access_token": "{TOKEN}"}}', "<html>", ""]
)
async def test_a_broken_answer_of_entra_ids_is_told_without_the_token_in_it(
    managed: Callable[..., FakeWeb], body: str, caplog: pytest.LogCaptureFixture
) -> None:
    """azure-identity quotes what it cannot read, in errors and in logs of its own."""
    managed(lambda _: Reply(body=body.encode(), headers={"Content-Type": "application/json"}))
    sign_in = authentication("azure-eu", azure(entra_id=True), None, "models.yaml")
    with caplog.at_level(logging.INFO), pytest.raises(ProviderUnauthorized) as caught:
        await sign_in()
    await sign_in.close()
    formatted = logging.Formatter().formatException(caught._excinfo)
    logged = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    assert any("ManagedIdentityCredential" in line for line in logged)
    for text in (caught.value.message, formatted, *logged):
        assert "eyJaaa" not in text
        assert "not-for-logs" not in text


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has no Azure installs nothing for it; who has reads one line at the start."""
    monkeypatch.setitem(sys.modules, "azure.identity.aio", None)
    with pytest.raises(ConfigError) as caught:
        authentication("azure-eu", azure(entra_id=True), None, "models.yaml")
    assert "azure-eu" in caught.value.message
    assert "`pip install 'pointsman[azure]'`" in caught.value.message


@pytest.mark.parametrize(
    "environ",
    [
        {"AZURE_AUTHORITY_HOST": "http://login.example.com"},
        {"AZURE_TOKEN_CREDENTIALS": "nonsense"},
        {
            "AZURE_TENANT_ID": "a b",
            "AZURE_CLIENT_ID": "c",
            "AZURE_CLIENT_SECRET": "very-secret",
        },
    ],
)
def test_variables_that_describe_no_identity_are_found_at_the_start(
    managed: object, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]
) -> None:
    """The upstream does not start on an identity that nobody could have, and says so in a line."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        authentication("azure-eu", azure(entra_id=True), None, "models.yaml")
    assert caught.value.message.startswith("models.yaml: provider azure-eu with entra_id")
    assert "\n" not in caught.value.message
    assert "very-secret" not in caught.value.message


SIGN_IN = """
import asyncio
from pointsman.models_file import ProviderSettings
from services.upstream.authentication import authentication

async def main():
    provider = ProviderSettings(
        base_url="https://eu.openai.azure.com", api="azure", api_version="1", entra_id=True
    )
    sign_in = authentication("azure-eu", provider, None, "models.yaml")
    try:
        print((await sign_in())["authorization"])
    except Exception as error:
        print(type(error).__name__)
    finally:
        await sign_in.close()

asyncio.run(main())
"""


def tls_of_its_own(folder: Path) -> ssl.SSLContext:
    """Returns what serves localhost over TLS; own.pem in the folder is whom to trust."""
    openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    openssl += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", "own.key"]
    openssl += ["-out", "own.pem", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(openssl, cwd=folder, check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "own.pem", folder / "own.key")
    return tls


@asynccontextmanager
async def entra_id(tls: ssl.SSLContext) -> AsyncIterator[str]:
    """Plays Entra ID's token endpoint; yields its address. It knows one secret."""

    async def token(request: web.Request) -> web.Response:
        form = await request.post()
        assert form["scope"] == "https://cognitiveservices.azure.com/.default"
        if (form["client_id"], form["client_secret"]) != ("pointsman", "right"):
            refusal = {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid."}
            return web.json_response(refusal, status=401)
        given = {"token_type": "Bearer", "expires_in": 3599, "access_token": TOKEN}
        return web.json_response(given)

    app = web.Application()
    app.router.add_post("/my-tenant/oauth2/v2.0/token", token)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"https://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("secret", "printed"), [("right", f"Bearer {TOKEN}"), ("wrong", "ProviderUnauthorized")]
)
async def test_a_service_principal_signs_in_at_entra_id(
    tmp_path: Path, secret: str, printed: str
) -> None:
    """The way that most take outside Azure: three variables, and Entra ID over TLS."""
    if shutil.which("openssl") is None:
        missing("openssl", "install it to play Entra ID over TLS")
    async with entra_id(tls_of_its_own(tmp_path)) as address:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SIGN_IN),
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "SSL_CERT_FILE": str(tmp_path / "own.pem"),
                "AZURE_AUTHORITY_HOST": address,
                "AZURE_TENANT_ID": "my-tenant",
                "AZURE_CLIENT_ID": "pointsman",
                "AZURE_CLIENT_SECRET": secret,
            },
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
    assert output.decode().splitlines()[-1] == printed
