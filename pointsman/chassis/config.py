"""Configuration: YAML and a few environment variables → one frozen struct per process.

Loaded once, in a service's `__main__`, and handed down. Nothing else reads the environment, but for
`lifecycle`, which finds its supervisor there.
"""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
import yaml

from pointsman.errors import ConfigError

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0)]
PositiveCount = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
PositiveSeconds = Annotated[float, msgspec.Meta(gt=0)]
Dollars = Annotated[float, msgspec.Meta(ge=0, lt=1e9)]

_SECRET_IN_FILE = "a secret does not stand in a file of settings"
_STEPS = re.compile(r"\.\w+|\[[^\]]*\]")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every configuration struct: frozen, by keyword, strict about names."""


class ServerSettings(Settings, frozen=True, kw_only=True):
    """What every service lets its operator set."""

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless somebody decides otherwise."""
    metrics_host: str = "127.0.0.1"
    """Address of the metrics port."""
    drain_delay_seconds: Seconds = 0.0
    """Seconds between "not ready" and the last accepted request, so that load balancers notice."""
    grace_seconds: Seconds = 30.0
    """Seconds that requests in flight, streams too, may take on shutdown before they are cut."""
    log_level: LogLevel = "INFO"
    """INFO writes a line a request; WARNING only what an operator should look at."""


class Secret:
    """A value from the environment that never shows in a log, an error or a traceback."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Returns the value, for the one place it belongs in."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(
    settings_type: type[SettingsT],
    path: str | None,
    environ: Mapping[str, str],
    variables: Mapping[str, str],
    secrets: Mapping[str, str] | None = None,
) -> SettingsT:
    """Returns the settings of the file, overruled by the environment.

    Args:
        settings_type: The struct to fill.
        path: A YAML file, or None for defaults.
        environ: The process environment.
        variables: Environment variable → key path, such as `POINTSMAN_SCORER_PORT` → `port` or
            `POINTSMAN_SCORER_ADDRESS` → `scorer.address`.
        secrets: The same for fields of type `Secret`; a file cannot set these.

    Raises:
        ConfigError: The file cannot be read, or a value does not fit; names file or variable, key
            path and value.
    """
    values = read_yaml(path) if path else {}
    for variable, key_path in variables.items():
        if value := environ.get(variable):
            try:
                overlaid = _overlay({}, key_path, value)
                msgspec.convert(overlaid, settings_type, strict=False)
                _overlay(values, key_path, value)
            except (msgspec.ValidationError, TypeError, ValueError) as error:
                raise ConfigError(f"{variable}={value}: {error}") from error
    settings = convert(values, settings_type, source=path or "the environment")
    for variable, key_path in (secrets or {}).items():
        if value := environ.get(variable):
            settings = _with_secret(settings, key_path.split("."), Secret(value))
    return settings


def convert(values: object, settings_type: type[SettingsT], *, source: str) -> SettingsT:
    """Returns the parsed YAML as a struct.

    Raises:
        ConfigError: A value does not fit; names the source and the key path.
    """
    try:
        return msgspec.convert(values, settings_type, strict=False, dec_hook=_refuse_secret)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(values, settings_type, str(error))}") from error


def read_yaml(path: str) -> dict[str, Any]:
    """Returns the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(values).__name__}")
    return values


def _with_secret(settings: Any, keys: list[str], secret: Secret) -> Any:
    """Returns the settings with the secret in its place; set last, so that no message quotes it."""
    key, *rest = keys
    value = _with_secret(getattr(settings, key), rest, secret) if rest else secret
    return msgspec.structs.replace(settings, **{key: value})


def _refuse_secret(wanted: type, value: object) -> NoReturn:
    raise ValueError(f"{_SECRET_IN_FILE}; give its environment variable")


def _overlay(values: dict[str, Any], key_path: str, value: str) -> dict[str, Any]:
    *parents, key = key_path.split(".")
    target = values
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            return values  # the file is wrong there, and will be told so
    target[key] = value
    return values


def _explain(values: object, settings_type: type[Settings], problem: str) -> str:
    """Returns msgspec's message with the key path in full (`[...]` for a key) and the value."""
    told, _, path = problem.rpartition(" - at `$")
    keys: list[Any] = []
    here: Any = values
    for step in _STEPS.findall(path):
        if step == "[...]":
            key = _failing_key(values, keys, here, settings_type, problem)
        else:
            key = int(step[1:-1]) if step.startswith("[") else step[1:]
        try:
            here = here[key]
        except (KeyError, IndexError, TypeError):
            return problem
        keys.append(key)
    if not keys:
        return problem
    hidden = isinstance(here, dict | list) or told.startswith(_SECRET_IN_FILE)
    shown = "" if hidden else f", got {here!r}"
    return f"{told} - at `$.{'.'.join(map(str, keys))}`{shown}"


def _failing_key(
    values: object, keys: list[Any], here: Any, settings_type: type[Settings], problem: str
) -> object:
    """Returns the key of `here` whose value alone still gives the problem."""
    for key in here:
        alone = copy.deepcopy(values)
        target: Any = alone
        for parent in keys:
            target = target[parent]
        for other in [other for other in target if other != key]:
            del target[other]
        try:
            msgspec.convert(alone, settings_type, strict=False, dec_hook=_refuse_secret)
        except msgspec.ValidationError as error:
            if str(error) == problem:
                return key
    return None
