"""Which routers there are: the `routers` of a configuration file, ours or RouteLLM's.

RouteLLM's file is a mapping from router name to the keyword arguments of its class, with
checkpoints on the Hugging Face hub. Its keys are understood; a checkpoint that `pointsman import`
has not made a bundle of is replaced by the bundle of that router's name, and the notes say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pointsman.chassis.config import Settings, convert, read_yaml
from pointsman.errors import ConfigError, UnknownRouter
from pointsman.routers.embedding import TextEmbedder
from pointsman.routers.endpoint_settings import EmbeddingsSettings
from pointsman.routers.registry import LoadedRouter, load_router, router_names
from pointsman.routers.routellm_config import Checkpoint, translated
from pointsman.routing import ROUTER_NAME, quote

EXAMPLE_CONFIG = Path(__file__).resolve().parent.parent / "config.example.yaml"
"""The example that comes with the package."""


class RouterSettings(Settings, frozen=True, kw_only=True):
    """One router of the configuration."""

    bundle: str | None = None
    """Folder of its bundle; by default the shipped bundle of the router's name."""
    factory: str | None = msgspec.field(default=None, name="class")
    """`package.module:Class` of a router of your own, instead of a bundle."""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    """Keyword arguments for the class, such as `seed` for `random`."""
    embeddings: EmbeddingsSettings | None = None
    """The endpoint that embeds prompts for a bundle without an encoder of its own."""


EmbedderFor = Callable[[str, RouterSettings], TextEmbedder | None]
"""A router's name and settings → what embeds its prompts, or None where the router does."""


class BenchmarkSettings(Settings, frozen=True, kw_only=True):
    """One benchmark of your own: a file of graded prompts, or a class."""

    file: str | None = None
    """JSON Lines or CSV with a prompt and two scores a row."""
    prompt: str = "prompt"
    """Name of the field that holds the prompt."""
    strong_score: str = "strong_score"
    """Name of the field that holds the strong model's score."""
    weak_score: str = "weak_score"
    """Name of the field that holds the weak model's score."""
    strong_cost: str = "strong_cost"
    """Name of the field that holds what the strong answer cost, in dollars; may be missing."""
    weak_cost: str = "weak_cost"
    """Name of the field that holds what the weak answer cost, in dollars; may be missing."""
    factory: str | None = msgspec.field(default=None, name="class")
    """`package.module:Class` with a method `load()` that returns a `Benchmark`."""
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    """Keyword arguments for the class."""


class _File(Settings, frozen=True, kw_only=True):
    routers: dict[str, RouterSettings] = msgspec.field(default_factory=dict)
    benchmarks: dict[str, BenchmarkSettings] = msgspec.field(default_factory=dict)


_OUR_KEYS = frozenset({"bundle", "class", "options", "embeddings"})


@dataclass(frozen=True, kw_only=True)
class ToolsConfig:
    """What a configuration file says about routers and benchmarks."""

    source: str = "the built-in configuration"
    routers: Mapping[str, RouterSettings]
    benchmarks: Mapping[str, BenchmarkSettings]
    replaced: Mapping[str, Checkpoint]
    """Router → the RouteLLM checkpoint that the file names and that is not imported."""

    def settings_of(self, name: str) -> RouterSettings:
        """Returns what `load` goes by, without loading anything.

        Raises:
            UnknownRouter: There is no such router; the message says what to do.
        """
        settings = self.routers.get(name) or BUILT_IN.routers.get(name) or RouterSettings()
        named = settings.bundle or settings.factory
        if not named and name not in (known := {**dict.fromkeys(router_names()), **self.routers}):
            raise UnknownRouter(f"no router is called {quote(name)}; there are: {', '.join(known)}")
        if not named and name not in router_names():
            raise UnknownRouter(f"{self.source}: router {name} {self._not_installed(name)}")
        return settings

    def load(self, name: str, embedder_for: EmbedderFor | None = None) -> LoadedRouter:
        """Loads a router: as the file says, or as without a file where the file does not name it.

        Args:
            name: The router's.
            embedder_for: Makes what embeds the prompts of a bundle without an encoder of its own.

        Raises:
            UnknownRouter: There is no such router; the message says what to do.
            ConfigError: Its class, options or manifest are wrong.
            RouterNotReady: A file of it is damaged.
        """
        settings = self.settings_of(name)
        return load_router(
            name,
            bundle=Path(settings.bundle) if settings.bundle else None,
            factory=settings.factory,
            options=settings.options,
            embedder=embedder_for(name, settings) if embedder_for is not None else None,
        )

    def notes(self, names: Sequence[str]) -> list[str]:
        """Returns one line for each of these routers that is not the one RouteLLM would have."""
        return [
            f"{self.source}: {name} is Pointsman's own bundle, not {checkpoint.name}: its win "
            f"rates differ, and so do thresholds; for half of the calls: `pointsman calibrate "
            f"--routers {name} --strong-model-pct 0.5`; for RouteLLM's: `{checkpoint.command}`"
            for name, checkpoint in self.replaced.items()
            if name in names and name in router_names()
        ]

    def _not_installed(self, name: str) -> str:
        """Returns what to do about a router that has no bundle, its own or a shipped one."""
        shipped = router_names()
        checkpoint = self.replaced.get(name)
        asked, remedy = "a bundle", ""
        if checkpoint is not None:
            asked, remedy = checkpoint.name, f"import it with `{checkpoint.command}`, "
        return (
            f"asks for {asked}, which is not installed; {remedy}leave it out, for there are "
            f"{', '.join(shipped)} (--routers {' '.join(shipped)}), or name the folder of a "
            f"bundle: {name}: {{bundle: ...}}"
        )


BUILT_IN = ToolsConfig(
    routers={"random": RouterSettings(options={"seed": 0}), "mf": RouterSettings()},
    benchmarks={},
    replaced={},
)
"""What is served without a file. `random` is seeded, so that replicas agree."""


def read_config(path: str | None) -> ToolsConfig:
    """Returns what a file says, ours or RouteLLM's; without one, the built-in configuration.

    Raises:
        ConfigError: The file cannot be read, or a key does not fit; names file, key path, value.
    """
    if path is None:
        return BUILT_IN
    try:
        values = read_yaml(path)
    except ConfigError as error:
        if Path(path).exists() or EXAMPLE_CONFIG.name != Path(path).name:
            raise
        raise ConfigError(
            f"{path}: there is no such file here; the example that comes with Pointsman is "
            f"{EXAMPLE_CONFIG}"
        ) from error
    return config_of(values, source=path, folder=Path(path).parent)


def config_of(values: Mapping[str, Any], *, source: str, folder: Path | None = None) -> ToolsConfig:
    """Returns what a mapping says that is in the shape of a file, ours or RouteLLM's.

    Args:
        values: Router name → keyword arguments, or `routers` and `benchmarks`.
        source: Where they come from, for messages.
        folder: Where imported bundles are looked for, in its folder `bundles`; by default here.

    Raises:
        ConfigError: A key does not fit; names source, key path and value.
    """
    replaced: dict[str, Checkpoint] = {}
    if not {"routers", "benchmarks"} & set(values):
        values = {"routers": {**values}}
    routers = values.get("routers")
    if isinstance(routers, dict):
        entries = {
            name: _ours(source, name, entry, folder or Path(), replaced)
            for name, entry in routers.items()
        }
        values = {**values, "routers": entries}
    file = convert(values, _File, source=source)
    for name in file.routers:
        if not ROUTER_NAME.fullmatch(name):
            raise ConfigError(f"{source}: router name {quote(name)} is not [a-z0-9_]+")
    return ToolsConfig(
        source=source,
        routers={**file.routers},
        benchmarks={**file.benchmarks},
        replaced=replaced,
    )


def _ours(
    source: str, name: object, entry: object, folder: Path, replaced: dict[str, Checkpoint]
) -> object:
    """Returns RouteLLM's keyword arguments as our settings, and anything else as it is."""
    if entry is None:
        return {}
    if not isinstance(entry, dict) or set(entry) <= _OUR_KEYS:
        return entry
    found = translated(source, name, entry, folder)
    if found is None:
        return entry
    settings, checkpoint = found
    if checkpoint is not None:
        replaced[str(name)] = checkpoint
    return settings
