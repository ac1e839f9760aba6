"""A service's way from start to a clean exit: signals, its supervisor, its exit status."""

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Iterator

import pytest

from pointsman.chassis.config import ServerSettings
from pointsman.chassis.lifecycle import SUPERVISOR_VARIABLE, announce, main
from pointsman.errors import ConfigError


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """`main` takes logging over; pytest wants it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(autouse=True)
def unsupervised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs these tests may be supervised; the service in them is not."""
    monkeypatch.delenv(SUPERVISOR_VARIABLE, raising=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_service_close_and_exit_with_zero(number: signal.Signals) -> None:
    """Kubernetes and Ctrl-C both end a service in good order."""
    closed = []

    async def serve(settings: ServerSettings, stop: asyncio.Event) -> None:
        signal.raise_signal(number)
        await stop.wait()
        closed.append(True)

    assert main("toy", ServerSettings, serve) == 0
    assert closed == [True]


def test_a_second_signal_cuts_the_draining_short() -> None:
    """Whoever presses Ctrl-C twice means now; what was opened is still closed."""
    closed = []

    async def serve(settings: ServerSettings, stop: asyncio.Event) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            await stop.wait()
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()  # a drain that would take for ever
        finally:
            closed.append(True)

    assert main("toy", ServerSettings, serve) == 130
    assert closed == [True]


def test_wrong_settings_are_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An operator reads what to change, not a traceback."""

    def load() -> ServerSettings:
        raise ConfigError("toy.yaml: Expected `int` - at `$.port`")

    async def serve(settings: ServerSettings, stop: asyncio.Event) -> None:
        raise AssertionError("a service without settings was started")

    assert main("toy", load, serve) == 2
    assert capsys.readouterr().err == "pointsman toy: toy.yaml: Expected `int` - at `$.port`\n"


def test_a_taken_port_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Some settings only turn out wrong once the service starts."""

    async def serve(settings: ServerSettings, stop: asyncio.Event) -> None:
        raise ConfigError("cannot listen on 127.0.0.1:1")

    assert main("toy", ServerSettings, serve) == 2
    assert capsys.readouterr().err == "pointsman toy: cannot listen on 127.0.0.1:1\n"


def test_a_fault_of_ours_is_not_hidden() -> None:
    """A bug at the start must be seen, with its traceback."""

    async def serve(settings: ServerSettings, stop: asyncio.Event) -> None:
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        main("toy", ServerSettings, serve)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The supervisor's end of the line; the service finds its own end in the environment."""
    ours, theirs = socket.socketpair()
    monkeypatch.setenv(SUPERVISOR_VARIABLE, str(theirs.fileno()))
    with ours, theirs:
        yield ours


def test_the_supervisor_hears_the_addresses(supervisor: socket.socket) -> None:
    """Nobody has to guess a port, or to poll one."""
    announce("toy", address="127.0.0.1:5", metrics="127.0.0.1:6")
    assert json.loads(supervisor.makefile().readline()) == {
        "service": "toy",
        "address": "127.0.0.1:5",
        "metrics": "127.0.0.1:6",
    }


def test_without_a_supervisor_an_announcement_is_only_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In a container nobody listens, and the log says where it serves."""
    logging.getLogger().addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        announce("toy", address="127.0.0.1:5")
    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["address"]) == ("serving", "127.0.0.1:5")


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "never-heard"])
def test_a_service_stops_when_its_supervisor_is_gone(
    supervisor: socket.socket, heard: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """However the parent ended, no orphan stays behind, and none complains."""

    async def serve(settings: ServerSettings, stop: asyncio.Event) -> None:
        logging.getLogger().addHandler(caplog.handler)
        announce("toy", address="127.0.0.1:5")
        if heard:
            supervisor.recv(1000)
        supervisor.close()
        await stop.wait()

    assert main("toy", ServerSettings, serve) == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_what_the_supervisor_says_stops_nothing(supervisor: socket.socket) -> None:
    """Only the end of the line counts."""

    async def serve(settings: ServerSettings, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        supervisor.send(b"x")
        read = asyncio.Event()
        loop.call_later(0, read.set)
        await read.wait()
        assert not stop.is_set()
        supervisor.close()
        await stop.wait()

    assert main("toy", ServerSettings, serve) == 0
