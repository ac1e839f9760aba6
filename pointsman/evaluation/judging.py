"""A conversation and a judge model → a rating for each of the answers, 1 to 10."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pointsman.evaluation.grading import final_rating

Messages = Sequence[tuple[str, str]]
"""Role → text, in order."""

Ask = Callable[[Messages], Awaitable[str]]
"""Sends a conversation to a model and returns what it says next."""

_INSTRUCTION = """\
You grade the answers of AI assistants. Below is a conversation between a user and an assistant. \
Grade only the assistant's last answer; what came before it is context.

Ask yourself whether it does what the user wants, whether it is correct, how deep and how creative \
it is where that is called for, and whether its detail suits the question. Length and a confident \
tone earn nothing by themselves.{reference_rule}

First explain your verdict in a few sentences. Then end with your rating, a number from 1 \
(useless) to 10 (could not be better), in double square brackets, for example: [[5]]"""
_REFERENCE_RULE = (
    " A reference answer is given: an answer that comes to another result is wrong unless it is "
    "clearly as valid."
)
_REMINDER = "Now give the rating alone, a number from 1 to 10 in double square brackets: [[...]]"


async def judge_turns(
    judge: Ask, turns: Sequence[str], answers: Sequence[str], references: Sequence[str]
) -> list[float | None]:
    """Returns the rating of each answer; None where the judge gave none, though asked twice.

    Args:
        judge: The judge model.
        turns: What the user said.
        answers: What the assistant said to each.
        references: A right answer for each turn, or none at all.
    """
    return [
        await _rating(judge, turns[: turn + 1], answers[: turn + 1], references[turn : turn + 1])
        for turn in range(len(turns))
    ]


async def _rating(
    judge: Ask, turns: Sequence[str], answers: Sequence[str], reference: Sequence[str]
) -> float | None:
    rule = _REFERENCE_RULE if reference else ""
    parts = [_INSTRUCTION.format_map({"reference_rule": rule})]
    parts += [f"<reference answer>\n{text}\n</reference answer>" for text in reference]
    for said, answer in zip(turns, answers, strict=True):
        parts += [f"<user>\n{said}\n</user>", f"<assistant>\n{answer}\n</assistant>"]
    request = "\n\n".join(parts)
    verdict = await judge([("user", request)])
    rating = final_rating(verdict)
    if rating is None:
        reminded = [("user", request), ("assistant", verdict or "..."), ("user", _REMINDER)]
        rating = final_rating(await judge(reminded))
    return rating
