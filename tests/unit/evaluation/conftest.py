"""The folder of test sets, where there is one."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder that POINTSMAN_DATA names; without it the tests that need it skip."""
    named = os.environ.get("POINTSMAN_DATA")
    if not named or not Path(named, "benchmarks").is_dir():
        pytest.skip("POINTSMAN_DATA names no folder with benchmarks/: its test sets are not here")
    return Path(named)
