"""A model at a provider, as the catalogue would make it."""

from collections.abc import Callable

import pytest

from pointsman.models_file import ProviderSettings
from services.upstream.authentication import authentication, chat_url
from services.upstream.models import Endpoint, Key

KEY = "sk-very-secret"


@pytest.fixture
def endpoint() -> Callable[..., Endpoint]:
    """Makes the endpoint of the model `strong` at the provider `acme`, who calls it `acme-1`."""

    def make(
        base_url: str = "http://127.0.0.1:1/v1",
        key: str | None = KEY,
        weight: float = 1.0,
        **settings: object,
    ) -> Endpoint:
        provider = ProviderSettings(base_url=base_url, **settings)  # type: ignore[arg-type]
        return Endpoint(
            model="strong",
            provider="acme",
            provider_model="acme-1",
            label="acme",
            url=chat_url(provider, "acme-1"),
            proxy=None,
            settings=provider,
            weight=weight,
            key=Key(key),
            authenticate=authentication("acme", provider, key, "models.yaml"),
        )

    return make
