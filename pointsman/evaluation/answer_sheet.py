"""The file of one model's graded answers: it survives crashes, and only one run writes to it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from pointsman.errors import ConfigError
from pointsman.json_text import JsonDecoder


class GradedAnswer(msgspec.Struct, kw_only=True):
    """One row: how a model did on one prompt."""

    prompt: str
    score: float
    """0 to 1 for an exam, 1 to 10 from a judge (mean of the turns)."""
    answers: list[str]
    """What the model wrote, one text a turn."""
    read: list[str | float | None]
    """What was graded, one a turn: the number, the letter, the judge's rating; null if none."""
    benchmark: str
    model: str
    protocol: str
    """How the model was asked and graded; a file holds one protocol."""


class _Known(msgspec.Struct):
    prompt: str
    score: float
    protocol: str = ""


_decoder = JsonDecoder[_Known](_Known)
_encode = msgspec.json.Encoder().encode


class AnswerSheet:
    """Rows are there once `add` returns, and `scores` tells which prompts have one.

    A context manager: opening makes the file and its folder, drops a torn last line and locks out
    other runs; leaving closes it.
    """

    def __init__(self, path: Path, protocol: str) -> None:
        self.path = path
        self.scores: dict[str, float] = {}
        """Prompt → score of all rows."""
        self._protocol = protocol
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError as error:
            self.close()
            raise ConfigError(
                f"{self.path}: another run is writing to it; wait for it to end, or stop it"
            ) from error
        except OSError as error:
            self.close()
            raise ConfigError(
                f"{self.path}: cannot be written: {error.strerror or error}; name another folder "
                "with --data or POINTSMAN_DATA"
            ) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; rows that were added stay."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def add(self, answer: GradedAnswer) -> None:
        """Writes one row, in one piece and at once.

        Raises:
            ConfigError: The disk is full, or the file cannot be written.
        """
        line = _encode(_plain(answer)) + b"\n"
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be written: {error.strerror or error}"
            ) from error
        self.scores[answer.prompt] = answer.score

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):  # a crash while the last row was written
            os.truncate(self._descriptor, len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            place = f"{self.path}, line {number}"
            try:
                row = _decoder.decode(line)
            except ValueError as error:
                raise ConfigError(
                    f"{place}: not a graded answer: {error}; remove the line, and its prompt is "
                    "asked again"
                ) from error
            if row.protocol and row.protocol != self._protocol:
                raise ConfigError(
                    f"{place}: graded as {row.protocol!r}, and now asked for is "
                    f"{self._protocol!r}; scores of two protocols do not mix: go on with the "
                    "former's options, or move the file away"
                )
            self.scores[row.prompt] = row.score


def _plain(answer: GradedAnswer) -> dict[str, Any]:
    """Returns the row with half characters, which JSON may carry and UTF-8 may not, replaced."""
    row = msgspec.structs.asdict(answer)
    row["answers"] = [text.encode("utf-8", "replace").decode() for text in answer.answers]
    return row
