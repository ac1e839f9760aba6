"""What models write is read as people would read it."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.evaluation.grading import final_letter, final_number, final_rating


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("16 - 3 - 4 = 9, 9 * 2 = 18.\n#### 18", "18"),
        ("#### 18\nI hope that the 3 steps helped!", "18"),
        ("#### $1,234.50", "1234.50"),
        ("####-5", "-5"),
        ("#### **70,000**", "70000"),
        ("#### \\boxed{42}", "42"),
        ("#### 10%", "10"),
        ("#### Answer\n42", "42"),
        ("#### Step 2: take 10 eggs\nSo there are 42 eggs.", "42"),
        ("Thus \\boxed{42} of the 100.", "42"),
        ("\\(\\boxed{\\$1{,}000}\\)", "1000"),
        ("\\boxed{x = 5 \\text{ apples}}", "5"),
        ("\\boxed{nothing} but 7", "7"),
        ("The answer is 42.", "42"),
        ("It costs $3.50.", "3.50"),
        ("It falls by 12 to -$7.", "-7"),
        ("She is $-7 in debt", "-7"),
        ("between \u22124", "-4"),
        ("pages 10-12", "12"),
        ("5 - 3", "3"),
        ("half: .5", ".5"),
        ("about 1\u202f234 metres", "1234"),
        ("1.5e3", "1500"),
        ("lists such as 1,2,3", "3"),
        ("12,34", "34"),
    ],
)
def test_the_final_number_is_read(text: str, number: str) -> None:
    """As a number, however it is dressed."""
    assert final_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "I do not know.", "#### none", "\\boxed{}", "½"])
def test_no_number_is_none(text: str) -> None:
    """An answer without one is not graded by a guess."""
    assert final_number(text) is None


@given(
    st.decimals(-(10**9), 10**9, places=2) | st.integers(-(10**12), 10**12).map(Decimal),
    st.sampled_from(
        [
            "{:,}",
            "{}",
            "${:,}",
            "**{}**",
            "{:,}%",
            "{}.",
            "#### {:,}",
            "#### ${}",
            "so 7 of 9\n#### {}",
            "$\\boxed{{{:,}}}$",
            "It is {:,} dollars.",
        ]
    ),
)
def test_a_formatted_number_reads_back(number: Decimal, template: str) -> None:
    """Whatever the format, no right answer is marked wrong."""
    assert final_number(template.format(number)) == number


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        (" b ", "B"),
        ("B.", "B"),
        ("(c)", "C"),
        ("**D**", "D"),
        ("B. Bladder", "B"),
        ("(B) Bladder", "B"),
        ("**B.** Bladder", "B"),
        ("C\nBecause A is wrong.", "C"),
        ("The answer is B", "B"),
        ("The correct answer is: **(B)**, as A is a decoy.", "B"),
        ("A: no. B: no. So the answer is C.", "C"),
        ("Answer: D", "D"),
        ("The correct option is option A.", "A"),
        ("First I thought the answer is A, but the answer is B.", "B"),
        ("$\\boxed{\\text{C}}$", "C"),
        ("Hence (D) it is.", "D"),
    ],
)
def test_the_final_letter_is_read(text: str, letter: str) -> None:
    """In every way in which models name an option."""
    assert final_letter(text) == letter


@pytest.mark.parametrize(
    "text", ["", "E", "A bladder stores urine.", "either (A) or (B)", "the answer is a mystery"]
)
def test_no_letter_is_none(text: str) -> None:
    """An article is no option, and two options are none."""
    assert final_letter(text) is None


@pytest.mark.parametrize(
    ("text", "rating"),
    [
        ("Rating: [[7]]", 7),
        ("It is good. [[7.5]]", 7.5),
        ("[[3]] at first, in the end [[9]]", 9),
        ("[[8/10]]", 8),
        ("Rating: 10", 10),
        ("**Rating**: 6/10", 6),
        ("[[1]]", 1),
        ("[[10]]", 10),
        ("[[0]]", None),
        ("[[11]]", None),
        ("Rating: 100", None),
        ("[[N/A]]", None),
        ("", None),
    ],
)
def test_the_rating_is_read(text: str, rating: float | None) -> None:
    """From 1 to 10; anything else is not a grade."""
    assert final_rating(text) == rating


@given(st.text() | st.text(alphabet="#[]{}\\boxed$%,.-eE0123456789ABCD( )answerig:*\n"))
def test_no_text_breaks_a_grader(text: str) -> None:
    """Models write anything."""
    final_number(text)
    final_letter(text)
    rating = final_rating(text)
    assert rating is None or 1 <= rating <= 10
