"""What counts as a right answer, and a window against a small server."""

import asyncio

import msgspec
import pytest

from bench.http1 import BadResponse, Response
from bench.load import Job, fault, measure

JOB = Job(
    host="127.0.0.1:1",
    model="router-random-0.5",
    routed=True,
    stream=False,
    clients=3,
    seconds=0.05,
    warm_up_seconds=0.01,
    seed="test",
    pids={},
)
STREAM = msgspec.structs.replace(JOB, stream=True)
DIRECT = msgspec.structs.replace(JOB, routed=False)
ROUTED = {"x-pointsman-decision": "strong"}
EVENTS = b'data: {"choices": []}\n\ndata: [DONE]\n\n'


def answer(status: int = 200, body: bytes = b"you said: Explain", **headers: str) -> Response:
    """Returns a response; underscores in header names become hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status=status, headers=named, body=body)


def test_a_right_answer_has_no_fault() -> None:
    """Whole, streamed and direct."""
    assert fault(answer(x_pointsman_decision="weak"), JOB, b"Explain") is None
    assert fault(answer(body=EVENTS, x_pointsman_decision="weak"), STREAM, b"Explain") is None
    assert fault(answer(), DIRECT, b"Explain") is None


@pytest.mark.parametrize(
    ("response", "job", "reason"),
    [
        (answer(503, b"no room"), JOB, "status 503: no room"),
        (answer(), JOB, "no x-pointsman-decision header"),
        (answer(body=b"you said: Write", x_pointsman_decision="weak"), JOB, "another prompt"),
        (answer(body=EVENTS[:-2], x_pointsman_decision="weak"), STREAM, "did not end in [DONE]"),
        (
            answer(x_pointsman_decision="strong", x_pointsman_fallback="scorer_unavailable"),
            JOB,
            "decided without the scorer: scorer_unavailable",
        ),
    ],
    ids=["status", "no-decision", "mixed-up", "no-done", "fallback"],
)
def test_a_wrong_answer_is_told_from_a_right_one(response: Response, job: Job, reason: str) -> None:
    """A router that fails fast would look fast."""
    assert reason in (fault(response, job, b"Explain") or "")


class Echo:
    """A server that answers every prompt with itself.

    Args:
        after: Requests that each connection gets answered; then it hangs up.
    """

    def __init__(self, after: int | None = None) -> None:
        self.bodies: list[dict[str, object]] = []
        self._after = after

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        answered = 0
        while answered != self._after and (head := await self._head(reader)):
            length = next(
                int(line.partition(b":")[2])
                for line in head.splitlines()
                if line.startswith(b"content-length")
            )
            body = await reader.readexactly(length)
            self.bodies.append(msgspec.json.decode(body))
            writer.write(
                b"HTTP/1.1 200 OK\r\nx-pointsman-decision: strong\r\n"
                b"content-length: %d\r\n\r\n%s" % (length, body)
            )
            answered += 1
        writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""


async def served(echo: Echo) -> tuple[asyncio.Server, Job]:
    """Returns a server and a job for it."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    return server, msgspec.structs.replace(JOB, host=host)


async def test_a_window_counts_every_answer_once() -> None:
    """Warm-up and window together are all that the server saw, and only the window counts."""
    echo = Echo()
    server, job = await served(echo)
    async with server:
        measured = await measure(job)
    assert 0 < measured.requests < len(echo.bodies)
    assert measured.errors == {}
    assert 0 < measured.p50_seconds <= measured.p99_seconds <= measured.seconds
    assert measured.first_token_p50_seconds is None
    assert {body["model"] for body in echo.bodies} == {job.model}


async def test_wrong_answers_are_counted_by_reason() -> None:
    """They are in the figures, and the run fails by them."""
    server, job = await served(Echo())
    async with server:
        measured = await measure(msgspec.structs.replace(job, stream=True))
    assert list(measured.errors) == ["a stream that did not end in [DONE]"]
    assert measured.errors["a stream that did not end in [DONE]"] >= measured.requests


async def test_a_lost_connection_ends_the_measurement() -> None:
    """With a client less the figures would be others."""
    server, job = await served(Echo(after=1))
    async with server:
        with pytest.raises(BadResponse, match="hung up"):
            await measure(job)
