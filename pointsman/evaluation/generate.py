"""Questions → a model → graded answers on file: many at once, and never one twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from pointsman.errors import ConfigError, PointsmanError, ProviderError, ProviderUnauthorized
from pointsman.evaluation.answer_sheet import AnswerSheet, GradedAnswer
from pointsman.evaluation.judging import Ask, judge_turns
from pointsman.evaluation.questions import Question

_HOPELESS_FAILURES = 20
"""So many failures without one success are no accident of single questions."""


@dataclass(kw_only=True)
class Account:
    """What became of the questions of one run."""

    graded: int = 0
    """Rows written."""
    unreadable: int = 0
    """Of these, exam answers without a number or a letter: they count as wrong."""
    unrated: int = 0
    """Left out because the judge gave no rating."""
    failures: Counter[str] = field(default_factory=Counter)
    """Reason → questions that the model or the judge could not be asked."""

    @property
    def missing(self) -> int:
        """How many questions are left for another run."""
        return self.unrated + self.failures.total()


async def generate(
    questions: Sequence[Question],
    sheet: AnswerSheet,
    *,
    ask: Ask,
    judge: Ask | None,
    benchmark: str,
    model: str,
    protocol: str,
    concurrency: int,
    progress: Callable[[], object],
) -> Account:
    """Asks and grades every question that the sheet lacks, and returns what became of them.

    Whatever ends it, Ctrl-C too, every answer that was graded is on the sheet.

    Args:
        questions: Those on the sheet are skipped.
        sheet: An open one.
        ask: The model.
        judge: Grades the questions that have no right answer.
        benchmark: For the rows, as are the next two.
        model: Its name.
        protocol: How it is asked.
        concurrency: Questions under way at once.
        progress: Called for every question that is over.

    Raises:
        ProviderUnauthorized: The key is refused.
        ConfigError: The first twenty questions all failed, or the sheet cannot be written.
    """
    account = Account()
    waiting = iter([question for question in questions if question.prompt not in sheet.scores])

    async def work(waiting: Iterator[Question]) -> None:
        for question in waiting:
            try:
                answers = await _answers(ask, question)
                score, read = await _graded(judge, question, answers)
            except ProviderUnauthorized:
                raise
            except ProviderError as error:
                account.failures[error.message] += 1
                _give_up_if_hopeless(account)
                progress()
                continue
            if score is None:
                account.unrated += 1
            else:
                sheet.add(
                    GradedAnswer(
                        prompt=question.prompt,
                        score=score,
                        answers=answers,
                        read=read,
                        benchmark=benchmark,
                        model=model,
                        protocol=protocol,
                    )
                )
                account.graded += 1
                account.unreadable += None in read
            progress()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work(waiting))
    except* PointsmanError as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from first.__cause__
    return account


async def _answers(ask: Ask, question: Question) -> list[str]:
    said: list[tuple[str, str]] = []
    for turn in question.turns:
        said.append(("user", turn))
        said.append(("assistant", await ask(said)))
    return [text for role, text in said if role == "assistant"]


async def _graded(
    judge: Ask | None, question: Question, answers: Sequence[str]
) -> tuple[float | None, list[str | float | None]]:
    """Returns the score, None if the judge gave none, and what was read in each turn."""
    if question.right:
        score, read = question.grade(answers[-1])
        return score or 0.0, [read]
    if judge is None:
        raise ConfigError("these answers are graded by a model; name one with --judge-model")
    ratings = await judge_turns(judge, question.turns, answers, question.references)
    given = [rating for rating in ratings if rating is not None]
    score = sum(given) / len(given) if len(given) == len(ratings) else None
    return score, [*ratings]


def _give_up_if_hopeless(account: Account) -> None:
    failed = account.failures.total()
    if failed >= _HOPELESS_FAILURES and not account.graded and not account.unrated:
        reason, count = account.failures.most_common(1)[0]
        raise ConfigError(f"the first {failed} questions all failed, {count} of them so: {reason}")
