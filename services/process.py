"""A service as a process that says when it is up; how the first run, tests and benchmarks start it.

Nobody polls and nobody guesses a port: the child writes its addresses to a socket, and stops when
the other end of it closes, however its parent ended.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from pointsman.chassis.lifecycle import SUPERVISOR_VARIABLE


class StartError(Exception):
    """A process ended before it was up; it has said why on standard error.

    Attributes:
        status: Its exit status.
    """

    def __init__(self, service: str, status: int) -> None:
        super().__init__(f"the {service} did not start (exit status {status})")
        self.status = status


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a process said when it was up.

    Attributes:
        address: `host:port` where it serves.
        metrics: `host:port` of its `/metrics`; empty if it has none.
        not_ready_reason: Why it cannot serve yet, although it is up; empty if it can.
        example_model: The gateway's: a model field to try.
    """

    address: str = ""
    metrics: str = ""
    not_ready_reason: str = ""
    example_model: str = ""


@dataclass(slots=True)
class Process:
    """One service, in a session of its own so that a terminal's Ctrl-C does not reach it.

    Attributes:
        service: A package under `services`.
        environ: Its whole environment.
        log: Where its standard output goes: a file descriptor, or None for ours.
    """

    service: str
    environ: Mapping[str, str]
    log: int | None = None
    announcement: Announcement = field(default=Announcement(), init=False)
    _child: asyncio.subprocess.Process | None = field(default=None, init=False)
    _line: asyncio.StreamWriter | None = field(default=None, init=False)

    async def start(self) -> Announcement:
        """Starts it and returns what it announces.

        Raises:
            StartError: It ended before it was up.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            self._child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"services.{self.service}"),
                env={**self.environ, SUPERVISOR_VARIABLE: str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                stdout=self.log,
                start_new_session=True,
            )
        reader, self._line = await asyncio.open_connection(sock=ours)
        line = await reader.readline()
        if not line:
            raise StartError(self.service, await self.wait())
        self.announcement = msgspec.json.decode(line, type=Announcement)
        return self.announcement

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._started().pid

    def signal(self, number: int) -> None:
        """Sends a signal, unless it has ended or was never started."""
        if self._child is not None and self._child.returncode is None:
            self._child.send_signal(number)

    async def wait(self) -> int:
        """Returns the exit status once it has ended."""
        status = await self._started().wait()
        if self._line is not None:
            self._line.close()
        return status

    async def stop(self) -> int:
        """Tells it to stop and returns its exit status; does nothing if it was never started."""
        if self._child is None:
            return 0
        self.signal(signal.SIGTERM)
        return await self.wait()

    def _started(self) -> asyncio.subprocess.Process:
        if self._child is None:
            raise RuntimeError(f"the {self.service} was not started")
        return self._child
