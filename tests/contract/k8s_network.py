"""Who may talk to whom by the policies, and whether the gateway sees every pod it calls."""

from collections.abc import Iterator, Mapping

from tests.contract.k8s_objects import (
    Object,
    Objects,
    container,
    kind,
    named,
    pod,
    ports,
    selected,
    title,
)

Problems = list[str]


def channels(objects: Objects) -> Problems:
    """The gateway's gRPC targets name headless Services, so that it sees every pod."""
    found = []
    for variable in container(objects, "gateway")["env"]:
        target = str(variable.get("value"))
        if not variable["name"].endswith("_ADDRESS"):
            continue
        name, _, port = target.removeprefix("dns:///").partition(":")
        try:
            service = named(objects, "Service", name)["spec"]
        except LookupError as error:
            found.append(f"{variable['name']}: {error}")
            continue
        if not target.startswith("dns:///") or service.get("clusterIP") != "None":
            found.append(f"{variable['name']}: {target} is one address for all pods")
        # DNS of a headless Service leads to the pods themselves: targetPort is of no effect there.
        hit = selected(objects, service["selector"])
        behind = {ports(pod(one)["containers"][0]).get("grpc") for one in hit}
        if behind != {int(port)} or [one["port"] for one in service["ports"]] != [int(port)]:
            found.append(f"{variable['name']}: nobody serves port {port}")
    return found


def policies(objects: Objects) -> Problems:
    """All is denied but what policies allow, and what they allow leads to pods and their ports."""
    found = []
    if not any(_denies_everything(one["spec"]) for one in kind(objects, "NetworkPolicy")):
        found.append("no NetworkPolicy denies everything to every pod")
    into, out = set(_allowed(objects, "ingress")), set(_allowed(objects, "egress"))
    pods = {one["metadata"]["name"] for one in kind(objects, "Deployment")}
    for flow in sorted(into ^ out):
        if {flow[0], flow[1]} <= pods:
            found.append(f"{flow[0]} to {flow[1]}, port {flow[2]}: only one side allows it")
    for source, target, port in sorted(into):
        if target in pods and port not in ports(container(objects, target)).values():
            found.append(f"{source} to {target}: it has no port {port}")
    for one in kind(objects, "NetworkPolicy"):
        selector = one["spec"]["podSelector"].get("matchLabels", {})
        for peer in [selector, *_peer_selectors(one)]:
            if not selected(objects, peer):
                found.append(f"{title(one)}: selects nobody with {dict(peer)}")
    return found


def flows(objects: Objects) -> set[tuple[str, str, int]]:
    """Returns who may open a connection to whom on which port, by the policies of both sides."""
    into, out = set(_allowed(objects, "ingress")), set(_allowed(objects, "egress"))
    pods = {one["metadata"]["name"] for one in kind(objects, "Deployment")}
    return (
        (into & out)
        | {flow for flow in into if flow[0] not in pods}
        | {flow for flow in out if flow[1] not in pods}
    )


def _denies_everything(spec: Object) -> bool:
    return (
        spec["podSelector"] == {}
        and set(spec["policyTypes"]) == {"Ingress", "Egress"}
        and not spec.get("ingress")
        and not spec.get("egress")
    )


def _allowed(objects: Objects, direction: str) -> Iterator[tuple[str, str, int]]:
    for policy in kind(objects, "NetworkPolicy"):
        own = selected(objects, policy["spec"]["podSelector"].get("matchLabels", {}))
        for rule in policy["spec"].get(direction) or []:
            others = list(_others(objects, rule.get("from" if direction == "ingress" else "to")))
            for one in own:
                for other in others:
                    for port in rule["ports"]:
                        ends = (other, one["metadata"]["name"])
                        source, target = ends if direction == "ingress" else ends[::-1]
                        yield source, target, port["port"]


def _others(objects: Objects, peers: list[Object] | None) -> Iterator[str]:
    if not peers:
        yield "anybody"
    for peer in peers or []:
        if "ipBlock" in peer:
            yield str(peer["ipBlock"]["cidr"])
        elif "namespaceSelector" in peer:
            namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
            yield f"namespace {namespace}"
        else:
            for one in selected(objects, peer["podSelector"]["matchLabels"]):
                yield one["metadata"]["name"]


def _peer_selectors(policy: Object) -> Iterator[Mapping[str, str]]:
    for direction, key in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(direction) or []:
            for peer in rule.get(key, []):
                if "podSelector" in peer:
                    yield peer["podSelector"]["matchLabels"]
