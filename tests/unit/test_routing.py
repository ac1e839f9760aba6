"""The model field's grammar and the one rule that decides."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pointsman.errors import InvalidRequest
from pointsman.routing import (
    CHOICES,
    ModelPair,
    RouterRef,
    StrongShare,
    decide,
    parse_bar,
    parse_model_field,
    quote,
)

UNIT = st.floats(min_value=0.0, max_value=1.0, allow_nan=False)
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("router-mf-0.5", RouterRef("mf", 0.5)),
        ("router-mf-0", RouterRef("mf", 0.0)),
        ("router-mf-1", RouterRef("mf", 1.0)),
        ("router-mf-1.", RouterRef("mf", 1.0)),
        ("router-mf-.25", RouterRef("mf", 0.25)),
        ("router-mf-1e-05", RouterRef("mf", 1e-05)),
        ("router-mf-2.5E-1", RouterRef("mf", 0.25)),
        ("router-mf-1e-400", RouterRef("mf", 0.0)),
        ("router-sw_ranking-0.3", RouterRef("sw_ranking", 0.3)),
        ("router-7_b-00.30", RouterRef("7_b", 0.3)),
        ("router-mf-p30", RouterRef("mf", StrongShare(30))),
        ("router-mf-p0", RouterRef("mf", StrongShare(0))),
        ("router-mf-p100", RouterRef("mf", StrongShare(100))),
    ],
)
def test_the_model_field_names_a_router_and_a_threshold(field: str, expected: RouterRef) -> None:
    """What RouteLLM's clients write works here."""
    assert parse_model_field(field) == expected


@pytest.mark.parametrize(
    "field",
    [
        "",
        "router-",
        "router-mf",
        "router-mf-",
        "router-0.5",
        "router--0.5",
        "router-mf-2",
        "router-mf-1.0000001",
        "router-mf--0.1",
        "router-mf-+0.1",
        "router-mf-nan",
        "router-mf-inf",
        "router-mf-1e400",
        "router-mf-.",
        "router-mf-0x1",
        "router-mf-1_0",
        "router-mf-0,5",
        "router-mf-0.5\n",
        "router-mf-0.5 ",
        "router-mf -0.5",
        "router-MF-0.5",
        "router-mf-٣",
        "router-mf-0.5-0.5",
        "router-m.f-0.5",
        "router-mf-p",
        "router-mf-p101",
        "router-mf-p1000",
        "router-mf-p-1",
        "router-mf-p3.5",
        "router-mf-P30",
        "router-mf-p٣",
        "router-mf-30p",
    ],
)
def test_a_malformed_model_field_is_the_clients_mistake(field: str) -> None:
    """A field that looks like a router and is none must never reach a model by accident."""
    with pytest.raises(InvalidRequest) as caught:
        parse_model_field(field)
    assert caught.value.param == "model"


def test_the_refusal_names_the_value_and_the_remedy() -> None:
    """The client reads what it sent, and what to send instead."""
    with pytest.raises(InvalidRequest) as malformed:
        parse_model_field("router-mf")
    with pytest.raises(InvalidRequest) as outside:
        parse_model_field("router-mf-2")
    assert "`router-mf`" in malformed.value.message
    assert "threshold 2 " in outside.value.message
    for refusal in (malformed.value, outside.value):
        assert "router-mf-0.5" in refusal.message
        assert "/v1/models" in refusal.message


@pytest.mark.parametrize(
    "name", ["gpt-4o", "strong", "routerX-mf-0.5", "ROUTER-mf-0.5", " router-"]
)
def test_anything_else_is_a_models_name(name: str) -> None:
    """Only the exact prefix belongs to routers, so no provider's model is out of reach."""
    assert parse_model_field(name) is None


@given(UNIT)
@example(5e-324)
@example(math.nextafter(1.0, 0.0))
@example(1e-05)
def test_any_threshold_survives_being_written(threshold: float) -> None:
    """A threshold copied from a header or a calibration decides exactly as it did."""
    assert parse_model_field(f"router-mf-{threshold!r}") == RouterRef("mf", threshold)


@given(st.from_regex(r"[a-z0-9_]+", fullmatch=True), st.from_regex(r"0?\.[0-9]+", fullmatch=True))
def test_every_sentence_of_the_grammar_is_read(name: str, threshold: str) -> None:
    """The grammar that the error message promises is the one that is read."""
    assert parse_model_field(f"router-{name}-{threshold}") == RouterRef(name, float(threshold))


@given(st.one_of(ANY_TEXT, ANY_TEXT.map("router-".__add__), ANY_TEXT.map("router-mf-".__add__)))
def test_no_text_gets_anything_but_a_reading_or_a_refusal(field: str) -> None:
    """A client can write anything into the field; none of it may be a fault of ours."""
    try:
        ref = parse_model_field(field)
    except InvalidRequest:
        assert not field or field.startswith("router-")
        return
    if ref is None:
        assert not field.startswith("router-")
    else:
        threshold = ref.threshold_among([0.0, 1.0])
        assert 0.0 <= threshold <= 1.0
        assert field.startswith(f"router-{ref.router}-")


@pytest.mark.parametrize("steps", [100, 1000])
@pytest.mark.parametrize(
    ("percent", "threshold"), [(0, 1.0), (1, 0.99), (30, 0.7), (50, 0.5), (99, 0.01), (100, 0.0)]
)
def test_a_strong_share_is_a_quantile(steps: int, percent: int, threshold: float) -> None:
    """Gateway and tools hold quantiles of different fineness and must name the same threshold."""
    quantiles = [step / steps for step in range(steps + 1)]
    assert StrongShare(percent).threshold_among(quantiles) == threshold


def test_the_ends_are_exact_whatever_was_calibrated() -> None:
    """`p100` is all strong also for a prompt below every calibration prompt."""
    quantiles = [0.2] * 50 + [0.6] * 51
    assert StrongShare(100).threshold_among(quantiles) == 0.0
    assert StrongShare(0).threshold_among(quantiles) == 1.0


def test_a_share_of_a_router_without_calibration_is_refused() -> None:
    """Nobody can say which threshold it means; a plain threshold needs no calibration."""
    with pytest.raises(InvalidRequest, match="no calibration") as refused:
        RouterRef("mine", StrongShare(30)).threshold_among([])
    assert refused.value.param == "model"
    assert RouterRef("mine", 0.3).threshold_among([]) == 0.3


@given(ANY_TEXT)
def test_a_bar_alone_is_read_as_behind_a_router(text: str) -> None:
    """`--threshold` on the command line takes what the model field takes, and nothing else."""
    try:
        expected = parse_model_field(f"router-mf-{text}")
    except InvalidRequest:
        with pytest.raises(InvalidRequest):
            parse_bar(text)
        return
    assert expected == RouterRef("mf", parse_bar(text))


def test_equal_win_rate_goes_to_strong() -> None:
    """The rule is ≥: RouteLLM says it in three ways, and nobody here may disagree."""
    assert decide(0.5, 0.5) == "strong"
    assert decide(math.nextafter(0.5, 0.0), 0.5) == "weak"


@given(UNIT)
def test_threshold_zero_sends_everything_to_strong(strong_win_rate: float) -> None:
    """0 is the documented way to switch routing off."""
    assert decide(strong_win_rate, 0.0) == "strong"


@given(UNIT, UNIT, UNIT)
def test_a_higher_threshold_never_sends_more_to_strong(rate: float, one: float, two: float) -> None:
    """Cost falls as the threshold rises; calibration depends on it."""
    low, high = sorted((one, two))
    if decide(rate, high) == "strong":
        assert decide(rate, low) == "strong"


def test_the_pair_gives_the_model_of_each_choice() -> None:
    """A swap here would send every prompt to the wrong model."""
    pair = ModelPair(strong="big", weak="small")
    assert [pair.pick(choice) for choice in CHOICES] == ["big", "small"]
    assert CHOICES == ("strong", "weak")


def test_a_short_value_is_quoted_as_it_is() -> None:
    """What the client wrote is what it reads."""
    assert quote("gpt-4ö") == "`gpt-4ö`"


def test_a_long_value_is_cut_where_one_sees_it() -> None:
    """A megabyte of model field must not come back in the error."""
    assert quote("x" * 101) == f"`{'x' * 99}…`"
    assert quote("x" * 100) == f"`{'x' * 100}`"


@given(ANY_TEXT)
@example("\U000e0001" * 30)
@example("a\nb\x00\ud83d")
def test_a_quoted_value_is_one_short_printable_line(value: str) -> None:
    """It goes into logs, headers and JSON: no line breaks, no halves of characters, no flood."""
    quoted = quote(value)
    assert quoted.isprintable()
    assert quoted.encode()
    assert len(quoted) <= len("``") + 100
