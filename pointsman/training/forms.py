"""Which form a training prompt has, and the gate that tells forms apart; see `routers.forms`."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from pointsman.routers.forms import FORMS, FormGate
from pointsman.training.augmentation import STEPS_SOURCE
from pointsman.training.benchmark_labels import MMLU_SOURCE
from pointsman.training.bilinear import one_thread

OPEN, EXAM, PROBLEM = range(len(FORMS))

_EXAM_SOURCES = {
    MMLU_SOURCE,
    "mmlu_pro_gpt4o_mixtral",
    "mmlu_pro_gpt4o_mixtral (four options)",
}
"""A question without its options is a question as people ask it: open."""

GATE_PENALTY = 1e-3
"""On the squared length of the gate's rows, on standardised embeddings. Ten times as much lets the
gate hesitate over exam questions (mean share .89 instead of .91 on MMLU)."""

GATE_SHARPNESS = 3.0
"""Fitted logits are multiplied with this: nearly every prompt has one form, and half a form is
ranked by two routers at once, which ranks worse than either (MMLU without labels .576 at 1, .583
at 3)."""

GATE_MARGIN = 2.0
"""Taken off the logits of exam and problem: what looks only a little like one is open. At 8 a
quarter of MMLU is ranked as open prompts; at 0 a tenth, and 8 % of MT-Bench and 3 to 6 % of chat as
exam questions (shares of a gate that has not seen MMLU)."""

_STEPS = 60


def form_of(source: str) -> int:
    """Return the index into `FORMS` of a source's prompts."""
    if source == STEPS_SOURCE:
        return PROBLEM
    return EXAM if source in _EXAM_SOURCES else OPEN


def fit_gate(embeddings: NDArray[np.float32], forms: NDArray[np.int64]) -> FormGate:
    """Return the gate, every form weighing the same however many prompts it has.

    Args:
        embeddings: float32[n, d].
        forms: int64[n], see `form_of`.
    """
    mean, deviation = embeddings.mean(axis=0), embeddings.std(axis=0) + 1e-6
    inputs = torch.from_numpy((embeddings - mean) / deviation)
    targets = torch.from_numpy(forms)
    counts = torch.bincount(targets, minlength=len(FORMS)).clamp(min=1)
    shares = 1.0 / counts.float()
    weights = torch.zeros(len(FORMS), inputs.shape[1], requires_grad=True)
    bias = torch.zeros(len(FORMS), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = inputs @ weights.T + bias  # (n, f)
        loss = cross_entropy(logits, targets, weight=shares, reduction="mean")
        loss = loss + GATE_PENALTY / 2 * weights.square().sum()
        loss.backward()
        return loss

    with one_thread():
        optimizer.step(closure)
    scaled = GATE_SHARPNESS * weights.detach().numpy() / deviation
    offset = GATE_SHARPNESS * bias.detach().numpy() - scaled @ mean
    offset[[EXAM, PROBLEM]] -= GATE_MARGIN
    return FormGate(weights=scaled.astype(np.float32), bias=offset.astype(np.float32))
