"""Which text of a conversation is scored, whatever clients send."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.prompts import PromptPolicy, message_text, prompt_text

POLICIES: tuple[PromptPolicy, ...] = get_args(PromptPolicy)
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "an answer"},
    {"role": "user", "content": "second"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    {"role": "tool", "content": "a result", "tool_call_id": "1"},
]

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["type", "text", "role", "content"]), inner, max_size=4)
    ),
    max_leaves=8,
)
MESSAGES = st.lists(
    st.dictionaries(ANY_TEXT, JSON, max_size=2)
    | st.fixed_dictionaries(
        {},
        optional={"role": st.sampled_from(["user", "system", "tool"]) | JSON, "content": JSON},
    ),
    max_size=4,
)


def test_by_default_the_last_user_turn_is_scored() -> None:
    """Routers were trained on single user turns; a tool's result is not one."""
    assert prompt_text(CONVERSATION) == "second"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("last_user_turn", "second"),
        ("first_user_turn", "first"),
        ("whole_conversation", "Be brief.\n\nfirst\n\nan answer\n\nsecond\n\na result"),
    ],
)
def test_each_policy_picks_its_turns(policy: PromptPolicy, expected: str) -> None:
    """The operator's choice of text is honoured."""
    assert prompt_text(CONVERSATION, policy) == expected


@pytest.mark.parametrize("policy", POLICIES)
def test_one_user_turn_is_the_prompt_under_every_policy(policy: PromptPolicy) -> None:
    """The usual request is scored the same however the gateway is set up."""
    assert prompt_text([{"role": "user", "content": "Hello"}], policy) == "Hello"


@pytest.mark.parametrize("policy", ["last_user_turn", "first_user_turn"])
def test_without_a_user_turn_the_last_turn_with_text_is_scored(policy: PromptPolicy) -> None:
    """Agents send conversations without users; they too should be routed by what was said."""
    messages = [
        {"role": "system", "content": "early"},
        {"role": "assistant", "content": "late"},
        {"role": "assistant", "content": None},
        {"role": "tool", "content": ""},
    ]
    assert prompt_text(messages, policy) == "late"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("messages", [[], [{}], [{"role": "assistant", "content": None}]])
def test_no_text_at_all_is_the_empty_prompt(policy: PromptPolicy, messages: list[Any]) -> None:
    """There is always something to score."""
    assert prompt_text(messages, policy) == ""


def test_a_user_turn_that_is_only_an_image_is_the_empty_prompt() -> None:
    """The turn that is asked about counts, not an older one that happens to have words."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    messages = [
        {"role": "user", "content": "an older question"},
        {"role": "user", "content": [image]},
    ]
    assert prompt_text(messages) == ""


def test_text_parts_are_joined_and_all_others_passed_over() -> None:
    """Images, sounds and files carry no text; their neighbours do."""
    parts: list[object] = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
        {"type": "text", "text": None},
        "a stray string",
        None,
        {"type": "text", "text": "this?"},
    ]
    assert message_text({"role": "user", "content": parts}) == "What is\nthis?"


@pytest.mark.parametrize("content", [None, 5, True, {"text": "x"}, {}, [[]], [5]])
def test_content_of_any_other_shape_has_no_text(content: object) -> None:
    """A shape nobody foresaw must not break routing."""
    assert message_text({"role": "user", "content": content}) == ""


def test_half_an_emoji_becomes_a_replacement_character() -> None:
    """JavaScript cuts emoji in half, and protobuf refuses such strings."""
    assert prompt_text([{"role": "user", "content": "a\ud83db\ude00"}]) == "a�b�"


def test_an_emoji_in_two_escaped_halves_is_whole_again() -> None:
    """Two halves in the right order are one character, not two errors."""
    assert prompt_text([{"role": "user", "content": "a\ud83d\ude00b\ud83d"}]) == "a😀b�"


@given(st.text())
def test_valid_text_is_not_touched(text: str) -> None:
    """The scorer sees exactly what the user wrote."""
    assert prompt_text([{"role": "user", "content": text}]) == text


@given(MESSAGES, st.sampled_from(POLICIES))
def test_no_messages_break_routing(messages: list[dict[str, Any]], policy: PromptPolicy) -> None:
    """Whatever JSON a client sends, there is a prompt that can go on the wire."""
    prompt_text(messages, policy).encode()
