"""Bytes as sockets bring them → events that every client of OpenAI's understands."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder  # the official client's own; it has no public name

from pointsman.errors import ProviderNonsense, ProviderUnavailable
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.sse import DONE, MAX_EVENT_BYTES, AnswerReader, EventSplitter, read_whole

CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n'

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=5)
EVENTS = st.lists(st.lists(LINES.map(str.encode), min_size=1, max_size=3), max_size=4)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Cuts bytes anywhere, as the network does; some pieces are empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]


def split(*feeds: bytes) -> list[bytes]:
    """Returns the events of some feeds."""
    splitter = EventSplitter()
    return [event for data in feeds for event in splitter.feed(data)]


@given(st.data(), EVENTS, ENDS)
def test_events_are_the_same_wherever_the_network_cuts(
    data: st.DataObject, events: list[list[bytes]], end: bytes
) -> None:
    """LF, CRLF and CR all end lines, and a TCP segment may end in the middle of any of them."""
    stream = b"".join(end.join(lines) + end + end for lines in events)
    # A CR at the very end may still become a CRLF: the next event's first byte tells.
    feeds = data.draw(pieces(stream + b":"))
    assert split(*feeds) == [b"\n".join(lines) + b"\n\n" for lines in events]


@given(st.data(), st.text("a: \n\r", max_size=20).map(str.encode))
def test_any_bytes_split_the_same_in_one_feed_or_in_many(
    data: st.DataObject, stream: bytes
) -> None:
    """Mixed and missing ends of line are no excuse for losing or doubling an event."""
    assert split(*data.draw(pieces(stream))) == split(stream)


def test_an_event_is_passed_on_as_soon_as_it_is_complete() -> None:
    """Tokens appear when the provider sends them, not one event later."""
    splitter = EventSplitter()
    assert list(splitter.feed(b"data: 1\n")) == []
    assert list(splitter.feed(b"\ndata: 2")) == [b"data: 1\n\n"]
    assert list(splitter.feed(b"\r\n\r\n")) == [b"data: 2\n\n"]


def test_an_event_without_end_is_not_kept_for_ever() -> None:
    """A provider that never ends an event must not eat the upstream's memory."""
    splitter = EventSplitter()
    assert list(splitter.feed(b"x" * MAX_EVENT_BYTES)) == []
    with pytest.raises(ProviderNonsense, match=str(MAX_EVENT_BYTES)):
        list(splitter.feed(b"x"))


def read(*feeds: bytes, hide_usage: bool = False) -> tuple[bytes, AnswerReader]:
    """Returns what is passed on of some feeds, and the reader."""
    reader = AnswerReader(hide_usage=hide_usage)
    return b"".join(reader.feed(data) for data in feeds), reader


def official(stream: bytes) -> list[object]:
    """Reads a stream as the official client does: to `[DONE]`, every event's data as JSON."""
    read: list[object] = []
    for event in SSEDecoder().iter_bytes(iter([stream])):
        if event.data.startswith("[DONE]"):
            break
        read.append(event.json())
    return read


def test_chunks_go_on_byte_for_byte() -> None:
    """Tool calls, logprobs and audio need no work if nothing is touched."""
    passed, reader = read(CHUNK + FINISH + DONE)
    assert passed == CHUNK + FINISH + DONE
    assert (reader.finished, reader.done, reader.failure) == (True, True, None)


def test_a_finish_reason_makes_an_answer_finished() -> None:
    """Without one, the end of the body is a cut, not an end."""
    assert not read(CHUNK)[1].finished
    assert read(CHUNK + FINISH)[1].finished
    assert read(CHUNK + FINISH + CHUNK)[1].finished


def test_comments_go_on() -> None:
    """They keep connections open through silent minutes."""
    assert read(b": ping\n\n")[0] == b": ping\n\n"


@pytest.mark.parametrize(
    "event",
    [
        *(b"event: ping\n\n", b"retry: 100\n\n", b"data:\n\n", b"id: 7\n\n"),
        *(b": c\nevent: ping\n\n", b": c\nretry: 100\n\n"),
    ],
)
def test_an_event_without_data_does_not_reach_the_client(event: bytes) -> None:
    """The official client fails to parse it and the answer is lost."""
    passed, _ = read(event + FINISH + DONE)
    assert official(passed) == official(FINISH)


def test_an_events_id_does_not_break_later_comments() -> None:
    """The official client remembers the id and then takes every empty line for an event."""
    passed, _ = read(b"id: 7\n" + CHUNK + b": ping\n\n" + FINISH + DONE)
    assert official(passed) == official(CHUNK + FINISH)


PARTS = st.sampled_from(
    [
        *(CHUNK, FINISH, USAGE, b": ping\n\n", b"\n", b"\r\n"),
        *(b"event: ping\n\n", b"retry: 1\n\n", b": c\nid: 7\n\n", b"data:\n\n"),
        *(b"event: message\n" + CHUNK, b"id: 7\n" + CHUNK, b": c\n" + CHUNK),
        *(b"retry: 1\n" + CHUNK, CHUNK.replace(b"\n", b"\r\n")),
    ]
)


@given(st.lists(PARTS, max_size=6))
def test_whatever_a_provider_mixes_in_the_official_client_reads_on(parts: list[bytes]) -> None:
    """What the upstream lets through, every client of OpenAI's can parse."""
    passed, _ = read(*parts, DONE)
    assert all(isinstance(chunk, dict) for chunk in official(passed))


def test_a_byte_order_mark_does_not_cost_the_first_event() -> None:
    """The first event carries the role; the standard says to skip the mark."""
    assert official(read(b"\xef\xbb\xbf" + CHUNK + DONE)[0]) == official(CHUNK)


@pytest.mark.parametrize(
    "done", [b"data: [DONE] \n\n", b"data:[DONE]\n\n", b"data: [DONE]\r\n\r\n"]
)
def test_the_end_is_written_as_openai_writes_it(done: bytes) -> None:
    """The JavaScript client compares `[DONE]` letter by letter."""
    passed, reader = read(FINISH + done)
    assert passed == FINISH + DONE
    assert reader.done


def test_nothing_follows_the_end() -> None:
    """A second `[DONE]` or a late chunk would confuse clients that read on."""
    assert read(FINISH + DONE + CHUNK, DONE)[0] == FINISH + DONE


@pytest.mark.parametrize("writes", [CHUNK, b"", USAGE])
def test_an_end_without_a_finish_reason_is_none(writes: bytes) -> None:
    """Some providers write `[DONE]` when they give up; half an answer must not look whole."""
    passed, reader = read(writes + DONE)
    assert DONE not in passed
    assert isinstance(reader.failure, ProviderUnavailable)
    assert not reader.done


def test_every_choice_that_was_begun_must_finish() -> None:
    """With n=2 one may be cut off while the other is whole."""
    second = CHUNK.replace(b'"index":0', b'"index":1')
    assert not read(CHUNK + second + FINISH)[1].finished
    passed, reader = read(CHUNK + second + FINISH + DONE)
    assert DONE not in passed
    assert isinstance(reader.failure, ProviderUnavailable)
    assert read(CHUNK + second + FINISH + FINISH.replace(b'"index":0', b'"index":1'))[1].finished


def delta(delta: str, finish: str = "null") -> bytes:
    """Returns a chunk that says this."""
    choice = f'{{"index":0,"delta":{delta},"finish_reason":{finish}}}'
    return f'data: {{"choices":[{choice}]}}\n\n'.encode()


@pytest.mark.parametrize(
    ("chunk", "begun", "characters"),
    [
        (delta('{"role":"assistant"}'), False, 0),
        (delta('{"role":"assistant","content":""}'), False, 0),
        (delta('{"role":"assistant","content":null,"refusal":null}'), False, 0),
        (delta('{"content":"Hi"}'), True, 2),
        (delta('{"refusal":"No"}'), True, 2),
        (delta('{"reasoning_content":"Hm"}'), True, 2),
        (delta('{"tool_calls":[{"index":0,"id":"c1","function":{"name":"f"}}]}'), True, 1),
        (delta('{"audio":{"id":"a1","data":"AAAA"}}'), True, 0),
        (delta("{}", '"stop"'), True, 0),
        (USAGE, False, 0),
        (b": ping\n\n", False, 0),
    ],
)
def test_an_answer_begins_with_something_to_show(
    chunk: bytes, begun: bool, characters: int
) -> None:
    """A provider that sends a role and then nothing can still be left for another, unseen."""
    _, reader = read(chunk)
    assert (reader.begun, reader.characters) == (begun, characters)


def test_an_empty_finish_reason_is_none() -> None:
    """Servers that write it into every chunk would have every cut taken for an end."""
    _, reader = read(delta('{"content":"Hi"}', '""'))
    assert not reader.finished


def test_details_of_usage_are_read() -> None:
    """Cached and reasoning tokens have prices of their own."""
    usage = (
        b'{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,'
        b'"prompt_tokens_details":{"cached_tokens":4},'
        b'"completion_tokens_details":{"reasoning_tokens":2}}}'
    )
    expected = pb.Usage(input_tokens=9, output_tokens=5, cached_input_tokens=4, reasoning_tokens=2)
    assert read_whole(usage).usage == expected
    assert read(b"data: " + usage + b"\n\n")[1].usage == expected


def test_usage_in_every_chunk_counts_once() -> None:
    """VLLM can send running totals; the last is the bill."""
    first, last = (USAGE.replace(b":5", b":" + n) for n in (b"1", b"5"))
    usage = read(CHUNK + first + FINISH + last + DONE)[1].usage
    assert usage is not None
    assert usage.output_tokens == 5


def test_usage_is_noted_and_shown_to_who_asked() -> None:
    """Tokens are counted from the provider's own words."""
    passed, reader = read(CHUNK + USAGE)
    assert passed == CHUNK + USAGE
    assert reader.usage is not None
    assert (reader.usage.input_tokens, reader.usage.output_tokens) == (3, 5)


def test_usage_that_only_we_asked_for_is_hidden() -> None:
    """A client that did not ask may not be able to read a chunk without choices."""
    passed, reader = read(CHUNK + FINISH + USAGE + DONE, hide_usage=True)
    assert passed == CHUNK + FINISH + DONE
    assert reader.usage is not None
    assert reader.usage.output_tokens == 5


def test_only_the_usage_chunk_is_hidden() -> None:
    """Some providers put usage beside the last choice, and Azure sends chunks with neither."""
    beside = FINISH.replace(b"}]}\n", b'}],"usage":{"prompt_tokens":1}}\n')
    filters = b'data: {"choices":[],"prompt_filter_results":[]}\n\n'
    unset = CHUNK.replace(b"}]}\n", b'}],"usage":null}\n')
    stream = beside + filters + unset
    assert read(stream, hide_usage=True)[0] == stream


def test_an_error_chunk_ends_the_answer() -> None:
    """The provider's own words are kept for the client; nothing after them is an answer."""
    error = b'{"error":{"message":"out of memory","code":"oom"}}'
    passed, reader = read(CHUNK + b"data: " + error + b"\n\n" + FINISH + DONE)
    assert passed == CHUNK
    assert isinstance(reader.failure, ProviderUnavailable)
    assert reader.reported == error
    assert not reader.done


def test_a_null_error_is_none() -> None:
    """Some providers write every field in every chunk."""
    null = CHUNK.replace(b"}]}\n", b'}],"error":null}\n')
    assert read(null)[0] == null


@pytest.mark.parametrize("payload", [b"hello", b"[1]", b"null", b'{"choices": 5}', b"{", b"\xff"])
def test_data_that_is_no_chunk_is_the_providers_fault(payload: bytes) -> None:
    """It must not reach a client that would stumble over it; what came before it does."""
    passed, reader = read(CHUNK + b"data: " + payload + b"\n\n" + FINISH)
    assert passed == CHUNK
    assert isinstance(reader.failure, ProviderNonsense)
    assert reader.reported is None


def test_an_endless_event_fails_the_answer_and_keeps_what_came_before() -> None:
    """The limit on an event's size must not cost the events in front of it."""
    passed, reader = read(CHUNK + b"x" * (MAX_EVENT_BYTES + 1))
    assert passed == CHUNK
    assert isinstance(reader.failure, ProviderNonsense)


@pytest.mark.parametrize("content", [rb"\ud83d", "é".encode(), rb"\u0000"])
def test_a_chunk_may_hold_half_an_emoji(content: bytes) -> None:
    """Providers cut tokens, and tokens are cheaper than characters."""
    chunk = CHUNK.replace(b"Hi", content)
    assert read(chunk)[0] == chunk


def test_data_in_several_lines_is_one_chunk() -> None:
    """The standard allows it, and so does the official client."""
    chunk = b'data: {"choices":\ndata: [{"delta":{},"finish_reason":"stop"}]}\n\n'
    passed, reader = read(chunk)
    assert passed == chunk
    assert reader.finished


def test_a_whole_answers_usage() -> None:
    """The same count for answers that are not streamed."""
    usage = read_whole(b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}').usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (3, 5)


@pytest.mark.parametrize(
    ("answer", "characters", "is_error"),
    [
        (b'{"choices":[{"message":{"role":"assistant","content":"Hello"}}]}', 5, False),
        (b'{"choices":[{"message":{"content":"ab"}},{"message":{"content":"c"}}]}', 3, False),
        (b'{"choices":[]}', 0, False),
        (b'{"error":{"message":"no"}}', 0, True),
        (b'{"error":null,"choices":[]}', 0, False),
    ],
)
def test_a_whole_answer_is_counted_and_an_error_is_none(
    answer: bytes, characters: int, is_error: bool
) -> None:
    """A provider without usage is owed for what it wrote; an error with status 200 is no answer."""
    read = read_whole(answer)
    assert (read.characters, read.is_error) == (characters, is_error)


@pytest.mark.parametrize("answer", [b"{}", b'{"usage":null}'])
def test_an_answer_without_usage_has_none(answer: bytes) -> None:
    """None is not zero tokens."""
    assert read_whole(answer).usage is None


@pytest.mark.parametrize("answer", [b"", b"[]", b"null", b"OK", b"<html>"])
def test_a_whole_answer_is_an_object(answer: bytes) -> None:
    """A page from a proxy in between is not an answer."""
    with pytest.raises(ProviderNonsense):
        read_whole(answer)


ODD = ["-1", str(2**64 - 1), "12.5", '"many"', "null", "[]"]


@pytest.mark.parametrize("tokens", ODD)
def test_odd_usage_does_not_cost_the_answer(tokens: str) -> None:
    """A paid answer counts more than its bill; metrics take no negative counts."""
    answer = f'{{"choices":[],"usage":{{"prompt_tokens":{tokens},"completion_tokens":5}}}}'
    usage = read_whole(answer.encode()).usage
    assert usage is None or usage.input_tokens >= 0
    passed, reader = read(f"data: {answer}\n\n".encode())
    assert json.loads(passed.removeprefix(b"data: ")) == json.loads(answer)
    assert reader.usage is None or reader.usage.input_tokens >= 0


@pytest.mark.parametrize("usage", ['"n/a"', "[]", "5", "true"])
def test_usage_of_another_shape_does_not_cost_the_answer(usage: str) -> None:
    """A field that the client may not even read must not turn its answer into an error."""
    assert read_whole(f'{{"choices":[],"usage":{usage}}}'.encode()).usage is None
    chunk = f'data: {{"choices":[],"usage":{usage}}}\n\n'.encode()
    assert read(chunk)[0] == chunk
