"""Keys, their file, and edits that lose nothing of it."""

import hashlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pointsman.api_keys import (
    ApiKey,
    entry_text,
    new_key,
    parse_keys,
    raw_keys,
    read_keys_file,
    sha256_of,
    with_key,
    without_key,
)
from pointsman.errors import ConfigError

SECRET = "pmk_planted-and-never-to-be-seen-again-0123456"
A, B, C = (sha256_of(name) for name in "abc")
COMMENTED = f"""\
# Who may call.
keys:
    # Until March.
    team-a: {{sha256: {A}, models: [weak]}}   # Ann

    team-b:
        sha256: {B}
        routers:
            - mf
    # The end.
"""


def test_a_key_is_256_random_bits_that_need_no_quoting() -> None:
    """Nobody guesses it, and it passes through headers, URLs, shells and YAML as it is."""
    keys = {new_key() for _ in range(1000)}
    assert len(keys) == 1000
    for key in keys:
        assert key.startswith("pmk_")
        assert len(key) == len("pmk_") + 43
        assert key.replace("-", "").replace("_", "").isalnum()


def test_the_digest_is_the_one_that_sha256sum_prints() -> None:
    """A key made elsewhere can be entered by hand."""
    assert sha256_of("pmk_abc") == hashlib.sha256(b"pmk_abc").hexdigest()


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_has_a_digest(text: str) -> None:
    """What a client sends is hashed, half an emoji too; it is never a fault of ours."""
    assert len(sha256_of(text)) == 64


def test_a_file_says_who_may_use_what(tmp_path: Path) -> None:
    """What is left out is allowed, an empty list allows nothing."""
    path = tmp_path / "keys.yaml"
    path.write_text(
        f"keys:\n  a: {{sha256: {A.upper()}}}\n  b: {{sha256: {B}, routers: [mf], models: []}}\n"
    )
    assert read_keys_file(str(path)) == {
        "a": ApiKey(sha256=A),
        "b": ApiKey(sha256=B, routers=("mf",), models=()),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "keys is empty, so nobody could call; add one with `pointsman keys create NAME`"),
        ("# nothing\n", "keys is empty"),
        ("keys:\n", "keys is empty"),
        ("keys: {}\n", "keys is empty"),
        ("keys: []\n", "keys is no mapping of names"),
        (f"keys: {SECRET}\n", "keys is no mapping of names"),
        ("- keys\n", "expected one field, keys"),
        (f"team-a: {{sha256: {A}}}\n", "expected one field, keys"),
        (f"keys: {{a: {{sha256: {A}}}}}\nport: 1\n", "nothing beside it"),
        (f"keys: {{1: {{sha256: {A}}}}}\n", "keys.`1` is not a name"),
        (f"keys: {{a b: {{sha256: {A}}}}}\n", "keys.`a b` is not a name"),
        (f"keys: {{{SECRET}: {{sha256: {A}}}}}\n", "keys.(a key?) is not a name"),
        ("keys: {a: }\n", "keys.a is no mapping"),
        (f"keys: {{a: {SECRET}}}\n", "keys.a is no mapping"),
        ("keys: {a: {}}\n", "keys.a.sha256 is not the SHA-256 of a key"),
        ("keys: {a: {sha256: 12}}\n", "keys.a.sha256 is not"),
        (f"keys: {{a: {{sha256: {SECRET}}}}}\n", "`pointsman keys create` makes one"),
        (f"keys: {{a: {{sha256: {A}0}}}}\n", "keys.a.sha256 is not"),
        (f"keys: {{a: {{sha256: {A}, router: [mf]}}}}\n", "keys.a.`router` is no field of a key"),
        (f"keys: {{a: {{sha256: {A}, {SECRET}: 1}}}}\n", "keys.a.(a key?) is no field"),
        (f"keys: {{a: {{sha256: {A}, routers: mf}}}}\n", "keys.a.routers is no list"),
        (f"keys: {{a: {{sha256: {A}, models: }}}}\n", "keys.a.models is no list"),
        (f"keys: {{a: {{sha256: {A}, models: [4.1]}}}}\n", "keys.a.models is no list"),
        (f"keys: {{a: {{sha256: {A}, routers: [router-mf-1]}}}}\n", "is no router's name"),
        (f"keys: {{a: {{sha256: {A}, models: [router-mf-1]}}}}\n", "name its router under routers"),
        (
            f"keys:\n  a: {{sha256: {A}}}\n  b: {{sha256: {A}}}\n",
            "keys.b.sha256 is that of keys.a too",
        ),
        (f"keys:\n  a: {{sha256: {A}}}\n  a: {{sha256: {B}}}\n", "`a` at line 3"),
        ("keys: {}\nkeys: {}\n", "`keys` at line 2"),
        (f"keys: {{a: {{sha256: {A}, sha256: {B}}}}}\n", "`sha256` at line 1"),
        (f"keys:\n  a: {{{SECRET}\n", "not YAML at line 3, column 1"),
        (f"a: 1\n--- {SECRET}\n", "not YAML at line 2"),
        (f"keys: !{SECRET} 1\n", "not YAML at line 1"),
        ("keys: 2024-13-45\n", "not YAML"),
        ("keys: " + "[" * 5000, "not YAML"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line_without_a_secret(
    tmp_path: Path, text: str, told: str
) -> None:
    """The operator sees where and what to do, and a key put there by mistake stays unseen."""
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_keys_file(str(path))
    message = raised.value.message
    assert message.startswith(f"{path}: ")
    assert told in message
    assert "\n" not in message
    assert SECRET not in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A wrong mount is the commonest mistake of all."""
    with pytest.raises(ConfigError, match="gone: cannot be read: No such file"):
        read_keys_file(str(tmp_path / "gone"))
    (tmp_path / "latin").write_bytes(b"keys: {\xfc: 1}")
    with pytest.raises(ConfigError, match="is not UTF-8 at byte 7"):
        read_keys_file(str(tmp_path / "latin"))


def test_adding_keeps_every_byte_that_was_there() -> None:
    """Comments say why somebody has a key; an edit must not cost them."""
    key = ApiKey(sha256=C, routers=("mf",))
    assert with_key(COMMENTED, "team-c", key, "f") == (
        f"{COMMENTED}    team-c: {{sha256: {C}, routers: [mf]}}\n"
    )


@pytest.mark.parametrize(
    "text", ["", "# Mine.\n", "# Mine.", "keys:\n", "keys:", "keys:\n# End.\n"]
)
def test_the_first_key_is_added_to_next_to_nothing(text: str) -> None:
    """A new file, and one whose last key was revoked."""
    after = with_key(text, "a", ApiKey(sha256=A), "f")
    assert after.startswith(text)
    assert parse_keys(raw_keys(after, "f"), "f") == {"a": ApiKey(sha256=A)}


def test_windows_line_ends_stay() -> None:
    """An edit is one line, not the whole file in another dress."""
    text = COMMENTED.replace("\n", "\r\n")
    assert with_key(text, "c", ApiKey(sha256=C), "f").startswith(text)
    assert without_key(text, "team-b", "f").count("\r\n") == 6


def test_revoking_removes_the_lines_of_the_key_and_no_others() -> None:
    """Written in braces or not, with what stands around it kept."""
    lines = COMMENTED.splitlines(keepends=True)
    assert without_key(COMMENTED, "team-a", "f") == "".join(lines[:3] + lines[4:])
    assert without_key(COMMENTED, "team-b", "f") == "".join(lines[:5] + lines[9:])


def test_the_last_key_can_be_revoked() -> None:
    """The file is then one that the gateway refuses, so that nobody is let in by mistake."""
    left = without_key(f"keys:\n  a: {{sha256: {A}}}\n", "a", "f")
    assert left == "keys:\n"
    with pytest.raises(ConfigError, match="keys is empty"):
        parse_keys(raw_keys(left, "f"), "f")


def test_a_broken_entry_can_be_revoked() -> None:
    """Removing it is how it is mended."""
    assert without_key("keys:\n  a: {sha256: 1}\n", "a", "f") == "keys:\n"


@pytest.mark.parametrize(
    "text",
    [
        f"keys: {{a: {{sha256: {A}}}, b: {{sha256: {B}}}}}\n",
        f"keys:\n  {{a: {{sha256: {A}}},\n   b: {{sha256: {B}}}}}\n",
        f"keys:\n  a: &x\n    sha256: {A}\n  b: {{<<: *x, sha256: {B}}}\n...\n",
    ],
)
def test_what_cannot_be_edited_by_lines_is_refused_and_not_rewritten(text: str) -> None:
    """A file in somebody's own style is theirs; the message says what would help."""
    with pytest.raises(ConfigError, match="cannot add c without writing the file anew"):
        with_key(text, "c", ApiKey(sha256=C), "f")
    with pytest.raises(ConfigError, match="cannot remove a without writing the file anew"):
        without_key(text, "a", "f")


def test_a_name_that_is_taken_or_missing_is_told() -> None:
    """Two keys under one name, or a typing mistake that revokes nothing, would go unseen."""
    with pytest.raises(ConfigError, match=r"there is a key team-a already.*keys revoke team-a"):
        with_key(COMMENTED, "team-a", ApiKey(sha256=C), "f")
    with pytest.raises(
        ConfigError, match="there is no key `team-x`; there are: `team-a`, `team-b`"
    ):
        without_key(COMMENTED, "team-x", "f")
    with pytest.raises(ConfigError, match=r"there is no key \(a key\?\); there are: none"):
        without_key("", SECRET, "f")


def test_nothing_is_added_to_a_file_that_the_gateway_would_refuse() -> None:
    """It is told now, not at the gateway's next start."""
    with pytest.raises(ConfigError, match=r"keys\.a\.sha256"):
        with_key("keys:\n  a: {sha256: 1}\n", "b", ApiKey(sha256=B), "f")


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


@given(
    st.dictionaries(
        NAMES,
        st.tuples(
            st.none() | st.lists(st.from_regex(r"[a-z0-9_]+", fullmatch=True)),
            st.none() | st.lists(st.text(min_size=1).filter(lambda m: not m.startswith("router-"))),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_added_is_read_back_and_what_is_removed_is_gone(
    allowed: dict[str, tuple[list[str] | None, list[str] | None]],
) -> None:
    """Names such as `yes`, `1e3` or `null`, and models of any spelling, stay what they are."""
    keys = {
        name: ApiKey(
            sha256=sha256_of(name),
            routers=None if routers is None else tuple(routers),
            models=None if models is None else tuple(models),
        )
        for name, (routers, models) in allowed.items()
    }
    text = "# Who may call.\n"
    for name, key in keys.items():
        text = with_key(text, name, key, "f")
    assert parse_keys(raw_keys(text, "f"), "f") == keys
    for name in keys:
        text = without_key(text, name, "f")
    assert text == "# Who may call.\nkeys:\n"


def test_an_entry_is_one_line_of_yaml() -> None:
    """It is printed for another file to be put under `keys`."""
    line = entry_text("null", ApiKey(sha256=A, models=("x" * 200, "a: b")))
    assert "\n" not in line
    assert yaml.safe_load(line) == {"null": {"sha256": A, "models": ["x" * 200, "a: b"]}}
