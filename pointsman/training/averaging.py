"""Several trainings → one model, which costs no more to serve than any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from pointsman.training.batches import Corpus
from pointsman.training.checkpoint import CheckpointFile
from pointsman.training.finetune import TrainingCurve, Tunable, finetune, trainable_weights
from pointsman.training.optimization import BODY, FinetuneSettings
from pointsman.training.settings import TrainSettings

ModelT = TypeVar("ModelT", bound=Tunable)


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """How many trainings become one model, and how far from its start it may be."""

    seeds: int = 1
    """Trainings from one start whose weights are averaged; each takes as long as the first."""

    alpha: float = 1.0
    """Where on the line from the pretrained to the tuned body the served one lies, in [0, 1]:
    below 1 it keeps more of what pretraining knew (`interpolate`)."""


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """Where the states of a training and its seeds are kept."""

    folder: Path
    name: str
    resume: bool

    @classmethod
    def of(cls, settings: TrainSettings, kind: str) -> Checkpoints | None:
        """Return those of a training by command; None without a cache to keep them in."""
        if settings.cache is None:
            return None
        name = settings.name or kind
        return cls(folder=settings.cache / "checkpoints", name=name, resume=settings.resume)

    def remove(self) -> None:
        """Remove them: the training is done."""
        for path in self.folder.glob(f"{self.name}-seed*.checkpoint"):
            path.unlink(missing_ok=True)

    def of_seed(self, seed: int) -> CheckpointFile:
        """Return the file of one seed."""
        path = self.folder / f"{self.name}-seed{seed}.checkpoint"
        return CheckpointFile(path=path, resume=self.resume)


def finetune_averaged(
    make: Callable[[], ModelT],
    corpus: Corpus,
    settings: FinetuneSettings,
    averaging: Averaging,
    *,
    held_out: Corpus | None = None,
    checkpoints: Checkpoints | None = None,
    description: str,
) -> tuple[ModelT, list[TrainingCurve]]:
    """Return one model of several trainings, and the curve of each.

    Args:
        make: returns the same untrained model each time.
        corpus: what to learn from.
        settings: of each training; the seeds count up from its own.
        averaging: how many, and how far.
        held_out: examples of other prompts, see `finetune`.
        checkpoints: where states are kept; they stay when this is done.
        description: what the progress bars say.

    Raises:
        ConfigError: as `finetune` does.
        ValueError: as `finetune` does.
    """
    model = make()
    before = {name: value.clone() for name, value in trainable_weights(model).items()}
    states, curves = [], []
    for seed in range(settings.seed, settings.seed + averaging.seeds):
        tuned = make()
        curve = finetune(
            tuned,
            corpus,
            replace(settings, seed=seed),
            held_out=held_out,
            checkpoint=checkpoints.of_seed(seed) if checkpoints else None,
            description=f"{description}, seed {seed}",
        )
        states.append(trainable_weights(tuned))
        curves.append(curve)
    mean = mean_weights(states)
    body = {name: value for name, value in mean.items() if name.startswith(BODY)}
    nearer = interpolate({name: before[name] for name in body}, body, averaging.alpha)
    model.load_state_dict({**mean, **nearer}, strict=False)
    return model.eval(), curves


def interpolate(
    pretrained: Mapping[str, Tensor], tuned: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """Return ``(1 - alpha) pretrained + alpha tuned``, name by name.

    Fine-tuning gains on what it is trained on and loses elsewhere; on the line between the two
    models lie some that keep most of both (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).

    Args:
        pretrained: the weights that fine-tuning began with.
        tuned: the weights it ended with, under the same names.
        alpha: 0 for the one, 1 for the other.

    Raises:
        ValueError: the names differ.
    """
    _check_names(pretrained, tuned)
    return {
        name: torch.lerp(pretrained[name].double(), tuned[name].double(), alpha).to(
            tuned[name].dtype
        )
        for name in tuned
    }


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of several trainings from one start (model soup, arXiv:2203.05482).

    Raises:
        ValueError: there is none, or the names differ.
    """
    if not states:
        raise ValueError("there are no weights to average")
    for state in states[1:]:
        _check_names(states[0], state)
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0).to(first.dtype)
        for name, first in states[0].items()
    }


def _check_names(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    different = sorted(set(first) ^ set(second))
    if different:
        raise ValueError(f"only one of the models has the weights {different[:3]}")
