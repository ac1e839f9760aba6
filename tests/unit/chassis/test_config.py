"""YAML and the environment → frozen settings, or one line that says what to change."""

from pathlib import Path

import msgspec
import pytest

from pointsman.chassis.config import (
    Secret,
    ServerSettings,
    Settings,
    convert,
    load_settings,
    read_yaml,
)
from pointsman.errors import ConfigError


class PeerSettings(Settings, frozen=True, kw_only=True):
    """Another service."""

    address: str = "127.0.0.1:1"
    timeout_seconds: float = 1.0
    password: Secret | None = None


class ToySettings(ServerSettings, frozen=True, kw_only=True):
    """A service of this test's own."""

    port: int = 1
    peer: PeerSettings = PeerSettings()

    def __post_init__(self) -> None:
        """Refuses one port."""
        if self.port == 13:
            raise ValueError("13 is unlucky - at `$.port`")


VARIABLES = {"TOY_PORT": "port", "TOY_PEER": "peer.address", "TOY_LEVEL": "log_level"}


@pytest.fixture
def write(tmp_path: Path):
    """Writes a settings file and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "toy.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def load(path: str | None = None, **environ: str) -> ToySettings:
    """Loads the toy's settings."""
    return load_settings(ToySettings, path, environ, VARIABLES)


def test_without_file_and_environment_the_defaults_hold() -> None:
    """A first run needs no configuration, and listens on loopback only."""
    settings = load()
    assert settings == ToySettings()
    assert (settings.host, settings.metrics_host) == ("127.0.0.1", "127.0.0.1")


def test_the_file_overrules_the_defaults(write) -> None:
    """What the operator wrote counts; what was left out keeps its default."""
    settings = load(write("port: 7\npeer: {timeout_seconds: 2}\n"))
    assert settings.port == 7
    assert settings.peer == PeerSettings(timeout_seconds=2.0)


def test_the_environment_overrules_the_file(write) -> None:
    """One setting can be changed without touching the file."""
    path = write("port: 7\npeer: {address: 'a:1', timeout_seconds: 2}\n")
    settings = load(path, TOY_PORT="0", TOY_PEER="b:2")
    assert settings.port == 0
    assert settings.peer == PeerSettings(address="b:2", timeout_seconds=2.0)


def test_an_empty_variable_is_none_at_all(write) -> None:
    """Compose files and shells set variables to nothing where they mean "not set"."""
    assert load(write("port: 7"), TOY_PORT="").port == 7


def test_settings_cannot_be_changed() -> None:
    """What was loaded at the start is what holds."""
    with pytest.raises(AttributeError):
        ToySettings().port = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "key_path"),
    [
        ("port: many", "$.port"),
        ("port: 1.5", "$.port"),
        ("peer: {timeout_seconds: soon}", "$.peer.timeout_seconds"),
        ("peer: 5", "$.peer"),
        ("log_level: LOUD", "$.log_level"),
        ("port: 13", "$.port"),
        ("prot: 5", "prot"),
        ("peer: {adress: x}", "adress"),
    ],
)
def test_a_wrong_value_names_file_and_key_path(write, text: str, key_path: str) -> None:
    """A typing mistake is found in one look; a misspelt name is not ignored."""
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert key_path in caught.value.message


@pytest.mark.parametrize(
    ("variable", "value", "key_path"),
    [
        ("TOY_PORT", "many", "$.port"),
        ("TOY_LEVEL", "LOUD", "$.log_level"),
        ("TOY_PORT", "13", "13"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value(variable: str, value: str, key_path: str) -> None:
    """The operator is sent to the variable, not to a file that is innocent."""
    with pytest.raises(ConfigError) as caught:
        load(**{variable: value})
    assert caught.value.message.startswith(f"{variable}={value}: ")
    assert key_path in caught.value.message


@pytest.mark.parametrize("text", ["peer: 5", "peer:"])
def test_a_variable_beneath_a_wrong_value_does_not_take_the_blame(write, text: str) -> None:
    """The file is at fault, at a key path; the variable is fine."""
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load(path, TOY_PEER="b:2")
    assert path in caught.value.message
    assert "$.peer" in caught.value.message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1", "not YAML"),
        ("a: b: c", "not YAML"),
        ("- 1", "expected a mapping at the top, got list"),
        ("plain", "expected a mapping at the top, got str"),
    ],
)
def test_what_is_no_mapping_is_one_clear_line(write, text: str, problem: str) -> None:
    """A parser's many lines of complaint become one that names the file."""
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert caught.value.message.startswith(f"{path}: {problem}")
    assert "\n" not in caught.value.message


def test_an_empty_file_is_an_empty_mapping(write) -> None:
    """A file in which everything is commented out means the defaults."""
    assert read_yaml(write("# nothing yet\n")) == {}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A wrong path in a variable is the likeliest mistake of all."""
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            load(str(path))
        assert caught.value.message.startswith(str(path))


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    """Latin-1 from an old editor is a mistake to be told, not a traceback."""
    path = tmp_path / "latin.yaml"
    path.write_bytes("host: Zürich".encode("latin-1"))
    with pytest.raises(ConfigError, match="not YAML"):
        read_yaml(str(path))


def test_yaml_that_would_run_code_is_refused(write) -> None:
    """A settings file is data."""
    with pytest.raises(ConfigError, match="not YAML"):
        read_yaml(write("a: !!python/object/apply:os.getcwd []"))


def test_keys_that_are_no_text_are_refused() -> None:
    """YAML makes numbers and booleans of unquoted names."""
    with pytest.raises(ConfigError, match=r"^there: "):
        convert({1: 2}, ToySettings, source="there")


def test_settings_are_strict_about_names_in_python_too() -> None:
    """The base class forbids unknown fields for every service."""
    assert msgspec.structs.fields(ServerSettings)
    with pytest.raises(TypeError):
        ToySettings(prot=5)  # type: ignore[call-arg]


def test_a_secret_comes_from_the_environment_and_shows_nowhere() -> None:
    """Settings are printed by debuggers and tracebacks; the secret's one reader asks for it."""
    settings = load_settings(
        ToySettings, None, {"TOY_PASSWORD": "swordfish"}, {}, {"TOY_PASSWORD": "peer.password"}
    )
    assert settings.peer.password is not None
    assert settings.peer.password.reveal() == "swordfish"
    assert "swordfish" not in repr(settings)


@pytest.mark.parametrize("value", ["swordfish", "[swordfish]", "{a: swordfish}", "12345678"])
def test_a_secret_in_a_file_is_refused_and_not_repeated(write, value: str) -> None:
    """Files of settings are committed and mailed; the error is too."""
    path = write(f"peer: {{password: {value}}}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert path in caught.value.message
    assert "peer.password" in caught.value.message
    assert "swordfish" not in caught.value.message
    assert "12345678" not in caught.value.message


def test_an_error_elsewhere_does_not_repeat_a_secret(write) -> None:
    """The secret is set last, when nothing can go wrong with the rest."""
    with pytest.raises(ConfigError) as caught:
        load_settings(
            ToySettings,
            write("port: soon"),
            {"TOY_PASSWORD": "swordfish"},
            VARIABLES,
            {"TOY_PASSWORD": "peer.password"},
        )
    assert "swordfish" not in caught.value.message
