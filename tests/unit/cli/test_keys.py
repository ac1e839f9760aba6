"""`pointsman keys`: the key once on standard output, its digest in the file, and nothing lost."""

import stat
from pathlib import Path

import pytest

from pointsman.api_keys import ApiKey, read_keys_file, sha256_of
from pointsman.cli.main import main


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of keys that is not there yet."""
    return tmp_path / "keys.yaml"


def test_the_key_alone_is_on_standard_output(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pointsman keys create ... > key` has a key and nothing else, and the file has no key."""
    arguments = ["keys", "create", "team-a", "--routers", "mf", "random", "--models"]
    assert main([*arguments, "--file", str(path)]) == 0
    told = capsys.readouterr()
    key = told.out.strip()
    assert told.out == f"{key}\n"
    assert key.startswith("pmk_")
    assert key not in told.err
    assert "routers: mf, random; no model" in told.err
    assert key not in path.read_text()
    assert read_keys_file(str(path)) == {
        "team-a": ApiKey(sha256=sha256_of(key), routers=("mf", "random"), models=())
    }


def test_without_a_file_the_entry_is_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a file on another machine; it fits under `keys` as it stands."""
    assert main(["keys", "create", "team-a", "--models", "strong"]) == 0
    told = capsys.readouterr()
    entry = told.err.splitlines()[1]
    path.write_text(f"keys:\n{entry}\n")
    assert read_keys_file(str(path)) == {
        "team-a": ApiKey(sha256=sha256_of(told.out.strip()), models=("strong",))
    }


def test_a_new_file_is_its_owners_and_an_old_one_keeps_its_mode(path: Path) -> None:
    """Who reads the digests cannot call, and still it is nobody's business who may."""
    assert main(["keys", "create", "a", "--file", str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    assert main(["keys", "create", "b", "--file", str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(read_keys_file(str(path))) == ["a", "b"]


def test_a_name_that_exists_is_refused_without_a_key(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Overwriting would lock somebody out in silence."""
    assert main(["keys", "create", "a", "--file", str(path)]) == 0
    before = path.read_bytes()
    capsys.readouterr()
    assert main(["keys", "create", "a", "--file", str(path)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "there is a key a already" in told.err
    assert path.read_bytes() == before


def test_the_list_says_who_may_use_what(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line a key, in the file's order."""
    for arguments in (["team-b", "--routers", "mf"], ["a", "--routers", "--models", "weak"]):
        assert main(["keys", "create", *arguments, "--file", str(path)]) == 0
    capsys.readouterr()
    assert main(["keys", "list", "--file", str(path)]) == 0
    assert capsys.readouterr().out == (
        "team-b  routers: mf; every model\na       no router; models: weak\n"
    )


def test_revoking_removes_one_and_says_when_none_is_left(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gateway whose last key was revoked does not start, rather than letting everybody in."""
    for name in ("a", "b"):
        assert main(["keys", "create", name, "--file", str(path)]) == 0
    capsys.readouterr()
    assert main(["keys", "revoke", "a", "--file", str(path)]) == 0
    assert list(read_keys_file(str(path))) == ["b"]
    assert "restart the gateway" in capsys.readouterr().err
    assert main(["keys", "revoke", "b", "--file", str(path)]) == 0
    assert "does not start with an empty file" in capsys.readouterr().err
    assert main(["keys", "list", "--file", str(path)]) == 1
    assert "keys is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["create", "a b"], "keys.`a b` is not a name"),
        (["create", "pmk_abc"], "is not a name"),
        (["create", "a", "--routers", "MF"], "`MF` is no router's name"),
        (["create", "a", "--models", "router-mf-0.5"], "name its router under routers"),
        (["create", "a", "--file", "/dev/null/keys"], "/dev/null/keys: cannot be"),
        (["revoke", "a", "--file", "/nowhere/keys"], "/nowhere/keys: cannot be read: No such file"),
        (["list", "--file", "/nowhere/keys"], "/nowhere/keys: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_no_key(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    """A key is shown only if it is worth something."""
    assert main(["keys", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert told in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("action", [[], ["create"], ["list"], ["revoke"]])
def test_every_action_has_examples(action: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """They come with its help."""
    with pytest.raises(SystemExit) as ended:
        main(["keys", *action, "--help"])
    assert ended.value.code == 0
    assert f"examples:\n  pointsman keys {' '.join(action)}" in capsys.readouterr().out
