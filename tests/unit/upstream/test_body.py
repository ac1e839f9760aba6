"""The provider gets the client's body: two places changed, every other byte as it was."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.errors import InvalidRequest
from services.upstream.body import ClientBody

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=6)
NUMBERS = st.sampled_from(
    ["0", "-0", "-0.0", "1.500", "1E5", "1e-7", "1e400", "-1e400", "123456789012345678901234567890"]
)
STRINGS = st.sampled_from(
    [r'"\ud83d"', r'"\udc00x"', r'"\ud83d\ude00"', r'"\u0041\/\""', '"é😀"', '""', '"}, {"']
) | ANY_TEXT.map(json.dumps)
SPACE = st.sampled_from(["", " ", "\t", "\r\n "])


@st.composite
def written(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    """A list or an object, with room between its tokens and members that come twice."""
    items = draw(st.lists(values, max_size=3))
    gap = draw(SPACE)
    if draw(st.booleans()):
        return f"[{gap}{f'{gap},'.join(items)}{gap}]"
    members = [f'"{draw(st.sampled_from("ab"))}"{gap}:{gap}{item}' for item in items]
    return f"{{{gap}{f',{gap}'.join(members)}{gap}}}"


VALUES = st.recursive(
    NUMBERS | STRINGS | st.sampled_from(["null", "true", "false"]), written, max_leaves=6
)
NAMES = st.sampled_from(["messages", "model", "temperature", "stream", "é", "a", "b"])
MEMBERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


def joined(members: dict[str, str]) -> bytes:
    """Writes an object the way the upstream does."""
    return ("{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}").encode()


def address_to(body: bytes, model: str, *, want_usage: bool) -> tuple[bytes, bool]:
    """Returns the provider's body, and whether usage is asked for against the client."""
    return ClientBody(body).address_to(model, want_usage=want_usage)


def addressed(body: bytes, *, want_usage: bool = False) -> bytes:
    """Returns the provider's body alone."""
    return address_to(body, "acme-1", want_usage=want_usage)[0]


def test_the_provider_reads_its_own_name_for_the_model() -> None:
    """`router-mf-0.5` means nothing to a provider."""
    body = b'{"model": "router-mf-0.5", "messages": [{"role": "user", "content": "Hi"}]}'
    assert addressed(body) == (b'{"model":"acme-1","messages":[{"role": "user", "content": "Hi"}]}')


@given(MEMBERS, SPACE)
@example([("a", "1e400"), ("b", r'"\ud83d"')], "")
@example([("a", "123456789012345678901234567890"), ("model", "1"), ("a", "1E5")], " ")
def test_every_other_member_keeps_its_bytes_and_its_place(
    members: list[tuple[str, str]], gap: str
) -> None:
    """Digits, escapes and members that OpenAI has not invented yet reach the provider untouched."""
    body = f",{gap}".join(f'"{name}"{gap}:{gap}{value}' for name, value in members)
    expected = {**dict(members), "model": '"acme-1"'}
    assert addressed(f"{gap}{{{gap}{body}{gap}}}{gap}".encode()) == joined(expected)


@given(MEMBERS)
def test_usage_is_asked_for_beside_whatever_else_there_is(members: list[tuple[str, str]]) -> None:
    """The wish for usage is the second of the two places, and the last in the body."""
    body = "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}"
    expected = {
        **dict(members),
        "model": '"acme-1"',
        "stream_options": '{"include_usage":true}',
    }
    assert address_to(body.encode(), "acme-1", want_usage=True) == (joined(expected), True)


@pytest.mark.parametrize("model", ['quote " and \\', "line\nbreak", "ünï"])
def test_a_models_name_is_written_as_json(model: str) -> None:
    """A name from the models file must not break the body."""
    body, _ = address_to(b'{"model": "x"}', model, want_usage=False)
    assert json.loads(body) == {"model": model}


@pytest.mark.parametrize("name", [r"\ud83d", r"\u0061", r"\"", r"\n", "é", ""])
def test_a_members_name_may_be_anything(name: str) -> None:
    """`metadata` is not the only place where users invent names."""
    body = f'{{"{name}": 1, "model": "x"}}'.encode()
    assert json.loads(addressed(body)) == {**json.loads(body), "model": "acme-1"}


def test_a_whole_answer_has_usage_anyway() -> None:
    """`stream_options` without a stream is an error at OpenAI."""
    assert address_to(b'{"model":"x"}', "m", want_usage=False) == (b'{"model":"m"}', False)


@pytest.mark.parametrize(
    ("options", "expected", "added"),
    [
        ('{"include_usage": true}', '{"include_usage": true}', False),
        ('{"include_usage": false}', '{"include_usage":true}', True),
        ('{"include_usage": null}', '{"include_usage":true}', True),
        ("null", '{"include_usage":true}', True),
        ("{}", '{"include_usage":true}', True),
        ('{"x":1}', '{"x":1,"include_usage":true}', True),
        ('"mistake"', '"mistake"', False),
        ("[1]", "[1]", False),
    ],
)
def test_usage_is_added_only_where_the_client_did_not_ask(
    options: str, expected: str, added: bool
) -> None:
    """What was added is hidden from the client later; what it asked for is not."""
    body = f'{{"model":"x","stream_options":{options}}}'.encode()
    told = joined({"model": '"acme-1"', "stream_options": expected})
    assert address_to(body, "acme-1", want_usage=True) == (told, added)


@pytest.mark.parametrize(
    "value",
    ["1e400", "1E2", "1.50", "123456789012345678901234567890", r'"\ud83d"', r'"\u0041"', "[1, 2]"],
)
def test_other_stream_options_keep_their_bytes(value: str) -> None:
    """Beside `include_usage` they are the provider's business like everything else."""
    body = f'{{"model":"x","stream_options":{{"other":{value}}}}}'.encode()
    told = f'{{"other":{value},"include_usage":true}}'
    expected = joined({"model": '"acme-1"', "stream_options": told})
    assert address_to(body, "acme-1", want_usage=True) == (expected, True)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'"x"', b'{"a":1', b'{"a":NaN}', b'{"a":1}{', b"\xff", b"\xef\xbb\xbf{}"],
)
def test_what_is_no_object_is_the_clients_mistake(body: bytes) -> None:
    """The upstream's callers may be others than our gateway."""
    with pytest.raises(InvalidRequest, match="the body is not a JSON object"):
        addressed(body)


def test_no_depth_of_nesting_is_a_fault_of_ours() -> None:
    """Two readers share one stack: what the first just manages must not break the second."""
    for depth in range(700, 1000):
        nest = b"[" * depth + b"]" * depth
        for body in (
            b'{"a": ' + nest + b"}",
            rb'{"a": "\ud83d", "b": ' + nest + b"}",
            rb'{"a": "\ud83d", "stream_options": {"\ud83d": ' + nest + b"}}",
        ):
            with suppress(InvalidRequest):
                address_to(body, "acme-1", want_usage=True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.one_of(
    st.binary(),
    JSON.map(json.dumps).map(str.encode),
    st.dictionaries(st.just("stream_options") | ANY_TEXT, JSON).map(json.dumps).map(str.encode),
    VALUES.map('{{"stream_options": {}}}'.format).map(str.encode),
)


@given(BODIES, st.booleans())
@example(b'{"stream_options": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", True)
@example(rb'{"stream_options": {"\ud83d": 1}}', True)
def test_no_body_is_a_fault_of_ours(body: bytes, want_usage: bool) -> None:
    """Whatever the bytes: addressed and still JSON, or refused."""
    try:
        told, _ = address_to(body, "acme-1", want_usage=want_usage)
    except InvalidRequest:
        return
    read: dict[str, Any] = json.loads(told)
    assert read["model"] == "acme-1"


def test_one_body_is_addressed_to_one_provider_after_the_other() -> None:
    """A fallback must not get the name and the wishes that the first provider was given."""
    body = ClientBody(b'{"model": "strong", "stream": true}')
    first = body.address_to("acme-1", want_usage=True)
    assert first == (
        b'{"model":"acme-1","stream":true,"stream_options":{"include_usage":true}}',
        True,
    )
    assert body.address_to("other", want_usage=False) == (b'{"model":"other","stream":true}', False)
    assert body.address_to("acme-1", want_usage=True) == first


@pytest.mark.parametrize(
    ("messages", "characters"),
    [
        ('[{"role": "user", "content": "Hello"}]', 5),
        ('[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]', 5),
        ('[{"role": "tool", "content": "42"}, {"role": "user", "content": null}]', 2),
        ('[{"content": [{"type": "image_url", "image_url": {"url": "data:..."}}]}]', 0),
        ('[{"content": [{"type": "input_audio", "input_audio": {"data": "UklG"}}]}]', 0),
        ("[]", 0),
        ("5", 0),
        (r'[{"content": "Hello \ud83d"}]', 7),
    ],
)
def test_text_that_was_sent_is_counted(messages: str, characters: int) -> None:
    """A provider that gives no usage is owed for the prompt all the same; roles are not text."""
    assert ClientBody(f'{{"messages": {messages}}}'.encode()).characters() == characters


@given(BODIES)
def test_no_messages_break_the_count(body: bytes) -> None:
    """It is made when the answer is already paid for."""
    with suppress(InvalidRequest):
        assert ClientBody(body).characters() >= 0


def test_no_depth_of_nesting_breaks_the_count() -> None:
    """The answer is paid for, however odd the prompt was."""
    for depth in range(700, 1000):
        nest = b"[" * depth + b"]" * depth
        with suppress(InvalidRequest):
            assert ClientBody(b'{"messages": ' + nest + b"}").characters() == 0


@pytest.mark.parametrize(
    ("n", "choices"),
    [("2", 2), ("1", 1), ("128", 128), ("null", 1), ('"2"', 1), ("-1", 1), ("2.0", 1), ("1e9", 1)],
)
def test_the_number_of_answers_is_read(n: str, choices: int) -> None:
    """An answer is not whole before as many are finished; the provider refuses what is none."""
    assert ClientBody(f'{{"n": {n}}}'.encode()).choices() == choices
    assert ClientBody(b"{}").choices() == 1
