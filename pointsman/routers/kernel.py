"""A Gaussian kernel on an embedding: what resembles hard questions is hard.

A vector over an embedding knows directions; which of two models answers an exam question depends
on its subject and kind as well, and those are neighbourhoods. So the win rate's log-odds are a sum
over known points, each counting as far as the prompt is near it. Far from all of them the sum says
nothing and the bias is left.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelWeights:
    """``scale · sum_i a_i exp(-|T x - z_i|² / (2 reach²)) + bias`` for m points z in k directions.

    The formula is that of kernel ridge regression (Saunders et al. 1998).
    """

    projection: NDArray[np.float32]
    """T, float32[k, d]."""

    points: NDArray[np.float32]
    """z, float32[m, k]."""

    coefficients: NDArray[np.float32]
    """a, float32[m]."""

    reach: float
    """Distance, in k directions, over which a point counts; positive."""

    scale: float = 1.0
    bias: float = 0.0
    """In log-odds."""

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit together, and a reach that is none."""
        shapes = self.projection.shape, self.points.shape, self.coefficients.shape
        fits = [len(shape) for shape in shapes] == [2, 2, 1] and (
            shapes[1] == (shapes[2][0], shapes[0][0])
        )
        if not fits or not 0.0 < self.reach < float("inf"):
            raise ConfigError(
                f"the kernel's projection {shapes[0]}, points {shapes[1]} and coefficients "
                f"{shapes[2]}, with reach {self.reach:g}, do not fit together; make the bundle "
                "again with `pointsman train`"
            )

    @property
    def dimension(self) -> int:
        """Return d, the length of the embeddings it was fitted to."""
        return int(self.projection.shape[1])

    def log_odds(self, embedding: NDArray[np.float64]) -> float:
        """Return the log-odds for one embedding, float64[d]."""
        projection, points, lengths, coefficients = self._in_double
        place = projection @ embedding  # (k,)
        squares = lengths - 2.0 * (points @ place) + place @ place  # (m,)
        nearness = np.exp(squares / (-2.0 * self.reach**2))
        return float(self.scale * (nearness @ coefficients) + self.bias)

    @functools.cached_property
    def _in_double(self) -> tuple[NDArray[np.float64], ...]:
        """Return the arrays as float64 and the points' squared lengths: half the time a prompt."""
        projection, points, coefficients = (
            array.astype(np.float64) for array in (self.projection, self.points, self.coefficients)
        )
        return projection, points, np.einsum("mk,mk->m", points, points), coefficients

    def to_bytes(self) -> bytes:
        """Return the weights as an .npz archive, the same bytes for the same weights."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            projection=self.projection,
            points=self.points,
            coefficients=self.coefficients,
            numbers=np.asarray([self.reach, self.scale, self.bias], dtype=np.float64),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> KernelWeights:
        """Read what `to_bytes` wrote.

        Raises:
            ConfigError: the archive is not one of ours.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                reach, scale, bias = (float(number) for number in archive["numbers"])
                return cls(
                    projection=archive["projection"],
                    points=archive["points"],
                    coefficients=archive["coefficients"],
                    reach=reach,
                    scale=scale,
                    bias=bias,
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ConfigError(f"the bundle's kernel cannot be read: {error}") from error
