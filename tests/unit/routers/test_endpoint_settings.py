"""What an operator may say of an embeddings endpoint."""

import pytest

from pointsman.chassis.config import convert
from pointsman.errors import ConfigError
from pointsman.routers.endpoint_settings import EmbeddingsSettings, encoder_of
from pointsman.routers.registry import SHIPPED_BUNDLES


def test_nothing_said_is_openai_with_its_usual_key() -> None:
    """As in RouteLLM, where OPENAI_API_KEY is all there is to set."""
    settings = EmbeddingsSettings()
    assert settings.url == "https://api.openai.com/v1/embeddings"
    assert settings.key_variable == "OPENAI_API_KEY"
    assert settings.key("mf", " sk-1\n") == "sk-1"


def test_openais_key_goes_nowhere_else() -> None:
    """Whoever moves the address would otherwise hand the key to a stranger."""
    settings = EmbeddingsSettings(base_url="http://127.0.0.1:8000/v1/")
    assert settings.url == "http://127.0.0.1:8000/v1/embeddings"
    assert settings.key_variable is None
    assert settings.key("mf", "sk-1") is None


@pytest.mark.parametrize("value", [None, "", " "])
def test_a_key_that_is_not_set_is_named(value: str | None) -> None:
    """The variable and the place in the file, and never a value."""
    settings = EmbeddingsSettings(base_url="https://a.example/v1", api_key_env="THEIR_KEY")
    with pytest.raises(ConfigError) as caught:
        settings.key("sw_ranking", value)
    assert "export THEIR_KEY=..." in caught.value.message
    assert "$.routers.sw_ranking.embeddings" in caught.value.message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"base_url": "api.openai.com"}, "http"),
        ({"max_batch": 0}, "max_batch"),
        ({"max_batch": 2049}, "max_batch"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"api_key": "sk-1"}, "api_key"),
    ],
)
def test_a_value_that_cannot_be_names_its_place(values: dict[str, object], said: str) -> None:
    """At start-up, and not at the first request."""
    with pytest.raises(ConfigError, match=said):
        convert(values, EmbeddingsSettings, source="scorer.yaml")


def test_embeddings_need_a_bundle_that_asks_for_them() -> None:
    """A setting without effect would be believed to have one."""
    with pytest.raises(ConfigError, match=r"\$\.routers\.mf\.bundle"):
        encoder_of("mf", None)
    with pytest.raises(ConfigError, match="an encoder of its own"):
        encoder_of("mf", str(SHIPPED_BUNDLES / "mf"))
