"""The demo provider speaks OpenAI's language, and says plainly that it is no model."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from services.demo_provider.answers import BadRequest, Made, complete, stream

MADE = Made("chatcmpl-1", 1_700_000_000)
HELLO = {"model": "demo-weak", "messages": [{"role": "user", "content": "Hello,  world!"}]}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "anything": {},
                "either": {"type": ["string", "null"]},
            },
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time"}}


def told(request: dict[str, Any]) -> str:
    """Returns the whole answer's text."""
    content: str = complete(request, MADE)["choices"][0]["message"]["content"]
    return content


def streamed(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns every chunk, after a way over the wire."""
    chunks: list[dict[str, Any]] = json.loads(json.dumps(list(stream(request, MADE))))
    return chunks


def test_an_answer_says_who_speaks_and_what_was_asked() -> None:
    """Nobody must take it for a model's answer; the name shows where a prompt was routed."""
    text = told(HELLO)
    assert "demo provider" in text
    assert "demo-weak" in text
    assert text.endswith("Hello, world!")


def test_a_whole_answer_is_openais() -> None:
    """Strictly: every key that OpenAI's schema requires."""
    answer = complete(HELLO, MADE)
    parsed = ChatCompletion.model_validate(answer, strict=True)
    assert (parsed.id, parsed.created, parsed.model) == ("chatcmpl-1", 1_700_000_000, "demo-weak")
    assert parsed.choices[0].finish_reason == "stop"
    assert {"logprobs", "message"} <= set(answer["choices"][0])
    assert parsed.usage is not None
    assert parsed.usage.prompt_tokens == 2
    assert parsed.usage.total_tokens == parsed.usage.prompt_tokens + parsed.usage.completion_tokens


@pytest.mark.parametrize("request_", [HELLO, {**HELLO, "tools": [WEATHER]}])
def test_a_stream_is_openais(request_: dict[str, Any]) -> None:
    """The role first, the finish reason last, one id and one time throughout."""
    chunks = streamed(request_)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert {(c["id"], c["created"], c["object"]) for c in chunks} == {
        ("chatcmpl-1", 1_700_000_000, "chat.completion.chunk")
    }
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons[:-1] == [None] * (len(chunks) - 1)
    assert reasons[-1] is not None


@given(st.text(max_size=300), st.text(min_size=1, max_size=20))
def test_a_stream_says_the_same_as_the_whole_answer(content: str, model: str) -> None:
    """Word for word, with the same end and the same usage."""
    request = {
        "model": model,
        "messages": [{"role": "user", "content": content}],
        "stream_options": {"include_usage": True},
    }
    whole = complete(request, MADE)
    *chunks, last = streamed(request)
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert (last["choices"], last["usage"]) == ([], whole["usage"])


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
def test_usage_is_streamed_only_to_who_asked(options: dict[str, Any] | None) -> None:
    """As OpenAI does; the upstream's hiding of it is tested against this."""
    chunks = streamed({**HELLO, "stream_options": options})
    assert all(chunk["choices"] for chunk in chunks)
    assert not any("usage" in chunk for chunk in chunks)


def test_a_long_message_is_echoed_in_part() -> None:
    """A megabyte of prompt is not sent back."""
    said = {"role": "user", "content": "x" * 100_000}
    text = told({"model": "m", "messages": [said]})
    assert text.endswith("x…")
    assert len(text) < 500


@pytest.mark.parametrize(
    ("content", "echo"),
    [
        ([{"type": "text", "text": "What is"}, {"type": "image_url"}, "x"], "What is"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": None}], ""),
        (5, ""),
    ],
)
def test_content_of_any_shape_is_answered(content: Any, echo: str) -> None:
    """Clients send parts, images and nothing at all."""
    text = told({"model": "m", "messages": [{"role": "user", "content": content}]})
    assert text.split("last message was:")[1].strip() == echo


def test_a_tool_is_called_with_arguments_that_fit() -> None:
    """Agents can be tried without a model."""
    answer = complete({**HELLO, "tools": [WEATHER]}, MADE)
    ChatCompletion.model_validate(answer, strict=True)
    (choice,) = answer["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    arguments = json.loads(call["function"]["arguments"])
    assert arguments["city"] == "demo"
    assert arguments["days"] == 1
    assert arguments["unit"] == "celsius"


def test_a_streamed_tool_call_has_its_index() -> None:
    """The official client puts fragments together by it."""
    deltas = [c["choices"][0]["delta"] for c in streamed({**HELLO, "tools": [WEATHER]})]
    ((call,),) = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
    assert (call["index"], call["type"]) == (0, "function")


def test_the_demanded_tool_is_called() -> None:
    """`tool_choice` by name is an order."""
    choice = {"type": "function", "function": {"name": "get_time"}}
    request = {**HELLO, "tools": [WEATHER, TIME], "tool_choice": choice}
    (call,) = complete(request, MADE)["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "get_time", "arguments": "{}"}


def test_a_tools_result_ends_the_calling() -> None:
    """An agent's loop must come to an end."""
    messages = [*HELLO["messages"], {"role": "tool", "content": "sunny", "tool_call_id": "1"}]
    assert told({"model": "m", "messages": messages, "tools": [WEATHER]}).endswith("sunny")


def test_no_tool_is_called_where_none_may_be() -> None:
    """`tool_choice: none` is an order too."""
    assert told({**HELLO, "tools": [WEATHER], "tool_choice": "none"})


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({}, "model"),
        ({"model": 5, "messages": HELLO["messages"]}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": "Hello"}, "messages"),
        ({"model": "m", "messages": ["Hello"]}, "messages"),
    ],
)
def test_what_openai_would_refuse_is_refused(request_: dict[str, Any], field: str) -> None:
    """Mistakes show up in the demo as they would in earnest."""
    with pytest.raises(BadRequest, match=field):
        complete(request_, MADE)
    with pytest.raises(BadRequest, match=field):
        list(stream(request_, MADE))


NAMES = st.sampled_from(
    ["function", "name", "parameters", "properties", "type", "enum", "include_usage", "x"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
FUNCTIONS = st.fixed_dictionaries(
    {
        "function": st.fixed_dictionaries(
            {}, optional={"parameters": st.fixed_dictionaries({"properties": JSON}) | JSON}
        )
        | JSON
    }
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "tools": st.lists(FUNCTIONS | JSON, max_size=2) | JSON,
            "tool_choice": st.fixed_dictionaries({"function": JSON}) | JSON,
            "stream_options": JSON,
        },
    )
)
def test_no_request_is_a_fault_of_the_demo(extra: dict[str, Any]) -> None:
    """A 500 from the demo would be taken for one of the gateway's."""
    request = {**HELLO, **extra}
    try:
        ChatCompletion.model_validate(complete(request, MADE))
        streamed(request)
    except BadRequest:
        pass
