"""Addresses, and the one line that a taken port deserves."""

import socket

import grpc
import pytest

from pointsman.chassis.ports import address, is_loopback, port_errors, reachable
from pointsman.errors import ConfigError


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [("127.0.0.1", 1, "127.0.0.1:1"), ("::1", 1, "[::1]:1"), ("scorer", 50051, "scorer:50051")],
)
def test_an_address_can_be_written_into_a_url(host: str, port: int, expected: str) -> None:
    """IPv6 hosts need their brackets."""
    assert address(host, port) == expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_a_wildcard_is_reached_over_loopback(host: str) -> None:
    """`0.0.0.0` is no address that a client can call."""
    assert reachable(host, 5) == "127.0.0.1:5"


def test_any_other_listener_is_reached_where_it_listens() -> None:
    """A listener on one address is not on loopback."""
    assert reachable("10.0.0.7", 5) == "10.0.0.7:5"
    assert reachable("::1", 5) == "[::1]:5"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("127.0.0.1", "127.255.0.9", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "", "10.0.0.7", "127.example", "scorer")),
    ],
)
def test_only_what_surely_stays_on_this_machine_is_loopback(host: str, expected: bool) -> None:
    """A name may be anywhere, and a mistake here opens a service to the network."""
    assert is_loopback(host) is expected


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_taken_port_is_one_line_that_says_what_to_do(taken: int) -> None:
    """The likeliest first-run failure must not be a traceback."""
    with (
        socket.socket() as late,
        pytest.raises(ConfigError) as caught,
        port_errors("127.0.0.1", taken, "POINTSMAN_TOY_PORT"),
    ):
        late.bind(("127.0.0.1", taken))
    assert f"127.0.0.1:{taken}" in caught.value.message
    assert "POINTSMAN_TOY_PORT" in caught.value.message
    assert "\n" not in caught.value.message


async def test_a_port_that_grpc_cannot_have_reads_the_same(taken: int) -> None:
    """GRPC raises an error of another kind for the same trouble."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    with (
        pytest.raises(ConfigError, match="POINTSMAN_TOY_PORT"),
        port_errors("127.0.0.1", taken, "POINTSMAN_TOY_PORT"),
    ):
        server.add_insecure_port(address("127.0.0.1", taken))


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_number_that_is_no_port_reads_the_same(port: int) -> None:
    """A slip of the finger is a setting to change, not a traceback."""
    with (
        socket.socket() as listener,
        pytest.raises(ConfigError, match="POINTSMAN_TOY_PORT"),
        port_errors("127.0.0.1", port, "POINTSMAN_TOY_PORT"),
    ):
        listener.bind(("127.0.0.1", port))


def test_other_errors_pass() -> None:
    """A fault of ours must not be blamed on a port."""
    with pytest.raises(KeyError), port_errors("127.0.0.1", 1, "POINTSMAN_TOY_PORT"):
        raise KeyError("ours")
