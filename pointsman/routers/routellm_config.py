"""RouteLLM's configuration of a router → ours: the bundle of its checkpoint, or what to do.

RouteLLM names a checkpoint on the Hugging Face hub, or a folder. `pointsman import` makes a bundle
of it, and where that has been done, in the folder ``bundles`` beside the file, it is used.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointsman.errors import ConfigError
from pointsman.routers.bundle import MANIFEST_NAME, read_manifest
from pointsman.routers.imported import BUNDLES_FOLDER, imported_bundle
from pointsman.routing import ModelPair, quote

ROUTELLM_PAIR = ModelPair(strong="gpt-4-1106-preview", weak="mixtral-8x7b-instruct-v0.1")
"""The pair that RouteLLM's checkpoints were trained for and its routers score by default."""

_PAIR_KEYS = frozenset({"strong_model", "weak_model"})
_KEYS: Mapping[str, frozenset[str]] = {
    "random": frozenset(),
    "mf": _PAIR_KEYS
    | {"checkpoint_path", "hidden_size", "num_models", "text_dim", "num_classes", "use_proj"},
    "sw_ranking": _PAIR_KEYS | {"arena_battle_datasets", "arena_embedding_datasets", "num_tiers"},
    "bert": _PAIR_KEYS | {"checkpoint_path", "num_labels"},
    "causal_llm": _PAIR_KEYS
    | {
        *("checkpoint_path", "score_threshold", "special_tokens", "num_outputs", "model_type"),
        *("model_id", "flash_attention_2"),
    },
}
"""Router → the keyword arguments of its class in RouteLLM 0.1.0 and 0.2.0."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint of RouteLLM's that no bundle has been made of yet."""

    name: str
    """As the file has it; several data sets are separated by commas."""

    command: str
    """The command that makes a bundle of it, which the same file then finds."""


def translated(
    source: str, name: object, entry: Mapping[object, Any], folder: Path
) -> tuple[dict[str, Any], Checkpoint | None] | None:
    """Return our settings for RouteLLM's keyword arguments, and what they name that is not here.

    Args:
        source: where they come from, for messages.
        name: the router's.
        entry: the keyword arguments.
        folder: where the file lies: bundles are looked for in its folder ``bundles``.

    Returns:
        None if RouteLLM has no router of this name.

    Raises:
        ConfigError: RouteLLM's router has no such argument; names source, key path and value.
    """
    known = _KEYS.get(str(name))
    if known is None:
        return None
    if unknown := [key for key in entry if key not in known]:
        raise ConfigError(
            f"{source}: router {name} has the key {quote(str(unknown[0]))}; Pointsman's are "
            f"bundle, class, options and embeddings, RouteLLM's "
            f"{', '.join(sorted(known)) or 'none'} - at `$.{name}.{unknown[0]}`"
        )
    sources = _listed(entry.get("checkpoint_path") or entry.get("arena_battle_datasets"))
    if not sources:
        return {}, None
    if len(sources) == 1 and (Path(sources[0]) / MANIFEST_NAME).exists():
        return {"bundle": sources[0]}, None
    embeddings = _listed(entry.get("arena_embedding_datasets"))
    pair = ModelPair(
        strong=str(entry.get("strong_model") or ROUTELLM_PAIR.strong),
        weak=str(entry.get("weak_model") or ROUTELLM_PAIR.weak),
    )
    bundles = folder / BUNDLES_FOLDER
    found = imported_bundle(bundles, str(name), [*sources, *embeddings], pair)
    if found is not None:
        # RouteLLM embeds at OpenAI's, with the key in OPENAI_API_KEY: so do settings that say {}.
        remote = read_manifest(found).embedder.model
        return {"bundle": str(found), **({"embeddings": {}} if remote else {})}, None
    words = ["pointsman", "import", str(name), *sources]
    words += ["--embeddings", *embeddings] if embeddings else []
    words += ["--tiers", str(entry["num_tiers"])] if "num_tiers" in entry else []
    words += [] if pair == ROUTELLM_PAIR else _pair_flags(pair)
    command = shlex.join([*words, "--out", str(bundles)])
    return {}, Checkpoint(name=", ".join(sources), command=command)


def _listed(value: object) -> list[str]:
    values = value if isinstance(value, list) else [value] if value else []
    return [str(one) for one in values]


def _pair_flags(pair: ModelPair) -> list[str]:
    return ["--strong-model", pair.strong, "--weak-model", pair.weak]
