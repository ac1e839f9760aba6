"""What a model wrote → the answer it gave: a number, a letter, a judge's rating.

Models dress their answers up. These readers take off what is usual (Markdown, LaTeX, currency,
thousands separators) and return None rather than guess.
"""

from __future__ import annotations

import re
from decimal import Decimal

LOWEST_RATING, HIGHEST_RATING = 1.0, 10.0

_GAP = "\u00a0\u2009\u202f"  # spaces that do not break a line, and may part thousands
_NUMBER = (
    r"(?P<sign>(?<![\w)\]])-)?(?:[$€£]\s?(?P<inner>-)?)?"
    rf"(?P<digits>\d{{1,3}}(?:[,{_GAP}]\d{{3}})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?P<power>[eE][+-]?\d{1,3}(?![\w.]))?"
)
_ANY_NUMBER = re.compile(_NUMBER, re.ASCII)
_DRESSING = rf"[\s*_`~({{\[:={_GAP}]*"
_MARKED = re.compile(rf"####{_DRESSING}(?:\\boxed\{{)?{_DRESSING}{_NUMBER}", re.ASCII)
_BOXED = re.compile(r"\\boxed\s*\{(?P<inside>(?:[^{}]|\{[^{}]*\})*)\}")
_PLAIN = (
    *(("{,}", ","), (r"\,", ""), (r"\!", ""), (r"\$", "$"), (r"\%", "%")),
    *(("\u2212", "-"), ("\uff0d", "-")),
)
_THOUSANDS = str.maketrans("", "", f",{_GAP}")

_LETTER_ALONE = re.compile(r"[\s*_`([{]*(?P<letter>[A-Da-d])[\s*_`)\]}.:]*")
_LETTER_TOLD = re.compile(
    r"(?i:\b(?:answer|option|choice)\b(?:\s+is)?)[\s*_`:=]*(?i:(?:option|choice)\s+)?"
    r"(?:\$?\\boxed\{|\$?\\text\{)*[\s*_`([{]*(?P<letter>[A-D])(?![\w'])"
)
_LETTER_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\text(?:bf)?\s*\{)?\s*\(?(?P<letter>[A-D])\b")
_LETTER_FIRST = re.compile(r"[\s*_`]*(?:[(\[](?P<inside>[A-D])[)\]]|(?P<plain>[A-D])[*_`]*[.):\n])")
_LETTER_IN_BRACKETS = re.compile(r"[(\[](?P<letter>[A-D])[)\]]|\*\*(?P<bold>[A-D])\b")

_RATING_MARKED = re.compile(r"\[\[\s*(?P<rating>\d{1,2}(?:\.\d+)?)\s*(?:/\s*10\s*)?\]\]", re.ASCII)
_RATING_TOLD = re.compile(
    r"(?i:\brating\b)[\s*_`:=\[]*(?i:is\s+)?(?P<rating>\d{1,2}(?:\.\d+)?)(?![\w.]*\d)", re.ASCII
)


def final_number(text: str) -> Decimal | None:
    r"""Returns the number that an answer ends with, or None if it has none.

    That is the last one marked `#### 42`, else what the last `\boxed{}` holds, else the last
    number of the text. Signs, decimals, thousands separators, currencies and percents are read.
    """
    for dressed, plain in _PLAIN:
        text = text.replace(dressed, plain)
    if marked := _last(_MARKED, text):
        return _value(marked)
    if (boxed := _last(_BOXED, text)) and (number := _ANY_NUMBER.search(boxed["inside"])):
        return _value(number)
    number = _last(_ANY_NUMBER, text)
    return _value(number) if number else None


def final_letter(text: str) -> str | None:
    """Returns the option an answer settles on, A to D, or None if it does not say.

    `B`, `(b)`, `B. Bladder`, `The answer is **B**`, and reasoning that ends so.
    """
    if alone := _LETTER_ALONE.fullmatch(text):
        return alone["letter"].upper()
    for told in (_LETTER_BOXED, _LETTER_TOLD):
        if found := _last(told, text):
            return found["letter"]
    if first := _LETTER_FIRST.match(text):
        return first["inside"] or first["plain"]
    named = {found["letter"] or found["bold"] for found in _LETTER_IN_BRACKETS.finditer(text)}
    return named.pop() if len(named) == 1 else None


def final_rating(text: str) -> float | None:
    """Returns a judge's rating, 1 to 10, or None if there is none in that range.

    That is the last one in double brackets, `[[7.5]]`, else the last after the word "rating".
    """
    found = _last(_RATING_MARKED, text) or _last(_RATING_TOLD, text)
    if found is None:
        return None
    rating = float(found["rating"])
    return rating if LOWEST_RATING <= rating <= HIGHEST_RATING else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return max(pattern.finditer(text), key=re.Match.start, default=None)


def _value(number: re.Match[str]) -> Decimal:
    digits = number["digits"].translate(_THOUSANDS) + (number["power"] or "")
    value = Decimal(digits)
    return -value if number["sign"] or number["inner"] else value
