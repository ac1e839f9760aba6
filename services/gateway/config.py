"""What the gateway's operator can set."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from pointsman.api_keys import ApiKey, parse_keys, read_keys_file
from pointsman.chassis.config import (
    Port,
    PositiveCount,
    PositiveSeconds,
    ServerSettings,
    Settings,
    load_settings,
)
from pointsman.chassis.grpc_server import BODY_LIMIT_BYTES
from pointsman.chassis.mesh import MESH_SECRETS, MESH_VARIABLES, MeshSettings
from pointsman.chassis.ports import is_loopback
from pointsman.errors import ConfigError, InvalidRequest
from pointsman.prompts import PromptPolicy
from pointsman.routing import ModelPair, parse_model_field, quote
from services.gateway.rules import RULE_NAME, RuleSettings

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
    "POINTSMAN_KEYS_FILE": "keys_file",
    "POINTSMAN_ALLOW_ANONYMOUS": "allow_anonymous",
    "POINTSMAN_GATEWAY_HOST": "host",
    "POINTSMAN_GATEWAY_METRICS_HOST": "metrics_host",
    "POINTSMAN_LOG_LEVEL": "log_level",
    **MESH_VARIABLES,
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
    wait_seconds: PositiveSeconds = 10.0
    """How long a request waits for an upstream to be connected before it is answered with 503. Low:
    clients notice its restarts. High: while it is gone every client waits so long for the 503."""


class AdmissionSettings(Settings, frozen=True, kw_only=True):
    """How much the gateway takes on; what is over it is answered with 503 and Retry-After.

    Only requests whose answer has not begun count: neither streams nor idle connections.
    """

    max_unanswered: PositiveCount = 1000
    """So many at a time, however well things go: each has its body in memory. Low: slow answers in
    one piece are refused. High: the gateway needs memory."""
    max_delay_seconds: PositiveSeconds = 0.1
    """How long requests may wait between gateway and provider, on average over half a second. Low:
    refuses while there is still room. High: everybody waits."""
    calm_unanswered: PositiveCount = 64
    """Up to so many at a time none is refused for delay; at most `max_unanswered`."""

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        if self.calm_unanswered > self.max_unanswered:
            raise ValueError(
                f"calm_unanswered is {self.calm_unanswered}, and max_unanswered only "
                f"{self.max_unanswered}; lower the first, or raise the second"
            )


class GatewaySettings(ServerSettings, frozen=True, kw_only=True):
    """The gateway's settings."""

    port: Port = 6060
    """HTTP port (RouteLLM's); 0 takes any free one."""
    metrics_port: Port = 9100
    """Port of `/metrics`; 0 takes any free one."""
    keys: Any = msgspec.UNSET
    """API keys here instead of in a file: name → `sha256`, and optionally the `routers` and
    `models` that its holder may use, as `pointsman.api_keys` has it."""
    keys_file: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """YAML with API keys under `keys`. With keys, everything but the probes needs one; it is read
    at start only."""
    allow_anonymous: bool = False
    """True lets the gateway listen beyond loopback without keys: whoever reaches it may use it.
    Where there are keys it changes nothing."""
    pair: PairSettings = PairSettings()
    mesh: MeshSettings = MeshSettings()
    scorer: ScorerClientSettings = ScorerClientSettings()
    upstream: UpstreamClientSettings = UpstreamClientSettings()
    admission: AdmissionSettings = AdmissionSettings()
    aliases: dict[str, str] = msgspec.field(default_factory=dict)
    """Model field → the model field that is meant, for clients that cannot change theirs:
    `gpt-4o-mini: router-mf-p30`. Aliases of aliases are not followed."""
    rules: dict[str, RuleSettings] = msgspec.field(default_factory=dict)
    """Name → rule that names the model of a routed request before its prompt is scored; the first
    that fits counts."""
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

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        for alias, field in self.aliases.items():
            if not alias or alias.startswith("router-"):
                raise ValueError(
                    f"an alias may not be called {quote(alias)}: give it a name that does not "
                    "begin with router- - at `$.aliases`"
                )
            try:
                parse_model_field(field)
            except InvalidRequest as error:
                raise ValueError(f"{error.message} - at `$.aliases.{alias}`") from error
        for name in self.rules:
            if not RULE_NAME.fullmatch(name):
                raise ValueError(f"a rule's name is [a-z0-9_-]+, not {quote(name)} - at `$.rules`")

    def models(self) -> dict[str, str]:
        """Returns every model that the configuration names: key path → name."""
        aliased = {
            f"aliases.{alias}": field
            for alias, field in self.aliases.items()
            if parse_model_field(field) is None
        }
        ruled = {f"rules.{name}.model": rule.model for name, rule in self.rules.items()}
        return {"pair.strong": self.pair.strong, "pair.weak": self.pair.weak, **aliased, **ruled}

    def model_pair(self) -> ModelPair:
        """Returns the pair as the library knows it."""
        return ModelPair(self.pair.strong, self.pair.weak)


def load(environ: Mapping[str, str]) -> GatewaySettings:
    """Returns the settings of the file that POINTSMAN_GATEWAY_CONFIG names, and the environment.

    Raises:
        ConfigError: Names file or variable, key path and value.
    """
    path = environ.get(CONFIG_VARIABLE)
    return load_settings(GatewaySettings, path, environ, _VARIABLES, MESH_SECRETS)


def source(environ: Mapping[str, str]) -> str:
    """Returns where the settings come from, for messages to the operator."""
    return environ.get(CONFIG_VARIABLE) or "the gateway's defaults and environment"


def api_keys(settings: GatewaySettings, source: str) -> dict[str, ApiKey]:
    """Returns the API keys that are let in; empty where everybody is.

    Args:
        settings: The gateway's settings.
        source: Where they come from, for messages.

    Raises:
        ConfigError: A key does not fit, there are two places of keys, or there is none and the
            gateway would listen beyond loopback.
    """
    inline = settings.keys is not msgspec.UNSET
    if inline and settings.keys_file is not None:
        raise ConfigError(
            f"{source} has keys, and keys_file is {settings.keys_file}; keep them in one place"
        )
    if inline:
        return parse_keys(settings.keys, source)
    if settings.keys_file is not None:
        return read_keys_file(settings.keys_file)
    if not (settings.allow_anonymous or is_loopback(settings.host)):
        raise ConfigError(
            f"host {settings.host} can be reached from other machines, and no API keys are "
            "configured; make one with `pointsman keys create NAME --file keys.yaml` and set "
            "POINTSMAN_KEYS_FILE=keys.yaml, or let everybody in with POINTSMAN_ALLOW_ANONYMOUS=true"
        )
    return {}
