"""What calibration found, as the command prints it: values for JSON, and text for people.

Each text begins with one line that ends in the router's name and the threshold, shortest exact;
what stands below it is indented.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointsman.calibration.budget import BudgetCalibration, shown
from pointsman.calibration.quality import QualityCalibration
from pointsman.calibration.sample import Sample
from pointsman.calibration.share import ShareCalibration

_METHOD_NAMES = {
    "clopper-pearson": "Clopper-Pearson",
    "hoeffding-bentkus": "Hoeffding-Bentkus",
}


@dataclass(frozen=True, kw_only=True)
class Report:
    """One threshold and what is known about it."""

    values: dict[str, Any]
    """For JSON."""

    text: str
    """For people, without a newline at the end."""


def share_report(sample: Sample, found: ShareCalibration) -> Report:
    """Returns the report of a calibration by share; its first line is RouteLLM 0.1.0's."""
    percent = round(found.target * 100, 10)  # 0.29 * 100 is 28.999999999999996
    return Report(
        values={
            "router": sample.router,
            "target": found.target,
            "threshold": found.threshold,
            "reached": found.reached,
            "prompts": sample.prompts,
            "calibration_prompts": sample.source,
        },
        text=(
            f"For {percent}% strong model calls, calibrated threshold for {sample.router}: "
            f"{found.threshold!r}\n"
            f"    reached: {found.reached:.2%} of {sample}"
        ),
    )


def budget_report(sample: Sample, found: BudgetCalibration, unit: str) -> Report:
    """Returns the report of a calibration by money.

    Args:
        sample: what it was computed on.
        found: the result.
        unit: a price in words, with `{}` for the number.
    """

    def money(price: float) -> str:
        return unit.format(shown(price))

    strong, weak = found.prices.strong, found.prices.weak
    return Report(
        values={
            "router": sample.router,
            "threshold": found.threshold,
            "reached": found.reached,
            "prompts": sample.prompts,
            "calibration_prompts": sample.source,
            "budget": found.budget,
            "expected_price": found.expected_price,
            "saving": found.saving,
            "strong_price": strong,
            "weak_price": weak,
        },
        text=(
            f"For at most {money(found.budget)}, calibrated threshold for {sample.router}: "
            f"{found.threshold!r}\n"
            f"    reached: {found.reached:.2%} strong model calls, of {sample}\n"
            f"    expected: {money(found.expected_price)}; all weak {shown(weak)}, "
            f"all strong {shown(strong)}\n"
            f"    saved against all strong: {found.saving:.2%}, "
            f"{money(strong - found.expected_price)}"
        ),
    )


def quality_report(sample: Sample, found: QualityCalibration) -> Report:
    """Returns the report of a calibration by quality."""
    method = _METHOD_NAMES[found.method]
    lines = [
        f"For a loss of at most {found.max_loss:g} with {found.confidence * 100:.10g}% confidence, "
        f"calibrated threshold for {sample.router}: {found.threshold!r}",
        f"    reached: {found.reached:.2%} strong model calls, of {sample}",
        f"    loss: {found.loss:.6g} seen, {found.bound:.6g} its upper bound ({method})",
    ]
    if not found.cheaper:
        lines.append(
            "    nothing cheaper than all strong can be promised: label more prompts, or ask for "
            "a larger loss or less confidence"
        )
    return Report(
        values={
            "router": sample.router,
            "threshold": found.threshold,
            "reached": found.reached,
            "rows": found.rows,
            "max_loss": found.max_loss,
            "confidence": found.confidence,
            "loss": found.loss,
            "bound": found.bound,
            "method": found.method,
        },
        text="\n".join(lines),
    )
