"""The prompts of the load: reproducible, all different, and about as long as real ones."""

from itertools import islice

from bench.prompts import PLAIN_START, prompts

COUNT = 2000


def test_a_seed_gives_the_same_prompts_again() -> None:
    """All rows of a round send the same ones."""
    assert list(islice(prompts("a"), 50)) == list(islice(prompts("a"), 50))


def test_no_prompt_comes_twice() -> None:
    """A cache of win rates would make repeated ones look cheap."""
    made = list(islice(prompts("a"), COUNT))
    assert len(set(made)) == COUNT


def test_another_seed_gives_other_prompts() -> None:
    """Nor may a later round find what an earlier one left in a cache."""
    shared = set(islice(prompts("a"), COUNT)) & set(islice(prompts("b"), COUNT))
    assert len(shared) < COUNT / 100


def test_lengths_are_those_of_real_prompts() -> None:
    """In words, at 1.25 tokens each: the median near 55 tokens, the 90th percentile near 170."""
    tokens = sorted(1.25 * len(prompt.split()) for prompt in islice(prompts("a"), COUNT))
    assert 48 <= tokens[COUNT // 2] <= 62
    assert 145 <= tokens[COUNT * 9 // 10] <= 195


def test_the_start_reads_the_same_in_json() -> None:
    """Answers are checked by looking for it, byte for byte."""
    for prompt in islice(prompts("a"), COUNT):
        start = prompt[:PLAIN_START]
        assert len(start) == PLAIN_START
        assert start.isascii()
        assert start.isprintable()
        assert start == " ".join(start.split(" "))
        assert '"' not in start
        assert "\\" not in start
