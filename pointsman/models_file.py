"""The models file: which models there are, who provides them, what they cost.

The one source of model names, prices and context windows: the upstream calls by it, the gateway
learns it by ListModels, and the tools read its prices.
"""

import msgspec

from pointsman.chassis.config import (
    Count,
    Dollars,
    PositiveSeconds,
    Settings,
    convert,
    read_yaml,
)
from pointsman.routing import quote

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key"})


class ProviderSettings(Settings, frozen=True, kw_only=True):
    """One provider: an OpenAI-compatible endpoint."""

    base_url: str
    """What `/chat/completions` is appended to, such as `https://api.openai.com/v1`."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; without it no key is sent."""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    """Further request headers; not for keys."""
    include_usage: bool = True
    """Whether streams ask for usage (`stream_options.include_usage`); off for providers that refuse
    the field, and then their streams are not counted."""
    connect_timeout_seconds: PositiveSeconds = 5.0
    """Until a connection stands."""
    read_timeout_seconds: PositiveSeconds = 600.0
    """Between two reads. Low: slow first tokens are cut off. High: a dead provider holds a request
    for as long as its caller allows."""

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


class ModelSettings(Settings, frozen=True, kw_only=True):
    """One model."""

    provider: str
    """Name of its provider, of those under `providers`."""
    model: str | None = None
    """What the provider calls it; by default its name here."""
    input_price_per_million: Dollars = 0.0
    """US dollars per million input tokens."""
    output_price_per_million: Dollars = 0.0
    """US dollars per million output tokens."""
    context_window_tokens: Count = 0
    """Tokens it can take; 0 if you do not want to say."""


class ModelsFile(Settings, frozen=True, kw_only=True):
    """What the models file says."""

    providers: dict[str, ProviderSettings]
    """Name → provider."""
    models: dict[str, ModelSettings]
    """Name in the model field → model."""

    def __post_init__(self) -> None:
        """Checks what types cannot."""
        if not self.models:
            raise ValueError("no model is configured - at `$.models`")
        for name, model in self.models.items():
            if not name or name.startswith("router-"):
                raise ValueError(f"a model may not be called {quote(name)} - at `$.models`")
            if model.provider not in self.providers:
                raise ValueError(
                    f"model {quote(name)} has the provider {quote(model.provider)}, and there are "
                    f"only {', '.join(self.providers) or 'none'} - at `$.models`"
                )


def read_models_file(path: str) -> ModelsFile:
    """Returns what a models file says.

    Raises:
        ConfigError: The file cannot be read or does not fit; names file, key path and value.
    """
    return convert(read_yaml(path), ModelsFile, source=path)
