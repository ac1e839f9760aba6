"""Where a provider's endpoint is, and which headers sign a request in there.

openai's own Azure client would do both, but prepares a whole request for it: 0.2 ms of CPU a call,
for a URL that never changes and one header. So URL and header are made here, as it makes them (a
test compares), and `EntraTokens` is a token provider in the shape that openai's clients take.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote as percent_encoded
from urllib.parse import urlsplit

from pointsman.errors import ConfigError, ProviderUnauthorized
from pointsman.extras import needed_from
from pointsman.models_file import ProviderSettings

if TYPE_CHECKING:
    from azure.core.credentials import AccessTokenInfo
    from azure.core.credentials_async import AsyncSupportsTokenInfo

logger = logging.getLogger(__name__)

_FETCH_SECONDS = 30.0
"""For one token; an identity that is looked for in many places takes seconds, and azure-core's own
limit is 300."""
_EARLY_SECONDS = 300.0
"""So long before a token expires the next is fetched, unless Entra ID recommends a time. Not more:
azure-identity hands out the token it has until then."""
_AGAIN_SECONDS = 30.0
"""Between two fetches as long as the token that is there is good."""
_LONG_WORD = re.compile(r"[\w.~+/=-]{80,}")
"""What may be a token in an error's text, which quotes answers that could not be read."""
_LONGEST_REASON = 4000


class Authentication:
    """Signs requests in at one provider: called, it returns the headers for one request.

    Cheap, except where a token must be fetched. `repr` shows no key.
    """

    __slots__ = ("_headers", "_tokens")

    def __init__(self, headers: Mapping[str, str], tokens: "EntraTokens | None" = None) -> None:
        self._headers = headers
        self._tokens = tokens

    async def __call__(self) -> Mapping[str, str]:
        """Returns the headers that sign one request in; none where the provider wants no key.

        Raises:
            ProviderUnauthorized: There is no token; names the provider and the remedy.
        """
        if self._tokens is None:
            return self._headers
        return {"authorization": f"Bearer {await self._tokens()}"}

    @property
    def token(self) -> str | None:
        """Returns the token that signs in now, to be hidden where a provider quotes it."""
        return self._tokens.current if self._tokens else None

    async def close(self) -> None:
        """Closes the credential's connections; it signs nobody in any more."""
        if self._tokens is not None:
            await self._tokens.close()


def authentication(
    provider_name: str, provider: ProviderSettings, key: str | None, source: str
) -> Authentication:
    """Returns what signs requests in at a provider; nothing is fetched yet.

    Args:
        provider_name: Its name in the models file.
        provider: Its settings.
        key: The value of the variable that `api_key_env` names.
        source: The models file, for messages.

    Raises:
        ConfigError: The key cannot stand in a header, `azure-identity` is not installed, or the
            environment describes no identity that could be; names provider and remedy.
    """
    if provider.entra_id:
        with needed_from("azure", f"{source}: provider {provider_name} with entra_id"):
            credential = _default_credential(provider_name, source)
        return Authentication({}, EntraTokens(credential, provider_name, _scope(provider)))
    if not key:
        return Authentication({})
    if not _fits_a_header(key):
        raise ConfigError(
            f"{source}: provider {provider_name}: the key in {provider.api_key_env} has a "
            "character that no HTTP header may have, such as a line feed; set it to the key alone"
        )
    if provider.api == "azure":
        return Authentication({"api-key": key})
    return Authentication({"authorization": f"Bearer {key}"})


def chat_url(provider: ProviderSettings, provider_model: str) -> str:
    """Returns where chat completions of a model are asked for.

    Azure's is that of the deployment; the resource is known with `/openai` at its end or without.
    Source: https://learn.microsoft.com/azure/ai-foundry/openai/reference.
    """
    base = provider.base_url.rstrip("/")
    if provider.api == "openai":
        return f"{base}/chat/completions"
    deployment = percent_encoded(provider_model, safe="")
    version = percent_encoded(provider.api_version or "", safe="")
    resource = base.removesuffix("/openai")
    return f"{resource}/openai/deployments/{deployment}/chat/completions?api-version={version}"


class EntraTokens:
    """Microsoft Entra ID's tokens for one provider: called, it returns one that is valid.

    However many requests wait, one fetch is under way, and it belongs to none of them. A token that
    will soon expire is replaced while it still serves.

    Args:
        credential: Fetches tokens; closed with this.
        provider_name: The provider, for messages.
        scope: What the token is for.
        clock: Seconds since the epoch.
        fetch_seconds: For one token.
    """

    def __init__(
        self,
        credential: "AsyncSupportsTokenInfo",
        provider_name: str,
        scope: str,
        *,
        clock: Callable[[], float] = time.time,
        fetch_seconds: float = _FETCH_SECONDS,
    ) -> None:
        self._credential = credential
        self._provider = provider_name
        self._scope = scope
        self._clock = clock
        self._fetch_seconds = fetch_seconds
        self._token: AccessTokenInfo | None = None
        self._replace_at = 0.0
        self._fetch: asyncio.Task[AccessTokenInfo] | None = None

    async def __call__(self) -> str:
        """Returns a token that is valid now.

        Raises:
            ProviderUnauthorized: There is none, for whatever reason: the endpoint is then left
                alone as one that refuses its key, and Entra ID with it.
        """
        token, now = self._token, self._clock()
        if token is None or now >= token.expires_on:
            fetch = self._fetching()
            await asyncio.wait({fetch})  # not the task itself: who hangs up ends it for nobody else
            token = fetch.result()
        elif now >= self._replace_at:
            _ = self._fetching()  # the token that is there serves until the next is
        return token.token

    @property
    def current(self) -> str | None:
        """Returns the token that was last handed out, good or not."""
        return self._token.token if self._token else None

    async def close(self) -> None:
        """Ends a fetch that is under way and closes the credential."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait({self._fetch})
        await self._credential.close()

    def _fetching(self) -> "asyncio.Task[AccessTokenInfo]":
        """Returns the fetch that is under way, a new one if there is none."""
        if self._fetch is None or self._fetch.done():
            self._fetch = asyncio.create_task(self._fetched())
            self._fetch.add_done_callback(_looked_at)
        return self._fetch

    async def _fetched(self) -> "AccessTokenInfo":
        try:
            async with asyncio.timeout(self._fetch_seconds):
                token = await self._credential.get_token_info(self._scope)
            if not _fits_a_header(token.token):
                raise ValueError("a token came that no HTTP header may have")
        except Exception as error:  # of azure-identity, aiohttp or a command that it runs: anything
            self._replace_at = self._clock() + _AGAIN_SECONDS
            raise self._failure(error) from None  # its text may quote a token, in a traceback too
        replace_at = token.refresh_on or token.expires_on - _EARLY_SECONDS
        self._replace_at = max(replace_at, self._clock() + _AGAIN_SECONDS)
        self._token = token
        return token

    def _failure(self, error: Exception) -> ProviderUnauthorized:
        """Logs why there is no token and returns what a client is told."""
        reason = _LONG_WORD.sub("***", " ".join(f"{type(error).__name__}: {error}".split()))
        if isinstance(error, TimeoutError):
            reason = f"no token came within {self._fetch_seconds:g} s"
        logger.error(
            "no token from Entra ID",
            extra={"provider": self._provider, "error": reason[:_LONGEST_REASON]},
        )
        return ProviderUnauthorized(
            f"The provider {self._provider} has no token from Microsoft Entra ID; its operator "
            "finds the reason in the log, and should check the AZURE_* variables or the managed "
            "identity. Your key is not at fault."
        )


def _fits_a_header(secret: str) -> bool:
    return secret != "" and secret.isascii() and secret.isprintable()


def _looked_at(fetch: "asyncio.Task[AccessTokenInfo]") -> None:
    """Keeps asyncio from reporting a failure that nobody waits for; it is logged already."""
    if not fetch.cancelled():
        fetch.exception()


def _default_credential(provider_name: str, source: str) -> "AsyncSupportsTokenInfo":
    """Returns azure-identity's search for an identity: variables, workload, managed, az login."""
    from azure.identity.aio import DefaultAzureCredential

    # It warns with all that Entra ID sent, a token in a broken answer too; `_failure` hides that.
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    try:
        return DefaultAzureCredential()
    except ValueError as error:
        raise ConfigError(
            f"{source}: provider {provider_name} with entra_id: the AZURE_* variables describe no "
            f"identity: {' '.join(str(error).split())}"
        ) from error


def _scope(provider: ProviderSettings) -> str:
    """Returns what a token for Azure OpenAI is asked for, in the cloud where the resource is.

    Source: `AzureOpenAIAudience` of Azure's SDK for .NET; China's by its other services.
    """
    host = urlsplit(provider.base_url).hostname or ""
    cloud = next((end for end in ("azure.us", "azure.cn") if host.endswith(f".{end}")), "azure.com")
    return f"https://cognitiveservices.{cloud}/.default"
