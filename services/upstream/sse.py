"""Server-sent events: bytes as sockets bring them → whole events, and the little we read of them.

Only what OpenAI's clients understand goes on: events with data, and comments. An event without
data (`event: ping`, `retry: 100`) makes the official client fail to parse the answer.
"""

import codecs
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from pointsman.errors import ProviderError, ProviderNonsense, ProviderUnavailable
from pointsman.json_text import JsonDecoder
from pointsman.upstream.v1 import upstream_pb2 as pb

MAX_EVENT_BYTES = 16 * 1024 * 1024
DONE = b"data: [DONE]\n\n"

_NULL = msgspec.Raw(b"null")
_Tokens = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class _Delta(msgspec.Struct):
    """Of a choice we read only whether it is finished."""

    finish_reason: Any = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None


class _Chunk(msgspec.Struct):
    """Of a chunk we read who is finished, what was used and whether it is an error."""

    choices: list[_Delta] | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


class _Answer(msgspec.Struct):
    usage: msgspec.Raw = _NULL


_chunk_decoder = JsonDecoder[_Chunk](_Chunk)
_answer_decoder = JsonDecoder[_Answer](_Answer)
_usage_decoder = JsonDecoder[_Usage | None](_Usage | None)


class EventSplitter:
    """Cuts a byte stream into events; ends of line may be LF, CRLF or CR, and fall anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields each event that is complete now, with LF ends of line and its empty line.

        Raises:
            ProviderNonsense: An event does not end within 16 MiB.
        """
        data = self._rest + data
        if not self._begun and len(data) >= len(codecs.BOM_UTF8):
            data = data.removeprefix(codecs.BOM_UTF8)
            self._begun = True
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
        return b"".join(filter(None, map(self._passed, self._events(data))))

    def _events(self, data: bytes) -> Iterator[bytes]:
        try:
            yield from self._splitter.feed(data)
        except ProviderNonsense as error:
            self.failure = error

    def _passed(self, event: bytes) -> bytes:
        """Returns the event as the client gets it; empty if it does not."""
        if self.done or self.failure is not None:
            return b""
        event, payload = _understood(event)
        if payload is None:
            return event
        if payload.startswith(b"[DONE]"):
            self.done = True
            return DONE
        try:
            passes = self._read(_chunk_decoder.decode(payload), payload)
        except ValueError as error:
            self.failure = ProviderNonsense(f"An event of the stream is not a chunk: {error}.")
            return b""
        return event if passes else b""

    def _read(self, chunk: _Chunk, payload: bytes) -> bool:
        if bytes(chunk.error) != b"null":
            self.failure = ProviderUnavailable("The model's provider failed in mid-answer.")
            self.reported = payload
            return False
        self.usage = _usage(chunk.usage) or self.usage
        if chunk.choices:
            self.finished |= any(choice.finish_reason is not None for choice in chunk.choices)
            return True
        return not (self._hide_usage and bytes(chunk.usage) != b"null")


def usage_of(answer: bytes) -> pb.Usage | None:
    """Returns the usage that a whole answer states, or None where it states none.

    Raises:
        ProviderNonsense: The answer is not a JSON object.
    """
    try:
        return _usage(_answer_decoder.decode(answer).usage)
    except ValueError as error:
        raise ProviderNonsense(f"The answer is not a JSON object: {error}.") from error


def _understood(event: bytes) -> tuple[bytes, bytes | None]:
    """Returns the event's data and comment lines, all that clients understand, and its data."""
    lines = event.rstrip(b"\n").split(b"\n")
    data = b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:")) or None
    wanted = b":" if data is None else (b":", b"data:")
    kept = [line for line in lines if line.startswith(wanted)]
    if len(kept) < len(lines):
        event = b"\n".join(kept) + b"\n\n" if kept else b""
    return event, data


def _usage(raw: msgspec.Raw) -> pb.Usage | None:
    """Returns the usage, or None where it is absent or odd: the answer matters more."""
    try:
        usage = _usage_decoder.decode(bytes(raw))
    except ValueError:
        return None
    if usage is None:
        return None
    return pb.Usage(
        input_tokens=usage.prompt_tokens or 0, output_tokens=usage.completion_tokens or 0
    )
