"""What every test may use, and the rule about what is missing."""

import os
from pathlib import Path

import pytest


def missing(what: str, remedy: str) -> None:
    """Skips the test by name; in CI, where everything should be there, fails it."""
    message = f"{what} is not here: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real outcomes that POINTSMAN_DATA names; without it the test is skipped."""
    folder = os.environ.get("POINTSMAN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip(f"POINTSMAN_DATA names no folder ({folder!r}); see README, Data")
    return Path(folder)
