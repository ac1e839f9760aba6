"""What the upstream's operator can set."""

from collections.abc import Mapping

from pointsman.chassis.config import Port, PositiveCount, load_settings
from pointsman.chassis.grpc_server import BODY_LIMIT_BYTES, GrpcServerSettings
from pointsman.chassis.mesh import MESH_SECRETS, MESH_VARIABLES

PORT_VARIABLE = "POINTSMAN_UPSTREAM_PORT"
METRICS_PORT_VARIABLE = "POINTSMAN_UPSTREAM_METRICS_PORT"
CONFIG_VARIABLE = "POINTSMAN_UPSTREAM_CONFIG"
MODELS_VARIABLE = "POINTSMAN_MODELS"
DEMO_VARIABLE = "POINTSMAN_DEMO_PROVIDER_URL"
_VARIABLES = {
    PORT_VARIABLE: "port",
    METRICS_PORT_VARIABLE: "metrics_port",
    MODELS_VARIABLE: "models_file",
    DEMO_VARIABLE: "demo_provider_url",
    "POINTSMAN_UPSTREAM_HOST": "host",
    "POINTSMAN_UPSTREAM_METRICS_HOST": "metrics_host",
    "POINTSMAN_LOG_LEVEL": "log_level",
    **MESH_VARIABLES,
}


class UpstreamSettings(GrpcServerSettings, frozen=True, kw_only=True):
    """The upstream's settings; models and providers stand in a file of their own."""

    port: Port = 50052
    """gRPC port; 0 takes any free one."""
    metrics_port: Port = 9102
    """Port of `/metrics`; 0 takes any free one."""
    models_file: str | None = None
    """YAML with models and providers; without it, the demo provider's pair."""
    demo_provider_url: str = "http://127.0.0.1:6061/v1"
    """Base URL of the demo provider; used only without a models file."""
    body_limit_bytes: PositiveCount = BODY_LIMIT_BYTES
    """Largest request body and largest answer; at least the gateway's body limit."""


def load(environ: Mapping[str, str]) -> UpstreamSettings:
    """Returns the settings of the file that POINTSMAN_UPSTREAM_CONFIG names, and the environment.

    Raises:
        ConfigError: Names file or variable, key path and value.
    """
    path = environ.get(CONFIG_VARIABLE)
    return load_settings(UpstreamSettings, path, environ, _VARIABLES, MESH_SECRETS)
