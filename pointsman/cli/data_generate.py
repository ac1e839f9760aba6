"""`pointsman data generate`: asks a model a benchmark's questions and grades what it says."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pointsman.cli.numbers import natural, positive, seconds, temperature
from pointsman.errors import ConfigError

if TYPE_CHECKING:
    from pointsman.evaluation.answer_sheet import AnswerSheet
    from pointsman.evaluation.generate import Account
    from pointsman.evaluation.judging import Ask
    from pointsman.evaluation.questions import Question

_BENCHMARKS = ("gsm8k", "mmlu", "mt-bench")

_DESCRIPTION = """\
Ask a model the questions of a benchmark, grade its answers, and keep them for `pointsman evaluate
--strong-model ... --weak-model ...`, in DIR/generated/BENCHMARK/MODEL.jsonl.

  gsm8k     the final number is compared with the right one; score 0 or 1
  mmlu      the letter is compared with the key; score 0 or 1
  mt-bench  a judge model rates both turns; score 1 to 10, their mean

Only what is not there yet is asked, so the command may be stopped (Ctrl-C) and run again. Rows are
written as answers come. Questions that could not be asked, though tried again, and answers that a
judge did not rate are left for the next run, and the exit status is 1. An exam answer in which no
number or letter can be read counts as wrong.

The questions are asked zero-shot. RouteLLM's logged answers of gpt-4-1106-preview and Mixtral had 8
worked examples before each question of GSM8K and 5 of MMLU, and another judge's prompt on MT-Bench:
compare only models that were graded the same way, both by this command.
"""

_EXAMPLES = """\
examples:
  pointsman data generate --benchmark gsm8k --model gpt-4o-mini
      at OpenAI, with the key of $OPENAI_API_KEY
  pointsman data generate --benchmark gsm8k --model ollama_chat/llama3 --limit 100
      a hundred questions, at an Ollama on this machine; the same hundred each time
  pointsman data generate --benchmark mmlu --model my-model --base-url http://gpu:8000/v1
      at any OpenAI-compatible server; needs `pointsman data fetch --only mmlu mmlu_key` before
  pointsman data generate --benchmark mt-bench --model my-model --base-url http://gpu:8000/v1 \\
      --api-key-env MY_KEY --judge-model gpt-4o
      the judge at OpenAI, with the key of $OPENAI_API_KEY
  pointsman data generate --benchmark gsm8k --model o3-mini --temperature default
      for models that take no temperature

Needs `pip install 'pointsman[eval]'`.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``generate`` to the commands of ``data``."""
    parser = subparsers.add_parser(
        "generate",
        help="grade a model on a benchmark",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--benchmark", required=True, choices=_BENCHMARKS, help="whose questions are asked"
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="as RouteLLM's users and LiteLLM write it"
    )
    parser.add_argument(
        "--base-url", metavar="URL", help="OpenAI-compatible endpoint (default: the name's own)"
    )
    parser.add_argument(
        "--api-key-env",
        metavar="NAME",
        help="environment variable that holds the key (default: the provider's usual one)",
    )
    parser.add_argument(
        "--judge-model", metavar="NAME", help="rates the answers; needed for mt-bench"
    )
    parser.add_argument("--judge-base-url", metavar="URL", help="where the judge is")
    parser.add_argument("--judge-api-key-env", metavar="NAME", help="holds the judge's key")
    parser.add_argument(
        "--judge-temperature",
        type=temperature,
        default="0",
        metavar="T",
        help="of the judge, or `default` to send none (default: 0)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data folder (default: $POINTSMAN_DATA, else data in ~/.cache/pointsman)",
    )
    parser.add_argument(
        "--limit", type=positive, metavar="N", help="ask N questions, spread over the benchmark"
    )
    parser.add_argument(
        "--concurrency",
        type=positive,
        default=16,
        metavar="N",
        help="questions under way at once (default: %(default)s)",
    )
    parser.add_argument(
        "--temperature",
        type=temperature,
        default="0",
        metavar="T",
        help="of the model, or `default` to send none (default: 0)",
    )
    parser.add_argument(
        "--max-tokens", type=positive, metavar="N", help="of one answer (default: the provider's)"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=300.0,
        metavar="SECONDS",
        help="for one answer (default: %(default)g)",
    )
    parser.add_argument(
        "--retries",
        type=natural,
        default=4,
        metavar="N",
        help="of a request that fails in a way that may pass (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask what is missing, print the mean score, and return 1 if anything is still missing.

    Raises:
        PointsmanError: The benchmark, the key or the endpoint is wrong.
    """
    import asyncio

    from pointsman.evaluation.answer_sheet import AnswerSheet
    from pointsman.evaluation.generated import generated_file
    from pointsman.evaluation.questions import load_questions
    from pointsman.evaluation.sources import data_folder

    _check(args)
    data = args.data or data_folder(os.environ)
    questions = load_questions(args.benchmark, data)[: args.limit]
    path = generated_file(data, args.benchmark, args.model)
    with AnswerSheet(path, _protocol(args)) as sheet:
        try:
            account = asyncio.run(_ask_all(args, questions, sheet, os.environ))
        except KeyboardInterrupt:
            graded = sum(question.prompt in sheet.scores for question in questions)
            print(
                f"\npointsman: stopped; {graded} of {len(questions)} answers are in {path}, the "
                "same command asks the others",
                file=sys.stderr,
            )
            raise
    _report(args, questions, sheet, account)
    return 1 if account.missing else 0


def _check(args: argparse.Namespace) -> None:
    if not args.model.strip():
        raise ConfigError("--model is empty; name the model as its provider does")
    if args.benchmark == "mt-bench" and not args.judge_model:
        raise ConfigError(
            "mt-bench is graded by a model; name a strong one, such as --judge-model gpt-4o"
        )
    if args.benchmark != "mt-bench" and (args.judge_model or args.judge_base_url):
        raise ConfigError(f"{args.benchmark} has right answers and needs no judge; leave it out")


async def _ask_all(
    args: argparse.Namespace,
    questions: list[Question],
    sheet: AnswerSheet,
    environ: Mapping[str, str],
) -> Account:
    from tqdm import tqdm

    from pointsman.evaluation.generate import generate

    there = sum(question.prompt in sheet.scores for question in questions)
    async with AsyncExitStack() as stack:
        ask = await _open(stack, args, environ, args.model, args.base_url)
        judge = None
        if args.judge_model:
            judge = await _open(
                stack, args, environ, args.judge_model, args.judge_base_url, judge=True
            )
        bar = stack.enter_context(
            tqdm(
                total=len(questions),
                initial=there,
                desc=f"{args.benchmark} {args.model}",
                unit="question",
                disable=None,
            )
        )
        return await generate(
            questions,
            sheet,
            ask=ask,
            judge=judge,
            benchmark=args.benchmark,
            model=args.model,
            protocol=_protocol(args),
            concurrency=args.concurrency,
            progress=bar.update,
        )


async def _open(
    stack: AsyncExitStack,
    args: argparse.Namespace,
    environ: Mapping[str, str],
    model: str,
    base_url: str | None,
    *,
    judge: bool = False,
) -> Ask:
    """Returns a function that asks the model, or the judge."""
    from pointsman.evaluation.asking import asking, check_address
    from pointsman.providers import address_of

    address = address_of(model, base_url=base_url, environ=environ)
    check_address(address.base_url)  # before a key is asked for that it does not need
    named = args.judge_api_key_env if judge else args.api_key_env
    if named:
        address = replace(address, api_key_env=named)
    key = environ.get(address.api_key_env, "")
    if not key and (named or not address.is_local):
        option = "--judge-api-key-env" if judge else "--api-key-env"
        raise ConfigError(
            f"{model} at {address.base_url} needs a key, and ${address.api_key_env} is not set; "
            f"set it, or name another variable with {option}"
        )
    return await stack.enter_async_context(
        asking(
            address,
            api_key=key or "none",
            temperature=args.judge_temperature if judge else args.temperature,
            max_tokens=None if judge else args.max_tokens,
            timeout_seconds=args.timeout,
            retries=args.retries,
        )
    )


def _protocol(args: argparse.Namespace) -> str:
    parts = ["zero-shot", _told(args.temperature)]
    if args.max_tokens:
        parts.append(f"at most {args.max_tokens} tokens")
    if args.judge_model:
        parts.append(f"judged by {args.judge_model}")
        if args.judge_temperature != 0:
            parts.append(f"its {_told(args.judge_temperature)}")
    return ", ".join(parts)


def _told(degrees: float | None) -> str:
    return "temperature default" if degrees is None else f"temperature {degrees:g}"


def _report(
    args: argparse.Namespace, questions: list[Question], sheet: AnswerSheet, account: Account
) -> None:
    if account.unreadable:
        print(
            f"{account.unreadable} new answers hold no "
            f"{'letter' if args.benchmark == 'mmlu' else 'number'} and count as wrong",
            file=sys.stderr,
        )
    for reason, count in account.failures.most_common(5):
        print(f"{count} questions failed: {reason}", file=sys.stderr)
    if account.unrated:
        print(f"{account.unrated} answers got no rating from the judge", file=sys.stderr)
    if account.missing:
        print(
            f"pointsman: {account.missing} of {len(questions)} questions are missing; the same "
            "command asks them again",
            file=sys.stderr,
        )
    scores = [sheet.scores[q.prompt] for q in questions if q.prompt in sheet.scores]
    if not scores:
        return
    mean = sum(scores) / len(scores)
    shown = f"{mean:.3f} of 10" if args.benchmark == "mt-bench" else f"{100 * mean:.2f} % right"
    print(f"{args.benchmark}: {args.model}: {shown} over {len(scores)} prompts ({sheet.path})")
