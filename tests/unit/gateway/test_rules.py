"""Rules: what a request has decides, whatever shapes clients send."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.rules import RuleSettings, matching

RULES = {
    "pictures": RuleSettings(model="eyes", has=["image"]),
    "tools": RuleSettings(model="big", has=["tools"]),
    "long": RuleSettings(model="big", characters_over=10),
    "legal": RuleSettings(model="big", headers={"X-Team": "legal"}),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
PARTS = st.lists(
    JSON | st.fixed_dictionaries({"type": JSON | st.just("image_url")}, optional={"text": JSON})
)
MESSAGES = st.lists(st.fixed_dictionaries({}, optional={"role": JSON, "content": JSON | PARTS}))


def said(content: Any) -> list[dict[str, Any]]:
    """Returns a conversation of one message."""
    return [{"role": "user", "content": content}]


def fitting(content: Any = "Hi", tools: Any = None, headers: Any = None) -> str | None:
    """Returns the rule for a request."""
    return matching(RULES, said(content), tools, headers or {})


@given(MESSAGES, JSON, st.dictionaries(st.text(), st.text()))
def test_no_request_breaks_the_rules(messages: Any, tools: Any, headers: Any) -> None:
    """A strange message is the provider's to refuse; here it only fits or does not."""
    assert matching(RULES, messages, tools, headers) in {*RULES, None}
    assert matching({}, messages, tools, headers) is None


@given(PARTS)
def test_an_image_is_found_beside_whatever_else(parts: list[Any]) -> None:
    """One picture is enough for a model that sees."""
    assert fitting([*parts, {"type": "image_url", "image_url": {"url": "data:"}}]) == "pictures"


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("image_url", "image"),
        ("input_image", "image"),
        ("input_audio", "audio"),
        ("file", "file"),
        ("input_file", "file"),
        ("text", None),
        (["image_url"], None),
    ],
)
def test_parts_go_by_their_type(kind: Any, part: str | None) -> None:
    """As OpenAI's two APIs call them; what is no string is no type."""
    for wanted in ("image", "audio", "file"):
        rules = {"it": RuleSettings(model="m", has=[wanted])}  # type: ignore[list-item]
        found = matching(rules, said([{"type": kind}]), None, {})
        assert found == ("it" if wanted == part else None)


@pytest.mark.parametrize("none", [None, [], {}, "tools", 1, {"a": 1}, True])
def test_only_a_list_with_something_in_it_is_tools(none: Any) -> None:
    """Clients send `tools: []` and null for none."""
    assert fitting(tools=none) is None
    assert fitting(tools=[{"type": "function"}]) == "tools"


def test_length_is_of_the_whole_conversation_and_over_the_limit() -> None:
    """Context windows hold all of it, and a limit is not over itself."""
    assert fitting("x" * 10) is None
    assert fitting("x" * 11) == "long"
    assert matching(RULES, said("x" * 5) + said("x" * 5), None, {}) == "long"


def test_a_header_counts_in_any_case_and_its_value_exactly() -> None:
    """HTTP's names have no case; values are whatever the operator agreed on."""
    assert fitting(headers={"x-tEAM": "legal"}) == "legal"
    assert fitting(headers={"x-team": "Legal"}) is None
    assert fitting(headers={"x-teams": "legal"}) is None


def test_every_condition_must_hold_and_the_first_rule_counts() -> None:
    """The order of the file is the order of importance."""
    assert fitting([{"type": "image_url"}], tools=[1]) == "pictures"
    both = {"both": RuleSettings(model="m", has=["image", "tools"], characters_over=1)}
    picture = {"type": "image_url"}
    assert matching(both, said([picture, {"text": "Hi"}]), [1], {}) == "both"
    assert matching(both, said([picture]), [1], {}) is None
    assert matching(both, said([picture, {"text": "Hi"}]), None, {}) is None
