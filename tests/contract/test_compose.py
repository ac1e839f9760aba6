"""docker-compose.yml, its env file and the Dockerfiles: closed, bounded, in step with the code."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman.chassis.config import ServerSettings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
TEXT = COMPOSE.read_text(encoding="utf-8")
PROJECT: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = PROJECT["services"]
EXAMPLE = (ROOT / "deploy" / "compose.env.example").read_text(encoding="utf-8")
DOCKERFILES = sorted((ROOT / "services").glob("*/Dockerfile"))
MANIFEST = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION = MANIFEST["version"]
PUBLISHED = {"gateway": 6060, "prometheus": 9090, "grafana": 3000}
# Runs once and ends; there is nothing to ask and nothing to start again.
ONE_SHOT = {"mesh-token"}
VARIABLE = re.compile(r"POINTSMAN_[A-Z_]+[A-Z]")
INTERPOLATED = re.compile(r"\$\{([A-Z_]+)")


def test_only_three_ports_are_published_and_on_loopback_only() -> None:
    """Scorer and upstream take orders from anybody who reaches them: nobody outside may."""
    published = {
        name: port for name, service in SERVICES.items() for port in service.get("ports", [])
    }
    assert {name: len(service.get("ports", [])) for name, service in SERVICES.items()} == {
        name: int(name in PUBLISHED) for name in SERVICES
    }
    for name, port in published.items():
        pattern = rf"127\.0\.0\.1:\$\{{[A-Z]+_PORT:-{PUBLISHED[name]}\}}:{PUBLISHED[name]}"
        assert re.fullmatch(pattern, port)
    assert not any(
        "network_mode" in service for name, service in SERVICES.items() if name not in ONE_SHOT
    )


def test_scorer_can_be_scaled() -> None:
    """A container name or a published port would make a second one impossible."""
    assert "container_name" not in TEXT
    assert "ports" not in SERVICES["scorer"]


def test_mesh_leads_nowhere() -> None:
    """The scorer has nobody to talk to outside; what has, has a network of its own for it."""
    assert PROJECT["networks"]["mesh"] == {"internal": True}
    assert PROJECT["networks"]["demo"] == {"internal": True}
    assert SERVICES["scorer"]["networks"] == ["mesh"]
    assert SERVICES["demo-provider"]["networks"] == ["demo"]
    others = [
        network
        for service in SERVICES.values()
        for network in service.get("networks", [])
        if network != "mesh"
    ]
    # Two services that share two networks are found twice by name, and Prometheus counts both.
    assert sorted(others) == ["clients", "demo", "demo", "metrics", "metrics", "providers"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_contained_and_bounded(name: str) -> None:
    """One that is broken into or goes wild takes neither the machine nor its neighbours along."""
    service = SERVICES[name]
    limits = service["deploy"]["resources"]["limits"]
    assert sorted(limits) == ["cpus", "memory", "pids"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")
    assert ("test" in service["healthcheck"]) == (name not in ONE_SHOT)
    assert not {"privileged", "pid", "ipc", "devices", "cap_add"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_services_start_when_those_they_need_are_healthy(name: str) -> None:
    """`up --wait` ends with a cluster that answers."""
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        one_shot = needed in ONE_SHOT
        condition = "service_completed_successfully" if one_shot else "service_healthy"
        assert how == {"condition": condition}


def test_every_variable_is_one_that_the_code_reads() -> None:
    """A misspelt setting would be ignored in silence."""
    sources = [*(ROOT / "services").rglob("*.py"), *(ROOT / "pointsman" / "chassis").rglob("*.py")]
    read = {name for path in sources for name in VARIABLE.findall(path.read_text("utf-8"))}
    assert set(VARIABLE.findall(TEXT)) <= read
    assert set(VARIABLE.findall(EXAMPLE)) <= read


def test_example_of_the_env_file_has_what_can_be_set_and_nothing_else() -> None:
    """What is not in it cannot be found, and what compose does not hand on would do nothing."""
    settable = set(INTERPOLATED.findall(TEXT)) | {
        name
        for service in SERVICES.values()
        for name, value in service.get("environment", {}).items()
        if value is None
    }
    example = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE, flags=re.MULTILINE))
    assert example == settable | {"OPENAI_API_KEY"}  # that of the README's models file
    assert not re.search(
        r"^[^#\n]", EXAMPLE, flags=re.MULTILINE
    )  # copied as it is, it changes nothing


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_ours_or_pinned(name: str) -> None:
    """What runs is what the Dockerfiles here build, or a release that somebody chose."""
    service = SERVICES[name]
    repository, _, tag = service["image"].partition(":")
    if not repository.startswith("pointsman-"):
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag)
        return
    folder = repository.removeprefix("pointsman-").replace("-", "_")
    assert tag == VERSION
    assert ROOT / "services" / folder / "Dockerfile" in DOCKERFILES
    if name not in ONE_SHOT:
        assert service["build"] == {"context": ".", "dockerfile": f"services/{folder}/Dockerfile"}
        assert service["healthcheck"]["test"][1:] == [
            *("python", "-m", f"services.{folder}", "--healthcheck")
        ]


def test_every_service_has_a_dockerfile() -> None:
    """Nothing of ours runs that has no image."""
    mains = (ROOT / "services").glob("*/__main__.py")
    assert {path.parent for path in mains} == {path.parent for path in DOCKERFILES}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_images_run_without_rights_on_a_pinned_base(path: Path) -> None:
    """A number for a user can be checked by an orchestrator; a tag that moves is no release."""
    text, service = path.read_text(encoding="utf-8"), path.parent.name
    (base,) = re.findall(r"^ARG PYTHON=(\S+)$", text, flags=re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert set(re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)) == {"${PYTHON}"}
    assert re.findall(r"^USER (\S+)$", text, flags=re.MULTILINE) == ["10001:10001"]
    assert f'image.title="pointsman-{service.replace("_", "-")}"' in text
    assert f'image.version="{VERSION}"' in text
    assert f'CMD ["python", "-m", "services.{service}", "--healthcheck"]' in text
    assert text.endswith(f'\nCMD ["python", "-m", "services.{service}"]\n')
    (extra,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    others = {"demo_provider": "gateway", "upstream": "upstream,azure"}
    assert extra == others.get(service, service)
    assert not re.search("torch|apt-get", text)
    # Bundles are what makes the scorer's image big.
    assert ("rm -r pointsman/bundles" in text) == (service != "scorer")


@pytest.mark.parametrize("extra", ["gateway", "upstream"])
def test_only_the_scorer_brings_what_scores(extra: str) -> None:
    """A hundred megabytes that a gateway never imports are a hundred to fetch, scan and patch."""
    assert not any(
        re.match("numpy|onnxruntime|tokenizers|torch", requirement) for requirement in needs(extra)
    )


def needs(extra: str) -> set[str]:
    """Returns what the extra asks for, with what its own extras do."""
    found = set(MANIFEST["dependencies"])
    for requirement in MANIFEST["optional-dependencies"][extra]:
        if own := re.fullmatch(r"pointsman\[(.*)\]", requirement):
            found.update(*(needs(name) for name in own[1].split(",")))
        else:
            found.add(requirement)
    return found


def test_base_is_the_same_for_all() -> None:
    """Its layers are then stored, fetched and scanned once."""
    bases = {
        re.findall(r"^ARG PYTHON=(\S+)$", path.read_text("utf-8"), re.M)[0] for path in DOCKERFILES
    }
    assert len(bases) == 1


def test_build_context_holds_what_the_images_need_and_no_secrets() -> None:
    """Everything is left out but what is named, so a new file with keys is not sent along."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*"
    assert [rule for rule in rules if rule.startswith("!")] == [
        *("!pyproject.toml", "!LICENSE", "!NOTICE", "!pointsman", "!services")
    ]


def test_configuration_that_is_mounted_is_there() -> None:
    """Docker makes an empty folder where a mounted path does not exist, and says nothing."""
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.partition(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists()


def test_services_are_given_the_time_they_need_to_stop() -> None:
    """A request that was accepted is answered, and not cut after Docker's ten seconds."""
    settings = ServerSettings()
    needed = settings.drain_delay_seconds + settings.grace_seconds
    for name, service in SERVICES.items():
        if "build" in service:
            assert int(service["stop_grace_period"].removesuffix("s")) > needed, name
