"""The rating model: label shares, labels that come late or never, prompts that are too long."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.routers.causal_llm import CausalRouter, PromptFormat, PromptTokens
from tests.unit.routers.graphs import bigram_decoder, label_decoder, mean_encoder, word_tokenizer

WORDS = ["<s>", "Question:", "Rating:", "one", "two", "stop", "?"]
START, QUESTION, RATING, ONE, TWO, STOP, UNKNOWN = range(len(WORDS))
TOKENIZER = word_tokenizer(WORDS, first="<s>")
LABELS = np.asarray([0.3, -1.0, 2.0, 0.5, 1.0], dtype=np.float32)

FORMAT = PromptFormat(
    before="Question: ",
    after=" Rating:",
    max_tokens=12,
    add_special_tokens=True,
    stop_tokens=(STOP,),
)


def decoder(said: dict[int, int], *, labels: Sequence[float] = tuple(LABELS)) -> bytes:
    """A model that says `said[last token]` next, and a label after every other token."""
    count = len(WORDS)
    logits = np.full(count, -5.0, dtype=np.float32)
    others = np.zeros(count, dtype=np.int64)
    for last, then in said.items():
        logits[last], others[last] = 9.0, then
    return bigram_decoder(np.tile(np.asarray(labels, np.float32), (count, 1)), logits, others)


def rate_of(graph: bytes, prompt_format: PromptFormat = FORMAT, prompt: str = "one two") -> float:
    """One prompt's win rate."""
    return float(CausalRouter(graph, TOKENIZER, prompt_format).strong_win_rates([prompt])[0])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-80, 80, width=32), min_size=5, max_size=5), st.integers(2, 5))
def test_the_win_rate_is_the_share_of_ratings_below_the_threshold(
    labels: list[float], threshold: int
) -> None:
    """p1 + p2 + p3 for RouteLLM's threshold of 4."""
    shares = np.exp(np.asarray(labels) - max(labels))
    expected = (shares / shares.sum())[: threshold - 1].sum()
    prompt_format = msgspec.structs.replace(FORMAT, score_threshold=threshold)
    ever = [min(labels) - 1.0] * len(WORDS)
    graph = bigram_decoder(
        np.tile(np.asarray(labels, np.float32), (len(WORDS), 1)),
        np.asarray(ever, np.float32),
        np.zeros(len(WORDS), np.int64),
    )
    assert rate_of(graph, prompt_format) == pytest.approx(expected, abs=1e-6)


def test_a_label_may_follow_other_tokens() -> None:
    """The first label position counts, however late within the allowance."""
    expected = rate_of(decoder({}))
    assert rate_of(decoder({RATING: ONE, ONE: TWO})) == pytest.approx(expected)
    shares = np.exp(LABELS - LABELS.max())
    assert expected == pytest.approx((shares / shares.sum())[:3].sum(), abs=1e-6)


@pytest.mark.parametrize("most", [1, 6])
def test_a_decoder_of_labels_alone_always_rates(most: int) -> None:
    """It has nothing else to say: at the first position, as one that prefers labels would."""
    alone = label_decoder(np.tile(LABELS, (len(WORDS), 1)))
    room = msgspec.structs.replace(FORMAT, max_new_tokens=most, max_tokens=6 + most)
    assert rate_of(alone, room) == rate_of(decoder({}), room)
    assert rate_of(alone, room, "one " * 99) == rate_of(decoder({}), room, "one " * 99)


def test_the_label_is_read_where_it_comes() -> None:
    """At the second position's logits, not at the first's."""
    labels = np.tile(LABELS, (len(WORDS), 1))
    labels[ONE] = (5.0, 0.0, 0.0, 0.0, 0.0)
    logits = np.full(len(WORDS), -5.0, dtype=np.float32)
    logits[RATING] = 9.0
    graph = bigram_decoder(labels, logits, np.full(len(WORDS), ONE, dtype=np.int64))
    assert rate_of(graph) == pytest.approx((np.exp(5) + 2) / (np.exp(5) + 4), abs=1e-6)


def test_no_label_is_a_win_of_the_strong_model() -> None:
    """After six tokens that are none, and whatever Platt's line is."""
    babbling = decoder({RATING: ONE, ONE: TWO, TWO: ONE})
    assert rate_of(babbling) == 1.0
    assert rate_of(babbling, msgspec.structs.replace(FORMAT, platt=(1.0, -9.0))) == 1.0


def test_the_allowance_is_counted_in_tokens() -> None:
    """Two tokens may come: the label as the second is in time, as the third it is not."""
    two = msgspec.structs.replace(FORMAT, max_new_tokens=2)
    assert rate_of(decoder({RATING: ONE}), two) < 1.0
    assert rate_of(decoder({RATING: ONE, ONE: TWO}), two) == 1.0


def test_a_stop_token_ends_it() -> None:
    """What a model says after its end is nobody's rating."""
    assert rate_of(decoder({RATING: STOP})) == 1.0
    assert rate_of(decoder({RATING: STOP}), msgspec.structs.replace(FORMAT, stop_tokens=())) < 1.0


def test_platts_line_acts_on_log_odds() -> None:
    """As for every other router."""
    rate = rate_of(decoder({}))
    expected = 1 / (1 + np.exp(-(0.5 * np.log(rate / (1 - rate)) + 0.25)))
    lined = msgspec.structs.replace(FORMAT, platt=(0.5, 0.25))
    assert rate_of(decoder({}), lined) == pytest.approx(expected, abs=1e-6)


def test_a_short_prompt_is_the_whole_text_tokenised() -> None:
    """Nothing is added, nothing is lost."""
    ids = PromptTokens(TOKENIZER, FORMAT).ids("one two")
    assert ids == [START, QUESTION, ONE, TWO, RATING]
    plain = msgspec.structs.replace(FORMAT, add_special_tokens=False)
    assert PromptTokens(TOKENIZER, plain).ids("two") == [QUESTION, TWO, RATING]


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=())), st.integers(8, 20))
def test_a_prompt_is_cut_and_its_format_never(prompt: str, most: int) -> None:
    """Within the limit for any text; what stands round it is all there."""
    prompt_format = msgspec.structs.replace(FORMAT, max_tokens=most)
    ids = PromptTokens(TOKENIZER, prompt_format).ids(prompt)
    assert len(ids) <= prompt_format.prompt_tokens
    assert ids[:2] == [START, QUESTION]
    assert ids[-1] == RATING


def test_a_long_prompt_loses_its_end() -> None:
    """Its beginning fills the room; written tokens have theirs."""
    ids = PromptTokens(TOKENIZER, FORMAT).ids("one " * 3 + "two " * 5000)
    assert ids == [START, QUESTION, ONE, ONE, ONE, TWO, RATING]
    assert len(ids) + FORMAT.max_new_tokens - 1 == FORMAT.max_tokens


def test_neighbours_do_not_change_a_win_rate() -> None:
    """Alone, in company, or not at all."""
    router = CausalRouter(decoder({RATING: ONE}), TOKENIZER, FORMAT)
    rates = router.strong_win_rates(["one", "two " * 99, ""])
    assert rates.dtype == np.float32
    assert rates.tolist() == [
        float(router.strong_win_rates([prompt])[0]) for prompt in ("one", "two " * 99, "")
    ]
    assert router.strong_win_rates([]).shape == (0,)


def test_a_format_survives_the_disk() -> None:
    """Equal formats are equal files."""
    lined = msgspec.structs.replace(FORMAT, platt=(0.5, 0.25), score_threshold=3)
    assert PromptFormat.from_bytes(lined.to_bytes()) == lined


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "prompt format cannot be read"),
        (b"{}", "before"),
        (b'{"before":"","after":"","max_tokens":0,"add_special_tokens":true}', "max_tokens"),
        (
            b'{"before":"","after":"","max_tokens":9,"add_special_tokens":true,'
            b'"score_threshold":6}',
            "score_threshold 6",
        ),
        (
            b'{"before":"","after":"","max_tokens":9,"add_special_tokens":true,"speed":1}',
            "speed",
        ),
    ],
)
def test_a_wrong_format_names_the_field(data: bytes, said: str) -> None:
    """One sentence for the operator."""
    with pytest.raises(ConfigError, match=said):
        PromptFormat.from_bytes(data)


def test_a_format_without_room_for_a_prompt_is_refused() -> None:
    """Both numbers, before anything is served."""
    with pytest.raises(ConfigError, match=r"alone has 3 tokens and the bundle allows 2"):
        PromptTokens(TOKENIZER, msgspec.structs.replace(FORMAT, max_tokens=7))


def test_another_graph_is_refused() -> None:
    """An encoder is no decoder, and labels are counted."""
    encoder = mean_encoder(np.zeros((len(WORDS), 4), dtype=np.float32))
    with pytest.raises(ConfigError, match=r"no output label_logits; it has pooled"):
        CausalRouter(encoder, TOKENIZER, FORMAT)
    with pytest.raises(ConfigError, match="4 labels and its prompt format 5"):
        CausalRouter(decoder({}, labels=(0, 0, 0, 0)), TOKENIZER, FORMAT)
    with pytest.raises(ConfigError, match="tokenizer"):
        CausalRouter(decoder({}), b"{}", FORMAT)
