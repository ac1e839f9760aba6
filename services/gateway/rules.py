"""Rules ahead of the routers: what a request has, not what it says, names its model."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from pointsman.chassis.config import Count, Settings
from pointsman.prompts import prompt_text

Part = Literal["image", "audio", "file", "tools"]

RULE_NAME = re.compile(r"[a-z0-9_-]+")
"""What a rule may be called: its name stands in a header."""

_PARTS_BY_TYPE: Mapping[str, Part] = {
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio",
    "file": "file",
    "input_file": "file",
}


class RuleSettings(Settings, frozen=True, kw_only=True):
    """One rule: every condition that is given must hold."""

    model: str
    """The model that answers then, of those in the models file."""
    has: list[Part] = msgspec.field(default_factory=list)
    """What the request has: `image`, `audio` or `file` among its messages' parts, `tools`."""
    characters_over: Count | None = None
    """The whole conversation has more characters of text."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Request headers and their values, such as `x-team: legal`."""

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        if not self.has and self.characters_over is None and not self.headers:
            raise ValueError("a rule needs a condition: has, characters_over or headers")


def matching(
    rules: Mapping[str, RuleSettings],
    messages: Sequence[Mapping[str, Any]],
    tools: object,
    headers: Mapping[str, str],
) -> str | None:
    """Returns the name of the first rule that fits, or None.

    Args:
        rules: Name → rule, in the order of the configuration.
        messages: The request's.
        tools: The request's; anything but a list with something in it is none.
        headers: The request's, names in any case.
    """
    if not rules:
        return None
    parts: set[str] = set(_parts(messages))
    if isinstance(tools, list) and tools:
        parts.add("tools")
    given = {name.lower(): value for name, value in headers.items()}
    for name, rule in rules.items():
        if (
            parts.issuperset(rule.has)
            and all(given.get(key.lower()) == value for key, value in rule.headers.items())
            and _is_longer(messages, rule.characters_over)
        ):
            return name
    return None


def _parts(messages: Sequence[Mapping[str, Any]]) -> Iterable[Part]:
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, Mapping) else None
            if isinstance(kind, str) and kind in _PARTS_BY_TYPE:
                yield _PARTS_BY_TYPE[kind]


def _is_longer(messages: Sequence[Mapping[str, Any]], characters: int | None) -> bool:
    return characters is None or len(prompt_text(messages, "whole_conversation")) > characters
