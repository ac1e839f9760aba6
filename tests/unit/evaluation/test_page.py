"""The page: whole, closed in itself, escaped, and the same each time."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pointsman.evaluation.benchmarks import Benchmark
from pointsman.evaluation.notes import ScoredRouter
from pointsman.evaluation.study import Study, StudySettings, study
from pointsman.routing import ModelPair

pages = pytest.importorskip("pointsman.evaluation.page")

EVIL = "<script>alert('x')</script>"
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Balance(HTMLParser):
    """Fails on a tag that closes another; keeps tags, ids and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps what a tag says."""
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens and closes a tag at once."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Checks that the tag closed is the one that is open."""
        assert self.open.pop() == tag


def made(name: str, weak: list[float]) -> Study:
    """A study whose every name is hostile."""
    count = len(weak)
    benchmark = Benchmark(
        name=name,
        prompts=tuple(f"private prompt {n}" for n in range(count)),
        pair=ModelPair(strong=EVIL, weak="small"),
        unit="percent right",
        weak_scores=np.asarray(weak),
        strong_scores=np.full(count, 100.0),
    )
    rates = np.linspace(0.0, 1.0, count)
    router = ScoredRouter(name="mf", revision=EVIL, rates=rates, trained_on=1)
    return study(benchmark, [router], StudySettings(samples=20))


def page() -> str:
    """A page over two benchmarks, one of them without a gap."""
    studies = [made(EVIL, [0.0, 100.0, 0.0]), made("equal", [100.0, 100.0])]
    return str(pages.page(studies, title=EVIL, command=f"pointsman report {EVIL}"))


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    """One file: no script, no link out, no id twice."""
    parser = Balance()
    parser.feed(page())
    assert parser.open == []
    assert not {"script", "link", "img", "iframe"} & set(parser.tags)
    assert parser.tags.count("svg") == 2
    assert len(parser.ids) == len(set(parser.ids))
    assert all(link.startswith("#") for link in parser.links)
    assert "@import" not in page()


def test_everything_is_escaped() -> None:
    """Names come from files and command lines."""
    assert "<script" not in page()
    assert "&lt;script&gt;" in page()


def test_no_prompt_is_in_it() -> None:
    """Test sets stay test sets."""
    assert "private prompt" not in page()


def test_two_pages_are_the_same_bytes() -> None:
    """It lives under version control."""
    assert page() == page()


def test_the_picture_follows_light_and_dark() -> None:
    """Every colour in it is one of the page's variables, which are set for both."""
    text = page()
    svgs = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert not re.search(r"(?:fill|stroke): ?#", svgs)
    for variable in set(re.findall(r"var\((--c\d+)\)", svgs)):
        assert len(re.findall(rf"{variable}:#", text)) == 3


def test_it_tells_what_a_reader_must_know() -> None:
    """Verdicts, warnings, protocol, and the command."""
    text = page()
    for words in (
        "mf trained on 1 of these 3 prompts",
        "cannot be compared",
        "20 resamples, seed 0",
        "prompt length",
        "oracle",
        "<code>pointsman report",
    ):
        assert words in text
