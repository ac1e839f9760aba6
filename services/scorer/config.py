"""What the scorer's operator can set."""

from collections.abc import Mapping

import msgspec

from pointsman.chassis.config import (
    Count,
    Port,
    PositiveCount,
    load_settings,
)
from pointsman.chassis.grpc_server import BODY_LIMIT_BYTES, GrpcServerSettings
from pointsman.chassis.mesh import MESH_SECRETS, MESH_VARIABLES
from pointsman.routers.bulk import cores
from pointsman.routers.settings import BUILT_IN, RouterSettings
from pointsman.routing import ROUTER_NAME, quote

PORT_VARIABLE = "POINTSMAN_SCORER_PORT"
METRICS_PORT_VARIABLE = "POINTSMAN_SCORER_METRICS_PORT"
CONFIG_VARIABLE = "POINTSMAN_SCORER_CONFIG"
_VARIABLES = {
    PORT_VARIABLE: "port",
    METRICS_PORT_VARIABLE: "metrics_port",
    "POINTSMAN_SCORER_HOST": "host",
    "POINTSMAN_SCORER_METRICS_HOST": "metrics_host",
    "POINTSMAN_SCORER_WORKERS": "workers",
    "POINTSMAN_LOG_LEVEL": "log_level",
    **MESH_VARIABLES,
}


class ScorerSettings(GrpcServerSettings, frozen=True, kw_only=True):
    """The scorer's settings."""

    port: Port = 50051
    """gRPC port; 0 takes any free one."""
    metrics_port: Port = 9101
    """Port of `/metrics`; 0 takes any free one."""
    routers: dict[str, RouterSettings] = msgspec.field(
        default_factory=lambda: dict(BUILT_IN.routers)
    )
    """Name in the model field → router. `random` is seeded, so that replicas agree."""
    workers: PositiveCount = msgspec.field(default_factory=cores)
    """Threads that infer, one prompt at a time each; more than there are cores is no faster."""
    queue_limit: Count = 256
    """Prompts that may wait for a thread. Low: bursts are refused. High: the last of a burst waits
    for all before it (about 5 ms each and thread) and may miss its deadline."""
    cache_entries: Count = 50_000
    """Win rates that are kept, about 250 bytes each; the one that was asked for longest ago goes
    first. 0 keeps none."""
    body_limit_bytes: PositiveCount = BODY_LIMIT_BYTES
    """Largest prompt; at least the gateway's body limit."""

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        for name in self.routers:
            if not ROUTER_NAME.fullmatch(name):
                raise ValueError(f"router name {quote(name)} is not [a-z0-9_]+ - at `$.routers`")


def load(environ: Mapping[str, str]) -> ScorerSettings:
    """Returns the settings of the file that POINTSMAN_SCORER_CONFIG names, and the environment.

    Raises:
        ConfigError: Names file or variable, key path and value.
    """
    path = environ.get(CONFIG_VARIABLE)
    return load_settings(ScorerSettings, path, environ, _VARIABLES, MESH_SECRETS)
