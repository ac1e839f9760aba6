"""The mesh's credentials: read and checked at the start, shown to nobody but the peer."""

from pathlib import Path

import pytest

from pointsman.chassis.config import Secret
from pointsman.chassis.mesh import TOKEN_KEY, Mesh, MeshSettings, load_mesh, mesh_of
from pointsman.errors import ConfigError

TOKEN = "0123456789abcdef0123456789abcdef"
NEXT = TOKEN[::-1]


def settings_of(token: str | None = None, **settings: object) -> MeshSettings:
    """Returns settings, with the token as the environment would give it."""
    secret = Secret(token) if token else None
    return MeshSettings(token=secret, **settings)  # type: ignore[arg-type]


def test_without_settings_nothing_is_shown_and_nothing_asked_for() -> None:
    """A first run on one machine needs no secret."""
    mesh = load_mesh(MeshSettings())
    assert mesh == Mesh()
    assert mesh.call_metadata == ()
    assert mesh.server_credentials() is None
    assert mesh.channel_credentials() is None


def test_the_token_goes_with_every_call_and_shows_nowhere_else() -> None:
    """Settings and credentials end up in tracebacks; the token must not."""
    settings = settings_of(TOKEN)
    mesh = load_mesh(settings)
    assert mesh.call_metadata == ((TOKEN_KEY, TOKEN),)
    assert TOKEN not in repr(settings) + repr(mesh) + str(mesh.tokens)


def test_a_file_may_hold_the_next_token_too(tmp_path: Path) -> None:
    """The first is shown and every one is let in, so that a change needs no standstill."""
    path = tmp_path / "token"
    path.write_text(f"  {TOKEN}\n{NEXT}\n")
    mesh = load_mesh(settings_of(token_file=str(path)))
    assert [token.reveal() for token in mesh.tokens] == [TOKEN, NEXT]
    assert mesh.call_metadata == ((TOKEN_KEY, TOKEN),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "0 characters"),
        (" \n", "0 characters"),
        ("hunter2", "7 characters"),
        (f"{TOKEN}\nhunter2", "7 characters"),
        (TOKEN[:-1], "31 characters"),
        (f"{TOKEN}ü", "ASCII"),
        (f"{TOKEN}\x00", "ASCII"),
    ],
)
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(
    tmp_path: Path, text: str, said: str
) -> None:
    """The file is named, the remedy too, and no part of the token."""
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_mesh(settings_of(token_file=str(path)))
    assert f"POINTSMAN_MESH_TOKEN_FILE={path}" in caught.value.message
    assert said in caught.value.message
    assert "hunter2" not in caught.value.message
    assert TOKEN[:-1] not in caught.value.message


def test_two_places_for_one_token_are_one_too_many(tmp_path: Path) -> None:
    """Whichever counted, somebody would change the other."""
    with pytest.raises(ConfigError, match="both set"):
        load_mesh(settings_of(TOKEN, token_file=str(tmp_path / "token")))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A secret that was not mounted is the commonest mistake of all."""
    with pytest.raises(ConfigError, match=r"POINTSMAN_MESH_TOKEN_FILE=.*nowhere: cannot be read"):
        load_mesh(settings_of(token_file=str(tmp_path / "nowhere")))


def test_half_of_tls_is_no_tls() -> None:
    """The missing variables are named, before anything is read."""
    with pytest.raises(ConfigError, match="POINTSMAN_TLS_KEY and POINTSMAN_TLS_CA"):
        load_mesh(settings_of(tls_certificate="own.pem"))


def test_tls_files_that_are_none_are_named(tmp_path: Path) -> None:
    """Without this gRPC says that the port is taken."""
    path = tmp_path / "nonsense.pem"
    path.write_text("nonsense")
    files = dict.fromkeys(("tls_certificate", "tls_key", "tls_ca"), str(path))
    with pytest.raises(ConfigError, match=r"nonsense\.pem"):
        load_mesh(settings_of(**files))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_on_loopback_nothing_is_asked_for(host: str) -> None:
    """`make up` needs no secret."""
    Mesh().require_closed(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.7", "scorer"])
def test_beyond_loopback_something_is(host: str, caplog: pytest.LogCaptureFixture) -> None:
    """A token or a word that none is wanted, which the log repeats."""
    with pytest.raises(ConfigError, match="POINTSMAN_MESH_TOKEN") as caught:
        Mesh().require_closed(host)
    assert len(caught.value.message.splitlines()) == 1
    Mesh(tokens=(Secret(TOKEN),)).require_closed(host)
    assert caplog.records == []
    Mesh(insecure=True).require_closed(host)
    (record,) = caplog.records
    assert record.levelname == "WARNING"


def test_a_caller_beside_a_service_reads_only_its_mesh(tmp_path: Path) -> None:
    """A health check takes the service's own file, of which it knows no other key."""
    path = tmp_path / "scorer.yaml"
    path.write_text("workers: 2\nmesh: {tls_server_name: pointsman}\n")
    mesh = mesh_of(str(path), {"POINTSMAN_MESH_TOKEN": TOKEN})
    assert mesh.server_name == "pointsman"
    assert mesh.call_metadata == ((TOKEN_KEY, TOKEN),)
