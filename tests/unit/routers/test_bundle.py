"""A bundle on disk is whole, verified and says what is wrong with it."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import ConfigError, RouterNotReady
from pointsman.routers.base import Router
from pointsman.routers.bundle import (
    Bundle,
    file_entry,
    fold_prompt,
    load_bundle,
    percentile_among,
    prompt_digest,
    save_bundle,
)
from pointsman.routers.manifest import Calibration, FileEntry, Manifest, revision_of


class Fixed(Router):
    """Win rates that were decided beforehand."""

    def __init__(self, *rates: float) -> None:
        self.rates = rates

    def strong_win_rates(self, prompts):
        """Return the rates, whatever the prompts."""
        assert len(prompts) == len(self.rates)
        return np.asarray(self.rates, dtype=np.float32)


def test_what_is_saved_is_loaded(saved: Path, manifest: Manifest) -> None:
    """Saving and loading are inverse."""
    loaded = load_bundle(saved)
    assert loaded.manifest == manifest
    assert loaded.contents == {
        "encoder": b"an encoder",
        "tokenizer": b"{}",
        "weights": b"some weights",
    }
    assert loaded.training_prompt_digests() == {bytes(range(32)), bytes(range(32, 64))}


def test_bundles_share_equal_files(manifest: Manifest, saved: Path) -> None:
    """A second router over the same encoder adds a manifest and no blob."""
    blobs = sorted((saved.parent / "blobs").iterdir())
    contents = {role: load_bundle(saved).read_file(role) for role in manifest.files}
    save_bundle(msgspec.structs.replace(manifest, name="toy_two"), contents, saved.parent)
    assert sorted((saved.parent / "blobs").iterdir()) == blobs


@pytest.mark.parametrize("role", ["encoder", "tokenizer", "weights"])
def test_a_damaged_file_is_named_with_both_hashes(
    saved: Path, manifest: Manifest, role: str
) -> None:
    """The operator learns which file, what was expected, what is there and what to do."""
    path = saved.parent / "blobs" / manifest.files[role].name
    path.write_bytes(b"flipped")
    with pytest.raises(RouterNotReady) as caught:
        load_bundle(saved)
    for part in (
        "toy",
        str(path),
        manifest.files[role].sha256,
        sha256(b"flipped").hexdigest(),
        "pointsman train",
    ):
        assert part in caught.value.message


def test_a_missing_file_is_named(saved: Path, manifest: Manifest) -> None:
    """An incomplete copy is no traceback."""
    path = saved.parent / "blobs" / manifest.files["weights"].name
    path.unlink()
    with pytest.raises(RouterNotReady, match=path.name):
        load_bundle(saved)


def test_prompt_hashes_are_not_needed_to_score(saved: Path, manifest: Manifest) -> None:
    """Provenance is checked when it is asked for, not at every start."""
    (saved.parent / "blobs" / manifest.files["training_prompts"].name).unlink()
    loaded = load_bundle(saved)
    with pytest.raises(RouterNotReady, match="training_prompts"):
        loaded.training_prompt_digests()


def test_a_folder_without_a_manifest_is_a_config_error(tmp_path: Path) -> None:
    """A wrong path in the configuration says so."""
    with pytest.raises(ConfigError, match=r"no router bundle at .*manifest\.json"):
        load_bundle(tmp_path / "nowhere")


def test_an_edited_manifest_is_refused(saved: Path, rewrite: Callable[..., None]) -> None:
    """A revision vouches for what it covers, so a pair cannot be renamed in an editor."""
    rewrite(training_pair={"strong": "huge", "weak": "small"})
    with pytest.raises(ConfigError, match="edited"):
        load_bundle(saved)


@pytest.mark.parametrize("fields", [{"format_version": 2}, {"seed": "x"}, {"calibration": {}}])
def test_an_unreadable_manifest_names_the_remedy(
    saved: Path, rewrite: Callable[..., None], fields: dict[str, object]
) -> None:
    """Another format is not guessed at."""
    rewrite(**fields)
    with pytest.raises(ConfigError, match="install the version"):
        load_bundle(saved)


def test_an_interrupted_save_leaves_the_old_bundle(
    saved: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a save leaves neither half a file nor half a bundle."""
    before = {path: path.read_bytes() for path in saved.parent.rglob("*") if path.is_file()}
    contents = {role: load_bundle(saved).read_file(role) for role in manifest.files}
    contents["weights"] = b"new weights"
    files = {**manifest.files, "weights": file_entry(b"new weights", ".bin")}
    new = msgspec.structs.replace(
        manifest,
        files=files,
        revision=revision_of("mf", manifest.training_pair, manifest.embedder, files),
    )

    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_bundle(new, contents, saved.parent)
    after = {path: path.read_bytes() for path in saved.parent.rglob("*") if path.is_file()}
    assert after == before


def test_contents_must_be_what_the_manifest_names(manifest: Manifest, tmp_path: Path) -> None:
    """A mistake of the maker writes nothing."""
    with pytest.raises(ValueError, match="files"):
        save_bundle(manifest, {}, tmp_path)
    wrong = dict.fromkeys(manifest.files, b"?")
    with pytest.raises(ValueError, match="not the one"):
        save_bundle(manifest, wrong, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("digest", "suffix"), [("../x", ""), ("0" * 64, "/../x"), ("A" * 64, ""), ("0" * 64, "onnx")]
)
def test_a_blob_name_cannot_leave_its_folder(digest: str, suffix: str) -> None:
    """A bundle from elsewhere reads no other file of this machine."""
    with pytest.raises(ValueError, match="not a blob name"):
        FileEntry(sha256=digest, bytes=1, suffix=suffix)


def test_quantiles_must_ascend() -> None:
    """A percentile needs an order."""
    with pytest.raises(ValueError, match="ascending"):
        Calibration(description="", prompts=1, quantiles=(0.5,) * 1000 + (0.4,))


def test_percentile_counts_the_prompts_at_or_below() -> None:
    """Half the calibration prompts lie at or below the median, all at or below the maximum."""
    quantiles = np.linspace(0.2, 0.6, 1001)
    found = [percentile_among(quantiles, rate) for rate in (0.0, 0.2, 0.3, 0.4, 0.6, 1.0)]
    assert found == pytest.approx([0, 0, 25, 50, 100, 100])


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=5))
def test_percentile_never_falls_as_the_rate_rises(rates: list[float]) -> None:
    """Ties among the quantiles included."""
    quantiles = np.repeat([0.1, 0.5, 0.5, 0.9], [300, 300, 300, 101])
    found = [percentile_among(quantiles, rate) for rate in sorted(rates)]
    assert found == sorted(found)
    assert all(0 <= value <= 100 for value in found)


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [(0.25, "ok"), (0.255, "ok"), (0.3, "differs"), (0.5, "refused"), (float("nan"), "refused")],
)
def test_golden_verdicts(saved: Path, rate: float, verdict: str) -> None:
    """Small differences pass, middling ones warn, gross ones and nonsense are refused."""
    report = load_bundle(saved).check_golden(Fixed(rate, 0.75))
    assert report.verdict == verdict
    assert "'toy'" in report.message


def test_a_refusal_names_prompt_and_numbers(saved: Path) -> None:
    """The log line alone tells what happened."""
    report = load_bundle(saved).check_golden(Fixed(0.25, 0.25))
    assert "golden prompt 1 has win rate 0.25 here and 0.75" in report.message
    assert report.max_difference == pytest.approx(0.5)


def test_prompt_digests_ignore_case_and_space() -> None:
    """A copy of a test prompt with other spacing is the same prompt."""
    assert fold_prompt("  What IS\n\nthis? ") == "what is this?"
    assert prompt_digest("A  b\n") == prompt_digest("a B")
    assert prompt_digest("a") != prompt_digest("b")


def test_revision_follows_what_decides_win_rates(manifest: Manifest) -> None:
    """New weights are a new revision; new provenance is not."""

    def revision(**changed: FileEntry) -> str:
        files = {**manifest.files, **changed}
        return revision_of("mf", manifest.training_pair, manifest.embedder, files)

    other = file_entry(b"other", ".bin")
    assert revision(training_prompts=other) == manifest.revision
    assert revision(weights=other) != manifest.revision
    assert revision(encoder=other) != manifest.revision


def test_the_shipped_bundle_names_licence_and_counts(shipped_bundle: Bundle) -> None:
    """Everything it was trained on is named and permissively licensed."""
    permissive = {"Apache-2.0", "MIT", "CC0-1.0"}
    data = shipped_bundle.manifest.data
    assert data
    assert {source.licence for source in data} <= permissive
    assert all(0 < source.prompts <= source.rows for source in data)


def test_the_shipped_encoder_fits_in_a_repository(shipped_bundle: Bundle) -> None:
    """Files stay in history for ever."""
    assert shipped_bundle.manifest.files["encoder"].bytes < 25_000_000


def test_no_blob_is_left_over(shipped_bundle: Bundle) -> None:
    """The package carries the files its bundles name and no others."""
    root = shipped_bundle.folder.parent
    named = {
        entry.name
        for path in root.glob("*/manifest.json")
        for entry in load_bundle(path.parent).manifest.files.values()
    }
    assert {path.name for path in (root / "blobs").iterdir()} == named
