"""What every `pointsman train` may be told: where from, where to, how long, how reproducibly.

What a router does untold stands in its own recipe (`bert.BertRecipe` and its like); here is what
its user decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pointsman.routing import ModelPair

Balance = Literal["none", "sqrt", "equal"]
"""How sources of unlike size share the training, see `datasets.source_weights`."""

Device = Literal["auto", "cpu", "cuda"]

PAIR = ModelPair(strong="gpt-4o-2024-05-13", weak="mixtral-8x7b-instruct-v0.1")
"""The pair with the most outcomes among the data that may be trained on. Of RouteLLM's pair,
gpt-4-1106-preview has none outside the prompts held out for calibration."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The command's options; None leaves a number to the router's recipe."""

    data: Path | None = None
    """Folder that holds ``preferences/`` and, where there are any, ``benchmarks/`` and ``extra/``.
    Benchmarks are read to keep away from them and to report figures. None trains on ``own_data``
    alone."""

    own_data: tuple[Path, ...] = ()
    """JSON Lines of the user's own, or folders of them, see `own_data`."""

    out: Path
    """Bundles folder: the bundle is written to ``<out>/<name>``, its files to ``<out>/blobs``."""

    name: str | None = None
    """The bundle's, [a-z0-9_]+; None names it after its kind."""

    pair: ModelPair = PAIR
    """Whose win rates are served. A router learns from the outcomes of all pairs."""

    skip_bad_rows: bool = False
    """Train on the good rows of ``own_data``; else one bad row stops everything."""

    mmlu_labels: str = "none"
    """Which labels of the MMLU benchmark may be trained on: ``none``, ``all``, or ``1500:0`` for
    1,500 drawn by seed 0; see `benchmark_labels`."""

    twins: tuple[Path, ...] = ()
    """Bundles of the same router trained on fewer of MMLU's labels, whose figures on MMLU stand in
    for those that a router trained on all of them cannot have."""

    balance: Balance = "none"
    """``none``: each prompt weighs the same, so that large sources rule; ``equal``: each source
    does, so that the prompts of a small one are repeated; ``sqrt``: in between."""

    encoder: Path | None = None
    """Folder of an encoder in Hugging Face's layout; None takes the installed MiniLM."""

    base_model: Path | None = None
    """``causal_llm``: folder of a causal language model in Hugging Face's layout; None makes a
    small decoder of the encoder."""

    save_encoder: Path | None = None
    """``bert``: folder for the tuned encoder and its head, which other routers take as
    ``encoder``."""

    cache: Path | None = None
    """Folder for embeddings (about 6 kB a text) and checkpoints; None keeps neither."""

    resume: bool = False
    """Go on from the checkpoint that an interrupted run of the same settings left in ``cache``."""

    seed: int = 0
    """Of the split, the order of examples and the weights that start at random."""

    max_steps: int | None = None
    """Most steps of the optimiser, at least 1."""

    epochs: float | None = None
    """Most passes over the data, above 0. Where both are given, what ends first."""

    batch_size: int | None = None
    """Prompts a step, at least 1: more is steadier and takes more memory."""

    learning_rate: float | None = None
    """Peak for the pretrained body, above 0."""

    patience: int | None = None
    """Looks at held-out prompts without a better one after which training stops, at least 1."""

    device: Device = "auto"
    """``auto`` takes a GPU where there is one."""

    report: Path | None = None
    """HTML page, or PNG, with the reliability diagram and cost-quality curves."""
