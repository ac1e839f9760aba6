"""What a models file may say, and the one line that tells what is wrong with one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pointsman.errors import ConfigError
from pointsman.models_file import EndpointSettings, ModelsFile, read_models_file
from pointsman.reliability import Reliability

Read = Callable[[str], ModelsFile]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Reads the text of a models file."""

    def read(text: str) -> ModelsFile:
        path = tmp_path / "models.yaml"
        path.write_text(text, encoding="utf-8")
        return read_models_file(str(path))

    return read


PROVIDER = "providers: {p: {base_url: 'http://x'}}\n"
AZURE = "base_url: 'https://n.openai.azure.com', api: azure"


def test_a_model_with_a_provider_is_served_at_one_place(read: Read) -> None:
    """Most files need no list of endpoints."""
    file = read(PROVIDER + "models: {a: {provider: p, model: x}}")
    assert file.models["a"].served_at() == [EndpointSettings(provider="p", model="x")]


def test_a_model_with_endpoints_is_served_at_each(read: Read) -> None:
    """In the order of the file, with the weights that it gives."""
    file = read(
        "providers: {p: {base_url: 'http://x'}, q: {base_url: 'http://y'}}\n"
        "models: {a: {endpoints: [{provider: p, weight: 2}, {provider: q, model: x}]}}"
    )
    assert file.models["a"].served_at() == [
        EndpointSettings(provider="p", weight=2.0),
        EndpointSettings(provider="q", model="x"),
    ]


def test_fallbacks_may_form_a_circle(read: Read) -> None:
    """The pair's models stand in for each other; nobody follows a fallback's own fallbacks."""
    file = read(
        PROVIDER + "models: {a: {provider: p, fallbacks: [b]}, b: {provider: p, fallbacks: [a]}}"
    )
    assert (file.models["a"].fallbacks, file.models["b"].fallbacks) == (["b"], ["a"])


def test_a_file_need_not_speak_of_reliability(read: Read) -> None:
    """The defaults are for two providers on the internet."""
    assert read(PROVIDER + "models: {a: {provider: p}}").reliability == Reliability()


def test_every_part_of_reliability_can_be_set_alone(read: Read) -> None:
    """Whoever sets one number keeps the other defaults."""
    file = read(
        PROVIDER + "models: {a: {provider: p}}\n"
        "reliability: {retries: {max_retries: 0}, breaker: {open_seconds: 1}, "
        "hedging: {share: 0.05}, on_stream_failure: restart}"
    )
    reliability = file.reliability
    assert (reliability.retries.max_retries, reliability.retries.budget_share) == (0, 0.2)
    assert (reliability.breaker.open_seconds, reliability.breaker.min_calls) == (1.0, 20)
    assert (reliability.hedging.share, reliability.on_stream_failure) == (0.05, "restart")


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ("{" + AZURE + "}", "api_version, such as 2024-10-21"),
        ("{base_url: 'http://x', api_version: v1}", "are for api azure"),
        ("{base_url: 'http://x', entra_id: true}", "are for api azure"),
        (
            "{" + AZURE + ", api_version: v1, entra_id: true, api_key_env: KEY}",
            "entra_id and api_key_env are two ways to sign in; keep one",
        ),
        ("{base_url: 'http://x', api: anthropic}", "anthropic"),
        ("{base_url: 'http://x', headers: {api-key: k}}", "`api-key`"),
        ("{base_url: 'http://x', idle_timeout_seconds: 0}", "idle_timeout_seconds"),
        ("{base_url: 'http://x', first_token_timeout_seconds: -1}", "first_token_timeout_seconds"),
        ("{base_url: 'http://x', max_in_flight: 0}", "max_in_flight"),
        ("{base_url: 'http://x', max_queued: -1}", "max_queued"),
        ("{base_url: 'http://x', read_timeout_seconds: 30}", "read_timeout_seconds"),
    ],
)
def test_a_mistake_in_a_provider_names_its_place(read: Read, provider: str, said: str) -> None:
    """With ten providers in a file, the one at fault is found by its name."""
    with pytest.raises(ConfigError) as caught:
        read("providers: {p: " + provider + "}\nmodels: {a: {provider: p}}")
    for words in ("models.yaml", said, "$.providers"):
        assert words in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("{}", "either a provider or endpoints"),
        ("{endpoints: []}", "either a provider or endpoints"),
        ("{provider: p, endpoints: [{provider: p}]}", "either a provider or endpoints"),
        ("{model: x, endpoints: [{provider: p}]}", "its provider's name for it in each"),
        ("{endpoints: [{provider: p}, {provider: q}]}", "model `a` has the provider `q`"),
        ("{endpoints: [{provider: p, weight: 0}]}", "weight"),
        (
            "{endpoints: [{provider: p}, {provider: p}]}",
            "model `a` has two endpoints with the provider `p`",
        ),
        ("{endpoints: [{provider: p}, {provider: p, model: a}]}", "the sum of their weights"),
        (
            "{endpoints: [{provider: p, model: x}, {provider: p, model: x, weight: 2}]}",
            "the sum of their weights",
        ),
        ("{provider: p, fallbacks: [b, b]}", "twice in fallbacks"),
        ("{endpoints: [{model: x}]}", "provider"),
        ("{provider: p, fallbacks: [b]}", "model `a` has the fallback `b`"),
        ("{provider: p, fallbacks: [a]}", "model `a` has the fallback `a`, which is not another"),
        ("{provider: p, cached_input_price_per_million: -1}", "cached_input_price_per_million"),
        ("{provider: p, reasoning_price_per_million: .nan}", "reasoning_price_per_million"),
    ],
)
def test_a_mistake_in_a_model_names_its_place(read: Read, model: str, said: str) -> None:
    """The message has the value and the name, so that nobody has to read the file from the top."""
    with pytest.raises(ConfigError) as caught:
        read(PROVIDER + "models: {a: " + model + "}")
    for words in ("models.yaml", said, "$.models"):
        assert words in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("reliability", "key"),
    [
        ("{retries: {budget_share: 1.5}}", "$.reliability.retries.budget_share"),
        ("{retries: {max_retries: -1}}", "$.reliability.retries.max_retries"),
        ("{breaker: {failure_share: 0}}", "$.reliability.breaker.failure_share"),
        ("{breaker: {window_seconds: 0}}", "$.reliability.breaker.window_seconds"),
        ("{hedging: {share: -0.1}}", "$.reliability.hedging.share"),
        ("{on_stream_failure: ignore}", "$.reliability.on_stream_failure"),
        ("{retry: {}}", "retry"),
    ],
)
def test_a_mistake_in_reliability_names_its_place(read: Read, reliability: str, key: str) -> None:
    """A misspelt setting that counted as unset would be found during an outage."""
    with pytest.raises(ConfigError) as caught:
        read(PROVIDER + "models: {a: {provider: p}}\nreliability: " + reliability)
    assert "models.yaml" in caught.value.message
    assert key in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("providers: {p: {base_url: 'x/v1'}}\nmodels: {a: {provider: p}}", "`x/v1`"),
        ("providers: {p: {base_url: 'ftp://x'}}\nmodels: {a: {provider: p}}", "http(s)://"),
        ("providers: {p: {}}\nmodels: {a: {provider: p}}", "base_url"),
        (
            "providers: {p: {base_url: 'http://x', headers: {Authorization: k}}}\n"
            "models: {a: {provider: p}}",
            "api_key_env",
        ),
        ("providers: {p: {base_url: 'http://x', api_key: k}}\nmodels: {}", "api_key"),
        (PROVIDER + "models: {}", "$.models"),
        (PROVIDER + "models: {a: {provider: q}}", "`q`, and there are only p"),
        ("providers: {}\nmodels: {a: {provider: q}}", "only none"),
        (PROVIDER + "models: {router-a: {provider: p}}", "`router-a`"),
        (PROVIDER + "models: {'': {provider: p}}", "may not be called"),
        (
            PROVIDER + "models: {a: {provider: p, input_price_per_million: -1}}",
            "input_price_per_million",
        ),
        (
            PROVIDER + "models: {a: {provider: p, output_price_per_million: .nan}}",
            "output_price_per_million",
        ),
        (
            PROVIDER + "models: {a: {provider: p, output_price_per_million: .inf}}",
            "output_price_per_million",
        ),
        (
            PROVIDER + "models: {a: {provider: p, context_window_tokens: -5}}",
            "context_window_tokens",
        ),
        (PROVIDER + "models: {a: {provider: p, prize: 5}}", "prize"),
        (PROVIDER, "models"),
    ],
)
def test_a_mistake_in_the_file_names_file_and_value(read: Read, text: str, said: str) -> None:
    """The upstream does not start on a file that it cannot honour, and says why in a line."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert "models.yaml" in caught.value.message
    assert said in caught.value.message
    assert "\n" not in caught.value.message
