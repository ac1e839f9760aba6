"""What an import may be told, the same for every kind of router."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pointsman.routers.routellm_config import ROUTELLM_PAIR
from pointsman.routing import ModelPair

ROUTELLM_EMBEDDINGS = "text-embedding-3-small"
"""The embedding model of OpenAI's that RouteLLM's `mf` and `sw_ranking` were trained on."""

LONGEST_TEXT_TOKENS = 8191
"""What OpenAI's embedding models read of a text."""

ROUTELLM_TIERS = 10
"""Into how many tiers RouteLLM's `sw_ranking` sorts its models."""

Precision = Literal["int8", "float32"]


@dataclass(frozen=True, kw_only=True)
class ImportSettings:
    """Where a bundle comes from, where it goes, and how it is made."""

    sources: tuple[str, ...]
    """Folders or files, or names on the Hugging Face hub; `sw_ranking` takes several."""

    out: Path
    """Bundles folder: the bundle is written to ``<out>/<name>``, its files to ``<out>/blobs``."""

    name: str
    """The router's name, ``[a-z0-9_]+``."""

    pair: ModelPair = ROUTELLM_PAIR
    """What the win rates speak of; `mf` and `sw_ranking` know other pairs as well."""

    revision: str | None = None
    """Branch, tag or commit on the hub; by default the newest."""

    endpoint: str | None = None
    """Address of the hub; by default huggingface.co, or what ``HF_ENDPOINT`` says."""

    precision: Precision = "int8"
    """Of exported weights: int8 takes half the time and a quarter of the memory; float32 gives the
    checkpoint's own win rates. Of `sw_ranking`'s embeddings: float16 or float32."""

    embedding_model: str = ROUTELLM_EMBEDDINGS
    """Of `mf` and `sw_ranking`: what the prompts must be embedded by."""

    embeddings: tuple[str, ...] = ()
    """Of `sw_ranking`: the battles' embeddings, in the order of the battles' sources."""

    tokenizer: str | None = None
    """Of `causal_llm` and `bert`: where the tokenizer is if it is not beside the weights."""

    tiers: int = ROUTELLM_TIERS
    """Of `sw_ranking`: number of tiers."""

    compat: bool = True
    """Of `sw_ranking`: RouteLLM's numbers, how it handles battles within a tier included."""

    calibrate: Path | None = None
    """JSON Lines or CSV with a field `prompt`: the win rates of these become the bundle's
    percentiles. Needs a router with an encoder of its own."""
