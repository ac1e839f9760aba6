"""What a caller of the SDK gives → what routing needs, or an error that names the argument."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pointsman.errors import ConfigError, InvalidRequest
from pointsman.prompts import Message
from pointsman.routers.settings import ToolsConfig, config_of, read_config
from pointsman.routing import quote

Config = Mapping[str, Any] | str | os.PathLike[str] | None
"""A mapping in the shape of a configuration file, or the path of one."""


class RoutingError(InvalidRequest):
    """The call says nothing that can be routed: router, threshold, messages or prompts are wrong.

    `param` names the argument at fault.
    """


def tools_config(config: Config) -> ToolsConfig:
    """Returns what the argument `config` says.

    Raises:
        ConfigError: It cannot be read, or a key does not fit.
    """
    if config is None:
        return read_config(None)
    if isinstance(config, str | os.PathLike):
        return read_config(os.fspath(config))
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"config is of type {type(config).__name__}; give a mapping from router name to its "
            "keyword arguments, or the path of a YAML file"
        )
    return config_of(config, source="config")


def sequence_of(messages: Iterable[Any]) -> Sequence[Any]:
    """Returns messages that can be read twice: for the decision, and by the client.

    Raises:
        RoutingError: They are no list of messages, or there are none.
    """
    given: object = messages
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise RoutingError(
            'messages is a list, such as [{"role": "user", "content": "Hello!"}]', param="messages"
        )
    read = messages if isinstance(messages, Sequence) else list(messages)
    if not read:
        raise RoutingError("messages is empty; send at least one message", param="messages")
    return read


def as_mapping(message: Any) -> Message:
    """Returns a message as JSON has it; earlier answers may be the client's own objects.

    Raises:
        RoutingError: It is neither.
    """
    if isinstance(message, Mapping):
        return message
    if hasattr(message, "model_dump"):
        dumped: Message = message.model_dump()
        return dumped
    raise RoutingError(
        f"a message is of type {type(message).__name__}; write a mapping with role and content",
        param="messages",
    )


def as_text(prompt: object) -> str:
    """Returns the prompt.

    Raises:
        RoutingError: It is not text.
    """
    if not isinstance(prompt, str):
        raise RoutingError(
            f"a prompt is not text: {quote(repr(prompt))}",
            param="prompts",
        )
    return prompt
