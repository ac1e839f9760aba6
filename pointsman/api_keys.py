"""API keys: 256 random bits that their holder has, and a YAML file that has only their SHA-256.

```
keys:
  team-a: {sha256: <64 hexadecimal digits>, routers: [mf], models: [strong]}
```

`pointsman keys` writes the file and the gateway reads it. No error here quotes what stands where a
key might have been put by mistake.
"""

import hashlib
import math
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pointsman.chassis.config import Settings
from pointsman.errors import ConfigError
from pointsman.routing import ROUTER_NAME, quote

PREFIX = "pmk_"
"""What every key begins with, so that people and secret scanners know one when they see it."""

_RANDOM_BYTES = 32
_NAME = re.compile(r"(?!pmk_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
_FIELDS = ("sha256", "routers", "models")
_MAPPINGS = 3
"""Depth of the file: the whole, `keys`, a key."""


class ApiKey(Settings, frozen=True, kw_only=True):
    """What is kept of a key, and what its holder may use."""

    sha256: str
    """Of the key as it is sent, `pmk_` included; 64 hexadecimal digits in lower case."""
    routers: tuple[str, ...] | None = None
    """Routers that may choose for it, whatever models they choose; None is every router."""
    models: tuple[str, ...] | None = None
    """Models that may be named directly; None is every model, () is none."""


def new_key() -> str:
    """Returns a key nobody can guess: `pmk_` and 256 random bits in 43 URL-safe characters."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def sha256_of(key: str) -> str:
    """Returns the digest that is kept of a key; takes any text, half an emoji too."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys_file(path: str) -> dict[str, ApiKey]:
    """Returns the keys of a file: name → key, at least one.

    Raises:
        ConfigError: The file cannot be read or does not fit; names file and key path.
    """
    return parse_keys(raw_keys(read_text(path), path), path)


def read_text(path: str) -> str:
    """Returns the text of a file, its line ends as they are.

    Raises:
        ConfigError: It cannot be read, or is not UTF-8.
    """
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 at byte {error.start}") from error


def parse_keys(values: object, source: str) -> dict[str, ApiKey]:
    """Returns the keys in what YAML has under `keys`: name → key, at least one.

    Args:
        values: The mapping as it was read.
        source: Where it was read, for messages.

    Raises:
        ConfigError: There is none, or one does not fit; names the source and the key path.
    """
    if values is None or values == {}:
        raise ConfigError(
            f"{source}: keys is empty, so nobody could call; add one with "
            "`pointsman keys create NAME`"
        )
    if not isinstance(values, dict):
        raise ConfigError(
            f"{source}: keys is no mapping of names; write `keys: {{team-a: {{sha256: ...}}}}`"
        )
    keys: dict[str, ApiKey] = {}
    names: dict[str, str] = {}
    for name, entry in values.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"{source}: keys.{_shown(name)} is not a name: use up to 64 of A-Z a-z 0-9 . _ - "
                f"in text, beginning with a letter or digit and not with {PREFIX}"
            )
        keys[name] = key = _parse_key(entry, f"{source}: keys.{name}")
        twin = names.setdefault(key.sha256, name)
        if twin != name:
            raise ConfigError(
                f"{source}: keys.{name}.sha256 is that of keys.{twin} too; give each its own key"
            )
    return keys


def raw_keys(text: str, source: str) -> Any:
    """Returns what a file has under `keys`, not checked further.

    Raises:
        ConfigError: It is not YAML, a name stands in it twice, or it is no mapping of `keys` alone.
    """
    values, _ = _read(text, source)
    return values


def with_key(text: str, name: str, key: ApiKey, source: str) -> str:
    """Returns the file's text with one key more, at its end; all else, comments too, is kept.

    Raises:
        ConfigError: The name is taken, the text does not fit, or it is written so that nothing can
            be added without writing it anew.
    """
    before, names = _read(text, source)
    if before:
        parse_keys(before, source)
    if name in (before or {}):
        raise ConfigError(
            f"{source}: there is a key {name} already; choose another name, or run "
            f"`pointsman keys revoke {name} --file {source}` first"
        )
    head = text if not text or text.endswith("\n") else text + "\n"
    if names is None:
        head += "keys:\n"
    indent = names.value[0][0].start_mark.column if names is not None and names.value else 2
    after = f"{head}{' ' * indent}{entry_text(name, key)}\n"
    return _checked(after, {**(before or {}), name: _entry(key)}, source, f"add {name}")


def without_key(text: str, name: str, source: str) -> str:
    """Returns the file's text without the lines of one key; all else, comments too, is kept.

    Raises:
        ConfigError: There is no such key, the text does not fit, or its lines hold more than it.
    """
    before, names = _read(text, source)
    if not isinstance(names, yaml.MappingNode) or not isinstance(before, dict):
        before, names = {}, yaml.MappingNode("", [])
    if name not in before:
        known = ", ".join(map(_shown, before)) or "none"
        raise ConfigError(f"{source}: there is no key {_shown(name)}; there are: {known}")
    lines = text.splitlines(keepends=True)
    for key_node, entry_node in names.value:
        if key_node.value == name:
            del lines[key_node.start_mark.line : _last_line(entry_node) + 1]
            break
    left = {other: entry for other, entry in before.items() if other != name}
    return _checked("".join(lines), left or None, source, f"remove {name}")


def entry_text(name: str, key: ApiKey) -> str:
    """Returns the line that stands for a key under `keys`."""
    line = yaml.safe_dump(
        {name: _entry(key)}, default_flow_style=True, sort_keys=False, width=math.inf
    )
    return line.strip()[1:-1]  # without the braces of the mapping that it was dumped in


def _parse_key(entry: object, path: str) -> ApiKey:
    if not isinstance(entry, dict):
        raise ConfigError(f"{path} is no mapping; write {{sha256: ...}}")
    for field in entry:
        if field not in _FIELDS:
            raise ConfigError(
                f"{path}.{_shown(field)} is no field of a key; there are {', '.join(_FIELDS)}"
            )
    digest = entry.get("sha256")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ConfigError(
            f"{path}.sha256 is not the SHA-256 of a key, which has 64 hexadecimal digits; "
            "`pointsman keys create` makes one"
        )
    routers = _names(entry, "routers", path)
    for router in routers or ():
        if not ROUTER_NAME.fullmatch(router):
            raise ConfigError(f"{path}.routers: {_shown(router)} is no router's name, such as mf")
    models = _names(entry, "models", path)
    for model in models or ():
        if model.startswith("router-"):
            raise ConfigError(
                f"{path}.models: {_shown(model)} is not a model; name its router under routers"
            )
    return ApiKey(sha256=digest.lower(), routers=routers, models=models)


def _names(entry: Mapping[str, object], field: str, path: str) -> tuple[str, ...] | None:
    if field not in entry:
        return None
    names = entry[field]
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(
            f"{path}.{field} is no list of names in text; write `{field}: [...]`, or leave it out "
            f"to allow all {field}"
        )
    return tuple(names)


def _read(text: str, source: str) -> tuple[Any, Any]:
    """Returns what is under `keys`, and its node, which is None in a file without `keys`."""
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _refuse_doubles(node, source, _MAPPINGS)
        values = None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)  # the message would quote what is written there
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{source}: not YAML{where}") from error
    finally:
        loader.dispose()
    if node is None:
        return None, None
    if not isinstance(values, dict) or set(values) != {"keys"}:
        raise ConfigError(f"{source}: expected one field, keys, at the top and nothing beside it")
    return values["keys"], next((v for k, v in node.value if k.value == "keys"), None)


def _refuse_doubles(node: yaml.Node | None, source: str, depth: int) -> None:
    """YAML would take the last of two, and nobody would know which key is meant."""
    if not isinstance(node, yaml.MappingNode) or not depth:
        return
    seen: set[Any] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise ConfigError(
                    f"{source}: {_shown(key.value)} at line {key.start_mark.line + 1} stands there "
                    "a second time; remove one"
                )
            seen.add(key.value)
        _refuse_doubles(value, source, depth - 1)


def _last_line(node: yaml.Node) -> int:
    """Returns the number of the last line that has something of the node in it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        children = node.value
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        return max(map(_last_line, children))
    return int(node.end_mark.line)


def _checked(text: str, expected: object, source: str, purpose: str) -> str:
    """Returns the text if it means what is expected: whoever writes YAML freely loses nothing."""
    try:
        if raw_keys(text, source) == expected:
            return text
    except ConfigError:
        pass
    raise ConfigError(
        f"{source}: cannot {purpose} without writing the file anew; put each key on lines of its "
        "own, without braces around keys, or edit it by hand"
    )


def _entry(key: ApiKey) -> dict[str, Any]:
    allowed = {"routers": key.routers, "models": key.models}
    lists = {field: list(names) for field, names in allowed.items() if names is not None}
    return {"sha256": key.sha256, **lists}


def _shown(value: object) -> str:
    """Returns the value as a message may show it: anything that might be a key is not shown."""
    return "(a key?)" if PREFIX in str(value) else quote(str(value))
