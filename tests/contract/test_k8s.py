"""The manifests fit Kubernetes, one another and the code, as far as shows without a cluster."""

import os
import re
import runpy
from pathlib import Path

import pytest
import yaml

from services.scorer import config as scorer
from tests.contract import k8s_network, k8s_settings
from tests.contract.k8s_objects import (
    FOLDER,
    ROOT,
    Object,
    container,
    kind,
    named,
    overlay,
    pod,
    ports,
    render,
    render_on,
)
from tests.contract.k8s_overlays import (
    FLOWS,
    HANDMADE,
    MORE_FLOWS,
    NEWEST,
    NOT_OF_DEV,
    OLDEST,
    ON_OBJECTS,
    ON_SETTINGS,
    OVERLAYS,
    TLS_SECRETS,
    schema_problems,
)

GUIDE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
YAML = re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)


def on_production(folder: Path, lines: str) -> list[Object]:
    """Returns production with lines of the guide, as whoever writes them into an overlay has it."""
    prod = FOLDER / "overlays" / "prod"

    def there(path: Path) -> str:
        return os.path.relpath(path.resolve(), folder.resolve())

    moved = lines.replace("../../components", there(FOLDER / "components"))
    (folder / "kustomization.yaml").write_text(
        f"resources: [{there(prod)}]\nnamespace: pointsman\n{moved}"
    )
    return render(folder)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_fits_kubernetes_own_schema(name: str, version: str) -> None:
    """A field that does not exist is refused here, and not by a cluster on the rollout's day."""
    assert schema_problems(overlay(name), version) == []


@pytest.mark.parametrize(
    ("name", "check"),
    [
        (name, check)
        for name in OVERLAYS
        for check in ON_OBJECTS
        if name != "dev" or check not in NOT_OF_DEV
    ],
)
def test_objects_fit_one_another(name: str, check: str) -> None:
    """A name or label that hits nothing is accepted by every API server, and serves nobody."""
    assert ON_OBJECTS[check](overlay(name)) == []


@pytest.mark.parametrize("check", ON_SETTINGS)
@pytest.mark.parametrize("name", ["dev", "prod"])
def test_pods_fit_the_settings_of_their_services(tmp_path: Path, name: str, check: str) -> None:
    """Ports, times and sizes of the manifests are what the services' own loaders read."""
    objects = overlay(name)
    assert ON_SETTINGS[check](objects, k8s_settings.load(objects, tmp_path, HANDMADE)) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_nobody_reaches_more_than_their_work_needs(name: str) -> None:
    """Whoever reaches the upstream spends the operator's keys."""
    assert k8s_network.flows(overlay(name)) == FLOWS | MORE_FLOWS.get(name, set())


def test_the_embeddings_key_is_the_scorers_alone(tmp_path: Path) -> None:
    """It may be another one than the providers', and nobody holds a key that they do not need."""
    holders: dict[str, set[str]] = {}
    for name in ("prod", "prod with embeddings"):
        for service in ("gateway", "scorer", "upstream"):
            folder = tmp_path / name / service
            variables = k8s_settings.environ(overlay(name), service, folder, HANDMADE)
            if key := variables.get("OPENAI_API_KEY"):
                holders.setdefault(name, set()).add(f"{service} {key}")
    assert holders["prod"] == {"upstream sk-none"}
    assert holders["prod with embeddings"] == {"upstream sk-none", "scorer sk-embeddings"}


def test_development_has_the_same_images_under_another_tag() -> None:
    """What was looked at in development is what goes to production."""
    assert k8s_settings.images(overlay("dev"), "latest") == []


def test_production_has_two_pods_of_each_at_least() -> None:
    """One pod that goes, with its node or for a new version, is no outage."""
    objects = overlay("prod")
    scalers = kind(objects, "HorizontalPodAutoscaler")
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in scalers}
    guarded = {one["metadata"]["name"] for one in kind(objects, "PodDisruptionBudget")}
    assert scaled == guarded == {one["metadata"]["name"] for one in kind(objects, "Deployment")}


def test_a_changed_configuration_rolls_the_pods() -> None:
    """Pods that kept an old configuration until their next restart would differ from each other."""
    before = pod(named(overlay("prod"), "Deployment", "gateway"))["volumes"]
    files = {"gateway-config/gateway.yaml": "on_scorer_failure: weak\n"}
    changed = render_on(FOLDER / "overlays" / "prod", files=files)
    after = pod(named(changed, "Deployment", "gateway"))["volumes"]
    assert len([one for one in after if one not in before]) == 1


def test_the_guide_has_its_reader_make_every_secret() -> None:
    """A pod that refers to a Secret nobody made waits for ever."""
    made = re.findall(r"create secret generic (\S+) --from-\S+?=", GUIDE)
    assert set(made) == set(HANDMADE)
    assert all(name in GUIDE for name in TLS_SECRETS)


def test_the_guides_patch_opens_the_way_to_a_provider(tmp_path: Path) -> None:
    """The example is copied as it stands by whoever has a model server of their own."""
    (patches,) = (text for text in YAML if text.startswith("patches:"))
    objects = on_production(tmp_path, patches)
    assert k8s_network.flows(objects) == FLOWS | {("upstream", "10.0.0.1/32", 8000)}


def test_the_guides_lines_bring_an_embeddings_endpoint(tmp_path: Path) -> None:
    """The router of the example is configured, its key is there, and the way is open."""
    (routers,) = (text for text in YAML if text.startswith("routers:"))
    (lines,) = (text for text in YAML if text.startswith("components:"))
    base = FOLDER / "base" / "scorer" / "scorer.yaml"
    settings = yaml.safe_load(base.read_text()) | yaml.safe_load(routers)
    (tmp_path / "scorer.yaml").write_text(yaml.safe_dump(settings))
    objects = on_production(tmp_path, lines)
    assert k8s_network.flows(objects) == FLOWS | MORE_FLOWS["prod with embeddings"]
    variables = k8s_settings.environ(objects, "scorer", tmp_path / "pod", HANDMADE)
    imported = scorer.load(variables).routers["imported"]
    assert imported.embeddings is not None
    assert variables[imported.embeddings.key_variable or ""] == "sk-embeddings"


def test_the_operators_rules_are_prometheus_own() -> None:
    """Two copies of an alert would soon differ; one command makes the second from the first."""
    script = runpy.run_path(str(FOLDER / "prometheus_rule.py"))
    shown = FOLDER / "components" / "prometheus-operator" / "prometheus-rule.yaml"
    assert yaml.safe_load(shown.read_text()) == script["prometheus_rule"](script["RULES"])


def test_the_operators_jobs_are_prometheus_own() -> None:
    """Alerts find the services by the names of their jobs."""
    objects = overlay("prod with prometheus-operator")
    (endpoint,) = named(objects, "PodMonitor", "pointsman")["spec"]["podMetricsEndpoints"]
    (relabelling,) = endpoint["relabelings"]
    pods = [one["metadata"]["name"] for one in kind(objects, "Deployment")]
    scraped = [name for name in pods if endpoint["port"] in ports(container(objects, name))]
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert {relabelling["replacement"].replace("$1", name) for name in scraped} == {
        one["job_name"] for one in config["scrape_configs"]
    }
