"""What the demo provider says: plainly not a model, under which name, and what it was asked.

Pure: a parsed chat request in, OpenAI's answer or its chunks out.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

JSON = dict[str, Any]

_WORDS = re.compile(r"\S+\s*")
_LONGEST_ECHO = 200
_EXAMPLES: JSON = {
    "string": "demo",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}


class Made(NamedTuple):
    """An answer's id, and when it was made in Unix seconds."""

    id: str
    created: int


class BadRequest(ValueError):
    """The request is not one that OpenAI would take; the message says why."""


def complete(request: JSON, made: Made) -> JSON:
    """Returns a whole answer.

    Raises:
        BadRequest: `model` or `messages` is missing or of the wrong type.
    """
    message, finish_reason = _message(request)
    return {
        "id": made.id,
        "object": "chat.completion",
        "created": made.created,
        "model": request["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "refusal": None, **message},
                "logprobs": None,
                "finish_reason": finish_reason,
            }
        ],
        "usage": _usage(request, message),
    }


def stream(request: JSON, made: Made) -> Iterator[JSON]:
    """Yields the chunks of a streamed answer; the usage chunk last, if it was asked for.

    Raises:
        BadRequest: `model` or `messages` is missing or of the wrong type.
    """
    message, finish_reason = _message(request)
    head = {
        "id": made.id,
        "object": "chat.completion.chunk",
        "created": made.created,
        "model": request["model"],
    }

    def chunk(delta: JSON, finish: str | None = None) -> JSON:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**head, "choices": [choice]}

    yield chunk({"role": "assistant", "content": "" if message["content"] else None})
    for word in _WORDS.findall(message["content"] or ""):
        yield chunk({"content": word})
    for index, call in enumerate(message.get("tool_calls", ())):
        yield chunk({"tool_calls": [{"index": index, **call}]})
    yield chunk({}, finish_reason)
    if _object(request.get("stream_options")).get("include_usage"):
        yield {**head, "choices": [], "usage": _usage(request, message)}


def _message(request: JSON) -> tuple[JSON, str]:
    if not isinstance(request.get("model"), str):
        raise BadRequest("model must be a string")
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages must be a list with at least one message")
    if any(not isinstance(message, dict) for message in messages):
        raise BadRequest("each of messages must be an object")
    tool = _tool_to_call(request, messages)
    if tool is not None:
        function = {"name": tool["name"], "arguments": _arguments(tool.get("parameters"))}
        call = {"id": "call_demo", "type": "function", "function": function}
        return {"content": None, "tool_calls": [call]}, "tool_calls"
    return {"content": _text(request["model"], messages)}, "stop"


def _text(model: str, messages: list[JSON]) -> str:
    said = " ".join(_content(messages[-1]).split())
    echo = said if len(said) <= _LONGEST_ECHO else said[: _LONGEST_ECHO - 1] + "…"
    return (
        f"This is Pointsman's demo provider, answering as {model}: no language model was asked. "
        f"The last message was: {echo}"
    )


def _content(message: JSON) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(_object(part).get("text") or "") for part in content)
    return content if isinstance(content, str) else ""


def _tool_to_call(request: JSON, messages: list[JSON]) -> JSON | None:
    """Returns the function a model would surely call: the only or the demanded one, once."""
    functions = [_object(_object(tool).get("function")) for tool in _list(request.get("tools"))]
    named = [function for function in functions if isinstance(function.get("name"), str)]
    choice = request.get("tool_choice")
    if not named or choice == "none" or messages[-1].get("role") == "tool":
        return None
    wanted = _object(_object(choice).get("function")).get("name")
    return next((function for function in named if function["name"] == wanted), named[0])


def _arguments(schema: Any) -> str:
    properties = _object(_object(schema).get("properties"))
    return json.dumps({name: _example(_object(kind)) for name, kind in properties.items()})


def _example(schema: JSON) -> Any:
    if allowed := _list(schema.get("enum")):
        return allowed[0]
    kind = schema.get("type", "string")
    return _EXAMPLES.get(kind if isinstance(kind, str) else "string")


def _object(value: Any) -> JSON:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _usage(request: JSON, message: JSON) -> JSON:
    """Returns token counts; a token here is a word, for want of a model's tokenizer."""
    asked = sum(len(_content(one).split()) for one in request["messages"])
    said = len((message["content"] or "tool call").split())
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
    }
