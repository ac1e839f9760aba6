"""The scorer from other languages: the clients that docs/grpc.md shows, run as they stand there."""

import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from pointsman.chassis.mesh import REFUSAL
from pointsman.scorer.v1 import scorer_pb2 as pb
from pointsman.scorer.v1 import scorer_pb2_grpc
from services.scorer.servicer import MAX_BATCH
from tests.conftest import missing
from tests.fakes.cluster import RunningCluster, cluster, models_of
from tests.integration.test_faults import Gate
from tests.integration.test_mesh import make_certificates
from tests.node.packages import HERE, installed

# The first test of all that needs the packages installs them.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
EXAMPLE = HERE / "scorer.mjs"
PAGE = (ROOT / "docs" / "grpc.md").read_text(encoding="utf-8")
NOBODY = models_of("http://127.0.0.1:9")
TOKEN = secrets.token_hex(32)
ATTEMPTS = 4
"""What the page's retry policy makes of a call that fails for a passing reason."""
TEXTS = [
    *("Hello!", "", "\0", "naïve 日本語 🙂", "two\nlines\u2028three", "def f():\n\t..."),
    "x" * 100_000,
]


class Node:
    """The page's Node client.

    Args:
        program: Where it is, with its packages beside it.
        address: The scorer's.
        environ: Variables for it.
    """

    def __init__(self, program: Path, address: str, **environ: str) -> None:
        self._program = program
        self._address = address
        self._environ = environ

    @asynccontextmanager
    async def started(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Yields the running program; it ends by itself when its input does."""
        process = await asyncio.create_subprocess_exec(
            *("node", self._program, self._address, *arguments),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **self._environ},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        try:
            yield process
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0

    async def said(self, *arguments: str, texts: Sequence[str] = ()) -> list[Any]:
        """Returns what it prints for these texts, a value for each line."""
        async with self.started(*arguments) as process:
            told, _ = await process.communicate(b"".join(map(line, texts)))
        return [json.loads(one) for one in told.splitlines()]


def line(text: str) -> bytes:
    """Returns a prompt as the program reads it."""
    return json.dumps(text).encode() + b"\n"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node client in a folder as its user would have it."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "node_modules").symlink_to(installed() / "node_modules")
    return Path(shutil.copy(EXAMPLE, folder))


@pytest.fixture(scope="module")
async def scoring(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningCluster]:
    """A cluster whose scorer has a trained router and a random one."""
    routers = {"mf": {}, "random": {"options": {"seed": 0}}}
    async with cluster(
        tmp_path_factory.mktemp("scoring"), NOBODY, scorer={"routers": routers}
    ) as running:
        yield running


@pytest.fixture
def node(program: Path, scoring: RunningCluster) -> Node:
    """The client of that scorer."""
    return Node(program, scoring.scorer.announcement.address)


def test_the_page_shows_the_client_that_is_run_here() -> None:
    """An example that is not run goes wrong unseen."""
    assert f"```js\n{EXAMPLE.read_text(encoding='utf-8')}```\n" in PAGE


async def test_scores_are_pythons_to_the_last_bit(node: Node, scoring: RunningCluster) -> None:
    """A decision at a threshold is the same in every language, whatever the text."""
    for router in ("mf", "random"):
        first = await node.said("score", router, texts=TEXTS)
        again = await node.said("score", router, texts=TEXTS)
        for text, computed, kept in zip(TEXTS, first, again, strict=True):
            request = pb.ScoreRequest(router=router, prompt=text)
            pythons = as_dict(await scoring.score.Score(request))
            same = {"strong_win_rate", "router", "revision", "percentile"}
            assert {name: computed[name] for name in same} == {name: pythons[name] for name in same}
            assert kept.keys() == pythons.keys()
            assert (computed["cached"], pythons["cached"]) == (False, True) or router == "random"
    assert again[0]["strong_win_rate"] != again[1]["strong_win_rate"]


async def test_a_batch_and_the_listing_are_pythons(node: Node, scoring: RunningCluster) -> None:
    """Messages in messages, lists and unset fields arrive whole."""
    await node.said("score", "mf", texts=TEXTS)  # kept from here on: no times that differ
    (batch,) = await node.said("batch", "mf", texts=TEXTS)
    request = pb.ScoreBatchRequest(router="mf", prompts=TEXTS)
    assert batch == as_dict(await scoring.score.ScoreBatch(request))
    assert [one["cached"] for one in batch["win_rates"]] == [True] * len(TEXTS)
    (listing,) = await node.said("list")
    for router in listing["routers"]:
        if router["training_pair"] is None:  # the program's word for what is not there
            del router["training_pair"]
    assert listing == as_dict(await scoring.score.ListRouters(pb.ListRoutersRequest()))
    assert [router["name"] for router in listing["routers"]] == ["mf", "random"]


async def test_callers_mistakes_are_told_and_not_repeated(
    node: Node, scoring: RunningCluster
) -> None:
    """Asking again would get the same answer; the message says what to change."""
    async with scoring.growth(scoring.scorer) as grown:
        (unknown,) = await node.said("score", "nobody", texts=["x"])
        (many,) = await node.said("batch", "mf", texts=["x"] * (MAX_BATCH + 1))
    assert (unknown["code"], unknown["passing"]) == ("NOT_FOUND", False)
    assert "`nobody`; there are: mf, random" in unknown["message"]
    assert (many["code"], many["passing"]) == ("INVALID_ARGUMENT", False)
    assert str(MAX_BATCH) in many["message"]
    assert asked(grown) == {"unknown_router": 1, "invalid_request": 1}
    assert unknown["request_id"] in scoring.log("scorer")


async def test_a_message_over_the_limit_is_refused_in_words_of_its_own(
    node: Node, scoring: RunningCluster
) -> None:
    """It has the status of a full queue, and whoever reads the log must see the difference."""
    (refused,) = await node.said("score", "mf", texts=["x" * (34 * 2**20)])
    assert refused["code"] == "RESOURCE_EXHAUSTED"
    assert "larger than max" in refused["message"]


async def test_a_deadline_that_passes_is_not_waited_for_and_not_repeated(
    tmp_path: Path, program: Path
) -> None:
    """The caller goes on without a win rate when its time is up, whatever the scorer does."""
    gate = Gate(tmp_path)
    async with cluster(tmp_path, NOBODY, scorer=gate.scorer()) as running:
        held = asyncio.ensure_future(score(running, "held"))
        await gate.wait_until_inferring()
        address = running.scorer.announcement.address
        (late,) = await Node(program, address, DEADLINE_SECONDS="0.5").said(
            "score", "gated", texts=["late"]
        )
        await gate.open()
        assert await held == 0.25
        counts = await running.metrics(running.scorer)
    assert (late["code"], late["passing"]) == ("DEADLINE_EXCEEDED", True)
    assert asked(counts)["cancelled"] <= 1


async def test_a_full_queue_is_asked_as_often_as_the_page_says(
    tmp_path: Path, program: Path
) -> None:
    """Patience has an end, and then the caller decides without a win rate."""
    gate = Gate(tmp_path)
    async with cluster(tmp_path, NOBODY, scorer=gate.scorer(queue_limit=0)) as running:
        held = asyncio.ensure_future(score(running, "held"))
        await gate.wait_until_inferring()
        address = running.scorer.announcement.address
        (full,) = await Node(program, address, DEADLINE_SECONDS="50").said(
            "score", "gated", texts=["x"]
        )
        await gate.open()
        assert await held == 0.25
        counts = await running.metrics(running.scorer)
    assert (full["code"], full["passing"]) == ("RESOURCE_EXHAUSTED", True)
    assert "the queue is full" in full["message"]
    assert asked(counts)["overloaded"] == ATTEMPTS


async def test_a_client_outlives_the_scorer(tmp_path: Path, program: Path) -> None:
    """A scorer that is gone is told within the deadline, and found again when it is back."""
    async with cluster(tmp_path, NOBODY) as running:
        address = running.scorer.announcement.address
        async with Node(program, address).started("score", "random") as process:
            before = await answer(process, "x")
            running.scorer.signal(signal.SIGKILL)
            await running.scorer.wait()
            gone = await answer(process, "x")
            assert (gone["code"], gone["passing"]) == ("UNAVAILABLE", True)
            port = address.rpartition(":")[2]
            running.scorer.environ = {**running.scorer.environ, "POINTSMAN_SCORER_PORT": port}
            await running.scorer.start()
            while "code" in (after := await answer(process, "x")):
                assert after["code"] == "UNAVAILABLE"
    assert after["strong_win_rate"] == before["strong_win_rate"]


class FailingScorer(scorer_pb2_grpc.ScorerServiceServicer):
    """Fails twice with the status that the prompt names, and then answers."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:
        """Answers the third call for a prompt."""
        self.calls[request.prompt] += 1
        if self.calls[request.prompt] <= 2:
            await context.abort(grpc.StatusCode[request.prompt], "not yet")
        return pb.ScoreResponse(strong_win_rate=0.5)


async def test_only_what_may_pass_is_asked_again(program: Path) -> None:
    """Each status is treated as the page's table says: again at once, later, or never."""
    server = grpc.aio.server()
    failing = FailingScorer()
    scorer_pb2_grpc.add_ScorerServiceServicer_to_server(failing, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    table = re.findall(r"^\| `([A-Z_]+)` \|.*\| (yes|later|no)\b.* \|$", PAGE, flags=re.MULTILINE)
    assert dict(table).keys() >= {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}
    try:
        for code, again in table:  # a client each: many failures in a row stop a client's retries
            node = Node(program, f"127.0.0.1:{port}", DEADLINE_SECONDS="50")
            (told,) = await node.said("score", "mf", texts=[code])
            if again == "yes":
                assert (failing.calls[code], told["strong_win_rate"]) == (3, 0.5)
            else:
                assert (failing.calls[code], told["code"]) == (1, code)
                assert told["passing"] == (again == "later")
    finally:
        await server.stop(None)


async def test_without_the_meshs_token_nobody_is_let_in(tmp_path: Path, program: Path) -> None:
    """The token is metadata, so that a client in any language can show it."""
    environ = {"POINTSMAN_MESH_TOKEN": TOKEN}
    async with cluster(tmp_path, NOBODY, environ=environ) as running:
        address = running.scorer.announcement.address
        (refused,) = await Node(program, address).said("score", "random", texts=["x"])
        (let_in,) = await Node(program, address, **environ).said("score", "random", texts=["x"])
    assert (refused["code"], refused["passing"]) == ("UNAUTHENTICATED", False)
    assert refused["message"] == REFUSAL
    assert let_in["router"] == "random"


async def test_mutual_tls_knows_a_client_by_its_certificate(tmp_path: Path, program: Path) -> None:
    """The files that the services have are all that a client in another language needs."""
    if shutil.which("openssl") is None:
        missing("openssl", "install it to try mutual TLS")
    make_certificates(tmp_path)
    environ = {
        "POINTSMAN_TLS_CERTIFICATE": str(tmp_path / "own.pem"),
        "POINTSMAN_TLS_KEY": str(tmp_path / "own.key"),
        "POINTSMAN_TLS_CA": str(tmp_path / "ca.pem"),
        "POINTSMAN_TLS_SERVER_NAME": "pointsman.internal",
    }
    async with cluster(tmp_path, NOBODY, environ=environ) as running:
        address = running.scorer.announcement.address
        (stranger,) = await Node(program, address).said("score", "random", texts=["x"])
        (known,) = await Node(program, address, **environ).said("score", "random", texts=["x"])
    assert stranger["code"] == "UNAVAILABLE"
    assert known["router"] == "random"


async def test_the_pages_python_client_prints_what_the_page_says(scoring: RunningCluster) -> None:
    """Both examples ask the same of the same router."""
    (code, shown) = re.findall(r"```python\n(.*?)```\n```\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    code = code.replace("127.0.0.1:50051", scoring.scorer.announcement.address)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert told.decode() == shown


async def answer(process: asyncio.subprocess.Process, text: str) -> Any:
    """Returns the program's answer to one more prompt."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line(text))
    return json.loads(await process.stdout.readline())


async def score(running: RunningCluster, prompt: str) -> float:
    """Returns the gated router's win rate."""
    scored = await running.score.Score(pb.ScoreRequest(router="gated", prompt=prompt))
    return float(scored.strong_win_rate)


def asked(series: dict[str, Any]) -> Counter[str]:
    """Returns how many calls ended how."""
    found: Counter[str] = Counter()
    for name, count in series.items():
        if told := re.match(r'pointsman_scorer_requests_total{outcome="(\w+)"', name):
            found[told[1]] += count
    return +found


def as_dict(message: Message) -> Any:
    """Returns a message as the program prints it."""
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
