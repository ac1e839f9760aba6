"""The models file → endpoints that can be called, or one line that says what is wrong with it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pointsman.errors import ConfigError, UnknownModel
from pointsman.upstream.v1 import upstream_pb2 as pb
from services.upstream.models import DEMO_SOURCE, Catalogue, Endpoint, Key, load_catalogue

TWO_PROVIDERS = """
providers:
  openai:
    base_url: https://api.openai.com/v1
    api_key_env: OPENAI_API_KEY
  vllm:
    base_url: http://gpu:8000/v1/
    headers: {x-team: routing}
    include_usage: false
    idle_timeout_seconds: 30
models:
  big:
    provider: openai
    model: gpt-4o
    input_price_per_million: 2.5
    output_price_per_million: 10
    context_window_tokens: 128000
  small:
    provider: vllm
"""
ENVIRON = {"OPENAI_API_KEY": "sk-1"}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Catalogue]:
    """Loads a catalogue from the text of a models file."""

    def load(text: str, **environ: str) -> Catalogue:
        path = tmp_path / "models.yaml"
        path.write_text(text, encoding="utf-8")
        return load_catalogue(str(path), "http://unused", environ)

    return load


def only(catalogue: Catalogue, name: str) -> Endpoint:
    """Returns a model's one endpoint."""
    (endpoint,) = catalogue[name].endpoints
    return endpoint


def test_the_pair_may_live_at_two_providers(load: Callable[..., Catalogue]) -> None:
    """The strong model is often bought and the weak one at home."""
    catalogue = load(TWO_PROVIDERS, **ENVIRON)
    big, small = only(catalogue, "big"), only(catalogue, "small")
    assert (big.provider, small.provider) == ("openai", "vllm")
    assert big.url == "https://api.openai.com/v1/chat/completions"
    assert (big.provider_model, big.key.reveal()) == ("gpt-4o", "sk-1")
    prices = catalogue["big"].settings
    assert (prices.input_price_per_million, prices.output_price_per_million) == (2.5, 10.0)
    assert small.settings.idle_timeout_seconds == 30
    assert not small.settings.include_usage


def test_a_model_without_a_name_of_its_own_is_called_by_its_key(
    load: Callable[..., Catalogue],
) -> None:
    """Five lines of YAML are enough; the base URL may end in a slash or not."""
    small = only(load(TWO_PROVIDERS, **ENVIRON), "small")
    assert small.provider_model == "small"
    assert small.url == "http://gpu:8000/v1/chat/completions"


def test_without_api_key_env_no_key_is_sent(load: Callable[..., Catalogue]) -> None:
    """VLLM and Ollama at home want none."""
    assert only(load(TWO_PROVIDERS, **ENVIRON), "small").key.reveal() is None


def test_models_are_listed_in_the_order_of_the_file(load: Callable[..., Catalogue]) -> None:
    """The listing that clients see is the operator's."""
    names = [model.name for model in load(TWO_PROVIDERS, **ENVIRON).models()]
    assert names == ["big", "small"]


def test_an_unknown_model_is_refused_with_those_there_are(load: Callable[..., Catalogue]) -> None:
    """Whoever mistypes a name reads the right one."""
    with pytest.raises(UnknownModel) as caught:
        load(TWO_PROVIDERS, **ENVIRON)["bigg"]
    assert "`bigg`" in caught.value.message
    assert "big, small" in caught.value.message


def test_a_label_is_a_configured_name_or_other(load: Callable[..., Catalogue]) -> None:
    """A caller must not be able to make metric series."""
    catalogue = load(TWO_PROVIDERS, **ENVIRON)
    assert [catalogue.label(name) for name in ("big", "router-mf-0.5", "")] == [
        "big",
        "other",
        "other",
    ]


@pytest.mark.parametrize("environ", [{}, {"OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": " \n"}])
def test_a_missing_key_is_found_at_the_start(
    load: Callable[..., Catalogue], environ: dict[str, str]
) -> None:
    """Not at the first request, and not as the provider's 401."""
    with pytest.raises(ConfigError) as caught:
        load(TWO_PROVIDERS, **environ)
    for word in ("models.yaml", "openai", "OPENAI_API_KEY"):
        assert word in caught.value.message


def test_room_around_a_key_is_no_part_of_it(load: Callable[..., Catalogue]) -> None:
    """Files that hold secrets end in a line feed, which no header may contain."""
    assert only(load(TWO_PROVIDERS, OPENAI_API_KEY=" sk-1\n"), "big").key.reveal() == "sk-1"


def test_a_key_shows_nowhere(load: Callable[..., Catalogue]) -> None:
    """Logs, tracebacks and error pages print representations."""
    catalogue = load(TWO_PROVIDERS, **ENVIRON)
    endpoint = only(catalogue, "big")
    for text in (repr(endpoint), f"{endpoint.key}", repr(catalogue["big"]), repr(vars(catalogue))):
        assert "sk-1" not in text
    assert (repr(Key("sk-1")), repr(Key(None))) == ("Key(***)", "Key(None)")


def test_without_a_file_the_pair_is_the_demo_providers() -> None:
    """A first run needs no key and no file."""
    catalogue = load_catalogue(None, "http://127.0.0.1:5/v1", {})
    assert catalogue.source == DEMO_SOURCE
    assert {name: only(catalogue, name).provider_model for name in ("strong", "weak")} == {
        "strong": "demo-strong",
        "weak": "demo-weak",
    }
    strong, weak = catalogue["strong"], catalogue["weak"]
    assert strong.endpoints[0].url == "http://127.0.0.1:5/v1/chat/completions"
    assert strong.settings.output_price_per_million > weak.settings.output_price_per_million
    assert (strong.fallbacks, weak.fallbacks) == (["weak"], ["strong"])


def test_the_catalogue_says_where_it_comes_from(
    load: Callable[..., Catalogue], tmp_path: Path
) -> None:
    """A mismatch with the gateway's pair names both files."""
    assert load(TWO_PROVIDERS, **ENVIRON).source == str(tmp_path / "models.yaml")


def test_the_fixture_is_what_the_catalogue_makes(
    load: Callable[..., Catalogue], endpoint: Callable[..., Endpoint]
) -> None:
    """The other tests of this folder call providers through an endpoint made by hand."""
    text = (
        "providers: {acme: {base_url: 'http://127.0.0.1:1/v1'}}\n"
        "models: {strong: {provider: acme, model: acme-1}}"
    )
    made, loaded = endpoint(key=None), only(load(text), "strong")
    for name in ("model", "provider", "provider_model", "label", "url", "settings", "weight"):
        assert getattr(made, name) == getattr(loaded, name)


PROXIED = {"HTTPS_PROXY": "http://proxy:3128", "OPENAI_API_KEY": "sk-1"}


@pytest.mark.parametrize(
    ("environ", "model", "proxy"),
    [
        (PROXIED, "big", "http://proxy:3128"),
        (PROXIED, "small", None),
        (ENVIRON, "big", None),
    ],
)
def test_proxies_are_the_ones_of_the_environment(
    load: Callable[..., Catalogue], environ: dict[str, str], model: str, proxy: str | None
) -> None:
    """A provider behind a company's proxy is reached as every other client reaches it."""
    assert only(load(TWO_PROVIDERS, **environ), model).proxy == proxy


def test_the_demo_provider_is_never_behind_a_proxy() -> None:
    """It is on this machine."""
    environ = {"HTTP_PROXY": "http://proxy:3128"}
    catalogue = load_catalogue(None, "http://127.0.0.1:6061/v1", environ)
    assert {only(catalogue, name).proxy for name in ("strong", "weak")} == {None}


SPREAD = """
providers:
  azure-eu: {base_url: "https://eu.openai.azure.com", api: azure, api_version: "2024-10-21",
             api_key_env: AZURE_EU_KEY}
  openai: {base_url: "https://api.openai.com/v1", api_key_env: OPENAI_API_KEY}
  unused: {base_url: "https://api.example.com/v1", api_key_env: NOT_SET}
models:
  big:
    endpoints:
      - {provider: azure-eu, model: first, weight: 2}
      - {provider: azure-eu, model: second}
      - {provider: openai}
    fallbacks: [small]
  small: {provider: openai, model: gpt-4.1-nano}
"""
KEYS = {"AZURE_EU_KEY": "az-1", "OPENAI_API_KEY": "sk-1"}


async def test_a_model_may_be_served_at_several_places(load: Callable[..., Catalogue]) -> None:
    """Each is asked in its own way, with its own key and its own name for the model."""
    catalogue = load(SPREAD, **KEYS)
    first, second, third = catalogue["big"].endpoints
    assert [one.model for one in (first, second, third)] == ["big"] * 3
    assert "/deployments/first/" in first.url
    assert third.url == "https://api.openai.com/v1/chat/completions"
    assert [one.provider_model for one in (first, second, third)] == ["first", "second", "big"]
    assert [one.weight for one in (first, second, third)] == [2.0, 1.0, 1.0]
    assert await first.authenticate() == {"api-key": "az-1"}
    assert await third.authenticate() == {"authorization": "Bearer sk-1"}
    assert catalogue["big"].fallbacks == ["small"]


def test_a_label_tells_a_models_endpoints_apart(load: Callable[..., Catalogue]) -> None:
    """The provider's name, with its name for the model where one provider has two."""
    catalogue = load(SPREAD, **KEYS)
    labels = ["azure-eu/first", "azure-eu/second", "openai"]
    assert [one.label for one in catalogue["big"].endpoints] == labels
    for endpoint in catalogue["big"].endpoints:
        attempt = pb.Attempt(
            model="big", provider=endpoint.provider, provider_model=endpoint.provider_model
        )
        assert catalogue.endpoint_label(attempt) == endpoint.label


def test_a_provider_that_no_model_uses_needs_no_key(load: Callable[..., Catalogue]) -> None:
    """A file may list more than this machine has keys for."""
    assert load(SPREAD, **KEYS)["small"].name == "small"


async def test_closing_signs_everybody_out(load: Callable[..., Catalogue]) -> None:
    """Credentials have connections of their own."""
    await load(SPREAD, **KEYS).close()
