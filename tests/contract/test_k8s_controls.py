"""Broken copies of the manifests, and what the checks say of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman import __version__
from pointsman.errors import ConfigError
from tests.contract import k8s_network, k8s_settings
from tests.contract.k8s_objects import (
    Object,
    changed,
    container,
    kind,
    named,
    overlay,
    pod,
)
from tests.contract.k8s_overlays import HANDMADE, NEWEST, ON_OBJECTS, ON_SETTINGS, schema_problems

Break = Callable[[list[Object]], Any]


def _spec(objects: list[Object], wanted: str, name: str) -> Object:
    found: Object = named(objects, wanted, name)["spec"]
    return found


def _without_a_pause(objects: list[Object]) -> None:
    _setting(objects, "gateway", drain_delay_seconds=1)
    del container(objects, "gateway")["lifecycle"]


BROKEN: list[tuple[str, str, Break]] = [
    ("selectors", "hits 0", lambda o: _spec(o, "Service", "scorer")["selector"].update(x="y")),
    (
        "selectors",
        "does not match its pods",
        lambda o: _spec(o, "Deployment", "scorer")["selector"]["matchLabels"].update(x="y"),
    ),
    (
        "selectors",
        "hits 3",
        lambda o: _spec(o, "PodDisruptionBudget", "scorer")["selector"]["matchLabels"].pop(
            "app.kubernetes.io/name"
        ),
    ),
    (
        "ports",
        "leads nowhere",
        lambda o: _spec(o, "Service", "gateway")["ports"][0].update(targetPort="web"),
    ),
    (
        "ports",
        "no port 80800",
        lambda o: container(o, "gateway")["ports"][0].update(containerPort=80800),
    ),
    (
        "ports",
        "readinessProbe asks a port",
        lambda o: container(o, "gateway")["readinessProbe"]["httpGet"].update(port="web"),
    ),
    (
        "ports",
        "livenessProbe asks a port",
        lambda o: _scorer(o)["livenessProbe"]["grpc"].update(port=1),
    ),
    (
        "scaling",
        "no Deployment is called",
        lambda o: _scaler(o)["scaleTargetRef"].update(name="scorers"),
    ),
    ("scaling", "of 2 pods 0", lambda o: _guard(o, minAvailable=2)),
    ("scaling", "of 2 pods 2", lambda o: _guard(o, maxUnavailable=2)),
    ("scaling", "from 2 to 1", lambda o: _scaler(o).update(maxReplicas=1)),
    ("scaling", "decides", lambda o: _spec(o, "Deployment", "scorer").update(replicas=3)),
    ("resources", "64Mib", lambda o: _scorer(o)["resources"]["requests"].update(memory="64Mib")),
    ("resources", "more cpu", lambda o: _scorer(o)["resources"]["requests"].update(cpu="2100m")),
    ("resources", "memory 256Mi to None", lambda o: _scorer(o)["resources"].pop("limits")),
    ("restrictions", "runAsNonRoot", lambda o: _pod(o)["securityContext"].pop("runAsNonRoot")),
    (
        "restrictions",
        "capabilities",
        lambda o: _scorer(o)["securityContext"]["capabilities"].update(add=["NET_RAW"]),
    ),
    (
        "restrictions",
        "readOnly",
        lambda o: _scorer(o)["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    ("restrictions", "token", lambda o: _pod(o).pop("automountServiceAccountToken")),
    ("restrictions", "host", lambda o: _pod(o).update(hostNetwork=True)),
    ("restrictions", "insist", lambda o: kind(o, "Namespace")[0]["metadata"]["labels"].clear()),
    (
        "references",
        "no Secret is called keys",
        lambda o: container(o, "upstream")["envFrom"][0]["secretRef"].update(name="keys"),
    ),
    ("references", "no ConfigMap", lambda o: o.remove(kind(o, "ConfigMap")[0])),
    ("references", "mounts and volumes", lambda o: _scorer(o)["volumeMounts"].pop()),
    ("rolling", "hash", lambda o: kind(o, "ConfigMap")[0]["metadata"].update(name="models")),
    (
        "names",
        "not in pointsman",
        lambda o: named(o, "Service", "scorer")["metadata"].update(namespace="default"),
    ),
    ("names", "label", lambda o: named(o, "Deployment", "scorer")["metadata"]["labels"].clear()),
    ("channels", "one address", lambda o: _spec(o, "Service", "scorer").pop("clusterIP")),
    ("channels", "one address", lambda o: _set(o, "POINTSMAN_SCORER_ADDRESS", "scorer:50051")),
    (
        "channels",
        "no Service is called",
        lambda o: _set(o, "POINTSMAN_SCORER_ADDRESS", "dns:///score:50051"),
    ),
    (
        "channels",
        "nobody serves port 50050",
        lambda o: _set(o, "POINTSMAN_SCORER_ADDRESS", "dns:///scorer:50050"),
    ),
    (
        "policies",
        "denies everything",
        lambda o: o.remove(named(o, "NetworkPolicy", "default-deny")),
    ),
    ("policies", "only one side", lambda o: _policy(o)["ingress"].pop(0)),
    ("policies", "no port 9100", lambda o: _policy(o)["ingress"][1]["ports"][0].update(port=9100)),
    (
        "policies",
        "selects nobody",
        lambda o: _policy(o)["podSelector"]["matchLabels"].update(x="y"),
    ),
    (
        "variables",
        "POINTSMAN_SCORER_HOSTS",
        lambda o: _scorer(o)["env"].append({"name": "POINTSMAN_SCORER_HOSTS", "value": "x"}),
    ),
    (
        "variables",
        "POINTSMAN_MODELS",
        lambda o: container(o, "gateway")["env"].append({"name": "POINTSMAN_MODELS", "value": ""}),
    ),
    (
        "images",
        "nobody builds",
        lambda o: _scorer(o).update(image="pointsman-score:" + __version__),
    ),
    ("images", "tag latest", lambda o: _scorer(o).update(image="pointsman-scorer:latest")),
    ("secrets", "in the open", lambda o: _set(o, "POINTSMAN_MESH_TOKEN", "t")),
    ("secrets", "holds values", lambda o: o.append({"kind": "Secret", "metadata": {"name": "s"}})),
]
BROKEN_SETTINGS: list[tuple[str, str, Break]] = [
    ("listeners", "listens on", lambda o: _scorer(o)["ports"][0].update(containerPort=50053)),
    (
        "listeners",
        "no other pod",
        lambda o: _set(o, "POINTSMAN_SCORER_HOST", "127.0.0.1", "scorer"),
    ),
    ("listeners", "metrics are elsewhere", lambda o: _swap(_scorer(o)["ports"])),
    (
        "listeners",
        "a probe asks",
        lambda o: container(o, "gateway")["livenessProbe"]["httpGet"].update(port="metrics"),
    ),
    ("draining", "killed before", lambda o: _pod(o).pop("terminationGracePeriodSeconds")),
    (
        "draining",
        "killed before",
        lambda o: container(o, "upstream").update(
            lifecycle={"preStop": {"exec": {"command": ["sleep", "30"]}}}
        ),
    ),
    ("draining", "gateway: cuts", lambda o: _setting(o, "gateway", grace_seconds=30)),
    ("draining", "upstream: cuts", lambda o: _setting(o, "upstream", grace_seconds=30)),
    (
        "draining",
        "before everybody",
        _without_a_pause,
    ),
    (
        "draining",
        "connection is cut",
        lambda o: _setting(o, "upstream", max_connection_age_grace_seconds=10),
    ),
    ("draining", "the new one", lambda o: _spec(o, "Deployment", "scorer").pop("minReadySeconds")),
    ("agreements", "bytes", lambda o: _setting(o, "upstream", body_limit_bytes=1024)),
    ("agreements", "threads", lambda o: _set(o, "POINTSMAN_SCORER_WORKERS", "4", "scorer")),
]


def _scorer(objects: list[Object]) -> Object:
    return container(objects, "scorer")


def _pod(objects: list[Object]) -> Object:
    return pod(named(objects, "Deployment", "scorer"))


def _scaler(objects: list[Object]) -> Object:
    return _spec(objects, "HorizontalPodAutoscaler", "scorer")


def _policy(objects: list[Object]) -> Object:
    return _spec(objects, "NetworkPolicy", "scorer")


def _guard(objects: list[Object], **limits: int) -> None:
    spec = _spec(objects, "PodDisruptionBudget", "scorer")
    del spec["maxUnavailable"]
    spec.update(limits)


def _set(objects: list[Object], variable: str, value: str, name: str = "gateway") -> None:
    for one in container(objects, name)["env"]:
        if one["name"] == variable:
            one.pop("valueFrom", None)
            one["value"] = value


def _setting(objects: list[Object], name: str, **settings: float) -> None:
    for one in kind(objects, "ConfigMap"):
        if text := one["data"].get(f"{name}.yaml"):
            one["data"][f"{name}.yaml"] = yaml.safe_dump({**yaml.safe_load(text), **settings})


def _swap(ports: list[Object]) -> None:
    first, second = ports
    first["name"], second["name"] = second["name"], first["name"]


@pytest.mark.parametrize(("check", "told", "break_it"), BROKEN)
def test_what_does_not_fit_is_found(check: str, told: str, break_it: Break) -> None:
    """A check that nothing fails would hold nothing."""
    objects = changed(overlay("prod"))
    break_it(objects)
    found = ON_OBJECTS[check](objects)
    assert any(told in one for one in found), found


@pytest.mark.parametrize(("check", "told", "break_it"), BROKEN_SETTINGS)
def test_what_does_not_fit_the_settings_is_found(
    tmp_path: Path, check: str, told: str, break_it: Break
) -> None:
    """The same for what the services' own loaders say."""
    objects = changed(overlay("prod"))
    break_it(objects)
    found = ON_SETTINGS[check](objects, k8s_settings.load(objects, tmp_path, HANDMADE))
    assert any(told in one for one in found), found


def test_a_service_that_would_not_start_is_found(tmp_path: Path) -> None:
    """A key of a configuration that does not exist stops the pod, and here the test."""
    objects = changed(overlay("prod"))
    _setting(objects, "gateway", request_timeout=1)
    with pytest.raises(ConfigError, match="request_timeout"):
        k8s_settings.load(objects, tmp_path, HANDMADE)


def test_a_wider_policy_is_found() -> None:
    """An upstream that anybody reaches is a bill."""
    objects = changed(overlay("prod"))
    del _spec(objects, "NetworkPolicy", "upstream")["ingress"][0]["from"]
    assert ("anybody", "upstream", 50052) in k8s_network.flows(objects)


def test_a_misspelt_field_is_found() -> None:
    """Without strict schemas a misspelt probe is no probe, and nobody says so."""
    objects = changed(overlay("prod"))
    holder = container(objects, "scorer")
    holder["readynessProbe"] = holder.pop("readinessProbe")
    assert len(schema_problems(objects, NEWEST)) == 1
