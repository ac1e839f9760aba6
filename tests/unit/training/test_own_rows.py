"""One line of own data: what it says, and what is told of one that says nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.training.own_rows import Comparison, read_comparison


def read(**fields: Any) -> Comparison:
    """Read a row of these fields."""
    return read_comparison(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("label", "scores"), [("strong", (1.0, 0.0)), ("weak", (0.0, 1.0)), ("tie", (0.5, 0.5))]
)
def test_a_label_says_who_won(label: str, scores: tuple[float, float]) -> None:
    """The strong model comes first, and models have one spelling each."""
    row = read(prompt="hi", strong="openai/GPT-4o", weak="Mixtral", label=label, id=3)
    assert row == Comparison(prompt="hi", models=("gpt-4o-2024-05-13", "mixtral"), scores=scores)


def test_scores_need_no_names() -> None:
    """True and false are scores too."""
    assert read(prompt="hi", strong_score=1, weak_score=0.25).scores == (1.0, 0.25)
    row = read(prompt="hi", strong_score=True, weak_score=False, strong="a", weak="b")
    assert (row.models, row.scores, row.is_battle) == (("a", "b"), (1.0, 0.0), False)


def test_scores_say_more_than_the_label_beside_them() -> None:
    """A judge's score of 0.9 against 0.8 is no defeat of the weak model."""
    row = read(prompt="hi", strong="a", weak="b", label="strong", strong_score=0.9, weak_score=0.8)
    assert (row.models, row.scores) == (("a", "b"), (0.9, 0.8))


def test_a_field_that_is_null_is_absent() -> None:
    """Tables of mixed rows are written with every column in each line."""
    empty = dict.fromkeys(("label", "winner", "model_a", "model_b", "strong_score", "weak_score"))
    models = {"strong": "a", "weak": "b"}
    assert read(**{**empty, **models, "prompt": "hi", "label": "tie"}).scores == (0.5, 0.5)
    scored = read(**{**empty, "prompt": "hi", "strong": None, "strong_score": 1, "weak_score": 0})
    assert (scored.models, scored.scores) == (None, (1.0, 0.0))
    with pytest.raises(ValueError, match="neither `label`"):
        read(**empty, prompt="hi")


@pytest.mark.parametrize(
    ("winner", "scores"),
    [
        ("model_a", (1.0, 0.0)),
        ("model_b", (0.0, 1.0)),
        ("tie", (0.5, 0.5)),
        ("tie (bothbad)", (0.5, 0.5)),
    ],
)
def test_a_battle_does_not_say_who_is_strong(winner: str, scores: tuple[float, float]) -> None:
    """First and second are the arena's a and b."""
    row = read(prompt="hi", model_a="x", model_b="y", winner=winner)
    assert row == Comparison(prompt="hi", models=("x", "y"), scores=scores, is_battle=True)


@pytest.mark.parametrize(
    "prompt", [["one", "two"], '["one", "two"]', "User: one\n\nAssistant: ok\n\nUser: two"]
)
def test_an_arenas_conversation_is_its_first_turn(prompt: Any) -> None:
    """As RouteLLM cuts it; the winner was chosen after that turn."""
    assert read(prompt=prompt, model_a="x", model_b="y", winner="tie").prompt == "one"


@pytest.mark.parametrize("prompt", ["[x] marks the spot", "[1, 2]", "[]x"])
def test_a_text_that_looks_like_a_list_is_a_text(prompt: str) -> None:
    """Brackets are allowed in prompts."""
    assert read(prompt=prompt, model_a="x", model_b="y", winner="tie").prompt == prompt


def test_a_transcript_with_a_label_is_its_last_turn() -> None:
    """As serving cuts it."""
    row = read(prompt="User: a\n\nAssistant: b\n\nUser: c", strong_score=1, weak_score=0)
    assert row.prompt == "c"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "truncated"),
        (b"[1]", "Expected `object`"),
        (b'"text"', "Expected `object`"),
        (b'{"prompt": "hi"}', "neither `label`, nor .* its fields: `prompt`"),
        (b"{}", "its fields: none"),
        (b'{"prompt": 1, "strong": "a", "weak": "b", "label": "tie"}', r"\$\.prompt"),
        (b'{"prompt": "hi", "strong": "a", "weak": "b", "label": "draw"}', r"\$\.label"),
        (b'{"prompt": "hi", "weak": "b", "label": "tie"}', "field `strong`"),
        (b'{"prompt": "hi", "strong_score": 1}', "field `weak_score`"),
        (b'{"prompt": "hi", "strong_score": 9, "weak_score": 1}', "`strong_score` is 9, not in"),
        (b'{"prompt": "hi", "strong_score": 1, "weak_score": -0.5}', "`weak_score` is -0.5"),
        (b'{"prompt": "hi", "strong_score": "1", "weak_score": 0}', r"\$\.strong_score"),
        (b'{"prompt": "hi", "strong_score": 1, "weak_score": 0, "weak": "b"}', "name both"),
        (b'{"prompt": "hi", "strong": "A", "weak": "x/a", "label": "tie"}', "both models are `a`"),
        (b'{"prompt": "hi", "strong": " ", "weak": "b", "label": "tie"}', "name is empty"),
        (b'{"prompt": " \\n", "strong": "a", "weak": "b", "label": "tie"}', "prompt is empty"),
        (b'{"prompt": "[]", "model_a": "a", "model_b": "b", "winner": "tie"}', "prompt is empty"),
        (b'{"prompt": [null], "model_a": "a", "model_b": "b", "winner": "tie"}', "is empty"),
        (b'{"prompt": "hi", "model_a": "a", "model_b": "b", "winner": "a"}', r"\$\.winner"),
    ],
)
def test_what_is_wrong_is_said(line: bytes, said: str) -> None:
    """The reason names the field, and where it is not plain, the remedy."""
    with pytest.raises(ValueError, match=said):
        read_comparison(line)


FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "prompt",
            "strong",
            "weak",
            "label",
            "strong_score",
            "weak_score",
            "model_a",
            "model_b",
            "winner",
            "id",
        ]
    ),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 2),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=5),
        st.sampled_from(["strong", "weak", "tie", "model_a", "model_b", "tie (bothbad)"]),
        st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=2),
    ),
)


@given(st.one_of(st.binary(max_size=60), FIELDS.map(lambda row: json.dumps(row).encode())))
def test_any_line_is_a_row_or_a_reason(line: bytes) -> None:
    """Whatever stands in a file, nothing else than ValueError is raised, and rows are sound."""
    try:
        row = read_comparison(line)
    except ValueError as error:
        assert str(error)
        return
    assert row.prompt.strip()
    assert all(0.0 <= score <= 1.0 for score in row.scores)
    assert row.models is None or (all(row.models) and row.models[0] != row.models[1])
