"""Every error Pointsman raises on purpose, with a kind that knows nothing of HTTP or gRPC.

```
PointsmanError
├── InvalidRequest          the request itself is wrong: model field, messages, body
│   └── RequestTooLarge     the body is over the limit
├── InvalidKey              no API key was sent, or one that nobody has
├── KeyNotAllowed           the key's holder may not use that router or model
├── UnknownModel            no such model
├── UnknownRouter           no such router
├── RouterNotReady          the router exists and cannot score now
├── Overloaded              a bounded queue is full
├── DeadlineExceeded        the caller's deadline passed
├── ScorerUnavailable       the scorer cannot be reached, or failed
├── UpstreamUnavailable     the upstream cannot be reached, or failed
├── ProviderError           a provider could not be used; travels as a message, never as a status
│   ├── ProviderUnauthorized    401 or 403: the operator's key is refused
│   ├── ProviderUnavailable     no connection, or it broke
│   ├── ProviderTimeout         a time limit passed
│   └── ProviderNonsense        an answer that is not what was asked for
└── ConfigError             start-up only: a setting, a file, a port
```

Branches are what the caller would do about it. Two tables translate kinds at the edges: gRPC in
`pointsman.chassis.grpc_status`, HTTP in `services.gateway.openai_errors`.
"""

from typing import ClassVar


class PointsmanError(Exception):
    """Something that can be told to whoever asked: the message names the value and the remedy."""

    kind: ClassVar[str] = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(PointsmanError):
    """The request itself is wrong; asking again without a change is useless.

    Attributes:
        param: The field at fault in OpenAI's terms, such as `messages`, or None.
    """

    kind = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class RequestTooLarge(InvalidRequest):
    """The body is over the limit."""

    kind = "request_too_large"


class InvalidKey(PointsmanError):
    """The caller sent no API key, or one that nobody has; the message never quotes it."""

    kind = "invalid_api_key"


class KeyNotAllowed(PointsmanError):
    """The caller is known and may not use that router or model."""

    kind = "key_not_allowed"


class UnknownModel(PointsmanError):
    """No such model is configured."""

    kind = "unknown_model"


class UnknownRouter(PointsmanError):
    """No such router is configured."""

    kind = "unknown_router"


class RouterNotReady(PointsmanError):
    """The router is configured but cannot score: its bundle is missing, broken or still loading."""

    kind = "router_not_ready"


class Overloaded(PointsmanError):
    """A bounded queue is full; come back later."""

    kind = "overloaded"


class DeadlineExceeded(PointsmanError):
    """The caller's deadline passed."""

    kind = "deadline_exceeded"


class ScorerUnavailable(PointsmanError):
    """The scorer cannot be reached, is stopping, or failed."""

    kind = "scorer_unavailable"


class UpstreamUnavailable(PointsmanError):
    """The upstream cannot be reached, is stopping, or failed."""

    kind = "upstream_unavailable"


class ProviderError(PointsmanError):
    """A provider could not be used.

    Attributes:
        budget: The time limit that passed, if one did.
    """

    kind = "provider_error"
    budget: str = ""


class ProviderUnauthorized(ProviderError):
    """The provider refuses the operator's key: the client can do nothing about it."""

    kind = "provider_unauthorized"


class ProviderUnavailable(ProviderError):
    """No connection to the provider, or one that broke."""

    kind = "provider_unavailable"


class ProviderTimeout(ProviderError):
    """A time limit of the provider's passed: `connect`, `first_token`, `idle` or `total`."""

    kind = "provider_timeout"

    def __init__(self, message: str, *, budget: str = "total") -> None:
        super().__init__(message)
        self.budget = budget


class ProviderNonsense(ProviderError):
    """The provider answered with something else than what was asked for."""

    kind = "provider_nonsense"


class ConfigError(PointsmanError):
    """A setting, a file or a port is wrong; the process does not start."""

    kind = "config"
