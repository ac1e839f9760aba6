"""The cluster as a child process: told of every signal, and gone when this process is.

The library imports no service. What the two say to each other is an environment, signals, an exit
status, and the socket that every supervised process of ours has.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Mapping
from importlib.util import find_spec

from pointsman.chassis.lifecycle import SUPERVISOR_VARIABLE
from pointsman.errors import ConfigError

_MODULE = "services.all_in_one"


def run_cluster(environ: Mapping[str, str]) -> int:
    """Runs the cluster until it ends; returns its exit status, 128 + n if signal n ended it.

    SIGINT, SIGTERM and SIGHUP are handed on as SIGTERM, as often as they come: a Python that is
    still starting answers SIGINT with a traceback. The child is in a session of its own, so that a
    terminal's Ctrl-C does not reach it twice, and it stops when this process is gone, however that
    ended.

    Args:
        environ: The cluster's whole environment.

    Raises:
        ConfigError: The package was installed without its services.
    """
    if not _has_services():
        raise ConfigError(
            f"there is no {_MODULE} beside pointsman, or another package called services hides it; "
            "install pointsman anew, in an environment of its own"
        )
    return asyncio.run(_run(environ))


async def _run(environ: Mapping[str, str]) -> int:
    loop = asyncio.get_running_loop()
    come: asyncio.Queue[signal.Signals] = asyncio.Queue()
    handed_on: list[signal.Signals] = []
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` has it
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, come.put_nowait, number)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", _MODULE),
                env={
                    **environ,
                    # A folder called services where the user stands must not be taken for ours.
                    "PYTHONSAFEPATH": "1",
                    SUPERVISOR_VARIABLE: str(theirs.fileno()),
                },
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        handing_on = asyncio.ensure_future(_hand_on(come, child, handed_on))
        status = await child.wait()
        handing_on.cancel()
    if status == -signal.SIGTERM and handed_on:  # it was not up yet
        return 128 + handed_on[0]
    return status if status >= 0 else 128 - status


async def _hand_on(
    come: "asyncio.Queue[signal.Signals]",
    child: asyncio.subprocess.Process,
    handed_on: list[signal.Signals],
) -> None:
    while True:
        handed_on.append(await come.get())
        if child.returncode is None:
            child.terminate()


def _has_services() -> bool:
    try:
        return find_spec(_MODULE) is not None
    except ModuleNotFoundError:
        return False
