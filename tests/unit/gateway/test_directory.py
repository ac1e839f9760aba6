"""What the gateway knows of the cluster, and when it says that it is ready."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

import pytest

from pointsman.errors import ScorerUnavailable, UnknownModel, UnknownRouter, UpstreamUnavailable
from pointsman.scorer.v1 import scorer_pb2
from pointsman.upstream.v1 import upstream_pb2
from services.gateway.callers import Caller
from services.gateway.directory import Directory

WANTED = {"pair.strong": "big", "pair.weak": "small"}
GONE = UpstreamUnavailable("connection refused")
SILENT = ScorerUnavailable("no answer")


class Cluster:
    """An upstream and a scorer that answer as they are told."""

    def __init__(self) -> None:
        self.models: list[str] | Exception = ["big", "small", "other"]
        self.routers: list[str] | Exception = ["random", "mf"]

    async def list_models(self) -> upstream_pb2.ListModelsResponse:
        """Answers as the upstream does."""
        if isinstance(self.models, Exception):
            raise self.models
        models = [upstream_pb2.Model(name=name) for name in self.models]
        return upstream_pb2.ListModelsResponse(models=models, source="models.yaml")

    async def list_routers(self) -> scorer_pb2.ListRoutersResponse:
        """Answers as the scorer does."""
        if isinstance(self.routers, Exception):
            raise self.routers
        routers = [scorer_pb2.Router(name=name) for name in self.routers]
        return scorer_pb2.ListRoutersResponse(routers=routers)


@pytest.fixture
def cluster() -> Cluster:
    """A healthy cluster."""
    return Cluster()


@pytest.fixture
def directory(cluster: Cluster) -> Directory:
    """A directory that has not asked yet."""
    return Directory(WANTED, "gateway.yaml", cluster.list_models, cluster.list_routers)


def test_before_the_first_answer_it_is_not_ready(directory: Directory) -> None:
    """A gateway that knows nothing must get no traffic."""
    assert directory.not_ready_reason


def test_before_the_first_answer_no_name_is_refused(directory: Directory) -> None:
    """What is not known is not known to be wrong: the services themselves decide."""
    directory.require_model("anything")
    directory.require_router("anything")


async def test_with_both_models_it_is_ready(directory: Directory) -> None:
    """Names are then checked, and the error lists those there are."""
    await directory.refresh()
    assert directory.not_ready_reason == ""
    directory.require_model("other")
    directory.require_router("mf")
    with pytest.raises(UnknownModel) as model:
        directory.require_model("bigg")
    with pytest.raises(UnknownRouter) as router:
        directory.require_router("fm")
    assert "`bigg`" in model.value.message
    assert "big, small, other" in model.value.message
    assert "`fm`" in router.value.message
    assert "random, mf" in router.value.message


async def test_the_error_names_only_what_the_key_may_use(directory: Directory) -> None:
    """Names of models can be a secret of another team's; a typing mistake must not tell them."""
    await directory.refresh()
    few = Caller("team-a", routers=("mf", "fm"), models=("small", "bigg"))
    none = Caller("team-b", routers=("fm",), models=("bigg",))
    for caller, models, routers in [
        (few, "There are small, and", "There are mf;"),
        (none, "There are no others for this API key, and", "There are no others for this API key"),
    ]:
        with pytest.raises(UnknownModel) as model:
            directory.require_model("bigg", caller)
        with pytest.raises(UnknownRouter) as router:
            directory.require_router("fm", caller)
        assert models in model.value.message
        assert routers in router.value.message


async def test_a_pair_that_does_not_exist_names_both_files(
    directory: Directory, cluster: Cluster
) -> None:
    """The mistake is in one of two files; the operator sees both, and both values."""
    cluster.models = ["big", "tiny"]
    await directory.refresh()
    for word in ("pair.weak", "`small`", "gateway.yaml", "models.yaml", "big, tiny"):
        assert word in directory.not_ready_reason
    assert "pair.strong" not in directory.not_ready_reason


async def test_every_model_that_the_configuration_names_must_exist(cluster: Cluster) -> None:
    """A rule that fits once a month must not be found to be mistyped then."""
    wanted = {**WANTED, "rules.pictures.model": "eyes", "aliases.gpt.4o": "other"}
    directory = Directory(wanted, "gateway.yaml", cluster.list_models, cluster.list_routers)
    await directory.refresh()
    assert "rules.pictures.model is `eyes` in gateway.yaml" in directory.not_ready_reason
    assert "aliases" not in directory.not_ready_reason
    assert "pair" not in directory.not_ready_reason


async def test_a_mended_pair_is_ready(directory: Directory, cluster: Cluster) -> None:
    """The upstream may be restarted with another file while the gateway runs."""
    cluster.models = []
    await directory.refresh()
    assert "pair.strong" in directory.not_ready_reason
    assert "pair.weak" in directory.not_ready_reason
    cluster.models = ["big", "small"]
    await directory.refresh()
    assert directory.not_ready_reason == ""


async def test_an_upstream_that_never_answered_is_the_reason(
    directory: Directory, cluster: Cluster
) -> None:
    """`/readyz` tells what the operator has to look at."""
    cluster.models = GONE
    await directory.refresh()
    assert "connection refused" in directory.not_ready_reason


async def test_an_upstream_that_goes_away_closes_no_door(
    directory: Directory, cluster: Cluster
) -> None:
    """503 with a reason is better than a gateway that all load balancers drop at once."""
    await directory.refresh()
    cluster.models = GONE
    await directory.refresh()
    assert directory.not_ready_reason == ""
    with pytest.raises(UnknownModel):
        directory.require_model("bigg")


async def test_a_scorer_that_is_down_is_no_reason(directory: Directory, cluster: Cluster) -> None:
    """Without it every request still has an answer: `on_scorer_failure`."""
    cluster.routers = SILENT
    await directory.refresh()
    assert directory.not_ready_reason == ""
    directory.require_router("mf")


async def test_a_scorer_that_goes_away_leaves_its_routers_known(
    directory: Directory, cluster: Cluster
) -> None:
    """A mistyped router stays a 404 and does not become a fallback."""
    await directory.refresh()
    cluster.routers = SILENT
    await directory.refresh()
    with pytest.raises(UnknownRouter):
        directory.require_router("fm")


async def test_an_unreachable_upstream_does_not_keep_the_scorer_from_being_asked(
    directory: Directory, cluster: Cluster
) -> None:
    """The two have nothing to do with each other."""
    cluster.models = GONE
    await directory.refresh()
    assert [router.name for router in directory.routers] == ["random", "mf"]


async def test_trouble_is_a_warning_with_its_reason(
    directory: Directory, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator reads it without asking `/readyz`."""
    cluster.models, cluster.routers = GONE, SILENT
    await directory.refresh()
    reasons = [vars(one)["reason"] for one in caplog.records if one.levelno == logging.WARNING]
    assert reasons == ["connection refused", "no answer"]


async def test_a_label_is_a_known_router_or_other(directory: Directory) -> None:
    """A client must not be able to make metric series."""
    assert directory.router_label("mf") == "other"
    await directory.refresh()
    assert directory.router_label("mf") == "mf"
    assert directory.router_label("made-up") == "other"


def paced(cluster: Cluster, *changes: Callable[[], object]) -> tuple[Directory, list[float]]:
    """A directory whose every pause is noted and ends with the next change of the cluster."""
    pauses: list[float] = []
    coming = deque(changes)

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if not coming:
            raise asyncio.CancelledError
        coming.popleft()()

    directory = Directory(WANTED, "x", cluster.list_models, cluster.list_routers, sleep)
    return directory, pauses


async def test_it_asks_often_until_both_have_answered_and_then_seldom(cluster: Cluster) -> None:
    """A cluster is usable within a moment of its last service's start."""
    cluster.models, cluster.routers = GONE, SILENT
    directory, pauses = paced(
        cluster,
        lambda: None,
        lambda: setattr(cluster, "models", ["big", "small"]),
        lambda: setattr(cluster, "routers", ["mf"]),
        lambda: None,
    )
    with pytest.raises(asyncio.CancelledError):
        await directory.keep_fresh(10.0)
    quick, *_ = pauses
    assert quick < 1.0
    assert pauses == [quick, quick, quick, 10.0, 10.0]
    assert directory.not_ready_reason == ""


async def test_a_scorer_that_is_lost_is_sought_again_quickly(cluster: Cluster) -> None:
    """After a restart its routers are known at once."""
    directory, pauses = paced(cluster, lambda: setattr(cluster, "routers", SILENT), lambda: None)
    await directory.refresh()
    with pytest.raises(asyncio.CancelledError):
        await directory.keep_fresh(10.0)
    assert pauses[0] == 10.0
    assert max(pauses[1:]) < 1.0
