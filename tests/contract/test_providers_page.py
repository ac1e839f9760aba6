"""docs/providers.md tells the truth: its files load, and its tables are the structs."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from pointsman import models_file, reliability
from services.upstream.models import Catalogue, load_catalogue

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
FILES = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
TABLES: dict[str, type[msgspec.Struct]] = {
    "At the top": models_file.ModelsFile,
    "A provider": models_file.ProviderSettings,
    "A model": models_file.ModelSettings,
    "An endpoint": models_file.EndpointSettings,
    "`reliability`": reliability.Reliability,
    "`reliability.retries`": reliability.RetrySettings,
    "`reliability.breaker`": reliability.BreakerSettings,
    "`reliability.hedging`": reliability.HedgeSettings,
}


@pytest.fixture
def catalogue(tmp_path: Path, request: pytest.FixtureRequest) -> Catalogue:
    """What the upstream makes of a file of the page, with every key that it names."""
    text: str = request.param
    path = tmp_path / "models.yaml"
    path.write_text(text, encoding="utf-8")
    keys = {name: "sk-1" for name in re.findall(r"api_key_env: (\w+)", text)}
    return load_catalogue(str(path), "http://unused", keys)


@pytest.mark.parametrize("catalogue", FILES, indirect=True)
async def test_every_file_of_the_page_starts_the_upstream(catalogue: Catalogue) -> None:
    """Whoever copies one has a model, with its keys named and nothing forgotten."""
    assert catalogue.models()
    await catalogue.close()


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("openai", "https://api.openai.com/v1/chat/completions"),
        ("anthropic", "https://api.anthropic.com/v1/chat/completions"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("together", "https://api.together.ai/v1/chat/completions"),
        ("groq", "https://api.groq.com/openai/v1/chat/completions"),
        ("vllm", "http://10.0.0.1:8000/v1/chat/completions"),
        ("ollama", "http://127.0.0.1:11434/v1/chat/completions"),
        (
            "azure",
            "https://NAME.openai.azure.com/openai/deployments/my-gpt-4.1-deployment"
            "/chat/completions?api-version=2024-10-21",
        ),
    ],
)
def test_every_provider_has_a_file_of_its_own_that_asks_where_it_says(
    provider: str, url: str, tmp_path: Path
) -> None:
    """An address that is wrong by a slash answers 404, and says nothing of why."""
    files = [text for text in FILES if [*yaml.safe_load(text)["providers"]] == [provider]]
    assert files
    path = tmp_path / "models.yaml"
    for text in files:
        path.write_text(text, encoding="utf-8")
        keys = {name: "sk-1" for name in re.findall(r"api_key_env: (\w+)", text)}
        (model,) = load_catalogue(str(path), "http://unused", keys).models()
        assert [endpoint.url for endpoint in model.endpoints] == [url]


def test_entra_id_and_keys_both_have_a_file() -> None:
    """They are two ways to sign in at Azure."""
    azure = [yaml.safe_load(text)["providers"].get("azure") for text in FILES]
    ways = [(p.get("entra_id"), p.get("api_key_env")) for p in azure if p]
    assert ways == [(None, "AZURE_OPENAI_API_KEY"), (True, None)]


def rows(heading: str) -> dict[str, str]:
    """Returns setting → default of the table below a heading; every row says what it does."""
    _, found, below = PAGE.partition(f"\n### {heading}\n")
    assert found, heading
    table = below.split("\n#", 1)[0]
    cells = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", table, flags=re.MULTILINE)
    assert len(cells) == table.count("\n| `"), heading
    return dict(cells)


def shown(field: msgspec.structs.FieldInfo) -> str:
    """Returns a field's default as the page writes it."""
    default: Any = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    if default is msgspec.NODEFAULT:
        return "required"
    if isinstance(default, msgspec.Struct):
        return "see below"
    if default is None or default in ([], {}):
        return "none"
    if isinstance(default, bool):
        return f"`{default}`".lower()
    return f"`{default}`" if isinstance(default, str) else f"{default:g}"


@pytest.mark.parametrize(("heading", "struct"), TABLES.items())
def test_every_setting_is_in_its_table_with_its_default(
    heading: str, struct: type[msgspec.Struct]
) -> None:
    """A setting that is not on the page does not exist for its user, and the other way round."""
    expected = {field.name: shown(field) for field in msgspec.structs.fields(struct)}
    assert list(rows(heading).items()) == list(expected.items())


def test_no_struct_of_the_models_file_is_without_a_table() -> None:
    """A new part of the file needs a table too."""
    structs = {
        value
        for module in (models_file, reliability)
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == module.__name__
    }
    assert structs == set(TABLES.values())
