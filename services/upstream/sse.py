"""Server-sent events: bytes as sockets bring them → whole events, and the little we read of them.

Only what OpenAI's clients understand goes on: events with data, and comments. An event without
data (`event: ping`, `retry: 100`) makes the official client fail to parse the answer.
"""

import codecs
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import msgspec

from pointsman.errors import ProviderError, ProviderNonsense, ProviderUnavailable
from pointsman.json_text import JsonDecoder
from pointsman.upstream.v1 import upstream_pb2 as pb

MAX_EVENT_BYTES = 16 * 1024 * 1024
DONE = b"data: [DONE]\n\n"
_NO_TEXT = frozenset({"role", "type", "id", "url", "data", "file_data"})
"""Members of messages that say nothing, or say it in base64."""
_UNFINISHED = "The model's provider ended the answer before it was finished."

_NULL = msgspec.Raw(b"null")
_Tokens = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class _Choice(msgspec.Struct):
    """Of a choice we read how much it says, and whether it is finished."""

    index: Any = 0
    delta: Any = None
    message: Any = None
    finish_reason: Any = None


class _InputDetails(msgspec.Struct):
    cached_tokens: _Tokens | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: _Tokens | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Tokens | None = None
    completion_tokens: _Tokens | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Chunk(msgspec.Struct):
    """Of a chunk we read who says how much, what was used and whether it is an error."""

    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NULL
    error: msgspec.Raw = _NULL


_chunk_decoder = JsonDecoder[_Chunk](_Chunk)
_usage_decoder = JsonDecoder[_Usage | None](_Usage | None)


class EventSplitter:
    """Cuts a byte stream into events; ends of line may be LF, CRLF or CR, and fall anywhere."""

    def __init__(self) -> None:
        self._start: bytes | None = b""  # None once it is known whether there is a byte order mark
        self._half = b""  # a CR at the very end may be half of a CRLF: it waits for what follows
        self._pieces: list[bytes] = []  # of the event that is not complete yet
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yields each event that is complete now, with LF ends of line and its empty line.

        Raises:
            ProviderNonsense: An event does not end within 16 MiB.
        """
        data = self._with_lf(self._without_mark(data))
        last = self._pieces[-1][-1:] if self._pieces else b""
        if b"\n\n" not in last + data:  # what was held is not searched again
            self._hold(data)
            return
        *events, rest = b"".join((*self._pieces, data)).split(b"\n\n")
        self._pieces, self._size = [], 0
        for event in events:
            if event:
                yield event + b"\n\n"
        self._hold(rest)

    def _without_mark(self, data: bytes) -> bytes:
        if self._start is None:
            return data
        self._start += data
        if len(self._start) < len(codecs.BOM_UTF8):
            return b""
        data, self._start = self._start.removeprefix(codecs.BOM_UTF8), None
        return data

    def _with_lf(self, data: bytes) -> bytes:
        data = self._half + data
        self._half = b"\r" if data.endswith(b"\r") else b""
        if b"\r" in data:
            data = data[: len(data) - len(self._half)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _hold(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self._size += len(data)
        if self._size > MAX_EVENT_BYTES:
            raise ProviderNonsense(f"An event of the stream is over {MAX_EVENT_BYTES} bytes.")


class AnswerReader:
    """Follows one streamed answer: what to pass on, whether it is finished, what it used.

    Args:
        hide_usage: True if the client did not ask for the usage chunk that we asked for.
        choices: How many answers were asked for; a provider may give fewer.
    """

    def __init__(self, *, hide_usage: bool, choices: int = 1) -> None:
        self._choices = choices
        self._hide_usage = hide_usage
        self._splitter = EventSplitter()
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self.usage: pb.Usage | None = None
        self.characters = 0
        """Of the answer, as far as it came: what a provider is owed that gave no usage."""
        self.begun = False
        """True once there is something to show: a word, a call of a tool, a finish reason."""
        self.done = False
        """True once `[DONE]` came after a finished answer."""
        self.failure: ProviderError | None = None
        """Why nothing more is passed on, once something is wrong."""
        self.reported: bytes | None = None
        """The chunk by which the provider itself said that it failed, if it did."""

    @property
    def finished(self) -> bool:
        """Returns whether every choice that was begun has its finish reason."""
        return bool(self._finished) and self._seen <= self._finished

    @property
    def is_all(self) -> bool:
        """Returns whether as many choices are finished as were asked for."""
        return len(self._finished) >= self._choices and self.finished

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
            if not self.finished:
                self.failure = ProviderUnavailable(_UNFINISHED)
                return b""
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
        for choice in chunk.choices or ():
            self._note(choice)
        return bool(chunk.choices) or not (self._hide_usage and bytes(chunk.usage) != b"null")

    def _note(self, choice: _Choice) -> None:
        index = choice.index if isinstance(choice.index, int) else 0
        self._seen.add(index)
        if choice.finish_reason:  # "" is none: some servers write it into every chunk
            self._finished.add(index)
        self.characters += characters_of(choice.delta)
        self.begun = self.begun or bool(choice.finish_reason) or _says_something(choice.delta)


class WholeAnswer(NamedTuple):
    """What we read of an answer that came in one piece."""

    usage: pb.Usage | None
    """None where it states none."""
    characters: int
    """Of the answer's text."""
    is_error: bool
    """Whether it is an error, whatever its status says."""


def read_whole(answer: bytes) -> WholeAnswer:
    """Returns what we read of a whole answer.

    Raises:
        ProviderNonsense: It is not a chat completion.
    """
    try:
        read = _chunk_decoder.decode(answer)
    except ValueError as error:
        raise ProviderNonsense(f"The answer is not a chat completion: {error}.") from error
    characters = sum(characters_of(choice.message) for choice in read.choices or ())
    return WholeAnswer(_usage(read.usage), characters, bytes(read.error) != b"null")


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
    inputs, outputs = usage.prompt_tokens_details, usage.completion_tokens_details
    return pb.Usage(
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        cached_input_tokens=(inputs.cached_tokens or 0) if inputs else 0,
        reasoning_tokens=(outputs.reasoning_tokens or 0) if outputs else 0,
    )


def _says_something(delta: Any) -> bool:
    """Returns whether a delta has more than a role: a word, a call of a tool, a sound."""
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")


def characters_of(said: Any) -> int:
    """Returns how many characters a delta or messages say, whatever their fields are called."""
    characters, rest = 0, [said]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, dict):
            rest.extend(one for name, one in value.items() if name not in _NO_TEXT)
        elif isinstance(value, list):
            rest.extend(value)
    return characters
