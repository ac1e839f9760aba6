"""Model names mean the endpoints that LiteLLM's users expect, and never an exception."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.providers import _PROVIDERS, ModelAddress, address_of

SDK_PAGE = Path(__file__).parents[2] / "docs" / "sdk.md"
ROW = re.compile(r"^\| `(\w+)/` \| `(\w+)` \| (?:`(\w+)` )?\|$", flags=re.MULTILINE)
MIXTRAL = "mistralai/Mixtral-8x7B-Instruct-v0.1"


@pytest.mark.parametrize(
    ("name", "base_url", "model", "key"),
    [
        ("gpt-4o", "https://api.openai.com/v1", "gpt-4o", "OPENAI_API_KEY"),
        ("openai/gpt-4o", "https://api.openai.com/v1", "gpt-4o", "OPENAI_API_KEY"),
        (MIXTRAL, "https://api.openai.com/v1", MIXTRAL, "OPENAI_API_KEY"),
        (
            f"anyscale/{MIXTRAL}",
            "https://api.endpoints.anyscale.com/v1",
            MIXTRAL,
            "ANYSCALE_API_KEY",
        ),
        ("ollama_chat/llama3", "http://localhost:11434/v1", "llama3", "OLLAMA_API_KEY"),
        (
            "openrouter/openai/gpt-4o",
            "https://openrouter.ai/api/v1",
            "openai/gpt-4o",
            "OPENROUTER_API_KEY",
        ),
        (
            "fireworks_ai/llama-v3-8b-instruct",
            "https://api.fireworks.ai/inference/v1",
            "accounts/fireworks/models/llama-v3-8b-instruct",
            "FIREWORKS_API_KEY",
        ),
        ("groq/", "https://api.openai.com/v1", "groq/", "OPENAI_API_KEY"),
        ("groq", "https://api.openai.com/v1", "groq", "OPENAI_API_KEY"),
    ],
)
def test_names_mean_what_litellm_means(name: str, base_url: str, model: str, key: str) -> None:
    """A RouteLLM user's names work unchanged."""
    expected = ModelAddress(base_url=base_url, model=model, api_key_env=key)
    assert address_of(name, base_url=None, environ={}) == expected


def test_a_given_base_url_wins_over_prefix_and_environment() -> None:
    """`openai/` in front of a name is how LiteLLM says: an endpoint of my own."""
    environ = {"OPENAI_BASE_URL": "http://other/v1", "ANYSCALE_API_BASE": "http://other/v1"}
    for name, model in (
        ("openai/llama", "llama"),
        (MIXTRAL, MIXTRAL),
        (f"anyscale/{MIXTRAL}", MIXTRAL),
    ):
        address = address_of(name, base_url="http://box:8000/v1/", environ=environ)
        assert (address.base_url, address.model) == ("http://box:8000/v1", model)


def test_environment_names_another_base_url() -> None:
    """A variable that is set to nothing is as good as unset."""
    environ = {"OPENAI_BASE_URL": "", "OPENAI_API_BASE": "http://proxy/v1"}
    assert address_of("gpt-4o", base_url=None, environ=environ).base_url == "http://proxy/v1"


@pytest.mark.parametrize("base", ["http://box:11434", "http://box:11434/", "http://box:11434/v1"])
def test_ollamas_root_is_completed(base: str) -> None:
    """LiteLLM's users name Ollama's root, and the OpenAI-compatible endpoint is below it."""
    by_variable = address_of("ollama/llama3", base_url=None, environ={"OLLAMA_API_BASE": base})
    by_argument = address_of("ollama/llama3", base_url=base, environ={})
    assert by_variable.base_url == by_argument.base_url == "http://box:11434/v1"


def test_of_several_key_variables_the_one_that_is_set_counts() -> None:
    """Together's key has had four names; the first is told to whoever has none."""
    for environ, key in (
        ({}, "TOGETHER_API_KEY"),
        ({"TOGETHERAI_API_KEY": "k", "TOGETHER_API_KEY": ""}, "TOGETHERAI_API_KEY"),
    ):
        assert address_of("together_ai/x", base_url=None, environ=environ).api_key_env == key


@pytest.mark.parametrize(
    ("base_url", "local"),
    [
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1:1/v1", True),
        ("http://[::1]:1/v1", True),
        ("http://192.168.1.7/v1", True),
        ("http://vllm:8000/v1", True),
        ("http://host.docker.internal:11434/v1", True),
        ("https://api.openai.com/v1", False),
        ("https://8.8.8.8/v1", False),
        ("http://[bad/v1", False),
        ("nonsense", False),
    ],
)
def test_local_endpoints_are_told_apart(base_url: str, local: bool) -> None:
    """Only there may a key be missing."""
    assert address_of("x", base_url=base_url, environ={}).is_local is local


def test_the_table_of_the_sdk_page_is_the_table_of_the_code() -> None:
    """What the page promises is there, and what is there is on the page."""
    rows = ROW.findall(SDK_PAGE.read_text(encoding="utf-8"))
    assert sorted(prefix for prefix, _, _ in rows) == sorted(_PROVIDERS)
    for prefix, key, base in rows:
        assert address_of(f"{prefix}/x", base_url=None, environ={}).api_key_env == key
        if base:
            environ = {base: "http://here/v1"}
            found = address_of(f"{prefix}/x", base_url=None, environ=environ)
            assert found.base_url == "http://here/v1"


@given(
    st.one_of(
        st.text(),
        st.builds("{}/{}".format, st.sampled_from(sorted(_PROVIDERS)), st.text()),
    ),
    st.none() | st.text(),
    st.dictionaries(st.sampled_from(["OPENAI_BASE_URL", "OLLAMA_API_BASE"]), st.text()),
)
def test_no_name_crashes(name: str, base_url: str | None, environ: dict[str, str]) -> None:
    """Names and addresses come from people; what is wrong with them shows when they are called."""
    address = address_of(name, base_url=base_url, environ=environ)
    assert isinstance(address.is_local, bool)
    assert address.api_key_env
    assert address.model.endswith(name.partition("/")[2] or name)
