"""What is sent to an embeddings endpoint, and what of its answers is believed."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pointsman.errors import ConfigError, PointsmanError, ProviderNonsense
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.embeddings_body import (
    answer_limit_bytes,
    read_embeddings,
    request_body,
    text_to_send,
)
from tests.fakes.embeddings import as_base64

ENCODER = EmbedderSettings(max_tokens=8, dimension=3, model="text-embedding-3-small")
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["data", "embedding", "index"]) | st.text(max_size=4), inner, max_size=4
        )
    ),
    max_leaves=20,
)


def answer(*items: object) -> bytes:
    """Returns an answer with these items, as Python's JSON has it: NaN too."""
    return json.dumps({"object": "list", "data": items}).encode()


@given(
    rows=arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=FINITE),
    order=st.randoms(use_true_random=False),
    encoded=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_embeddings_come_back_exactly_and_in_the_texts_order(rows, order, encoded) -> None:
    """Whatever order the endpoint answers in, and in whichever of the two encodings."""
    items = [
        {"index": index, "embedding": as_base64(row) if base64 else [float(x) for x in row]}
        for index, (row, base64) in enumerate(zip(rows, encoded, strict=False))
    ]
    order.shuffle(items)
    found = read_embeddings(answer(*items), len(rows), ENCODER)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rows)


@given(JSON, st.integers(1, 3))
def test_any_json_is_embeddings_or_a_pointsman_error(value, count) -> None:
    """An endpoint may answer anything; nothing of it is a fault of ours."""
    try:
        found = read_embeddings(json.dumps(value).encode(), count, ENCODER)
    except PointsmanError:
        return
    assert found.shape == (count, 3)
    assert np.isfinite(found).all()


@given(st.binary(max_size=64))
def test_any_bytes_are_a_pointsman_error(body: bytes) -> None:
    """No 64 bytes hold an embedding of three numbers with its names."""
    with pytest.raises(PointsmanError):
        read_embeddings(b"{" + body, 1, ENCODER)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "no embeddings"),
        (b"[" * 100_000, "no embeddings"),
        (answer(), "1 texts with 0"),
        (answer({"embedding": [1, 2, 3]}, {"embedding": [1, 2, 3]}), "1 texts with 2"),
        (answer({"index": 1, "embedding": [1, 2, 3]}), "numbers its embeddings"),
        (answer({"index": 0, "embedding": [1, 2, float("nan")]}), "no embeddings"),
        (answer({"index": 0, "embedding": [1, 2, 1e300]}), "not finite"),
        (answer({"index": 0, "embedding": as_base64(np.full(3, np.nan))}), "not finite"),
        (answer({"index": 0, "embedding": "AAAA"}), "base64"),
        (answer({"index": 0, "embedding": "!"}), "base64"),
        (answer({"index": 0, "embedding": None}), "no embeddings"),
    ],
)
def test_an_answer_that_is_none_is_nonsense(body: bytes, said: str) -> None:
    """Better no win rate than one of garbage."""
    with pytest.raises(ProviderNonsense, match=said):
        read_embeddings(body, 1, ENCODER)


@pytest.mark.parametrize("indexes", [(0, 0), (0, None), (-1, 0), (0, 2)])
def test_two_embeddings_have_the_numbers_0_and_1(indexes) -> None:
    """A row that is nobody's would leave another one unset."""
    items = [{"index": index, "embedding": [1, 2, 3]} for index in indexes]
    with pytest.raises(ProviderNonsense, match="numbers its embeddings"):
        read_embeddings(answer(*items), 2, ENCODER)


def test_without_numbers_the_places_count() -> None:
    """Small servers leave the index out."""
    items = [{"embedding": [1, 2, 3]}, {"embedding": [4, 5, 6]}]
    found = read_embeddings(answer(*items), 2, ENCODER)
    np.testing.assert_array_equal(found, [[1, 2, 3], [4, 5, 6]])


def test_a_wrong_dimension_is_told_with_both_numbers() -> None:
    """It is the operator's to mend, and the two numbers tell which model was meant."""
    with pytest.raises(ConfigError, match=r"have 4 numbers and the bundle names 3"):
        read_embeddings(answer({"index": 0, "embedding": [1, 2, 3, 4]}), 1, ENCODER)


@given(st.lists(st.text(max_size=300), min_size=1, max_size=3))
def test_every_text_can_be_sent(texts) -> None:
    """Endpoints refuse an empty text, and none is longer than the model could read."""
    sent = [text_to_send(text, ENCODER) for text in texts]
    assert all(0 < len(text) <= ENCODER.max_characters for text in sent)
    body = msgspec.json.decode(request_body("a-model", sent))
    assert body == {"model": "a-model", "input": sent, "encoding_format": "base64"}


def test_half_an_emoji_can_be_sent() -> None:
    """JSON from a client may carry it."""
    assert text_to_send("a\ud83d", ENCODER) == "a\ufffd"


@given(arrays(np.float32, 3, elements=FINITE))
def test_no_honest_answer_is_over_the_limit(row) -> None:
    """As lists too, with the most digits that a number can need."""
    item = {"index": 0, "embedding": [float(x) for x in row]}
    assert len(json.dumps({"data": [item]}, indent=1)) <= answer_limit_bytes(1, 3)
