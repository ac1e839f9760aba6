"""`serve`'s command line → the environment and the files that the services read.

The variables are those of `services/*/config.py`. Keys travel in the environment only; files name
the variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import yaml

from pointsman.chassis.config import convert, read_yaml
from pointsman.errors import ConfigError, UnknownRouter
from pointsman.models_file import ModelsFile, read_models_file
from pointsman.providers import address_of
from pointsman.routers.bulk import cores
from pointsman.routers.endpoint_settings import encoder_of
from pointsman.routers.settings import BUILT_IN, RouterSettings, ToolsConfig, read_config
from pointsman.routing import quote

MODELS_VARIABLE = "POINTSMAN_MODELS"
STRONG_VARIABLE = "POINTSMAN_STRONG_MODEL"
WEAK_VARIABLE = "POINTSMAN_WEAK_MODEL"
GATEWAY_CONFIG_VARIABLE = "POINTSMAN_GATEWAY_CONFIG"
SCORER_CONFIG_VARIABLE = "POINTSMAN_SCORER_CONFIG"
WORKERS_VARIABLE = "POINTSMAN_SCORER_WORKERS"
HOST_VARIABLE = "POINTSMAN_GATEWAY_HOST"
PORT_VARIABLE = "POINTSMAN_GATEWAY_PORT"
LOG_LEVEL_VARIABLE = "POINTSMAN_LOG_LEVEL"
KEY_VARIABLES = {"strong": "POINTSMAN_STRONG_API_KEY", "weak": "POINTSMAN_WEAK_API_KEY"}
"""Where a key of the command line goes, for the models file to name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """`serve`'s options as they were given; None where one was not."""

    routers: list[str] | None = None
    config: str | None = None
    strong_model: str | None = None
    weak_model: str | None = None
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    alt_base_url: str | None = None
    alt_api_key: str | None = field(default=None, repr=False)
    models: str | None = None
    host: str | None = None
    port: int | None = None
    workers: int | None = None
    verbose: bool = False


def cluster_environ(
    flags: Flags, environ: Mapping[str, str], folder: Path
) -> tuple[dict[str, str], list[str]]:
    """Returns the cluster's environment and what the user should know; writes files to `folder`.

    Args:
        flags: They overrule the environment.
        environ: This process's environment.
        folder: Must last as long as the cluster.

    Raises:
        ConfigError: An option or a file is wrong, or a provider's key is missing.
        UnknownRouter: There is no such router here.
    """
    routers, notes = _router_variables(flags, environ, folder)
    listening = {
        HOST_VARIABLE: flags.host,
        PORT_VARIABLE: None if flags.port is None else str(flags.port),
        WORKERS_VARIABLE: None if flags.workers is None else str(flags.workers or cores()),
        LOG_LEVEL_VARIABLE: (
            "INFO" if flags.verbose else environ.get(LOG_LEVEL_VARIABLE) or "WARNING"
        ),
    }
    told = {variable: value for variable, value in listening.items() if value is not None}
    return {**environ, **told, **routers, **_model_variables(flags, environ, folder)}, notes


def _router_variables(
    flags: Flags, environ: Mapping[str, str], folder: Path
) -> tuple[dict[str, str], list[str]]:
    if flags.routers is None and flags.config is None:
        return {}, []
    config = read_config(flags.config)
    if not config.routers:  # a file of benchmarks
        config = BUILT_IN
    names = list(dict.fromkeys(flags.routers or config.routers))
    routers = {name: _checked(config, name) for name in names}
    theirs = environ.get(SCORER_CONFIG_VARIABLE)
    values = read_yaml(theirs) if theirs else {}
    values["routers"] = msgspec.to_builtins(routers)
    return {SCORER_CONFIG_VARIABLE: _written(folder / "scorer.yaml", values)}, config.notes(names)


def _checked(config: ToolsConfig, name: str) -> RouterSettings:
    """Returns what the scorer is to load.

    Bundles are loaded here too, in a fifth of a second. Classes may be large, and are only looked
    for: the scorer says what else is wrong with them.
    """
    settings = config.settings_of(name)
    if settings.embeddings is not None:
        encoder_of(name, settings.bundle)  # its endpoint is asked by the scorer, and costs money
        return settings
    if settings.factory is None:
        config.load(name)
        return settings
    module = settings.factory.partition(":")[0]
    try:
        found = find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise UnknownRouter(
            f"{config.source}: router {name} is {quote(settings.factory)}, and no module {module} "
            "is installed; install it beside pointsman, or name its folder in PYTHONPATH"
        )
    return settings


def _model_variables(flags: Flags, environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    given = {"strong": flags.strong_model, "weak": flags.weak_model}
    addressed = any((flags.base_url, flags.api_key, flags.alt_base_url, flags.alt_api_key))
    if flags.models and addressed:
        raise ConfigError(
            "--models says where models are, and so do --base-url, --api-key and --alt-...; give "
            "one or the other"
        )
    models = flags.models or (None if addressed else environ.get(MODELS_VARIABLE))
    if models:
        return _pair_in_file(models, given, environ)
    if not any(given.values()) and not addressed:
        return {}  # the demo provider
    strong, weak = flags.strong_model, flags.weak_model
    if not strong or not weak:
        missing = " and ".join(f"--{role}-model" for role, name in given.items() if not name)
        raise ConfigError(f"{missing} missing: name both models, strong and weak")
    if strong == weak:
        raise ConfigError(
            f"the strong and the weak model are both {quote(strong)}; name two, or call one model "
            "by two names in a --models file"
        )
    return _pair_on_command_line(flags, {"strong": strong, "weak": weak}, environ, folder)


def _pair_in_file(
    path: str, given: Mapping[str, str | None], environ: Mapping[str, str]
) -> dict[str, str]:
    known = read_models_file(path).models
    variables = {"strong": STRONG_VARIABLE, "weak": WEAK_VARIABLE}
    named = {role: name or environ.get(variables[role]) for role, name in given.items()}
    if not environ.get(GATEWAY_CONFIG_VARIABLE):  # that file may name the pair
        named = {role: name or role for role, name in named.items()}
    pair = {role: name for role, name in named.items() if name}
    for role, name in pair.items():
        if name not in known:
            raise ConfigError(
                f"{path}: there is no model {quote(name)}, only {', '.join(known)}; name the "
                f"{role} one with --{role}-model"
            )
    return {MODELS_VARIABLE: path, **{variables[role]: name for role, name in pair.items()}}


def _pair_on_command_line(
    flags: Flags, pair: Mapping[str, str], environ: Mapping[str, str], folder: Path
) -> dict[str, str]:
    # A key goes to the endpoint it was given for, and to no other.
    shared_key = None if flags.alt_base_url else flags.api_key
    weak_place = (flags.alt_base_url or flags.base_url, flags.alt_api_key or shared_key)
    places = {"strong": (flags.base_url, flags.api_key), "weak": weak_place}
    values: dict[str, Any] = {"providers": {}, "models": {}}
    keys: dict[str, str] = {}
    without_key: list[str] = []
    for role, name in pair.items():
        base_url, key = places[role]
        address = address_of(name, base_url=base_url, environ=environ)
        provider: dict[str, str] = {"base_url": address.base_url}
        if key:
            keys[KEY_VARIABLES[role]] = key
            provider["api_key_env"] = KEY_VARIABLES[role]
        elif environ.get(address.api_key_env, "").strip():
            provider["api_key_env"] = address.api_key_env
        elif not address.is_local:
            without_key.append(
                f"the {role} model {quote(name)} is at {address.base_url}, and its key is not set: "
                f"export {address.api_key_env}=..., or say with --base-url where else it is"
            )
        values["providers"][role] = provider
        values["models"][name] = {"provider": role, "model": address.model}
    convert(values, ModelsFile, source="the command line")
    if without_key:
        raise ConfigError("; ".join(without_key))
    return {
        **keys,
        MODELS_VARIABLE: _written(folder / "models.yaml", values),
        STRONG_VARIABLE: pair["strong"],
        WEAK_VARIABLE: pair["weak"],
    }


def _written(path: Path, values: Mapping[str, Any]) -> str:
    path.write_text(yaml.safe_dump(dict(values), sort_keys=False), encoding="utf-8")
    return str(path)
