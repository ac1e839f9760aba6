"""The models file: which models there are, who provides them, what they cost.

The one source of model names, prices and context windows: the upstream calls by it, the gateway
learns it by ListModels, and the tools read its prices.
"""

from typing import Annotated, Literal

import msgspec

from pointsman.chassis.config import (
    Count,
    Dollars,
    PositiveCount,
    PositiveSeconds,
    Settings,
    convert,
    read_yaml,
)
from pointsman.prices import Prices
from pointsman.reliability import Reliability
from pointsman.routing import quote

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key"})


class ProviderSettings(Settings, frozen=True, kw_only=True):
    """One provider: an OpenAI-compatible endpoint, or Azure OpenAI."""

    base_url: str
    """What `/chat/completions` is appended to, such as `https://api.openai.com/v1`; for Azure the
    resource, such as `https://NAME.openai.azure.com`."""
    api: Literal["openai", "azure"] = "openai"
    """`azure`: a model's name at this provider is that of a deployment."""
    api_version: str | None = None
    """Azure's, such as `2024-10-21`; it must be given there, and nowhere else."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; without it no key is sent."""
    entra_id: bool = False
    """Azure: ask Microsoft Entra ID for tokens instead of sending a key."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Further request headers; not for keys."""
    include_usage: bool = True
    """Whether streams ask for usage (`stream_options.include_usage`); off for providers that refuse
    the field, and then their streams' tokens are estimated."""
    connect_timeout_seconds: PositiveSeconds = 5.0
    """Until a connection stands."""
    first_token_timeout_seconds: PositiveSeconds = 60.0
    """Until the first token of a stream. Low: models that think first are cut off. High: a silent
    provider is left so late."""
    idle_timeout_seconds: PositiveSeconds = 60.0
    """Between two pieces of a stream, once it has begun."""
    total_timeout_seconds: PositiveSeconds = 600.0
    """For one call, to the last byte of its answer."""
    max_in_flight: PositiveCount = 1000
    """Calls at a time, for each endpoint of this provider."""
    max_queued: Count = 1000
    """Requests that may wait for one of those; over it 429."""

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url {quote(self.base_url)} does not begin with http(s)://")
        for name in self.headers:
            if name.lower() in _SECRET_HEADERS:
                raise ValueError(
                    f"{quote(name)}: a key does not belong in headers; name its environment "
                    "variable in api_key_env"
                )
        azure = self.api == "azure"
        base = self.base_url.rstrip("/")
        if "?" in base or base.endswith("/chat/completions"):
            raise ValueError(
                f"base_url {quote(base)} is a whole URL; leave out /chat/completions and "
                "everything after a ?"
            )
        if azure and ("/openai/" in base or base.endswith("/v1")):
            raise ValueError(
                f"base_url {quote(base)}: api azure wants the resource alone, such as "
                "https://NAME.openai.azure.com; for .../openai/v1 leave out api and api_version"
            )
        if azure and not self.api_version:
            raise ValueError("api azure needs an api_version, such as 2024-10-21")
        if not azure and (self.api_version or self.entra_id):
            raise ValueError("api_version and entra_id are for api azure")
        if self.entra_id and self.api_key_env:
            raise ValueError("entra_id and api_key_env are two ways to sign in; keep one")


class EndpointSettings(Settings, frozen=True, kw_only=True):
    """One place where a model is served."""

    provider: str
    """Name of the provider, of those under `providers`."""
    model: str | None = None
    """What the provider calls the model; by default its name here."""
    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """With twice the weight it is as attractive at twice the load."""


class ModelSettings(Settings, frozen=True, kw_only=True):
    """One model; `provider` and `model` are short for a list of one endpoint."""

    provider: str | None = None
    """Name of its provider, of those under `providers`."""
    model: str | None = None
    """What the provider calls it; by default its name here."""
    endpoints: list[EndpointSettings] = msgspec.field(default_factory=list)
    """Instead of `provider` and `model`: every place where it is served. Requests go to the less
    loaded of two; one that fails leaves its requests to the others."""
    fallbacks: list[str] = msgspec.field(default_factory=list)
    """Models to ask, in this order, when no endpoint of this one answers. Theirs are not followed.
    A prompt that is too long for this model goes to those with a larger context window."""
    input_price_per_million: Dollars = 0.0
    """US dollars per million input tokens."""
    cached_input_price_per_million: Dollars | None = None
    """US dollars per million input tokens that the provider had in its prompt cache; by default
    as other input tokens."""
    output_price_per_million: Dollars = 0.0
    """US dollars per million output tokens."""
    reasoning_price_per_million: Dollars | None = None
    """US dollars per million reasoning tokens; by default as other output tokens."""
    context_window_tokens: Count = 0
    """Tokens it can take; 0 if you do not want to say."""

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        if bool(self.endpoints) is (self.provider is not None):
            raise ValueError("a model has either a provider or endpoints")
        if self.endpoints and self.model is not None:
            raise ValueError("a model with endpoints has its provider's name for it in each")
        if len(set(self.fallbacks)) < len(self.fallbacks):
            raise ValueError("a fallback stands twice in fallbacks")

    def prices(self) -> Prices:
        """Returns what its tokens cost."""
        cached, reasoning = self.cached_input_price_per_million, self.reasoning_price_per_million
        return Prices(
            input=self.input_price_per_million,
            cached_input=self.input_price_per_million if cached is None else cached,
            output=self.output_price_per_million,
            reasoning=self.output_price_per_million if reasoning is None else reasoning,
        )

    def served_at(self) -> list[EndpointSettings]:
        """Returns every place where it is served; at least one."""
        if self.provider is None:
            return self.endpoints
        return [EndpointSettings(provider=self.provider, model=self.model)]


class ModelsFile(Settings, frozen=True, kw_only=True):
    """What the models file says."""

    providers: dict[str, ProviderSettings]
    """Name → provider."""
    models: dict[str, ModelSettings]
    """Name in the model field → model."""
    reliability: Reliability = Reliability()
    """What is done about providers that fail."""

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        if not self.models:
            raise ValueError("no model is configured - at `$.models`")
        for name, model in self.models.items():
            if not name or name.startswith("router-"):
                raise ValueError(f"a model may not be called {quote(name)} - at `$.models`")
            self._check_names(name, model)

    def _check_names(self, name: str, model: ModelSettings) -> None:
        places = [(place.provider, place.model or name) for place in model.served_at()]
        for place in places:
            if places.count(place) > 1:
                raise ValueError(
                    f"model {quote(name)} has two endpoints with the provider {quote(place[0])} "
                    "and the same model; keep one, with the sum of their weights - at `$.models`"
                )
        for endpoint in model.served_at():
            if endpoint.provider not in self.providers:
                raise ValueError(
                    f"model {quote(name)} has the provider {quote(endpoint.provider)}, and there "
                    f"are only {', '.join(self.providers) or 'none'} - at `$.models`"
                )
        for fallback in model.fallbacks:
            if fallback == name or fallback not in self.models:
                raise ValueError(
                    f"model {quote(name)} has the fallback {quote(fallback)}, which is not another "
                    f"of the models {', '.join(self.models)} - at `$.models`"
                )


def read_models_file(path: str) -> ModelsFile:
    """Returns what a models file says.

    Raises:
        ConfigError: The file cannot be read or does not fit; names file, key path and value.
    """
    return convert(read_yaml(path), ModelsFile, source=path)
