"""What is said when an optional dependency is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from pointsman.errors import ConfigError


@contextmanager
def needed_from(extra: str, purpose: str) -> Iterator[None]:
    """Turns a failed import inside the block into one line with the command that mends it.

    Args:
        extra: The optional dependencies that have the module, such as `serve`.
        purpose: What needs it, the subject of the message: `pointsman serve`.

    Raises:
        ConfigError: A module is not installed; names it and the command.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{purpose} needs {error.name}, which is not installed; run "
            f"`pip install 'pointsman[{extra}]'`"
        ) from error
