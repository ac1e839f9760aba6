"""A model at an OpenAI-compatible endpoint → a function that asks it: the edge of `generate`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from pointsman.errors import ConfigError, ProviderError, ProviderNonsense, ProviderUnauthorized
from pointsman.evaluation.judging import Ask, Messages
from pointsman.extras import needed_from
from pointsman.providers import ModelAddress
from pointsman.routing import quote

_LONGEST_REASON = 300


@asynccontextmanager
async def asking(
    address: ModelAddress,
    *,
    api_key: str,
    temperature: float | None,
    max_tokens: int | None,
    timeout_seconds: float,
    retries: int,
) -> AsyncIterator[Ask]:
    """Yields a function that asks the model; its connections close with the context.

    Args:
        address: Where the model is; `check_address` has passed its URL.
        api_key: Sent to it and nowhere else.
        temperature: None leaves it to the provider, as models that only reason demand.
        max_tokens: Of one answer; None leaves it to the provider.
        timeout_seconds: Of one try.
        retries: After timeouts, lost connections, 408, 409, 429 and 5xx; waits grow.

    Raises:
        ConfigError: The client is not installed.
    """
    with needed_from("eval", "asking models"):
        import openai
    options: dict[str, Any] = {}
    if temperature is not None:
        options["temperature"] = temperature
    if max_tokens is not None:
        options["max_tokens"] = max_tokens
    client = openai.AsyncOpenAI(
        base_url=address.base_url,
        api_key=api_key,
        timeout=timeout_seconds,
        max_retries=retries,
    )

    async def ask(messages: Messages) -> str:
        said: Any = [{"role": role, "content": text} for role, text in messages]
        try:
            answer = await client.chat.completions.create(
                model=address.model, messages=said, **options
            )
            text = answer.choices[0].message.content
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ProviderUnauthorized(
                f"{address.base_url} refuses the key of ${address.api_key_env}: {_reason(error)}"
            ) from error
        except openai.OpenAIError as error:
            raise ProviderError(f"{address.base_url}: {_reason(error)}") from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ProviderNonsense(
                f"{address.base_url} answers with something else than a chat completion"
            ) from error
        return text or ""

    async with client:
        yield ask


def check_address(url: str) -> None:
    """Returns if a model may be there: the client takes any text, and tries it again and again.

    Raises:
        ConfigError: The URL is not http or https, or names no host.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        usable = usable and parts.port != 0
    except ValueError:  # brackets or a port that is none
        usable = False
    if not usable:
        raise ConfigError(f"{quote(url)} is no address; write one such as http://127.0.0.1:8000/v1")


def _reason(error: Exception) -> str:
    told = " ".join(str(error).split()) or type(error).__name__
    return told if len(told) <= _LONGEST_REASON else told[:_LONGEST_REASON] + "..."
