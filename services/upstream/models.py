"""The models that can be asked for: the models file, with its keys and proxies looked up."""

from collections.abc import Mapping
from dataclasses import dataclass

from pointsman.chassis.proxies import proxy_for
from pointsman.errors import ConfigError, UnknownModel
from pointsman.models_file import ModelSettings, ModelsFile, ProviderSettings, read_models_file
from pointsman.routing import quote

DEMO_SOURCE = "the built-in demo models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A model at its provider, ready to be called. `repr` shows no key."""

    model: str
    """The configured name."""
    provider: str
    provider_model: str
    """What the provider calls it."""
    url: str
    proxy: str | None
    """URL of the HTTP proxy on the way there, if there is one."""
    settings: ProviderSettings
    prices: ModelSettings
    key: "Key"


class Key:
    """A provider's key, which never shows in a log or a traceback."""

    __slots__ = ("_value",)

    def __init__(self, value: str | None) -> None:
        self._value = value

    def reveal(self) -> str | None:
        """Returns the key, for the one header it belongs in."""
        return self._value

    def __repr__(self) -> str:
        return "Key(***)" if self._value else "Key(None)"


class Catalogue:
    """The models that can be asked for.

    Attributes:
        source: Where they are configured, for messages to the operator.
    """

    def __init__(self, file: ModelsFile, source: str, environ: Mapping[str, str]) -> None:
        self.source = source
        self._endpoints = {
            name: _endpoint(name, model, file, source, environ)
            for name, model in file.models.items()
        }

    def __getitem__(self, name: str) -> Endpoint:
        """Returns the endpoint of a model.

        Raises:
            UnknownModel: No such model; lists those there are.
        """
        try:
            return self._endpoints[name]
        except KeyError:
            raise UnknownModel(
                f"no model is called {quote(name)}; there are: {', '.join(self._endpoints)}"
            ) from None

    def label(self, name: str) -> str:
        """Returns the name as a metric label: only configured names, everything else is `other`."""
        return name if name in self._endpoints else "other"

    def endpoints(self) -> list[Endpoint]:
        """Returns every model, in the order of the file."""
        return list(self._endpoints.values())


def load_catalogue(
    path: str | None, demo_provider_url: str, environ: Mapping[str, str]
) -> Catalogue:
    """Returns the models of a file, or without one the demo provider's pair.

    Raises:
        ConfigError: The file does not fit, or a key's variable is not set; names both.
    """
    if path is None:
        return Catalogue(_demo_models(demo_provider_url), DEMO_SOURCE, environ)
    return Catalogue(read_models_file(path), path, environ)


def _demo_models(base_url: str) -> ModelsFile:
    def model(name: str, *, price: float) -> ModelSettings:
        return ModelSettings(
            provider="demo",
            model=name,
            input_price_per_million=price,
            output_price_per_million=4 * price,
            context_window_tokens=128_000,
        )

    return ModelsFile(
        providers={"demo": ProviderSettings(base_url=base_url)},
        models={"strong": model("demo-strong", price=2.5), "weak": model("demo-weak", price=0.15)},
    )


def _endpoint(
    name: str, model: ModelSettings, file: ModelsFile, source: str, environ: Mapping[str, str]
) -> Endpoint:
    provider = file.providers[model.provider]
    key = environ.get(provider.api_key_env, "").strip() if provider.api_key_env else None
    if key == "":
        raise ConfigError(
            f"{source}: provider {model.provider} reads its key from {provider.api_key_env}, which "
            f"is not set; export {provider.api_key_env}=..., or remove api_key_env"
        )
    url = provider.base_url.rstrip("/") + "/chat/completions"
    return Endpoint(
        model=name,
        provider=model.provider,
        provider_model=model.model or name,
        url=url,
        proxy=proxy_for(url, environ),
        settings=provider,
        prices=model,
        key=Key(key),
    )
