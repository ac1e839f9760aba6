"""Routers whose prompts an endpoint embeds, in the tools and on the way to the cluster."""

import asyncio
from pathlib import Path

import pytest
import yaml

from pointsman.cli.cluster_settings import SCORER_CONFIG_VARIABLE, Flags, cluster_environ
from pointsman.cli.scoring import local_router, local_win_rates
from pointsman.errors import ConfigError
from pointsman.routers.endpoint_settings import EmbeddingsSettings
from pointsman.routers.registry import SHIPPED_BUNDLES
from services.scorer.config import load
from tests.fakes.embeddings import FakeEmbeddings, rate_of, remote_bundle


def config_file(folder: Path, **router: object) -> str:
    """Returns the path of a file with the router `mf`."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"routers": {"mf": router}}), encoding="utf-8")
    return str(path)


async def test_the_tools_score_by_the_endpoint_that_the_file_names(tmp_path: Path) -> None:
    """As the scorer would, with the same file."""
    bundle, weights = remote_bundle(tmp_path)
    prompts = ["Hello", "Prove it.", ""]
    async with FakeEmbeddings() as fake:
        config = config_file(tmp_path, bundle=str(bundle), embeddings={"base_url": fake.url})

        def scored() -> list[float]:
            return list(local_win_rates(local_router(config, "mf"), prompts))

        rates = await asyncio.to_thread(scored)
    assert rates == pytest.approx([rate_of(weights, prompt or " ") for prompt in prompts])


def test_a_file_that_names_no_endpoint_is_told_what_to_write(tmp_path: Path) -> None:
    """Where it goes, and that `{}` is enough for OpenAI's own."""
    bundle, _ = remote_bundle(tmp_path)
    with pytest.raises(ConfigError, match=r"\$\.routers\.mf\.embeddings"):
        local_router(config_file(tmp_path, bundle=str(bundle)), "mf")


def test_serve_hands_the_endpoint_on_and_asks_it_nothing(tmp_path: Path) -> None:
    """The scorer finds what the file says; a start must not cost a request that it makes anyway."""
    bundle, _ = remote_bundle(tmp_path)
    embeddings = {"base_url": "http://127.0.0.1:1/v1", "max_batch": 7}
    config = config_file(tmp_path, bundle=str(bundle), embeddings=embeddings)
    environ, _ = cluster_environ(Flags(config=config), {}, tmp_path)
    settings = load({SCORER_CONFIG_VARIABLE: environ[SCORER_CONFIG_VARIABLE]})
    assert settings.routers["mf"].bundle == str(bundle)
    assert settings.routers["mf"].embeddings == EmbeddingsSettings(**embeddings)


def test_serve_refuses_an_endpoint_without_use(tmp_path: Path) -> None:
    """Before anything is started."""
    config = config_file(tmp_path, bundle=str(SHIPPED_BUNDLES / "mf"), embeddings={})
    with pytest.raises(ConfigError, match="an encoder of its own"):
        cluster_environ(Flags(config=config), {}, tmp_path)
