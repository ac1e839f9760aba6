"""Who is let in, as the operator set it; and no gateway stands open to the network by accident."""

from pathlib import Path
from typing import Any

import pytest

from pointsman.api_keys import ApiKey, sha256_of
from pointsman.chassis.config import convert
from pointsman.errors import ConfigError
from services.gateway.config import GatewaySettings, api_keys, load

DIGEST = sha256_of("pmk_abc")
BEYOND = ["0.0.0.0", "::", "", "10.0.0.1", "gateway.example", "::ffff:127.0.0.1"]


@pytest.fixture
def keys_file(tmp_path: Path) -> str:
    """A file with one key."""
    path = tmp_path / "keys.yaml"
    path.write_text(f"keys:\n  team-a: {{sha256: {DIGEST}}}\n")
    return str(path)


def settings(**values: Any) -> GatewaySettings:
    """Returns settings as a file would have them."""
    return convert(values, GatewaySettings, source="gateway.yaml")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_loopback_nobody_needs_a_key(host: str) -> None:
    """A first run needs nothing."""
    assert api_keys(settings(host=host), "gateway.yaml") == {}


@pytest.mark.parametrize("host", BEYOND)
def test_beyond_loopback_there_must_be_keys(host: str, keys_file: str) -> None:
    """Whoever can reach it spends the operator's money; the message has both ways out."""
    with pytest.raises(ConfigError) as raised:
        api_keys(settings(host=host), "gateway.yaml")
    for told in (host, "pointsman keys create", "POINTSMAN_KEYS_FILE", "POINTSMAN_ALLOW_ANONYMOUS"):
        assert told in raised.value.message
    assert "\n" not in raised.value.message
    assert api_keys(settings(host=host, allow_anonymous=True), "gateway.yaml") == {}
    assert api_keys(settings(host=host, keys_file=keys_file), "gateway.yaml")


def test_keys_come_from_a_file_or_stand_in_the_settings(keys_file: str) -> None:
    """Both are read alike; with keys, `allow_anonymous` lets nobody in."""
    expected = {"team-a": ApiKey(sha256=DIGEST)}
    inline = {"team-a": {"sha256": DIGEST}}
    assert api_keys(settings(keys_file=keys_file), "gateway.yaml") == expected
    assert api_keys(settings(keys=inline), "gateway.yaml") == expected
    assert api_keys(settings(keys=inline, allow_anonymous=True), "gateway.yaml") == expected


@pytest.mark.parametrize("keys", [None, {}, [], "pmk_secret", {"a": "pmk_secret"}])
def test_keys_that_are_none_are_an_error_and_not_an_open_door(keys: Any) -> None:
    """Somebody wrote `keys`, so they want them; on loopback too, and nothing is quoted."""
    with pytest.raises(ConfigError, match=r"^gateway\.yaml: keys") as raised:
        api_keys(settings(keys=keys, allow_anonymous=True), "gateway.yaml")
    assert "pmk_secret" not in raised.value.message


def test_two_places_for_keys_are_one_too_many(keys_file: str) -> None:
    """Revoking in one of them would look done."""
    both = settings(keys={"a": {"sha256": DIGEST}}, keys_file=keys_file)
    with pytest.raises(ConfigError, match=r"gateway\.yaml has keys, and keys_file is .*keys\.yaml"):
        api_keys(both, "gateway.yaml")


def test_the_environment_names_the_file_and_opens_the_door(keys_file: str) -> None:
    """Containers have nothing else; a value that is neither true nor false is an error."""
    given = load({"POINTSMAN_KEYS_FILE": keys_file, "POINTSMAN_ALLOW_ANONYMOUS": "true"})
    assert (given.keys_file, given.allow_anonymous) == (keys_file, True)
    assert load({}).allow_anonymous is False
    with pytest.raises(ConfigError, match="POINTSMAN_ALLOW_ANONYMOUS=maybe"):
        load({"POINTSMAN_ALLOW_ANONYMOUS": "maybe"})
    with pytest.raises(ConfigError, match=r"gateway\.yaml: .*\$\.keys_file"):
        settings(keys_file="")


def test_limits_that_contradict_each_other_are_an_error() -> None:
    """A gateway that takes fewer than it never refuses would do neither; the message has both."""
    with pytest.raises(ConfigError) as raised:
        settings(admission={"max_unanswered": 10})
    for told in ("gateway.yaml", "calm_unanswered is 64", "max_unanswered only 10", "$.admission"):
        assert told in raised.value.message
    lowered = settings(admission={"max_unanswered": 10, "calm_unanswered": 10}).admission
    assert (lowered.max_unanswered, lowered.calm_unanswered) == (10, 10)
    with pytest.raises(ConfigError, match=r"\$\.admission\.max_delay_seconds"):
        settings(admission={"max_delay_seconds": 0})


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"aliases": {"router-x": "big"}}, "an alias may not be called `router-x`"),
        ({"aliases": {"": "big"}}, "$.aliases"),
        ({"aliases": {"gpt-4o": "router-mf-7"}}, "$.aliases.gpt-4o"),
        ({"aliases": {"gpt-4o": ""}}, "$.aliases.gpt-4o"),
        ({"aliases": {"gpt-4o": 5}}, "$.aliases.gpt-4o"),
        ({"rules": {"a": {"model": "big"}}}, "needs a condition: has, characters_over or headers"),
        ({"rules": {"A b": {"model": "big", "has": ["tools"]}}}, "`A b`"),
        ({"rules": {"a\n": {"model": "big", "has": ["tools"]}}}, "[a-z0-9_-]+"),
        ({"rules": {"a": {"model": "big", "has": ["video"]}}}, "$.rules.a.has.0"),
        ({"rules": {"a": {"model": "big", "characters_over": -1}}}, "$.rules.a.characters_over"),
        ({"rules": {"a": {"has": ["tools"]}}}, "missing required field `model`"),
    ],
)
def test_an_alias_or_rule_that_cannot_work_ends_the_start(
    values: dict[str, Any], told: str
) -> None:
    """One line that says where to look, instead of requests that go elsewhere than was meant."""
    with pytest.raises(ConfigError, match=r"^gateway\.yaml: ") as raised:
        settings(**values)
    assert told in raised.value.message
    assert "\n" not in raised.value.message


def test_every_model_that_is_named_has_its_key_path() -> None:
    """The gateway is not ready without them, and the message says where each was written."""
    given = settings(
        aliases={"gpt-4o": "router-mf-p30", "cheap": "small"},
        rules={"pictures": {"model": "eyes", "has": ["image"]}},
    )
    assert given.models() == {
        "pair.strong": "strong",
        "pair.weak": "weak",
        "aliases.cheap": "small",
        "rules.pictures.model": "eyes",
    }
