"""One request to an embeddings endpoint: texts there, embeddings back, and tries where they help.

What an endpoint says of a refusal is not passed on: it may quote the prompt, or the key.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import aiohttp
import numpy as np
from numpy.typing import NDArray

from pointsman.chassis.config import Secret
from pointsman.chassis.retry_after import retry_after_seconds
from pointsman.errors import PointsmanError, ProviderNonsense, RouterNotReady
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.embeddings_body import (
    WrongDimension,
    answer_limit_bytes,
    read_embeddings,
    request_body,
)
from pointsman.routers.endpoint_settings import EmbeddingsSettings
from services.scorer.metrics import ScorerMetrics

logger = logging.getLogger(__name__)

Row = NDArray[np.float32]
Outcome = Literal["ok", "unreachable", "timeout", "throttled", "refused", "failed", "nonsense"]

_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 2.0
_ABOUT_THE_TEXT = frozenset({400, 413, 422})
"""Statuses by which endpoints refuse a text that is too long, or that they do not like."""
_MIGHT_PASS = frozenset({408, 429})


class EndpointFailed(RouterNotReady):
    """The endpoint gives no embeddings just now: it may when it is asked again later."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model is asked for embeddings. `repr` shows no key."""

    url: str
    model: str
    key: Secret | None
    proxy: str | None = None
    """URL of the HTTP proxy on the way there, if there is one."""


class _Unanswered(Exception):
    """One try that gave no embeddings."""

    def __init__(self, outcome: Outcome, said: str, *, status: int = 0, wait: float = 0.0) -> None:
        super().__init__(said)
        self.outcome: Outcome = outcome
        self.status = status
        self.wait_seconds = wait

    @property
    def might_pass(self) -> bool:
        return self.status == 0 or self.status in _MIGHT_PASS or self.status >= 500


class EmbeddingsEndpoint:
    """Asks one model at one endpoint.

    Args:
        session: Its timeouts are overruled.
        address: Where the model is.
        encoder: The dimension, and how much of a text the model reads.
        settings: Time limit and retries.
        metrics: Where requests are counted.
        clock: Monotonic seconds.
        sleep: Waits for seconds.
        random: Uniform in [0, 1).
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: Address,
        encoder: EmbedderSettings,
        settings: EmbeddingsSettings,
        metrics: ScorerMetrics,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        random: Callable[[], float],
    ) -> None:
        self._session = session
        self._address = address
        self._encoder = encoder
        self._retries = settings.retries
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._random = random

    async def rows(
        self, texts: Sequence[str], until: Callable[[], float]
    ) -> list[Row | PointsmanError]:
        """Returns for each text its embedding float32[d], or why there is none.

        A text that the endpoint refuses costs the others nothing: the request is cut in half until
        it stands alone. Alone, it is cut in half itself for as long as it may be too long.

        Args:
            texts: At least one, none of them empty.
            until: When, by `clock`, nobody will wait any longer; may move while it is asked.
        """
        try:
            return list(await self._asked(texts, until))
        except _Unanswered as failed:
            if failed.status in _ABOUT_THE_TEXT and len(texts) > 1:
                half = len(texts) // 2
                first = await self.rows(texts[:half], until)
                return [*first, *await self.rows(texts[half:], until)]
            # A token is at most four bytes long where it is one character: shorter texts do fit.
            if failed.status in _ABOUT_THE_TEXT and len(texts[0]) > self._encoder.max_tokens // 4:
                return await self.rows([texts[0][: len(texts[0]) // 2]], until)
            return [self._told(failed)] * len(texts)
        except WrongDimension as error:
            return [RouterNotReady(error.message)] * len(texts)

    async def _asked(self, texts: Sequence[str], until: Callable[[], float]) -> NDArray[np.float32]:
        """Returns float32[n, d], after as many tries as are allowed and time is left for."""
        tries = 0
        while True:
            try:
                return await self._try(texts, until() - self._clock())
            except _Unanswered as failed:
                wait = max(failed.wait_seconds, self._random() * _longest_wait(tries))
                in_time = self._clock() + wait < until()
                if not failed.might_pass or tries >= self._retries or not in_time:
                    raise
                logger.info(
                    "asking for embeddings again",
                    extra={"reason": str(failed), "wait_seconds": round(wait, 3)},
                )
            tries += 1
            await self._sleep(wait)

    async def _try(self, texts: Sequence[str], timeout_seconds: float) -> NDArray[np.float32]:
        started_at = self._clock()
        outcome: Outcome = "unreachable"
        try:
            rows = await self._post(texts, timeout_seconds)
            outcome = "ok"
        except _Unanswered as failed:
            outcome = failed.outcome
            raise
        except WrongDimension:
            outcome = "nonsense"
            raise
        finally:
            self._metrics.embedding_requests.labels(outcome).inc()
            self._metrics.embedding_request_seconds.observe(self._clock() - started_at)
            self._metrics.embedding_batch_size.observe(len(texts))
        return rows

    async def _post(self, texts: Sequence[str], timeout_seconds: float) -> NDArray[np.float32]:
        if timeout_seconds <= 0:
            raise _Unanswered("timeout", "there was no time left to ask it")
        headers = {"content-type": "application/json"}
        if self._address.key is not None:
            headers["authorization"] = f"Bearer {self._address.key.reveal()}"
        try:
            async with self._session.post(
                self._address.url,
                data=request_body(self._address.model, texts),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds),
                proxy=self._address.proxy,
                allow_redirects=False,
            ) as response:
                if response.status != 200:
                    raise _refusal(response)
                limit = answer_limit_bytes(len(texts), self._encoder.dimension)
                body = await _read(response, limit)
        except TimeoutError as error:  # aiohttp's time-outs are ClientErrors too: this comes first
            raise _Unanswered("timeout", "it did not answer in time") from error
        except (
            aiohttp.ClientError,
            OSError,
            UnicodeError,
        ) as error:  # the last: a host that is none
            # Not its text, which may have the headers.
            said = f"it cannot be reached, or hung up ({type(error).__name__})"
            raise _Unanswered("unreachable", said) from error
        try:
            return read_embeddings(body, len(texts), self._encoder)
        except ProviderNonsense as error:
            raise _Unanswered("nonsense", error.message, status=200) from error

    def _told(self, failed: _Unanswered) -> EndpointFailed:
        logger.warning("no embeddings", extra={"url": self._address.url, "reason": str(failed)})
        return EndpointFailed(
            f"there are no embeddings of {self._address.model} at {self._address.url}: {failed}"
        )


def _longest_wait(tries: int) -> float:
    """Returns the most seconds to wait after so many retries; the wait is drawn from 0 to it."""
    return float(min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2.0**tries))


def _refusal(response: aiohttp.ClientResponse) -> _Unanswered:
    status = response.status
    remedy = {
        401: "; look at its key",
        403: "; look at its key",
        404: "; look at base_url and model",
    }.get(status, "")
    outcome: Outcome = "refused"
    if status == 429:
        outcome = "throttled"
    elif status >= 500:
        outcome = "failed"
    said = f"it answers with status {status}{remedy}"
    wait = retry_after_seconds(response.headers, time.time()) or 0.0
    return _Unanswered(outcome, said, status=status, wait=wait)


async def _read(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    parts = bytearray()
    async for part in response.content.iter_any():
        parts += part
        if len(parts) > limit_bytes:
            raise _Unanswered("nonsense", f"its answer is over {limit_bytes} bytes", status=200)
    return bytes(parts)
