"""Answers are graded once, kept whatever happens, and asked for again where they are missing."""

import asyncio
import json
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from pointsman.errors import ConfigError, ProviderUnauthorized
from pointsman.evaluation.answer_sheet import AnswerSheet, GradedAnswer
from pointsman.evaluation.asking import asking, check_address
from pointsman.evaluation.generate import Account, generate
from pointsman.evaluation.questions import Question
from pointsman.providers import ModelAddress
from tests.fakes.web import Asked, FakeWeb, Reply, failed, said

EXAM = [
    Question(prompt=f"{n}+1?", turns=(f"{n}+1? Say it.",), right=(Decimal(n + 1),))
    for n in range(40)
]
CHAT = [
    Question(prompt="Hi?", turns=("Hi?", "Again?")),
    Question(prompt="1+1?", turns=("1+1?", "And 2+2?"), references=("It is 2.", "It is 4.")),
]


def address(web: FakeWeb, model: str = "m") -> ModelAddress:
    """The fake's."""
    return ModelAddress(base_url=f"{web.url}/v1", model=model, api_key_env="THE_KEY")


async def run(
    questions: list[Question],
    path: Path,
    web: FakeWeb,
    *,
    judged: bool = False,
    protocol: str = "zero-shot",
    concurrency: int = 4,
    seen: list[None] | None = None,
) -> Account:
    """Asks the fake."""
    over = [] if seen is None else seen
    options = {"api_key": "sk-secret", "temperature": 0.0, "max_tokens": None}
    async with (
        asking(address(web), timeout_seconds=30, retries=1, **options) as ask,
        asking(address(web, "judge"), timeout_seconds=30, retries=0, **options) as judge,
    ):
        with AnswerSheet(path, protocol) as sheet:
            return await generate(
                questions,
                sheet,
                ask=ask,
                judge=judge if judged else None,
                benchmark="gsm8k",
                model="org/m",
                protocol=protocol,
                concurrency=concurrency,
                progress=lambda: over.append(None),
            )


def rows(path: Path) -> dict[str, dict[str, object]]:
    """What is on file, by prompt."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    found = {line["prompt"]: line for line in lines}
    assert len(found) == len(lines), "no prompt comes twice"
    return found


def number(asked: Asked) -> int:
    """Which of the exam's questions this is."""
    return int(asked.json["messages"][-1]["content"].split("+")[0])


def mixed(asked: Asked) -> Reply:
    """Some right, some wrong, some none, some nonsense, some that break."""
    n = number(asked)
    return {
        0: said(f"#### {n + 1}"),
        1: said(f"#### {n + 2}"),
        2: said("I would rather not."),
        3: failed(500),
        4: Reply(body=b"{}", headers={"Content-Type": "application/json"}),
        5: said(None),
    }.get(n % 6, said("no"))


async def test_answers_are_graded_and_failures_counted(tmp_path: Path) -> None:
    """One question that fails costs nothing but itself."""
    path, seen = tmp_path / "generated" / "org__m.jsonl", []
    with FakeWeb(mixed) as web:
        account = await run(EXAM, path, web, seen=seen)
    found = rows(path)
    assert {p: r["score"] for p, r in found.items() if int(p.split("+")[0]) % 6 == 0} == {
        f"{n}+1?": 1.0 for n in range(0, 40, 6)
    }
    assert account.graded == len(found) == sum(n % 6 not in {3, 4} for n in range(40))
    assert sum(float(str(row["score"])) for row in found.values()) == 7
    assert account.unreadable == sum(n % 6 in {2, 5} for n in range(40))
    assert account.missing == sum(n % 6 in {3, 4} for n in range(40)) == 40 - len(found)
    assert len(seen) == 40
    assert found["1+1?"] == {
        "prompt": "1+1?",
        "score": 0.0,
        "answers": ["#### 3"],
        "read": ["3"],
        "benchmark": "gsm8k",
        "model": "org/m",
        "protocol": "zero-shot",
    }


async def test_what_is_asked_is_openais(tmp_path: Path) -> None:
    """At temperature 0, with the key in its header and in no file."""
    with FakeWeb(mixed) as web:
        await run(EXAM[:1], tmp_path / "m.jsonl", web)
    (asked,) = web.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == "Bearer sk-secret"
    assert asked.json == {
        "model": "m",
        "messages": [{"role": "user", "content": "0+1? Say it."}],
        "temperature": 0.0,
    }
    assert "sk-secret" not in (tmp_path / "m.jsonl").read_text()


async def test_a_second_run_asks_only_what_is_missing(tmp_path: Path) -> None:
    """And ends with a whole sheet."""
    path = tmp_path / "m.jsonl"
    with FakeWeb(mixed) as web:
        first = await run(EXAM, path, web)
    with FakeWeb(lambda asked: said(str(number(asked) + 1))) as web:
        second = await run(EXAM, path, web)
    assert len(web.asked) == second.graded == first.missing
    assert second.missing == 0
    assert len(rows(path)) == 40


async def test_failures_that_may_pass_are_tried_again(tmp_path: Path) -> None:
    """A busy provider loses no question."""
    answers = iter([failed(429), said("1")])
    with FakeWeb(lambda _: next(answers)) as web:
        account = await run(EXAM[:1], tmp_path / "m.jsonl", web)
    assert (account.graded, account.missing) == (1, 0)


async def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    """A crash in the middle of a row costs that row."""
    path = tmp_path / "m.jsonl"
    with FakeWeb(lambda asked: said(str(number(asked) + 1))) as web:
        await run(EXAM[:3], path, web, concurrency=1)
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        account = await run(EXAM[:3], path, web)
    assert account.graded == 1
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line", ["garbage", '{"prompt": "?"}', '{"prompt": 1, "score": 1}', "[]", ""]
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    """Rather than counted as something."""
    path = tmp_path / "m.jsonl"
    path.write_text('{"prompt": "?", "score": 1}\n' + line + "\n")
    with pytest.raises(ConfigError, match=r"m\.jsonl, line 2"), AnswerSheet(path, "zero-shot"):
        pass


async def test_protocols_do_not_mix(tmp_path: Path) -> None:
    """A sheet with two judges or two temperatures measures neither."""
    path = tmp_path / "m.jsonl"
    with FakeWeb(mixed) as web:
        await run(EXAM[:1], path, web)
        with pytest.raises(ConfigError, match="two protocols"):
            await run(EXAM, path, web, protocol="zero-shot, temperature 1")
    assert len(web.asked) == 1


def test_two_runs_do_not_write_at_once(tmp_path: Path) -> None:
    """The second is told why."""
    path = tmp_path / "m.jsonl"
    with (
        AnswerSheet(path, "a"),
        pytest.raises(ConfigError, match="another run"),
        AnswerSheet(path, "a"),
    ):
        pass
    with AnswerSheet(path, "a"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """With the option that chooses another."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--data"), AnswerSheet(tmp_path / "file/m.jsonl", "a"):
        pass


def test_half_an_emoji_is_written(tmp_path: Path) -> None:
    """Models cut characters in half, and UTF-8 has no halves."""
    with AnswerSheet(tmp_path / "m.jsonl", "a") as sheet:
        sheet.add(
            GradedAnswer(
                prompt="?",
                score=1.0,
                answers=["\ud83d!"],
                read=["1"],
                benchmark="gsm8k",
                model="m",
                protocol="a",
            )
        )
    assert rows(tmp_path / "m.jsonl")["?"]["answers"] == ["?!"]


async def test_a_refused_key_ends_the_run(tmp_path: Path) -> None:
    """Asking a thousand times more would not help."""
    with (
        FakeWeb(lambda _: failed(401, "bad key")) as web,
        pytest.raises(ProviderUnauthorized, match=r"\$THE_KEY.*bad key") as caught,
    ):
        await run(EXAM, tmp_path / "m.jsonl", web)
    assert "sk-secret" not in caught.value.message
    assert len(web.asked) <= 4


async def test_a_run_that_only_fails_ends_early(tmp_path: Path) -> None:
    """A wrong model name is found after twenty questions, not after fourteen thousand."""
    with (
        FakeWeb(lambda _: failed(404, "no model m")) as web,
        pytest.raises(ConfigError, match=r"first 20 questions all failed.*no model m"),
    ):
        await run(EXAM, tmp_path / "m.jsonl", web)
    assert len(web.asked) < 30


async def test_cancelling_keeps_what_is_done(tmp_path: Path) -> None:
    """As Ctrl-C does."""
    path, seen = tmp_path / "m.jsonl", asyncio.Event()
    loop = asyncio.get_running_loop()

    def respond(asked: Asked) -> Reply:
        if number(asked) == 5:
            loop.call_soon_threadsafe(seen.set)
        return said(str(number(asked) + 1))

    with FakeWeb(respond) as web:
        task = asyncio.create_task(run(EXAM, path, web, concurrency=1))
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert 5 <= len(rows(path)) < 40


def judge(verdicts: Callable[[str], str]) -> Callable[[Asked], Reply]:
    """A model that echoes, and a judge that says this of what it is shown."""

    def respond(asked: Asked) -> Reply:
        text = asked.json["messages"][-1]["content"]
        if asked.json["model"] == "judge":
            return said(verdicts(text))
        return said(f"You said {text}")

    return respond


async def test_a_judge_rates_both_turns(tmp_path: Path) -> None:
    """The score is their mean, and a reference is shown where there is one."""

    def verdict(text: str) -> str:
        assert ("It is" in text) == ("1+1?" in text)
        assert "It is 2." not in text or "It is 4." not in text
        return "Good. [[9]]" if "Again?" in text or "2+2" in text else "Fair. Rating: [[6.5]]"

    path = tmp_path / "m.jsonl"
    with FakeWeb(judge(verdict)) as web:
        account = await run(CHAT, path, web, judged=True, concurrency=1)
    assert (account.graded, account.missing) == (2, 0)
    row = rows(path)["Hi?"]
    assert row["score"] == 7.75
    assert row["read"] == [6.5, 9.0]
    assert row["answers"] == ["You said Hi?", "You said Again?"]
    second = next(asked for asked in web.asked if len(asked.json["messages"]) == 3)
    assert [said["role"] for said in second.json["messages"]] == ["user", "assistant", "user"]


async def test_a_judge_without_rating_is_reminded(tmp_path: Path) -> None:
    """Once."""
    with FakeWeb(judge(lambda text: "[[4]]" if "alone" in text else "Hm.")) as web:
        account = await run(CHAT[:1], tmp_path / "m.jsonl", web, judged=True)
    assert account.graded == 1


async def test_what_is_not_rated_is_left_out(tmp_path: Path) -> None:
    """A judge that fails says nothing about the model."""
    path = tmp_path / "m.jsonl"
    with FakeWeb(judge(lambda _: "I cannot [[0]]")) as web:
        account = await run(CHAT, path, web, judged=True)
    assert (account.graded, account.unrated, account.missing) == (0, 2, 2)
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    "url",
    ["nowhere", "localhost:8000/v1", "ftp://gpu/v1", "http:///v1", "http://gpu:x/v1", "http://["],
)
def test_an_address_that_is_none_is_told(url: str) -> None:
    """In one line, before anything is asked: nobody waits for it to be tried again and again."""
    with pytest.raises(ConfigError, match="is no address; write one such as"):
        check_address(url)


async def test_without_the_client_the_install_command_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only those who ask models need it."""
    monkeypatch.setitem(sys.modules, "openai", None)
    somewhere = ModelAddress(base_url="http://127.0.0.1:9/v1", model="m", api_key_env="K")
    options = {"api_key": "k", "temperature": None, "max_tokens": None}
    with pytest.raises(ConfigError, match=r"pip install 'pointsman\[eval\]'"):
        async with asking(somewhere, timeout_seconds=5, retries=0, **options):
            pass
