"""What schemas cannot say of Kubernetes objects: that they fit one another.

Every check takes the objects of an overlay and returns what is wrong with them, a line each.
"""

from tests.contract.k8s_objects import (
    Objects,
    containers,
    fits,
    kind,
    labels,
    named,
    pod,
    ports,
    probe_port,
    probes,
    quantity,
    replicas,
    selected,
    title,
)

PREFIX = "app.kubernetes.io/"
USER = 10001
Problems = list[str]


def selectors(objects: Objects) -> Problems:
    """Every selector hits the pods of exactly one Deployment, and spreads hit their own."""
    found = []
    for one in kind(objects, "Deployment"):
        if not fits(one["spec"]["selector"]["matchLabels"], labels(one)):
            found.append(f"{title(one)}: its selector does not match its pods")
        for spread in pod(one).get("topologySpreadConstraints", []):
            if not fits(spread["labelSelector"]["matchLabels"], labels(one)):
                found.append(f"{title(one)}: it spreads pods that are not its own")
    choosers = {
        "Deployment": lambda spec: spec["selector"]["matchLabels"],
        "Service": lambda spec: spec["selector"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
    }
    for one in kind(objects, *choosers):
        hit = selected(objects, choosers[one["kind"]](one["spec"]))
        if len(hit) != 1:
            found.append(f"{title(one)}: its selector hits {len(hit)} Deployments")
    return found


def numbers_of_ports(objects: Objects) -> Problems:
    """Ports are in range and declared once; Services and probes use declared ones."""
    found = []
    for one, holder in containers(objects):
        numbers = [port["containerPort"] for port in holder.get("ports", [])]
        if len(set(numbers)) != len(numbers) or len(ports(holder)) != len(numbers):
            found.append(f"{title(one)}: a port is declared twice")
        found += [f"{title(one)}: no port {number}" for number in numbers if not is_port(number)]
        for name, probe in probes(holder):
            if "exec" not in probe and probe_port(holder, probe) is None:
                found.append(f"{title(one)}: {name} asks a port that is not declared")
    for service in kind(objects, "Service"):
        for port in service["spec"]["ports"]:
            if not is_port(port["port"]):
                found.append(f"{title(service)}: no port {port['port']}")
            for target in selected(objects, service["spec"]["selector"]):
                if port.get("targetPort") not in ports(pod(target)["containers"][0]):
                    found.append(f"{title(service)}: port {port['name']} leads nowhere")
    return found


def is_port(number: object) -> bool:
    """Returns whether it is the number of a port."""
    return isinstance(number, int) and 1 <= number <= 65535


def scaling(objects: Objects) -> Problems:
    """Autoscalers and budgets fit their Deployments, and a budget lets at least one pod go."""
    found = []
    for scaler in kind(objects, "HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        try:
            target = named(objects, "Deployment", spec["scaleTargetRef"]["name"])
        except LookupError as error:
            found.append(f"{title(scaler)}: {error}")
            continue
        if "replicas" in target["spec"]:
            found.append(f"{title(target)}: replicas, and an autoscaler that decides about them")
        if not 2 <= spec["minReplicas"] <= spec["maxReplicas"]:
            found.append(f"{title(scaler)}: from {spec['minReplicas']} to {spec['maxReplicas']}")
        for metric in spec["metrics"]:
            if (
                metric["resource"]["name"]
                not in pod(target)["containers"][0]["resources"]["requests"]
            ):
                found.append(f"{title(scaler)}: a share of a request that {title(target)} lacks")
    for budget in kind(objects, "PodDisruptionBudget"):
        for target in selected(objects, budget["spec"]["selector"]["matchLabels"]):
            count = replicas(objects, target["metadata"]["name"])
            least = budget["spec"].get("minAvailable", 0)
            spare = budget["spec"].get("maxUnavailable", count - least)
            if not 1 <= spare < count:
                found.append(f"{title(budget)}: of {count} pods {spare} may go")
    return found


def resources(objects: Objects) -> Problems:
    """Every container asks for CPU and memory, and for no more than its limits."""
    found = []
    for one, holder in containers(objects):
        asked, limits = (holder.get("resources", {}).get(key, {}) for key in ("requests", "limits"))
        for name in ("cpu", "memory"):
            low, high = quantity(asked.get(name)), quantity(limits.get(name))
            if low is None or high is None:
                found.append(f"{title(one)}: {name} {asked.get(name)} to {limits.get(name)}")
            elif not 0 < low <= high:
                found.append(f"{title(one)}: asks for more {name} than it may have")
    return found


def restrictions(objects: Objects) -> Problems:
    """Every container is restricted as far as Kubernetes can, and the namespace insists on it."""
    found = []
    for one, holder in containers(objects):
        whole, own = pod(one).get("securityContext", {}), holder.get("securityContext", {})
        facts = {
            "runAsNonRoot": whole.get("runAsNonRoot") is True,
            "runAsUser": whole.get("runAsUser") == whole.get("runAsGroup") == USER,
            "seccompProfile": whole.get("seccompProfile") == {"type": "RuntimeDefault"},
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "readOnlyRootFilesystem": own.get("readOnlyRootFilesystem") is True,
            "capabilities": own.get("capabilities") == {"drop": ["ALL"]},
            "/tmp": any(mount["mountPath"] == "/tmp" for mount in holder.get("volumeMounts", [])),
            "privileged": not own.get("privileged") and own.keys().isdisjoint(whole),
            "token": pod(one).get("automountServiceAccountToken") is False,
            "serviceLinks": pod(one).get("enableServiceLinks") is False,
            "account": pod(one).get("serviceAccountName") == one["metadata"]["name"],
            "host": not any(key.startswith("host") for key in pod(one)),
        }
        wrong = [name for name, ok in facts.items() if not ok]
        found += [f"{title(one)}: {name} is not as it should be" for name in wrong]
    for namespace in kind(objects, "Namespace"):
        if (
            namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
            != "restricted"
        ):
            found.append(f"{title(namespace)}: does not insist on restricted pods")
    return found


def references(objects: Objects, handmade: frozenset[str] = frozenset()) -> Problems:
    """What a pod refers to exists, or is a Secret that people make; mounts have volumes."""
    there = {(one["kind"], one["metadata"]["name"]) for one in objects}
    there |= {("Secret", name) for name in handmade}
    found = []
    for one, holder in containers(objects):
        wanted = [("ServiceAccount", pod(one)["serviceAccountName"])]
        for volume in pod(one).get("volumes", []):
            if "configMap" in volume:
                wanted.append(("ConfigMap", volume["configMap"]["name"]))
            if "secret" in volume:
                wanted.append(("Secret", volume["secret"]["secretName"]))
        for source in holder.get("envFrom", []):
            wanted.append(("Secret", source["secretRef"]["name"]))
        for variable in holder.get("env", []):
            if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                wanted.append(("Secret", secret["name"]))
        found += [f"{title(one)}: no {a} is called {b}" for a, b in wanted if (a, b) not in there]
        mounted = {mount["name"] for mount in holder.get("volumeMounts", [])}
        if mounted != {volume["name"] for volume in pod(one).get("volumes", [])}:
            found.append(f"{title(one)}: mounts and volumes differ")
    return found


def rolling(objects: Objects) -> Problems:
    """ConfigMaps and Secrets made here end in a hash, so that a change of content rolls pods."""
    return [
        f"{title(one)}: its name does not end in a hash"
        for one in kind(objects, "ConfigMap", "Secret")
        if len(one["metadata"]["name"].rpartition("-")[2]) != 10
    ]


def names(objects: Objects) -> Problems:
    """All is in one namespace and has the recommended labels."""
    (namespace,) = (one["metadata"]["name"] for one in kind(objects, "Namespace"))
    found = []
    for one in objects:
        meta = one["metadata"]
        if one["kind"] != "Namespace" and meta.get("namespace") != namespace:
            found.append(f"{title(one)}: not in {namespace}")
        if meta.get("labels", {}).get(PREFIX + "part-of") != "pointsman":
            found.append(f"{title(one)}: not labelled as part of pointsman")
    for one in kind(objects, "Deployment"):
        wanted = {PREFIX + "name", PREFIX + "part-of", PREFIX + "version"}
        if not wanted <= labels(one).keys() & one["metadata"]["labels"].keys():
            found.append(f"{title(one)}: a recommended label is missing")
    return found


def secrets(objects: Objects) -> Problems:
    """No secret's value stands in the objects: neither a Secret nor a variable that holds one."""
    found = [f"{title(one)}: holds values" for one in kind(objects, "Secret")]
    for one, holder in containers(objects):
        for variable in holder.get("env", []):
            last, value = variable["name"].rpartition("_")[2], variable.get("value", "/")
            # A path leads to a file that a Secret fills.
            if last in {"TOKEN", "KEY", "SECRET", "PASSWORD"} and not value.startswith("/"):
                found.append(f"{title(one)}: {variable['name']} has its value in the open")
    return found
