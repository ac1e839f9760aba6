"""The models that can be asked for: the models file, with its keys and proxies looked up."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pointsman.chassis.proxies import proxy_for
from pointsman.errors import ConfigError, UnknownModel
from pointsman.models_file import (
    EndpointSettings,
    ModelSettings,
    ModelsFile,
    ProviderSettings,
    read_models_file,
)
from pointsman.routing import quote
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.authentication import Authentication, authentication, chat_url

DEMO_SOURCE = "the built-in demo models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place where a model is served, ready to be called. `repr` shows no key."""

    model: str
    """The configured name."""
    provider: str
    provider_model: str
    """What the provider calls it."""
    label: str
    """What tells it from the model's other endpoints, in metrics."""
    url: str
    proxy: str | None
    """URL of the HTTP proxy on the way there, if there is one."""
    settings: ProviderSettings
    weight: float
    key: "Key"
    authenticate: Authentication
    """Returns the headers that sign a request in; shared by a provider's endpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that can be asked for."""

    name: str
    settings: ModelSettings
    endpoints: tuple[Endpoint, ...]
    """At least one."""

    @property
    def fallbacks(self) -> Sequence[str]:
        """Returns the models to ask when this one does not answer."""
        return self.settings.fallbacks


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
        reliability: What is done about providers that fail.
    """

    def __init__(self, file: ModelsFile, source: str, environ: Mapping[str, str]) -> None:
        self.source = source
        self.reliability = file.reliability
        used = {place.provider for model in file.models.values() for place in model.served_at()}
        self._providers = {
            name: _Provider(name, provider, source, environ)
            for name, provider in file.providers.items()
            if name in used
        }
        self._models = {
            name: _model(name, model, self._providers, environ)
            for name, model in file.models.items()
        }

    def __getitem__(self, name: str) -> Model:
        """Returns a model.

        Raises:
            UnknownModel: No such model; lists those there are.
        """
        try:
            return self._models[name]
        except KeyError:
            raise UnknownModel(
                f"no model is called {quote(name)}; there are: {', '.join(self._models)}"
            ) from None

    def label(self, name: str) -> str:
        """Returns the name as a metric label: only configured names, everything else is `other`."""
        return name if name in self._models else "other"

    def endpoint_label(self, attempt: pb.Attempt) -> str:
        """Returns what tells the endpoint of a call from the model's others, in metrics."""
        return next(
            endpoint.label
            for endpoint in self._models[attempt.model].endpoints
            if endpoint.provider == attempt.provider
            and endpoint.provider_model == attempt.provider_model
        )

    def models(self) -> list[Model]:
        """Returns every model, in the order of the file."""
        return list(self._models.values())

    async def close(self) -> None:
        """Closes what signs in at providers."""
        for provider in self._providers.values():
            await provider.authentication.close()


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
    def model(name: str, *, fallback: str, price: float) -> ModelSettings:
        return ModelSettings(
            provider="demo",
            model=name,
            fallbacks=[fallback],
            input_price_per_million=price,
            output_price_per_million=4 * price,
            context_window_tokens=128_000,
        )

    return ModelsFile(
        providers={"demo": ProviderSettings(base_url=base_url)},
        models={
            "strong": model("demo-strong", fallback="weak", price=2.5),
            "weak": model("demo-weak", fallback="strong", price=0.15),
        },
    )


class _Provider:
    """A provider with its key looked up."""

    def __init__(
        self, name: str, settings: ProviderSettings, source: str, environ: Mapping[str, str]
    ) -> None:
        self.name = name
        self.settings = settings
        self.key = Key(_key(name, settings.api_key_env, source, environ))
        self.authentication = authentication(name, settings, self.key.reveal(), source)


def _model(
    name: str,
    settings: ModelSettings,
    providers: Mapping[str, _Provider],
    environ: Mapping[str, str],
) -> Model:
    places = settings.served_at()
    of_provider = Counter(place.provider for place in places)

    def endpoint(place: EndpointSettings) -> Endpoint:
        provider = providers[place.provider]
        provider_model = place.model or name
        is_only = of_provider[place.provider] == 1
        url = chat_url(provider.settings, provider_model)
        return Endpoint(
            model=name,
            provider=provider.name,
            provider_model=provider_model,
            label=provider.name if is_only else f"{provider.name}/{provider_model}",
            url=url,
            proxy=proxy_for(url, environ),
            settings=provider.settings,
            weight=place.weight,
            key=provider.key,
            authenticate=provider.authentication,
        )

    return Model(name=name, settings=settings, endpoints=tuple(map(endpoint, places)))


def _key(
    provider: str, variable: str | None, source: str, environ: Mapping[str, str]
) -> str | None:
    if variable is None:
        return None
    key = environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"{source}: provider {provider} reads its key from {variable}, which is not set; "
            f"export {variable}=..., or remove api_key_env"
        )
    return key
