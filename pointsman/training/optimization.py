"""How a fine-tuning moves weights: rates and decay by parameter, and on which processor."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pointsman.errors import ConfigError
from pointsman.training.settings import TrainSettings

BODY = "body."
"""What the names of pretrained parameters begin with; the others are heads."""

_LAYER = re.compile(r"\blayers?\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """How far, how fast and how carefully the weights are moved."""

    steps: int = 250
    """Most steps taken; the learning rate falls to nothing over them. More fits the training
    sources better and others, after some hundreds, worse."""

    batch_size: int = 32
    """Examples a step."""

    learning_rate: float = 5e-5
    """Peak, for the pretrained body. Ten times as much forgets what pretraining knew."""

    head_learning_rate: float = 1e-3
    """Peak, for what starts from nothing."""

    layer_decay: float = 1.0
    """A layer's learning rate as a fraction of that of the layer above it; 1 treats all alike,
    0.8 leaves the lowest of six layers a third."""

    tuned_layers: int | None = None
    """Layers of the body that are tuned, from the top; None tunes all. A model of billions of
    parameters fits a GPU this way: the optimiser's state is three times what is tuned."""

    weight_decay: float = 0.01
    """AdamW's, on matrices; biases and norms are left alone."""

    warmup_fraction: float = 0.1
    """Part of the steps over which the learning rate rises."""

    clip_norm: float = 1.0
    """Longest gradient that is followed; longer ones are shortened to it."""

    evaluate_every: int = 50
    """Steps between two looks at the held-out examples, after each of which a checkpoint is
    written: an interruption costs at most so many steps."""

    look_examples: int = 800
    """Most held-out examples of a look: more find the best step more surely and take longer."""

    patience: int = 4
    """Looks without a better held-out loss after which training stops."""

    seed: int = 0

    device: str = "auto"
    """``auto`` takes a GPU where there is one; else ``cpu`` or ``cuda``."""


def overridden(
    recipe: FinetuneSettings, settings: TrainSettings, examples: int
) -> FinetuneSettings:
    """Return the recipe with what the command was told in its place.

    Args:
        recipe: what is done untold.
        settings: of the command; ``epochs`` are turned into steps, of which ``max_steps`` is the
            most.
        examples: how many there are to train on.
    """
    batch_size = settings.batch_size or recipe.batch_size
    steps = recipe.steps
    if settings.epochs is not None:
        steps = math.ceil(settings.epochs * examples / batch_size)
    if settings.max_steps is not None:
        steps = settings.max_steps if settings.epochs is None else min(steps, settings.max_steps)
    return replace(
        recipe,
        steps=steps,
        batch_size=batch_size,
        learning_rate=settings.learning_rate or recipe.learning_rate,
        patience=settings.patience or recipe.patience,
        seed=settings.seed,
        device=settings.device,
    )


def learning_rate_factor(step: int, settings: FinetuneSettings) -> float:
    """Return the fraction of the peak at a step: rising over the warm-up, then falling to 0."""
    warmup = max(1, round(settings.steps * settings.warmup_fraction))
    if step < warmup:
        return (step + 1) / warmup
    return (settings.steps - step) / max(1, settings.steps - warmup)


def freeze_lower_layers(model: nn.Module, settings: FinetuneSettings) -> None:
    """Leave as it is what lies below the layers that are tuned."""
    if settings.tuned_layers is None:
        return
    layers = _layers(model)
    lowest = max(layers.values()) - settings.tuned_layers + 1
    for name, parameter in model.named_parameters():
        if name in layers and layers[name] < lowest:
            parameter.requires_grad_(False)


def parameter_groups(model: nn.Module, settings: FinetuneSettings) -> list[dict[str, Any]]:
    """Return AdamW's groups: parameters of one peak learning rate (``peak``) and decay."""
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    layers = _layers(model)
    last = max(layers.values(), default=0)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained:
        peak = settings.head_learning_rate
        if name in layers:
            peak = settings.learning_rate * settings.layer_decay ** (last - layers[name])
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((peak, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": 0.0, "peak": peak, "weight_decay": decay}
        for (peak, decay), parameters in groups.items()
    ]


def find_device(name: str) -> torch.device:
    """Return the device that ``auto``, ``cpu`` or ``cuda`` means here.

    Raises:
        ConfigError: there is no GPU, or torch was built without it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"--device {name}: torch {torch.__version__} finds no GPU; install a CUDA build of "
            "torch, or use --device cpu"
        )
    return torch.device(name)


def has_bf16(device: torch.device) -> bool:
    """Return whether bfloat16 products are faster there than float32: AMX, AVX512-BF16, Ampere."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux: slower, but right
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def _layers(model: nn.Module) -> dict[str, int]:
    """Return the layer of each parameter of the body, by name.

    Layers count from 1; embeddings are 0, and what follows the last layer belongs to it.
    """
    names = [name for name, _ in model.named_parameters() if name.startswith(BODY)]
    found = {name: int(match.group(1)) + 1 for name in names if (match := _LAYER.search(name))}
    last = max(found.values(), default=0)
    return {name: found.get(name, 0 if "embed" in name else last) for name in names}
