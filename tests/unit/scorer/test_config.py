"""What the scorer's operator can set, and what it is told when that cannot be."""

import os
from pathlib import Path

import pytest

from pointsman.errors import ConfigError
from pointsman.routers.settings import RouterSettings
from services.scorer.config import CONFIG_VARIABLE, ScorerSettings, load


@pytest.fixture
def write(tmp_path: Path):
    """Writes a settings file and returns an environment that names it."""

    def write(text: str, **environ: str) -> dict[str, str]:
        path = tmp_path / "scorer.yaml"
        path.write_text(text, encoding="utf-8")
        return {CONFIG_VARIABLE: str(path), **environ}

    return write


def test_a_first_run_has_a_control_and_a_trained_router() -> None:
    """`random` is seeded, so that replicas agree."""
    settings = load({})
    assert settings.routers == {
        "random": RouterSettings(options={"seed": 0}),
        "mf": RouterSettings(),
    }
    assert settings.workers >= 1


def test_every_core_has_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container sees the host's cores and may use fewer."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 4}, raising=False)
    assert ScorerSettings().workers == 3


def test_a_system_that_does_not_tell_its_cores_apart_still_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MacOS has no `sched_getaffinity`, and is where many a first run happens."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert ScorerSettings().workers >= 1


def test_routers_are_named_in_the_file(write) -> None:
    """A bundle, a class of one's own with options, or the built-in ones."""
    settings = load(
        write(
            "workers: 2\n"
            "routers:\n"
            "  mf: {bundle: /bundles/mf2}\n"
            "  theirs: {class: 'their.package:Router', options: {rate: 0.5}}\n"
        )
    )
    assert settings.workers == 2
    assert settings.routers == {
        "mf": RouterSettings(bundle="/bundles/mf2"),
        "theirs": RouterSettings(factory="their.package:Router", options={"rate": 0.5}),
    }


def test_the_environment_overrules_the_file(write) -> None:
    """Ports and workers are what deployments change."""
    environ = write("workers: 2", POINTSMAN_SCORER_WORKERS="3", POINTSMAN_SCORER_PORT="0")
    assert (load(environ).workers, load(environ).port) == (3, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers: 0", "$.workers"),
        ("queue_limit: -1", "$.queue_limit"),
        ("routers: {MF: {}}", "`MF`"),
        ("routers: {sw-ranking: {}}", "$.routers"),
        ("routers: {'': {}}", "$.routers"),
        ("routers: {mf: {bundel: x}}", "bundel"),
        ("routers: {mf: null}", "$.routers.mf"),
        ("routers: [mf]", "$.routers"),
    ],
)
def test_a_value_that_cannot_be_names_its_place(write, text: str, said: str) -> None:
    """A router whose name the model field cannot hold could never be asked for."""
    with pytest.raises(ConfigError) as caught:
        load(write(text))
    assert "scorer.yaml" in caught.value.message
    assert said in caught.value.message


def test_a_variable_that_cannot_be_is_named() -> None:
    """Not the file that is innocent."""
    with pytest.raises(ConfigError, match="POINTSMAN_SCORER_WORKERS=0"):
        load({"POINTSMAN_SCORER_WORKERS": "0"})
