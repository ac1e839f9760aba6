"""Server-sent events: bytes as sockets bring them → whole events, and the little we read of them.

Only what OpenAI's clients understand goes on: events with data, and comments. An event without
data (`event: ping`, `retry: 100`) makes the official client fail to parse the answer.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from pointsman.errors import ProviderError, ProviderNonsense, ProviderUnavailable
from pointsman.json_text import JsonDecoder
from pointsman.upstream.v1 import upstream_pb2 as pb

MAX_EVENT_BYTES = 16 * 1024 * 1024
DONE = b"data: [DONE]\n\n"


class _Delta(msgspec.Struct):
    """Of a choice we read only whether it is finished."""

    finish_reason: Any = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    """Of a chunk we read who is finished, what was used and whether it is an error."""

    choices: list[_Delta] | None = None
    usage: _Usage | None = None
    error: Any = None


class _Answer(msgspec.Struct):
    usage: _Usage | None = None


_chunk_decoder = JsonDecoder[_Chunk](_Chunk)
_answer_decoder = JsonDecoder[_Answer](_Answer)


class EventSplitter:
    """Cuts a byte stream into events; ends of line may be LF, CRLF or CR, and fall anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields each event that is complete now, with LF ends of line and its empty line.

        Raises:
            ProviderNonsense: An event does not end within 16 MiB.
        """
        data = self._rest + data
        # A CR at the very end may be half of a CRLF: it waits for what follows.
        held = b"\r" if data.endswith(b"\r") else b""
        if b"\r" in data:
            data = data[: len(data) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *events, rest = data.split(b"\n\n")
        self._rest = rest + held
        for event in events:
            if event:
                yield event + b"\n\n"
        if len(self._rest) > MAX_EVENT_BYTES:
            raise ProviderNonsense(f"An event of the stream is over {MAX_EVENT_BYTES} bytes.")


class AnswerReader:
    """Follows one streamed answer: what to pass on, whether it is finished, what it used.

    Args:
        hide_usage: True if the client did not ask for the usage chunk that we asked for.
    """

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide_usage = hide_usage
        self._splitter = EventSplitter()
        self.usage: pb.Usage | None = None
        self.finished = False
        """True once a choice has a finish reason."""
        self.done = False
        """True once `[DONE]` came."""
        self.failure: ProviderError | None = None
        """Why nothing more is passed on, once something is wrong."""
        self.reported: bytes | None = None
        """The chunk by which the provider itself said that it failed, if it did."""

    def feed(self, data: bytes) -> bytes:
        """Returns the events to pass on of those that are complete now, up to a failure."""
        return b"".join(event for event in self._events(data) if self._passes(event))

    def _events(self, data: bytes) -> Iterator[bytes]:
        try:
            yield from self._splitter.feed(data)
        except ProviderNonsense as error:
            self.failure = error

    def _passes(self, event: bytes) -> bool:
        if self.done or self.failure is not None:
            return False
        payload = _data_of(event)
        if payload is None:
            return event.startswith(b":")
        if payload.startswith(b"[DONE]"):
            self.done = True
            return True
        try:
            return self._read(_chunk_decoder.decode(payload), payload)
        except ValueError as error:
            self.failure = ProviderNonsense(f"An event of the stream is not a chunk: {error}.")
            return False

    def _read(self, chunk: _Chunk, payload: bytes) -> bool:
        if chunk.error is not None:
            self.failure = ProviderUnavailable("The model's provider failed in mid-answer.")
            self.reported = payload
            return False
        if chunk.usage is not None:
            self.usage = _usage(chunk.usage)
        if chunk.choices:
            self.finished |= any(choice.finish_reason is not None for choice in chunk.choices)
            return True
        return not (self._hide_usage and chunk.usage is not None)


def usage_of(answer: bytes) -> pb.Usage | None:
    """Returns the usage that a whole answer states, or None where it states none.

    Raises:
        ProviderNonsense: The answer is not a JSON object.
    """
    try:
        usage = _answer_decoder.decode(answer).usage
    except ValueError as error:
        raise ProviderNonsense(f"the answer is not a JSON object: {error}") from error
    return None if usage is None else _usage(usage)


def _data_of(event: bytes) -> bytes | None:
    lines = [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines) or None


def _usage(usage: _Usage) -> pb.Usage:
    return pb.Usage(
        input_tokens=usage.prompt_tokens or 0, output_tokens=usage.completion_tokens or 0
    )
