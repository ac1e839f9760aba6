"""A pretrained body, heads and examples → tuned weights: the one loop that every fine-tuning runs.

::

    corpus → batch → per-example losses → AdamW step      (bf16 where the processor has it)
                  every k steps: held-out loss → best weights, checkpoint, early stopping

The state after a step is a function of data, settings and seed alone, so a run that was
interrupted and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pointsman.errors import ConfigError
from pointsman.training.batches import Batch, Corpus
from pointsman.training.checkpoint import CheckpointFile
from pointsman.training.optimization import (
    FinetuneSettings,
    find_device,
    freeze_lower_layers,
    has_bf16,
    learning_rate_factor,
    parameter_groups,
)


@dataclass(kw_only=True)
class TrainingCurve:
    """What was seen on the way, a point a look."""

    steps: list[int] = field(default_factory=list)
    training_losses: list[float] = field(default_factory=list)
    """Means over the steps since the look before."""

    held_out_losses: list[float] = field(default_factory=list)
    """Empty if nothing was held out."""

    best_step: int = 0
    """The step whose weights the model has now."""


class Tunable(nn.Module, ABC):  # type: ignore[misc]  # torch is untyped here
    """A module that can be fine-tuned."""

    body: nn.Module
    """The pretrained part; what lies outside it are heads, with a learning rate of their own."""

    @abstractmethod
    def losses(self, batch: Batch) -> Tensor:
        """Return float[b], the loss of each example."""


def finetune(
    model: Tunable,
    corpus: Corpus,
    settings: FinetuneSettings,
    *,
    held_out: Corpus | None = None,
    checkpoint: CheckpointFile | None = None,
    description: str = "fine-tuning",
) -> TrainingCurve:
    """Tune the model in place, leave it on the CPU in evaluation mode, and return the curve.

    With examples held out, the weights are those of the look with the least loss on them, and
    training stops early; without, those of the last step.

    Args:
        model: trained are its parameters with ``requires_grad``.
        corpus: what to learn from.
        settings: length, rates, seed, device.
        held_out: examples of other prompts than those of ``corpus``.
        checkpoint: where the state is kept. It stays when this is done, so that what comes after
            can be interrupted too; whoever finishes removes it.
        description: what the progress bar says.

    Raises:
        ConfigError: there is no such device, or the checkpoint is of another training.
        ValueError: the loss is no longer a number.
    """
    if not len(corpus):
        raise ConfigError("there are no examples to train on; name more data with --data")
    device = find_device(settings.device)
    with _reproducible(settings.seed):
        run = _Run(model.to(device), corpus, settings, held_out)
        digest = run.digest() if checkpoint else ""
        if checkpoint and (saved := checkpoint.load(digest)) is not None:
            run.restore(saved)
        with tqdm(
            total=settings.steps, initial=run.step, desc=description, unit="step", disable=None
        ) as progress:
            while run.step < settings.steps and not run.patience_is_over():
                loss = run.take_step()
                progress.update()
                progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
                if run.step % settings.evaluate_every == 0 or run.step == settings.steps:
                    run.look()
                    if checkpoint:
                        checkpoint.save(digest, run.state())
        run.keep_best()
    model.to("cpu").eval()
    return run.curve


class _Run:
    """The state of one training between two steps."""

    def __init__(
        self, model: Tunable, corpus: Corpus, settings: FinetuneSettings, held_out: Corpus | None
    ) -> None:
        self.model, self.corpus, self.settings = model, corpus, settings
        self.held_out = held_out and held_out.sample(settings.look_examples, settings.seed)
        self.device = next(model.parameters()).device
        freeze_lower_layers(model, settings)
        self.optimizer = torch.optim.AdamW(parameter_groups(model, settings))
        self.step = 0
        self.curve = TrainingCurve()
        self.losses: list[float] = []
        self.best: dict[str, Tensor] = {}

    def digest(self) -> str:
        """Return what tells this training from others: data, settings, starting weights."""
        found = sha256(repr(self.settings).encode() + self.corpus.digest().encode())
        found.update(self.held_out.digest().encode() if self.held_out else b"")
        for name, weights in trainable_weights(self.model).items():
            found.update(name.encode() + weights.cpu().float().numpy().tobytes())
        return found.hexdigest()

    def take_step(self) -> float:
        """Move the weights once and return the batch's loss."""
        settings = self.settings
        self.model.train()
        rows = self.corpus.rows_of_step(self.step, settings.batch_size, settings.seed)
        loss = self._losses(self.corpus, rows).mean()
        if not math.isfinite(loss.item()):
            raise ValueError(
                f"the loss is {loss.item()} at step {self.step}; lower --learning-rate"
            )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip_norm)
        factor = learning_rate_factor(self.step, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self.optimizer.step()
        self.step += 1
        self.losses.append(loss.item())
        return self.losses[-1]

    def look(self) -> None:
        """Add a point to the curve and remember the weights if they are the best so far."""
        self.curve.steps.append(self.step)
        self.curve.training_losses.append(sum(self.losses) / len(self.losses))
        self.losses = []
        if self.held_out is None:
            self.curve.best_step = self.step
            return
        loss = self._held_out_loss(self.held_out)
        if loss < min(self.curve.held_out_losses, default=math.inf):
            self.curve.best_step = self.step
            self.best = {
                name: weights.cpu().clone()
                for name, weights in trainable_weights(self.model).items()
            }
        self.curve.held_out_losses.append(loss)

    def patience_is_over(self) -> bool:
        """Return whether the held-out loss has stopped falling."""
        if self.held_out is None or not self.curve.steps:
            return False
        looks = len(self.curve.steps) - 1 - self.curve.steps.index(self.curve.best_step)
        return looks >= self.settings.patience

    def keep_best(self) -> None:
        """Give the model its best weights."""
        if self.best:
            self.model.load_state_dict(self.best, strict=False)

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        return {
            "step": self.step,
            "curve": vars(self.curve),
            "best": self.best,
            "weights": trainable_weights(self.model),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if self.device.type == "cuda" else [],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.step = state["step"]
        self.curve = TrainingCurve(**state["curve"])
        self.best = state["best"]
        self.model.load_state_dict(state["weights"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])

    def _losses(self, corpus: Corpus, rows: Any) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bf16(self.device)):
            return self.model.losses(corpus.batch(rows, self.device)).float()

    def _held_out_loss(self, held_out: Corpus) -> float:
        self.model.eval()
        total = 0.0
        with torch.inference_mode():
            for rows in held_out.rows_by_length(2 * self.settings.batch_size):
                losses = self._losses(held_out, rows).cpu().double().numpy()
                total += float(losses @ held_out.weights[rows])
        return total / float(held_out.weights.sum())


def trainable_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that training moves, by name, not copied."""
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Draw from this seed and compute deterministically inside, and as before outside."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # Some CUDA kernels have no deterministic form: then as far as it goes.
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling what is about to be written costs a sixth of a step, and hides nothing here.
        torch.utils.deterministic.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.utils.deterministic.fill_uninitialized_memory = before[2]
