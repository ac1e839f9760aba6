"""What is checked of which overlay, and what production has its operator make by hand."""

import kubernetes_validate
import yaml

from pointsman import __version__
from pointsman.api_keys import new_key, sha256_of
from tests.contract import k8s_checks, k8s_network, k8s_settings
from tests.contract.k8s_objects import Object, title

OPERATORS = {"PodMonitor", "PrometheusRule"}
"""Kinds of the Prometheus Operator, of which Kubernetes has no schema."""
OLDEST, NEWEST = "1.27", kubernetes_validate.latest_version()
"""Kubernetes' versions: the first with all that is used here, and the last that is known."""
OVERLAYS = (
    *("dev", "prod", "prod with prometheus-operator"),
    *("prod with mtls", "prod with embeddings"),
)
KEY = new_key()
HANDMADE = {
    "pointsman-mesh": {"token": "0123456789abcdef" * 4},
    "pointsman-api-keys": {
        "keys.yaml": yaml.safe_dump({"keys": {"team-a": {"sha256": sha256_of(KEY)}}})
    },
    "pointsman-provider-keys": {"OPENAI_API_KEY": "sk-none"},
    "pointsman-embeddings-key": {"OPENAI_API_KEY": "sk-embeddings"},
}
"""Secret → its entries; the gateway's callers show KEY."""
TLS_SECRETS = {f"pointsman-{name}-tls" for name in ("gateway", "scorer", "upstream")}

FLOWS = {
    ("anybody", "gateway", 6060),
    ("gateway", "scorer", 50051),
    ("gateway", "upstream", 50052),
    ("namespace monitoring", "gateway", 9100),
    ("namespace monitoring", "scorer", 9101),
    ("namespace monitoring", "upstream", 9102),
    ("gateway", "namespace kube-system", 53),
    ("upstream", "namespace kube-system", 53),
    ("upstream", "0.0.0.0/0", 443),
    ("upstream", "::/0", 443),
}
"""Who may reach whom."""
MORE_FLOWS = {
    "dev": {("upstream", "demo-provider", 6061)},
    "prod with embeddings": {
        ("scorer", "namespace kube-system", 53),
        ("scorer", "0.0.0.0/0", 443),
        ("scorer", "::/0", 443),
    },
}
"""Overlay → who else may reach whom there."""

ON_OBJECTS = {
    "selectors": k8s_checks.selectors,
    "ports": k8s_checks.numbers_of_ports,
    "scaling": k8s_checks.scaling,
    "resources": k8s_checks.resources,
    "restrictions": k8s_checks.restrictions,
    "references": lambda objects: k8s_checks.references(
        objects, frozenset({*HANDMADE, *TLS_SECRETS})
    ),
    "rolling": k8s_checks.rolling,
    "names": k8s_checks.names,
    "channels": k8s_network.channels,
    "policies": k8s_network.policies,
    "variables": k8s_settings.variables,
    "images": lambda objects: k8s_settings.images(objects, __version__),
    "secrets": k8s_checks.secrets,
}
ON_SETTINGS = {
    "listeners": k8s_settings.listeners,
    "draining": k8s_settings.draining,
    "agreements": k8s_settings.agreements,
}
NOT_OF_DEV = {"images", "secrets"}
"""The development overlay has the latest images, and a token that is no secret."""


def schema_problems(objects: list[Object], version: str) -> list[str]:
    """Returns what the schemas of one version of Kubernetes refuse."""
    found = []
    for one in objects:
        if one["kind"] in OPERATORS:
            continue
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{title(one)}: {error.message}")
    return found
