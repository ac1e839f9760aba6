"""A training that was interrupted, on disk: everything that its next step depends on.

One file, replaced whole by a rename, so that there is always one that can be read. It says which
data, settings and starting weights it belongs to, and no other training resumes from it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pointsman.errors import ConfigError
from pointsman.files import whole_file


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """Where a training keeps its state, and whether it takes up what lies there."""

    path: Path

    resume: bool
    """False starts anew and replaces what is there."""

    def load(self, digest: str) -> dict[str, Any] | None:
        """Return the state that was saved last, None if there is none or it is not wanted.

        Raises:
            ConfigError: it belongs to another training, or cannot be read; names the file.
        """
        if not self.resume or not self.path.exists():
            return None
        remedy = "train without --resume to begin anew"
        try:
            # weights_only: tensors and plain values; a file with code in it is refused.
            saved = torch.load(io.BytesIO(self.path.read_bytes()), weights_only=True)
            found, state = saved["digest"], saved["state"]
        except Exception as error:  # zip, pickle and torch each raise their own
            raise ConfigError(f"{self.path} cannot be resumed from: {error}; {remedy}") from error
        if found != digest:
            raise ConfigError(
                f"{self.path} belongs to a training with other data, settings or starting weights "
                f"({found[:12]}, now {digest[:12]}); restore them, or {remedy}"
            )
        return dict(state)

    def save(self, digest: str, state: dict[str, Any]) -> None:
        """Replace the file by this state: tensors, numbers, texts, lists and dicts of them.

        Raises:
            ConfigError: the folder cannot be written to.
        """
        try:
            with whole_file(self.path) as stream:
                torch.save({"digest": digest, "state": state}, stream)
        except OSError as error:
            raise ConfigError(
                f"the checkpoint {self.path} cannot be written: {error}; make room, or name "
                "another folder with --cache"
            ) from error
