"""Copies of test prompts are found; other questions of the same kind are not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pointsman.errors import ConfigError
from pointsman.evaluation.contamination import (
    NEAR_DUPLICATE_COSINE,
    Embed,
    Match,
    contaminated,
    embed_of,
    nearest_cosines,
    shipped_embed,
)
from pointsman.routers.bundle import file_entry, save_bundle
from pointsman.routers.embedding import EmbedderSettings
from pointsman.routers.manifest import Manifest, TrainingPair, revision_of

TESTS = [
    "Anna bakes 12 cakes a day and sells half of them for 3 coins each. What does she earn?",
    "Write a letter to the mayor of a small town and ask for a new bridge over the river.",
    "Which planet is the largest?\nA. Mars\nB. Jupiter\nC. Venus\nD. Earth\nAnswer:",
]


def bag(texts: Sequence[str]) -> NDArray[np.float32]:
    """Letter counts: a toy embedding in which copies with small changes are near."""
    rows = np.zeros((len(texts), 128), dtype=np.float32)
    for index, text in enumerate(texts):
        for letter in text:
            rows[index, ord(letter) % 128] += 1
    return rows


@pytest.fixture(scope="module")
def shipped() -> Embed:
    """The embedding of the shipped router."""
    return shipped_embed()


def test_nearest_cosines_by_hand() -> None:
    """The largest cosine counts, and a zero vector is near nothing."""
    rows = np.asarray([[1, 0], [1, 1], [0, 0]], dtype=np.float32)
    others = np.asarray([[0, 2], [3, 0]], dtype=np.float32)
    assert nearest_cosines(rows, others) == pytest.approx([1.0, 2**-0.5, 0.0])


def test_every_near_pair_is_returned_in_order() -> None:
    """A training prompt may be near several tests, and a test near several training prompts."""
    found = contaminated(["aab", "zz", "b", "aab"], ["b", "aaab"], bag, 0.9)
    assert [(match.training_index, match.test_index) for match in found] == [(0, 1), (2, 0), (3, 1)]
    assert found[0].cosine == pytest.approx(7 / 50**0.5)
    assert found[1].cosine == 1.0


def test_a_pair_at_the_limit_counts() -> None:
    """The limit is reached by being equal to it."""
    assert len(contaminated(["ab"], ["a"], bag, float(np.float32(2**-0.5) - 1e-6))) == 1


def test_prompts_equal_but_for_case_and_spaces_need_no_embedding() -> None:
    """Whatever the embedding thinks of capitals, the text is the same."""
    found = contaminated(["x", "  WHAT is\nred? "], ["What is red?"], bag, minimum=1.1)
    assert found == [Match(1, 0, 1.0)]


def test_nothing_is_near_nothing() -> None:
    """Empty sides are fine, and nothing is embedded for them."""
    assert contaminated([], ["a"], bag) == contaminated(["a"], [], bag) == []


def test_more_training_prompts_than_fit_one_block_keep_their_numbers() -> None:
    """Blocks are an inner matter."""
    training = ["z" * (number % 7 + 1) + "q" * (number % 11) for number in range(1100)] + ["ab"]
    assert contaminated(training, ["ab!"], bag, 0.8) == [
        Match(1100, 0, pytest.approx((2 / 3) ** 0.5))
    ]


def test_the_shipped_embedding_finds_copies(shipped: Embed) -> None:
    """A word changed or left out, and a cut end, do not hide a test prompt."""
    copies = [
        TESTS[0].replace("half of them", "half of these"),
        TESTS[1].replace("small ", ""),
        TESTS[2].removesuffix("\nAnswer:"),
    ]
    found = contaminated(copies, TESTS, shipped)
    assert [(match.training_index, match.test_index) for match in found] == [(0, 0), (1, 1), (2, 2)]
    assert all(NEAR_DUPLICATE_COSINE <= match.cosine <= 1.0 for match in found)


def test_the_shipped_embedding_tells_questions_of_one_kind_apart(shipped: Embed) -> None:
    """Two exam questions share their form; that alone is no contamination."""
    others = [
        "Tom reads 30 pages a day and his book has 450 pages. How many days does he need?",
        "Write a speech for a friend's wedding and mention how the couple met.",
        "Which metal melts first?\nA. Iron\nB. Lead\nC. Gold\nD. Copper\nAnswer:",
    ]
    assert contaminated(others, TESTS, shipped) == []


def test_a_bundle_without_golden_prompts_embeds_nothing_here(tmp_path: Path) -> None:
    """An imported one: uncentred, any two exam questions would be near duplicates."""
    files = {"weights": file_entry(b"weights", ".npz")}
    pair = TrainingPair(strong="big", weak="small")
    embedder = EmbedderSettings(max_tokens=9, dimension=3)
    manifest = Manifest(
        format_version=1,
        name="mf",
        kind="mf",
        revision=revision_of("mf", pair, embedder, files),
        training_pair=pair,
        embedder=embedder,
        data=(),
        seed=0,
        figures={},
        files=files,
    )
    folder = save_bundle(manifest, {"weights": b"weights"}, tmp_path)
    with pytest.raises(ConfigError, match=f"{folder} has no golden prompts.*pointsman train"):
        embed_of(folder)
