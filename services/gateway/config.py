"""What the gateway's operator can set."""

from collections.abc import Mapping
from typing import Literal

from pointsman.chassis.config import (
    Port,
    PositiveCount,
    PositiveSeconds,
    ServerSettings,
    Settings,
    load_settings,
)
from pointsman.chassis.grpc_server import BODY_LIMIT_BYTES
from pointsman.prompts import PromptPolicy
from pointsman.routing import ModelPair

PORT_VARIABLE = "POINTSMAN_GATEWAY_PORT"
METRICS_PORT_VARIABLE = "POINTSMAN_GATEWAY_METRICS_PORT"
CONFIG_VARIABLE = "POINTSMAN_GATEWAY_CONFIG"
SCORER_VARIABLE = "POINTSMAN_SCORER_ADDRESS"
UPSTREAM_VARIABLE = "POINTSMAN_UPSTREAM_ADDRESS"
_VARIABLES = {
    PORT_VARIABLE: "port",
    METRICS_PORT_VARIABLE: "metrics_port",
    SCORER_VARIABLE: "scorer.address",
    UPSTREAM_VARIABLE: "upstream.address",
    "POINTSMAN_STRONG_MODEL": "pair.strong",
    "POINTSMAN_WEAK_MODEL": "pair.weak",
    "POINTSMAN_GATEWAY_HOST": "host",
    "POINTSMAN_GATEWAY_METRICS_HOST": "metrics_host",
    "POINTSMAN_LOG_LEVEL": "log_level",
}

OnScorerFailure = Literal["strong", "weak", "error"]


class PairSettings(Settings, frozen=True, kw_only=True):
    """The two models between which routers choose; names from the upstream's models file."""

    strong: str = "strong"
    weak: str = "weak"


class ScorerClientSettings(Settings, frozen=True, kw_only=True):
    """How the gateway reaches the scorer."""

    address: str = "127.0.0.1:50051"
    """`host:port`, or any gRPC target such as `dns:///scorer:50051`."""
    timeout_seconds: PositiveSeconds = 1.0
    """How long a request waits for its win rate before `on_scorer_failure` decides. Low: bursts
    fail over. High: every request is so much slower while the scorer hangs."""


class UpstreamClientSettings(Settings, frozen=True, kw_only=True):
    """How the gateway reaches the upstream."""

    address: str = "127.0.0.1:50052"
    """`host:port`, or any gRPC target."""


class GatewaySettings(ServerSettings, frozen=True, kw_only=True):
    """The gateway's settings."""

    port: Port = 6060
    """HTTP port (RouteLLM's); 0 takes any free one."""
    metrics_port: Port = 9100
    """Port of `/metrics`; 0 takes any free one."""
    pair: PairSettings = PairSettings()
    scorer: ScorerClientSettings = ScorerClientSettings()
    upstream: UpstreamClientSettings = UpstreamClientSettings()
    prompt_policy: PromptPolicy = "last_user_turn"
    """Which text is scored: the last user turn, the first, or the whole conversation."""
    on_scorer_failure: OnScorerFailure = "strong"
    """What becomes of a request whose win rate cannot be had in time: the strong model (no answer
    is worse, some cost more), the weak one, or an error (503)."""
    request_timeout_seconds: PositiveSeconds = 600.0
    """From a request's first byte to its answer's last; OpenAI's clients wait 600 too."""
    body_limit_bytes: PositiveCount = BODY_LIMIT_BYTES
    """Largest request body; over it 413."""
    refresh_seconds: PositiveSeconds = 10.0
    """How often the lists of models and routers are asked for again."""

    def model_pair(self) -> ModelPair:
        """Returns the pair as the library knows it."""
        return ModelPair(self.pair.strong, self.pair.weak)


def load(environ: Mapping[str, str]) -> GatewaySettings:
    """Returns the settings of the file that POINTSMAN_GATEWAY_CONFIG names, and the environment.

    Raises:
        ConfigError: Names file or variable, key path and value.
    """
    return load_settings(GatewaySettings, environ.get(CONFIG_VARIABLE), environ, _VARIABLES)


def source(environ: Mapping[str, str]) -> str:
    """Returns where the settings come from, for messages to the operator."""
    return environ.get(CONFIG_VARIABLE) or "the gateway's defaults and environment"
