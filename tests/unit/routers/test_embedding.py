"""The embedder takes whatever a client may send, from any thread, at a bounded cost."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.errors import ConfigError
from pointsman.routers.bundle import Bundle
from pointsman.routers.embedding import CHARACTERS_PER_TOKEN, Embedder, EmbedderSettings, clean_text

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # surrogates (Cs) included


@given(ANY_TEXT, st.integers(0, 50))
def test_clean_text_is_valid_short_unicode(text: str, limit: int) -> None:
    """What reaches the tokenizer can always be encoded."""
    cleaned = clean_text(text, limit)
    cleaned.encode("utf-8")
    assert len(cleaned) <= limit


def test_escaped_pairs_become_the_character_they_mean() -> None:
    """JSON from JavaScript may carry an emoji as two escaped surrogates."""
    assert clean_text("\ud83d\ude00 ok", 10) == "\U0001f600 ok"


@settings(deadline=None, max_examples=60)
@given(ANY_TEXT)
def test_any_text_has_a_finite_embedding(embedder: Embedder, text: str) -> None:
    """Lone surrogates, NULs, control characters and emptiness are prompts like any other."""
    (row,) = embedder.embed([text])
    assert np.isfinite(row).all()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00",
        "\x00" * 50,
        "\ud800",
        " " * 5000,
        "a" * 1_000_000,
        "word " * 200_000,
        "é\n" * 9999,
    ],
    ids=["empty", "nul", "nuls", "surrogate", "spaces", "one-word", "megabyte", "accents"],
)
def test_hard_texts_have_finite_embeddings(embedder: Embedder, text: str) -> None:
    """The cases that broke other tokenizers."""
    (row,) = embedder.embed([text])
    assert row.shape == (embedder.settings.dimension,)
    assert np.isfinite(row).all()


def test_what_lies_past_the_limit_changes_nothing(embedder: Embedder) -> None:
    """Characters are cut before tokenising, so a megabyte costs what a page costs."""
    page = "word " * (embedder.settings.max_characters // 5 + 1)
    same = embedder.embed([page, page + "other " * 100_000])
    assert (same[0] == same[1]).all()


def test_the_character_limit_follows_from_the_token_limit() -> None:
    """One number is configured, not two that may contradict each other."""
    settings = EmbedderSettings(max_tokens=256, dimension=4)
    assert settings.max_characters == 256 * CHARACTERS_PER_TOKEN


def test_tokens_are_cut_to_the_limit(embedder: Embedder) -> None:
    """A long prompt is read from its start, as far as the manifest says."""
    assert embedder.token_count("word " * 5000) == embedder.settings.max_tokens
    assert embedder.token_count("") == 2


def test_threads_share_one_session(embedder: Embedder) -> None:
    """Four worker threads get what one thread gets, bit by bit."""
    texts = [f"Explain the number {number} in {number % 7} words." for number in range(40)]
    expected = embedder.embed(texts)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda text: embedder.embed([text])[0], texts))
    assert (np.stack(rows) == expected).all()


def test_a_wrong_dimension_is_refused_with_both_numbers(shipped_bundle: Bundle) -> None:
    """A graph that does not fit its manifest never scores."""
    right = shipped_bundle.manifest.embedder
    wrong = EmbedderSettings(max_tokens=right.max_tokens, dimension=7)
    with pytest.raises(ConfigError, match=rf"{right.dimension} numbers.*names 7"):
        Embedder(shipped_bundle.read_file("encoder"), shipped_bundle.read_file("tokenizer"), wrong)


def test_broken_files_are_config_errors(shipped_bundle: Bundle) -> None:
    """Foreign exceptions of two libraries become ours."""
    good = shipped_bundle.read_file("tokenizer")
    limits = shipped_bundle.manifest.embedder
    with pytest.raises(ConfigError, match="tokenizer"):
        Embedder(b"", b"{}", limits)
    with pytest.raises(ConfigError, match="ONNX"):
        Embedder(b"nothing", good, limits)


def test_onnx_runtime_reports_to_nobody(tmp_path: Path) -> None:
    """Its telemetry is on by default, except in CI, and begins with a file."""
    environ = {k: v for k, v in os.environ.items() if k not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    environ["TMPDIR"] = str(tmp_path)
    subprocess.run(
        [sys.executable, "-c", "import pointsman.routers.embedding"], env=environ, check=True
    )
    assert list(tmp_path.iterdir()) == []
