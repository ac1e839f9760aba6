"""Addresses: `host:port` as text, and what to say when a port cannot be had."""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager

from pointsman.errors import ConfigError

ANY_HOSTS = frozenset({"0.0.0.0", "::", ""})


def address(host: str, port: int) -> str:
    """Returns `host:port`, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable(host: str, port: int) -> str:
    """Returns the address by which this machine reaches a listener; a wildcard is loopback."""
    return address("127.0.0.1" if host in ANY_HOSTS else host, port)


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches a listener on `host`; of names, `localhost` is."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def port_errors(host: str, port: int, setting: str) -> Iterator[None]:
    """Turns a failed bind into one line that names the port and the setting that moves it."""
    try:
        yield
    except (OSError, OverflowError, RuntimeError) as error:  # the last is grpc's
        raise ConfigError(
            f"cannot listen on {address(host, port)}: it is taken or not ours to take; "
            f"set {setting} to another port, or to 0 for any free one"
        ) from error
