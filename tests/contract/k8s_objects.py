"""Rendered Kubernetes objects and how to find one's way among them; what the checks build on."""

import copy
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "k8s"

Object = dict[str, Any]
Objects = Sequence[Object]

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_UNITS: Mapping[str | None, Decimal] = {
    **{None: Decimal(1), "m": Decimal("0.001")},
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGT", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGT", 1)},
}


def render(folder: Path) -> list[Object]:
    """Returns what `kubectl kustomize` makes of a folder; without kubectl the test is skipped."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        # In CI, too: neither a package index nor Debian 12 has one that is new enough.
        pytest.skip("kubectl is not here: install it; it renders deploy/k8s without a cluster")
    rendered = subprocess.run(
        [str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert rendered.returncode == 0, rendered.stderr
    return list(yaml.safe_load_all(rendered.stdout))


@functools.cache
def overlay(name: str) -> list[Object]:
    """Returns an overlay's objects, or those of production with a component that it leaves out.

    Args:
        name: `dev`, `prod`, or `prod with COMPONENT`.
    """
    base, _, component = name.partition(" with ")
    if not component:
        return render(FOLDER / "overlays" / base)
    return render_on(FOLDER / "overlays" / base, components=[FOLDER / "components" / component])


def render_on(
    base: Path, *, components: Sequence[Path] = (), files: Mapping[str, str] = MappingProxyType({})
) -> list[Object]:
    """Returns an overlay's objects with components, and with files in ConfigMaps that it has.

    Args:
        base: The overlay's folder.
        components: Folders of components.
        files: `CONFIGMAP/FILE` → text that takes the place of what the overlay has there.
    """
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        merged = []
        for place, text in files.items():
            config_map, _, file = place.partition("/")
            (folder / file).write_text(text, encoding="utf-8")
            merged.append({"name": config_map, "behavior": "merge", "files": [file]})
        kustomization = {
            "resources": [os.path.relpath(base.resolve(), folder)],
            "components": [os.path.relpath(one.resolve(), folder) for one in components],
            "configMapGenerator": merged,
            "namespace": "pointsman",
            "labels": [{"pairs": {"app.kubernetes.io/part-of": "pointsman"}}],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return render(folder)


def changed(objects: Objects) -> list[Object]:
    """Returns a copy that a control may break."""
    return copy.deepcopy(list(objects))


def kind(objects: Objects, *kinds: str) -> list[Object]:
    """Returns the objects of these kinds."""
    return [one for one in objects if one["kind"] in kinds]


def named(objects: Objects, wanted: str, name: str) -> Object:
    """Returns the object of a kind by its name.

    Raises:
        LookupError: There is none.
    """
    for one in kind(objects, wanted):
        if one["metadata"]["name"] == name:
            return one
    raise LookupError(f"no {wanted} is called {name}")


def title(one: Object) -> str:
    """Returns kind and name, as messages have them."""
    return f"{one['kind']} {one['metadata']['name']}"


def labels(deployment: Object) -> Mapping[str, str]:
    """Returns the labels of a Deployment's pods."""
    found: Mapping[str, str] = deployment["spec"]["template"]["metadata"].get("labels", {})
    return found


def pod(deployment: Object) -> Object:
    """Returns the specification of a Deployment's pods."""
    found: Object = deployment["spec"]["template"]["spec"]
    return found


def containers(objects: Objects) -> Iterator[tuple[Object, Object]]:
    """Yields each Deployment with each of its containers."""
    for deployment in kind(objects, "Deployment"):
        spec = pod(deployment)
        for one in [*spec.get("initContainers", []), *spec["containers"]]:
            yield deployment, one


def container(objects: Objects, name: str) -> Object:
    """Returns the first container of a Deployment."""
    found: Object = pod(named(objects, "Deployment", name))["containers"][0]
    return found


def fits(selector: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Returns whether the labels have all that the selector asks for."""
    return selector.items() <= found.items()


def selected(objects: Objects, selector: Mapping[str, str]) -> list[Object]:
    """Returns the Deployments whose pods a selector hits; an empty one hits all."""
    return [one for one in kind(objects, "Deployment") if fits(selector, labels(one))]


def quantity(text: object) -> Decimal | None:
    """Returns a quantity such as `250m` or `1Gi` as a number; None if it is none."""
    match = _QUANTITY.fullmatch(str(text))
    return Decimal(match[1]) * _UNITS[match[2]] if match else None


def replicas(objects: Objects, deployment: str) -> int:
    """Returns how many pods of a Deployment there are at least when nothing is amiss."""
    for scaler in kind(objects, "HorizontalPodAutoscaler"):
        if scaler["spec"]["scaleTargetRef"]["name"] == deployment:
            return int(scaler["spec"].get("minReplicas", 1))
    return int(named(objects, "Deployment", deployment)["spec"].get("replicas", 1))


def ports(container: Object) -> dict[str, int]:
    """Returns a container's declared ports: name → number."""
    return {port["name"]: port["containerPort"] for port in container.get("ports", [])}


def probes(container: Object) -> Iterator[tuple[str, Object]]:
    """Yields a container's probes with their names."""
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if name in container:
            yield name, container[name]


def probe_port(container: Object, probe: Object) -> int | None:
    """Returns the port number that a probe asks; None if it is not declared."""
    asked = (probe.get("grpc") or probe.get("httpGet") or probe.get("tcpSocket") or {}).get("port")
    declared = ports(container)
    number = declared.get(asked) if isinstance(asked, str) else asked
    return number if number in declared.values() else None
