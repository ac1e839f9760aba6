"""A model at a provider, as the catalogue would make it."""

from collections.abc import Callable

import pytest

from services.upstream.models import Endpoint, Key, ModelSettings, ProviderSettings

KEY = "sk-very-secret"


@pytest.fixture
def endpoint() -> Callable[..., Endpoint]:
    """Makes the endpoint of the model `strong` at the provider `acme`, who calls it `acme-1`."""

    def make(
        base_url: str = "http://127.0.0.1:1/v1", key: str | None = KEY, **settings: object
    ) -> Endpoint:
        provider = ProviderSettings(base_url=base_url, **settings)  # type: ignore[arg-type]
        return Endpoint(
            proxy=None,
            model="strong",
            provider="acme",
            provider_model="acme-1",
            url=f"{base_url}/chat/completions",
            settings=provider,
            prices=ModelSettings(provider="acme"),
            key=Key(key),
        )

    return make
