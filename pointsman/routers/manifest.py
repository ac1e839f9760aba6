"""What a bundle says about itself: the typed shape of ``manifest.json``.

The manifest names every file by checksum, every data set by licence, and enough golden win rates
to notice a machine that scores differently.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Literal, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from pointsman.routers.embedding import EmbedderSettings

FORMAT_VERSION = 1
"""Raised when an older reader would misread a newer manifest."""

QUANTILE_COUNT = 1001
"""Quantiles 0, 0.001, ..., 1: percentiles are then exact to 0.1."""

PROVENANCE_ROLES = frozenset({"training_prompts"})
"""Files that tell where a router comes from and do not decide what it answers."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SUFFIX = re.compile(r"(\.[a-z0-9]{1,16})?")


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One content-addressed file, ``blobs/<sha256><suffix>``."""

    sha256: str
    """SHA-256 of the content, 64 lower-case hexadecimal digits."""

    bytes: int
    """Length of the content."""

    suffix: str
    """File name's ending with its dot, for people; empty or lower-case letters and digits."""

    def __post_init__(self) -> None:
        """Refuse what would leave the blob folder or could never match."""
        if not _SHA256.fullmatch(self.sha256) or not _SUFFIX.fullmatch(self.suffix):
            raise ValueError(f"not a blob name: {self.sha256!r} with suffix {self.suffix!r}")

    @property
    def name(self) -> str:
        """File name inside the blob folder."""
        return self.sha256 + self.suffix


class TrainingPair(msgspec.Struct, frozen=True, kw_only=True):
    """The model pair the win rates speak of."""

    strong: str
    weak: str


class DataSource(msgspec.Struct, frozen=True, kw_only=True):
    """One data set that was trained on."""

    name: str
    licence: str
    rows: int
    """Outcomes used, after everything that was left out."""

    prompts: int
    """Distinct prompts among them."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The router's win rates over a named set of prompts that it never trained on."""

    description: str
    """Which prompts these are."""

    prompts: int
    """How many of them."""

    quantiles: tuple[float, ...]
    """Win rates at the 0, 0.1, ..., 100th percentile: 1001 numbers in [0, 1], ascending."""

    def __post_init__(self) -> None:
        """Refuse quantiles that no sample has."""
        values = np.asarray(self.quantiles)
        if len(values) != QUANTILE_COUNT or np.any(np.diff(values) < 0):
            raise ValueError(f"quantiles must be {QUANTILE_COUNT} ascending numbers")


class GoldenCase(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt of our own writing and the win rate it got where the bundle was made."""

    prompt: str
    strong_win_rate: float


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """Golden win rates, and how far another machine may be from them."""

    cases: tuple[GoldenCase, ...]

    tolerance: float
    """Largest difference in win rate that passes in silence."""

    gross_difference: float
    """Largest difference that is still served, with a warning; beyond it the router is refused."""

    how: str
    """The measurements both limits come from."""

    def __post_init__(self) -> None:
        """Refuse limits that contradict each other."""
        if not 0 < self.tolerance < self.gross_difference <= 1:
            raise ValueError("golden limits must satisfy 0 < tolerance < gross_difference <= 1")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a router but its numbers, as stored in ``manifest.json``."""

    format_version: Literal[1]
    name: str
    kind: str
    """Which built-in kind reads the files; a key of the registry."""

    revision: str
    """`revision_of` the other fields: two bundles with equal revisions score alike."""

    training_pair: TrainingPair
    embedder: EmbedderSettings
    """How prompts become vectors. A ``causal_llm`` reads them itself: its ``max_tokens`` is the
    prompt format's, its ``dimension`` the number of labels."""

    data: tuple[DataSource, ...]
    seed: int
    figures: dict[str, str]
    """Quality figures as text with their intervals, under a name that says what was measured."""

    files: dict[str, FileEntry]
    """Role → file. ``mf``: encoder, tokenizer, weights and, with forms of prompts, gate,
    weights_problem, weights_exam or kernel_exam; ``sw_ranking``: encoder, tokenizer, index;
    ``bert``: encoder, tokenizer, head; without encoder and tokenizer where an endpoint embeds.
    ``causal_llm``: decoder, tokenizer, format. Weights that do not fit into a graph of 2 GB:
    encoder_data, decoder_data. All may have training_prompts."""

    calibration: Calibration | None = None
    """None for a checkpoint that was imported without prompts to calibrate on."""

    golden: Golden | None = None
    """None for a checkpoint whose embeddings were not at hand when it was imported."""


def revision_of(
    kind: str, pair: TrainingPair, embedder: EmbedderSettings, files: dict[str, FileEntry]
) -> str:
    """Return 12 hexadecimal digits over everything that decides win rates, and nothing else."""
    deciding = {role: entry.sha256 for role, entry in files.items() if role not in PROVENANCE_ROLES}
    text = msgspec.json.encode([kind, pair, embedder, deciding], order="sorted")
    return sha256(text).hexdigest()[:12]


class GoldenReport(msgspec.Struct, frozen=True, kw_only=True):
    """How this machine's win rates compare with the golden ones."""

    max_difference: float
    """Largest absolute difference in win rate over the golden prompts; NaN if a rate is NaN."""

    verdict: Literal["ok", "differs", "refused"]
    message: str
    """One sentence for a log line or an operator, with the numbers and the remedy."""


class _HasStrongWinRates(Protocol):
    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]: ...


def check_golden(name: str, golden: Golden, router: _HasStrongWinRates) -> GoldenReport:
    """Score the golden prompts here and compare."""
    expected = np.asarray([case.strong_win_rate for case in golden.cases])
    found = router.strong_win_rates([case.prompt for case in golden.cases]).astype(np.float64)
    differences = np.abs(found - expected)
    worst = int(np.argmax(differences))  # argmax finds a NaN first
    largest = float(differences[worst])
    if largest <= golden.tolerance:
        message = (
            f"router {name!r} reproduces its {len(golden.cases)} golden win rates within "
            f"{golden.tolerance:g} (largest difference {largest:.2g})"
        )
        return GoldenReport(max_difference=largest, verdict="ok", message=message)
    detail = (
        f"golden prompt {worst} has win rate {found[worst]:.6g} here and {expected[worst]:.6g} "
        f"where the bundle was made, a difference of {largest:.4g}"
    )
    if largest <= golden.gross_difference:
        message = (
            f"router {name!r} scores differently on this machine: {detail}, beyond the tolerance "
            f"of {golden.tolerance:g}; calibrate thresholds here rather than reusing others"
        )
        return GoldenReport(max_difference=largest, verdict="differs", message=message)
    message = (
        f"router {name!r} is refused: {detail}, beyond {golden.gross_difference:g}; reinstall "
        "pointsman, use the onnxruntime version it pins, or make the bundle again on this machine"
    )
    return GoldenReport(max_difference=largest, verdict="refused", message=message)
