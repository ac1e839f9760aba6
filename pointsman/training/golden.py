"""The golden prompts, written for this purpose, and how far their win rates may move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointsman.routers.manifest import Golden, GoldenCase

GOLDEN_PROMPTS: tuple[str, ...] = (
    "",
    "hi",
    "What is the capital of Portugal?",
    "Thanks, that was all I needed \N{WHITE SMILING FACE}\N{PARTY POPPER}\N{ROCKET}",
    "Write a friendly two-line reminder that the library closes at six on Fridays.",
    "Translate to French: the train leaves at noon from platform four.",
    "Warum ist der Himmel tagsüber blau und abends rot? Bitte in drei Sätzen.",
    "用一句话解释什么是递归。",
    "اكتب رسالة قصيرة أعتذر فيها عن تأخري عن الاجتماع.",
    "A tank fills at 12 litres a minute and leaks 15 % of its inflow. After how many minutes does "
    "an empty 408-litre tank overflow?",
    "Prove that every finite integral domain is a field, and say where finiteness is used.",
    "Which of these gases is most soluble in water at room temperature?\n"
    "A. Nitrogen\nB. Ammonia\nC. Oxygen\nD. Methane\nAnswer:",
    "def merge(left, right):\n    out = []\n    while left and right:\n"
    "        out.append(left.pop(0) if left[0] < right[0] else right.pop(0))\n"
    "    return out + left + right\n\nWhy is this slow for long lists, and how would you fix it?",
    "SELECT c.name, SUM(o.total) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id "
    "WHERE o.year = 2021 GROUP BY c.name; -- customers without orders are missing, why?",
    "You are the referee of a club chess game in which both players claim a draw by repetition, "
    "but the scoresheets disagree about moves 31 to 36. List the evidence you would ask for, in "
    "order, and explain how each piece would change your ruling.",
    "Our town of nine thousand people wants to replace its single ageing water main. The council "
    "has four million in reserve, a borrowing limit of twelve million, and two offers: one firm "
    "would relay the pipe in the same trench over three summers, closing the high street each "
    "time; the other would bore a new tunnel beneath the river in fourteen months at nearly "
    "twice the price. " * 6 + "Compare the offers and recommend one.",
)
"""Short and long, easy and hard, code, six languages, an exam question, emoji, nothing at all."""

TOLERANCE_FRACTION = 0.75
"""Of the largest distance between int8 and float32. Measured on the shipped router, where that
distance is 0.036: other thread counts and precise mode 0, graph fusions off 0.019 (within),
7-bit weights 0.058, weights quantised per tensor 0.093 (beyond)."""

GROSS_MULTIPLE = 4.0
"""Of the same distance, 0.145 there: beyond all of the above, and below what mistaken files give
(two layers swapped 0.151, a cased tokenizer 0.189)."""

_SMALLEST_DISTANCE = 0.004
"""Never tighter than a thousandth of win rate, which no threshold resolves."""


def golden_from(served: NDArray[np.float32], float32: NDArray[np.float32]) -> Golden:
    """Return the golden section of a manifest.

    Args:
        served: float32[n] win rates of the golden prompts as served (int8).
        float32: float32[n] win rates of the same weights over the unquantised encoder.
    """
    distance = max(float(np.abs(served - float32).max()), _SMALLEST_DISTANCE)
    return Golden(
        cases=_cases(served),
        tolerance=round(TOLERANCE_FRACTION * distance, 4),
        gross_difference=min(1.0, round(GROSS_MULTIPLE * distance, 4)),
        how=(
            f"int8 and float32 encoders differ by up to {distance:.4f} in win rate over these "
            f"prompts; the tolerance is {TOLERANCE_FRACTION:g} of that and the gross difference "
            f"{GROSS_MULTIPLE:g} times that"
        ),
    )


def _cases(rates: Sequence[float] | NDArray[np.float32]) -> tuple[GoldenCase, ...]:
    return tuple(
        GoldenCase(prompt=prompt, strong_win_rate=float(rate))
        for prompt, rate in zip(GOLDEN_PROMPTS, rates, strict=True)
    )
