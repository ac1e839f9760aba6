"""What a client of the gateway sees of one answer, to the last byte."""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec

MESSAGES = [{"role": "user", "content": "Count to sixty."}]


class Answer(msgspec.Struct, kw_only=True):
    """One answer, streamed or whole."""

    asked_at: float
    """On the event loop's clock, as all times here."""
    ended_at: float = 0.0
    status: int = 0
    headers: dict[str, str] = {}
    """Name in lower case → value."""
    text: str = ""
    pieces: int = 0
    """Deltas with text."""
    provider_model: str = ""
    finish_reason: str | None = None
    done: bool = False
    """Whether a stream ended in `[DONE]`; true of a whole answer that could be read."""
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    """OpenAI's error object, of the body or of an event."""
    flaw: str = ""
    """What is wrong with the bytes themselves: a cut connection, an event that is not JSON."""

    @property
    def seconds(self) -> float:
        """From the request to the last byte."""
        return self.ended_at - self.asked_at

    @property
    def model(self) -> str:
        """The configured model that answered, as the gateway says."""
        return self.headers.get("x-pointsman-model", "")

    @property
    def fallback(self) -> str:
        """Why a fallback answered, as the gateway says; empty if none did."""
        return self.headers.get("x-pointsman-fallback", "")

    @property
    def fails_clearly(self) -> bool:
        """Whether it says that it failed: by OpenAI's error, and no `[DONE]`."""
        message = (self.error or {}).get("message")
        return bool(message) and not self.done and not self.flaw

    def is_whole(self, texts: Sequence[str]) -> bool:
        """Whether it is a success and says exactly one of these."""
        finished = self.status == 200 and self.done and self.finish_reason is not None
        return finished and self.error is None and not self.flaw and self.text in texts

    def summary(self) -> str:
        """Returns what happened, in a few words."""
        after = f"after {self.seconds:.1f} s"
        if self.flaw:
            return f"{self.status or 'no status'}, {self.pieces} pieces, {self.flaw} {after}"
        if self.error is not None:
            told = self.error.get("code") or self.error.get("type")
            return f"{self.status}, {self.pieces} pieces, error {told} {after}"
        ending = "complete" if self.done else "no [DONE]"
        return f"{self.status}, {self.pieces} pieces from {self.model or '?'}, {ending} {after}"


class _Words(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Words | None = None
    message: _Words | None = None
    finish_reason: str | None = None


class _Said(msgspec.Struct):
    """A chunk, a whole answer or an error."""

    choices: list[_Choice] = []
    usage: dict[str, Any] | None = None
    model: str = ""
    error: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(_Said)


async def ask(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    *,
    stream: bool = True,
    patience_seconds: float = 600.0,
    leave_after: int | None = None,
) -> Answer:
    """Returns what comes for one request; nothing that comes is an exception.

    Args:
        session: Opened by the caller.
        url: Up to and with `/v1`.
        model: The model field.
        stream: Streams are asked for with their usage.
        patience_seconds: How long its end is waited for.
        leave_after: Hangs up after so many pieces of a stream.
    """
    body: dict[str, Any] = {"model": model, "messages": MESSAGES}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    timeout = aiohttp.ClientTimeout(total=patience_seconds)
    now = asyncio.get_running_loop().time
    answer = Answer(asked_at=now())
    try:
        async with session.post(f"{url}/chat/completions", json=body, timeout=timeout) as response:
            answer.status = response.status
            answer.headers = {name.lower(): value for name, value in response.headers.items()}
            if stream and response.status == 200:
                await _read_stream(response, answer, leave_after)
            else:
                read_whole(await response.read(), answer)
    except TimeoutError:
        answer.flaw = f"does not end within {patience_seconds:g} s"
    except aiohttp.ClientError as broken:
        answer.flaw = f"{type(broken).__name__}: {broken}"
    answer.ended_at = now()
    return answer


async def _read_stream(
    response: aiohttp.ClientResponse, answer: Answer, leave_after: int | None
) -> None:
    rest = b""
    async for data in response.content.iter_any():
        *events, rest = (rest + data).split(b"\n\n")
        for event in events:
            read_event(event, answer)
        if leave_after is not None and answer.pieces >= leave_after:
            response.close()
            return
    if rest:
        answer.flaw = f"ends in half an event, {rest[:40]!r}"


def read_event(event: bytes, answer: Answer) -> None:
    """Adds what one server-sent event says, without its empty line."""
    if event.startswith(b":"):
        return
    if answer.done or answer.error is not None:
        answer.flaw = answer.flaw or f"goes on after its end with {event[:40]!r}"
    elif event == b"data: [DONE]":
        answer.done = True
    else:
        _read(event.removeprefix(b"data: "), answer, "an event")


def read_whole(body: bytes, answer: Answer) -> None:
    """Adds what a body in one piece says."""
    _read(body, answer, "a body")
    answer.done = answer.error is None and not answer.flaw


def _read(data: bytes, answer: Answer, what: str) -> None:
    try:
        said = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        answer.flaw = f"has {what} that is not OpenAI's JSON, {data[:40]!r}"
        return
    answer.error = said.error
    answer.usage = said.usage or answer.usage
    answer.provider_model = said.model or answer.provider_model
    for choice in said.choices:
        text = (choice.delta or choice.message or _Words()).content or ""
        answer.text += text
        answer.pieces += bool(text)
        answer.finish_reason = choice.finish_reason or answer.finish_reason
