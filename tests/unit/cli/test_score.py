"""Rows through `pointsman score`: verbatim, in order, with the number that serving gives."""

import csv
import gzip
import io
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from pointsman.chassis.grpc_server import BODY_LIMIT_BYTES, channel_options
from pointsman.cli.main import main
from pointsman.cli.remote import RemoteScorer
from pointsman.errors import InvalidRequest, Overloaded, ScorerUnavailable
from pointsman.routers.registry import load_router
from pointsman.scorer.v1 import scorer_pb2 as pb
from pointsman.scorer.v1 import scorer_pb2_grpc
from services.process import Process

PROMPTS = ["What is 2+2?", "", "Prove that there are infinitely many primes.", "Grüße 🎈"]


@pytest.fixture(scope="module")
async def scorer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a real scorer with `mf` and `random`."""
    folder = tmp_path_factory.mktemp("scorer")
    config = folder / "scorer.yaml"
    routers = {"mf": {}, "random": {"options": {"seed": 0}}, "gone": {"bundle": "nowhere"}}
    config.write_text(
        yaml.safe_dump({"port": 0, "metrics_port": 0, "routers": routers}, sort_keys=False)
    )
    with (folder / "log").open("wb") as log:
        process = Process("scorer", {"POINTSMAN_SCORER_CONFIG": str(config)}, log=log.fileno())
        try:
            yield (await process.start()).address
        finally:
            await process.stop()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes an input file and returns its path."""

    def to_file(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return to_file


def lines(*prompts: str) -> str:
    """Returns JSON Lines with a prompt each."""
    return "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)


def rates(text: str) -> list[float]:
    """Returns the win rates of JSON Lines."""
    return [json.loads(line)["strong_win_rate"] for line in text.splitlines()]


def test_every_row_comes_back_as_it_was_with_its_rate(
    tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    """Spelling, order and unknown fields are kept; the rate stands last."""
    text = '{"id":1.50,"prompt":"a","big":123456789012345678901234567890}\n{"prompt":"b"}\n'
    out = tmp_path / "out.jsonl"
    assert main(["score", "--input", write("in.jsonl", text), "--output", str(out)]) == 0
    expected = [repr(float(rate)) for rate in load_router("mf").router.strong_win_rates(["a", "b"])]
    assert out.read_text().splitlines() == [
        line[:-1] + f',"strong_win_rate":{rate}}}'
        for line, rate in zip(text.splitlines(), expected, strict=True)
    ]


def test_an_old_rate_is_replaced_and_the_input_may_be_the_output(
    write: Callable[[str, str], str],
) -> None:
    """Scoring again after an upgrade is scoring over the file."""
    path = write("rows.jsonl", '{"strong_win_rate":9,"prompt":"a"}\n')
    for _ in range(2):
        assert main(["score", "--router", "random", "--input", path, "--output", path]) == 0
    assert rates(Path(path).read_text()) == [0.36724334955215454]


def test_csv_and_gzip_are_told_by_the_name(
    tmp_path: Path, write: Callable[[str, str], str]
) -> None:
    """And another column may hold the prompt."""
    path = write("in.csv", 'id,question\n1,"a, b"\n2,"line\nend"\n')
    out = tmp_path / "out.csv.gz"
    arguments = ["--input", path, "--field", "question", "--output", str(out)]
    assert main(["score", *arguments]) == 0
    table = list(csv.DictReader(io.StringIO(gzip.decompress(out.read_bytes()).decode())))
    assert [row["question"] for row in table] == ["a, b", "line\nend"]
    expected = load_router("mf").router.strong_win_rates(["a, b", "line\nend"]).tolist()
    assert [float(row["strong_win_rate"]) for row in table] == expected


@pytest.mark.parametrize(
    ("arguments", "given", "expected"),
    [
        ([], '{"prompt":"a"}\n', '{"prompt":"a","strong_win_rate":0.36724334955215454}\n'),
        (["--format", "csv"], "prompt\na\n", "prompt,strong_win_rate\na,0.36724334955215454\n"),
        ([], "", ""),
    ],
)
def test_standard_input_and_output_are_the_default(
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    given: str,
    expected: str,
) -> None:
    """In a pipe; JSON Lines unless told otherwise, and no progress bar in between."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    assert main(["score", "--router", "random", *arguments]) == 0
    told = capfdbinary.readouterr()
    assert (told.out.decode(), told.err) == (expected, b"")


def test_a_file_can_be_turned_into_another_format(
    capfdbinary: pytest.CaptureFixture[bytes], write: Callable[[str, str], str]
) -> None:
    """The flag is for the output; a file's own name tells what it is."""
    path = write("in.csv", "prompt\na\n")
    assert main(["score", "--router", "random", "--input", path, "--format", "jsonl"]) == 0
    assert rates(capfdbinary.readouterr().out.decode()) == [0.36724334955215454]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt":"a"}\n{"q":"b"}\n', "line 2: there is no field `prompt`, only `q`"),
        ('{"prompt":"a"}\n{"prompt":3}\n', "line 2: the field `prompt` is not text: `3`"),
        ('{"prompt":"a"}\n{"prompt"\n', "line 2: not a JSON object"),
    ],
)
@pytest.mark.parametrize("remote", [False, True], ids=["here", "remote"])
def test_a_bad_row_is_named_and_no_file_appears(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    write: Callable[[str, str], str],
    scorer: str,
    text: str,
    said: str,
    remote: bool,
) -> None:
    """Half a result would pass for a whole one."""
    path = write("in.jsonl", text)
    out = tmp_path / "out.jsonl"
    where = ["--address", scorer] if remote else []
    assert main(["score", "--input", path, "--output", str(out), *where]) == 1
    assert f"pointsman: {path}, {said}" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [Path(path)]


@pytest.mark.parametrize("router", ["mf", "random"])
def test_a_running_scorer_gives_the_same_bytes(
    capfdbinary: pytest.CaptureFixture[bytes],
    write: Callable[[str, str], str],
    scorer: str,
    router: str,
) -> None:
    """Here, by ScoreBatch, and by Score: one number, to the last digit."""
    path = write("in.jsonl", lines(*PROMPTS * 80))  # more than one chunk
    assert main(["score", "--router", router, "--input", path]) == 0
    here = capfdbinary.readouterr().out
    assert main(["score", "--router", router, "--input", path, "--address", scorer]) == 0
    assert capfdbinary.readouterr().out == here
    with RemoteScorer(scorer) as client:
        single = [client.score(router, prompt).strong_win_rate for prompt in PROMPTS]
    assert rates(here.decode()) == single * 80


def test_route_asks_the_running_scorer_too(capsys: pytest.CaptureFixture[str], scorer: str) -> None:
    """The same decision and the same facts as in process."""
    told = []
    for where in ([], ["--address", scorer]):
        for router in ("mf", "random"):
            asked = ["route", PROMPTS[0], "--router", router, "--threshold", "p30", *where]
            assert main([*asked, "--format", "json"]) == 0
            told.append(json.loads(capsys.readouterr().out))
    assert told[:2] == told[2:]


@pytest.mark.parametrize("command", [["score"], ["route", "x"]])
@pytest.mark.parametrize(
    ("router", "said"),
    [("nope", "no router is called `nope`; there are: mf, random, gone"), ("gone", "not ready")],
)
def test_what_the_scorer_lacks_is_told_in_its_words(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    scorer: str,
    command: list[str],
    router: str,
    said: str,
) -> None:
    """Even without a single row to score."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert main([*command, "--router", router, "--address", scorer]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"pointsman: the scorer at {scorer}: ")
    assert said in told
    assert told.count("\n") == 1


def test_nobody_at_the_address_is_one_line(
    capsys: pytest.CaptureFixture[str], write: Callable[[str, str], str]
) -> None:
    """At once, and with the address."""
    path = write("in.jsonl", lines("a"))
    assert main(["score", "--input", path, "--address", "127.0.0.1:1"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("pointsman: the scorer at 127.0.0.1:1: ")
    assert told.count("\n") == 1


def test_a_proxy_is_for_providers(monkeypatch: pytest.MonkeyPatch, scorer: str) -> None:
    """Behind a company's proxy a scorer is still found where it is."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert main(["route", PROMPTS[0], "--address", scorer]) == 0


class Scripted(scorer_pb2_grpc.ScorerServiceServicer):
    """Another team's scorer: answers each batch as it is told."""

    def __init__(self, answers: Iterator[Any]) -> None:
        self.sizes: list[int] = []
        self._answers = answers

    def ScoreBatch(self, request: pb.ScoreBatchRequest, context: Any) -> pb.ScoreBatchResponse:
        """Returns half for every prompt, one too few, or refuses."""
        self.sizes.append(len(request.prompts))
        answer = next(self._answers, "all")
        if answer == "full":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
        count = len(request.prompts) - (answer == "short")
        half = pb.PromptWinRate(strong_win_rate=0.5)
        return pb.ScoreBatchResponse(win_rates=[half] * count)


@asynccontextmanager
async def _scripted(*answers: str) -> AsyncIterator[tuple[str, Scripted]]:
    servicer = Scripted(iter(answers))
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, options=channel_options(BODY_LIMIT_BYTES))
        scorer_pb2_grpc.add_ScorerServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}", servicer
        finally:
            server.stop(None).wait()


async def test_a_full_queue_is_waited_for() -> None:
    """An hour's work is not lost to a moment's burst; after five tries it is told."""
    pauses: list[float] = []
    async with _scripted("all", "full", "full") as (address, _):
        with RemoteScorer(address, sleep=pauses.append) as client:
            assert list(client.win_rates("mf", ["a", "b"])) == [0.5, 0.5]
    assert pauses == [0.5, 1.0]
    async with _scripted("all", *["full"] * 9) as (address, servicer):
        with (
            RemoteScorer(address, sleep=pauses.append) as client,
            pytest.raises(Overloaded, match=rf"the scorer at {address}: the queue is full"),
        ):
            list(client.win_rates("mf", ["a"]))
    assert len(servicer.sizes) == 1 + 6


async def test_chunks_fit_a_message_whatever_the_prompts() -> None:
    """By number and by size: many small prompts, or a few that are huge."""
    async with _scripted() as (address, servicer):
        with RemoteScorer(address) as client:
            assert len(list(client.win_rates("mf", ["a"] * 600))) == 600
            assert servicer.sizes == [0, 256, 256, 88]
            servicer.sizes.clear()
            third = "é" * (BODY_LIMIT_BYTES // 24)
            assert len(list(client.win_rates("mf", [third] * 4))) == 4
    assert servicer.sizes == [0, 3, 1]


async def test_a_prompt_that_no_message_can_carry_is_named() -> None:
    """Without it, the complaint of gRPC would name neither the prompt nor the way out."""
    async with _scripted() as (address, _):
        with (
            RemoteScorer(address) as client,
            pytest.raises(InvalidRequest, match=r"prompt 2 has .* without --address"),
        ):
            list(client.win_rates("mf", ["a", "x" * (BODY_LIMIT_BYTES + 1)]))


async def test_a_scorer_that_loses_a_rate_is_caught() -> None:
    """Every rate after it would stand beside the wrong prompt."""
    async with _scripted("all", "short") as (address, _):
        with (
            RemoteScorer(address) as client,
            pytest.raises(ScorerUnavailable, match="1 win rates for 2 prompts"),
        ):
            list(client.win_rates("mf", ["a", "b"]))
