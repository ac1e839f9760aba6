"""A cluster that tests share as long as they leave its processes as they found them."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.cluster import RunningCluster, cluster, models_of
from tests.fakes.provider import FakeProvider


@pytest.fixture(scope="session")
async def _shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[RunningCluster, FakeProvider]]:
    async with (
        FakeProvider() as provider,
        cluster(tmp_path_factory.mktemp("shared"), models_of(provider.url)) as running,
    ):
        yield running, provider


@pytest.fixture
def provider(_shared: tuple[RunningCluster, FakeProvider]) -> FakeProvider:
    """The shared provider, as if it had just been started."""
    _shared[1].reset()
    return _shared[1]


@pytest.fixture
def running(_shared: tuple[RunningCluster, FakeProvider], provider: FakeProvider) -> RunningCluster:
    """Gateway, scorer (`random`) and upstream over the shared provider, which has been reset."""
    return _shared[0]
