"""OpenAI messages → the text that is scored.

Messages arrive as parsed JSON, and in every shape clients send: text, lists of parts, null, tool
calls, tool results, images. None of them may break routing; what carries no text is passed over.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

PromptPolicy = Literal["last_user_turn", "first_user_turn", "whole_conversation"]
Message = Mapping[str, Any]


def prompt_text(messages: Sequence[Message], policy: PromptPolicy = "last_user_turn") -> str:
    """Returns the text to score, valid Unicode (a lone surrogate becomes U+FFFD).

    `last_user_turn` and `first_user_turn` take one user message. Without any, the last message
    that has text is taken, else the empty string. `whole_conversation` joins the text of every
    message, oldest first, by empty lines.
    """
    text = _POLICIES[policy](messages)
    try:
        text.encode()
    except UnicodeEncodeError:  # JavaScript cuts emoji in half; protobuf refuses such strings
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def message_text(message: Message) -> str:
    """Returns the message's text: its string content, or its text parts joined by line feeds."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(
        part["text"]
        for part in content
        if isinstance(part, Mapping) and isinstance(part.get("text"), str)
    )


def _turn(candidates: Iterable[Message], messages: Sequence[Message]) -> str:
    for message in candidates:
        if message.get("role") == "user":
            return message_text(message)
    return next(filter(None, map(message_text, reversed(messages))), "")


def _last_user_turn(messages: Sequence[Message]) -> str:
    return _turn(reversed(messages), messages)


def _first_user_turn(messages: Sequence[Message]) -> str:
    return _turn(messages, messages)


def _whole_conversation(messages: Sequence[Message]) -> str:
    return "\n\n".join(filter(None, map(message_text, messages)))


_POLICIES: dict[PromptPolicy, Callable[[Sequence[Message]], str]] = {
    "last_user_turn": _last_user_turn,
    "first_user_turn": _first_user_turn,
    "whole_conversation": _whole_conversation,
}
