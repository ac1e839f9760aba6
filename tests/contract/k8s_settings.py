"""Rendered objects against the code: what a pod's variables and files make of its service."""

import base64
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from pointsman.chassis.config import ServerSettings
from pointsman.chassis.grpc_server import GrpcServerSettings
from pointsman.chassis.mesh import load_mesh
from services.demo_provider import config as demo_provider
from services.gateway import config as gateway
from services.gateway.config import GatewaySettings
from services.scorer import config as scorer
from services.scorer.config import ScorerSettings
from services.upstream import config as upstream
from services.upstream.config import UpstreamSettings
from services.upstream.models import load_catalogue
from tests.contract.k8s_objects import (
    ROOT,
    Object,
    Objects,
    container,
    containers,
    kind,
    named,
    pod,
    ports,
    probe_port,
    probes,
    quantity,
    title,
)

LOADERS = {
    "gateway": gateway.load,
    "scorer": scorer.load,
    "upstream": upstream.load,
    "demo-provider": demo_provider.load,
}
SPARE_SECONDS = 5.0
"""What a process may take to close once its grace is over."""
FORGOTTEN_SECONDS = 5.0
"""How long a proxy may go on sending requests to a pod that is on its way out."""
DNS_SECONDS = 35.0
"""How long a gateway may not have heard of a new pod: cached answers, and gRPC's own pause."""
Problems = list[str]
Handmade = Mapping[str, Mapping[str, str]]
"""Secret that is made by hand → its entries."""

_VARIABLE = re.compile(r"POINTSMAN_[A-Z_]+[A-Z]")


def environ(objects: Objects, name: str, folder: Path, handmade: Handmade) -> dict[str, str]:
    """Returns the variables that a Deployment's first container starts with.

    What it mounts is written below `folder`, and variables that name a mounted file name it there.

    Raises:
        LookupError: It refers to what is not there.
    """
    holder = container(objects, name)
    mounted = dict(_mounted(objects, name, folder, handmade))
    found: dict[str, str] = {}
    for source in holder.get("envFrom", []):
        found |= _entries(objects, source["secretRef"]["name"], handmade)
    for variable in holder.get("env", []):
        found[variable["name"]] = _value(objects, holder, variable, handmade)
    return {key: _there(value, mounted) for key, value in found.items()}


def load(objects: Objects, folder: Path, handmade: Handmade) -> dict[str, ServerSettings]:
    """Returns what every service's own loader makes of its pod: name → settings.

    Raises:
        ConfigError: A service would not start.
        LookupError: A pod refers to what is not there.
    """
    loaded: dict[str, ServerSettings] = {}
    for one in kind(objects, "Deployment"):
        name = one["metadata"]["name"]
        variables = environ(objects, name, folder / name, handmade)
        settings = loaded[name] = LOADERS[name](variables)
        if isinstance(settings, GatewaySettings):
            gateway.api_keys(settings, name)
            load_mesh(settings.mesh)
        if isinstance(settings, GrpcServerSettings):
            load_mesh(settings.mesh).require_closed(settings.host)
        if isinstance(settings, UpstreamSettings):
            load_catalogue(settings.models_file, settings.demo_provider_url, variables)
    return loaded


def variables(objects: Objects) -> Problems:
    """Every variable is one that the code of its service reads."""
    found = []
    chassis = _read_by(ROOT / "pointsman" / "chassis")
    for one, holder in containers(objects):
        service = one["metadata"]["name"].replace("-", "_")
        known = chassis | _read_by(ROOT / "services" / service)
        set_here = [variable["name"] for variable in holder.get("env", [])]
        found += [f"{title(one)}: nobody reads {name}" for name in set_here if name not in known]
    return found


def listeners(objects: Objects, loaded: Mapping[str, ServerSettings]) -> Problems:
    """Declared ports are those that the service listens on, for others than itself."""
    found = []
    for name, settings in loaded.items():
        holder = container(objects, name)
        declared = ports(holder)
        main, metrics = (getattr(settings, key, None) for key in ("port", "metrics_port"))
        served, hosts = {main} - {None}, {settings.host}
        if metrics is not None:
            served.add(metrics)
            hosts.add(settings.metrics_host)
        if served != set(declared.values()):
            found.append(f"{name}: listens on {served}, declared are {declared}")
        if declared.get("metrics") != metrics:
            found.append(f"{name}: metrics are elsewhere than on {declared.get('metrics')}")
        for _, probe in probes(holder):
            if "exec" not in probe and probe_port(holder, probe) != main:
                found.append(f"{name}: a probe asks another port than {main}")
        if hosts != {"0.0.0.0"}:
            found.append(f"{name}: listens on {hosts}, where no other pod reaches it")
    return found


def draining(objects: Objects, loaded: Mapping[str, ServerSettings]) -> Problems:
    """A pod has time to drain, and no rollout cuts what a request may last."""
    found = []
    longest = _gateway(loaded).request_timeout_seconds
    for name, settings in loaded.items():
        deployment = named(objects, "Deployment", name)
        known = pause_seconds(container(objects, name)) + settings.drain_delay_seconds
        needed = known + settings.grace_seconds + SPARE_SECONDS
        if pod(deployment).get("terminationGracePeriodSeconds", 30) < needed:
            found.append(f"{name}: killed before the {needed} s that draining may take")
        if known < FORGOTTEN_SECONDS:
            found.append(f"{name}: refuses calls before everybody can know that it goes")
        if name in {"gateway", "upstream"} and settings.grace_seconds < longest:
            found.append(f"{name}: cuts requests that may last {longest} s")
        if isinstance(settings, GrpcServerSettings):
            if settings.max_connection_age_grace_seconds < longest:
                found.append(f"{name}: an old connection is cut under a call")
            if deployment["spec"].get("minReadySeconds", 0) + known < DNS_SECONDS:
                found.append(f"{name}: the old pod goes before gateways know the new one")
    return found


def pause_seconds(container: Object) -> float:
    """Returns how long a container goes on as before when its pod is told to go."""
    hook = container.get("lifecycle", {}).get("preStop")
    if hook is None:
        return 0.0
    command, seconds = hook["exec"]["command"]
    assert command == "sleep"
    return float(seconds)


def agreements(objects: Objects, loaded: Mapping[str, ServerSettings]) -> Problems:
    """Services agree on the size of bodies, and the scorer has no more threads than CPUs."""
    found = []
    largest = _gateway(loaded).body_limit_bytes
    for name, settings in loaded.items():
        limit = getattr(settings, "body_limit_bytes", largest)
        if limit < largest:
            found.append(f"{name}: takes {limit} bytes where the gateway takes {largest}")
    workers, most = (
        loaded["scorer"],
        quantity(container(objects, "scorer")["resources"]["limits"]["cpu"]),
    )
    if isinstance(workers, ScorerSettings) and most is not None and workers.workers > most:
        found.append(f"scorer: {workers.workers} threads on {most} CPUs")
    return found


def images(objects: Objects, tag: str) -> Problems:
    """Images are those that docker-compose.yml builds, of this tag."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    built = {
        one["image"].partition(":")[0]: ROOT / one["build"]["dockerfile"]
        for one in compose["services"].values()
        if "build" in one
    }
    found = []
    for one, holder in containers(objects):
        name, _, given = holder["image"].rpartition("/")[2].partition(":")
        if name not in built or not built[name].is_file():
            found.append(f"{title(one)}: nobody builds {name}")
        if given != tag:
            found.append(f"{title(one)}: tag {given}, not {tag}")
    return found


def _gateway(loaded: Mapping[str, ServerSettings]) -> GatewaySettings:
    settings = loaded["gateway"]
    assert isinstance(settings, GatewaySettings)
    return settings


def _read_by(folder: Path) -> set[str]:
    return {name for path in folder.rglob("*.py") for name in _VARIABLE.findall(path.read_text())}


def _there(value: str, mounted: Mapping[str, Path]) -> str:
    for path, at in mounted.items():
        if value.startswith(f"{path}/"):
            return str(at) + value.removeprefix(path)
    return value


def _value(objects: Objects, holder: Object, variable: Object, handmade: Handmade) -> str:
    if "value" in variable:
        return str(variable["value"])
    if secret := variable["valueFrom"].get("secretKeyRef"):
        return _entries(objects, secret["name"], handmade)[secret["key"]]
    field = variable["valueFrom"]["resourceFieldRef"]
    where, _, resource = field["resource"].partition(".")
    asked, divisor = quantity(holder["resources"][where][resource]), quantity(field["divisor"])
    assert asked and divisor
    return str(math.ceil(asked / divisor))


def _entries(objects: Objects, secret: str, handmade: Handmade) -> Mapping[str, str]:
    if secret in handmade:
        return handmade[secret]
    encoded = named(objects, "Secret", secret)["data"]
    return {key: base64.b64decode(value).decode() for key, value in encoded.items()}


def _mounted(
    objects: Objects, name: str, folder: Path, handmade: Handmade
) -> Iterator[tuple[str, Path]]:
    volumes = {one["name"]: one for one in pod(named(objects, "Deployment", name))["volumes"]}
    for mount in container(objects, name).get("volumeMounts", []):
        volume = volumes[mount["name"]]
        if "configMap" in volume:
            files = named(objects, "ConfigMap", volume["configMap"]["name"])["data"]
        elif "secret" in volume:
            files = _entries(objects, volume["secret"]["secretName"], handmade)
        else:
            continue
        at = folder / mount["mountPath"].lstrip("/")
        at.mkdir(parents=True)
        for file, text in files.items():
            (at / file).write_text(text, encoding="utf-8")
        yield mount["mountPath"], at
