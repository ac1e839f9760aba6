"""Where a checkpoint or a data set is → a file or a folder on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pointsman.errors import ConfigError
from pointsman.extras import needed_from
from pointsman.routing import quote

Wanted = Literal["model", "tokenizer", "dataset"]
"""What a source is to hold; from the hub, only its files are fetched."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""``owner/name``, which a relative path may look like too; what exists here goes first."""

_FILES: Mapping[Wanted, Sequence[str]] = {
    "model": ("*.json", "*.safetensors", "*.bin", "*.model", "*.txt"),
    "tokenizer": ("*.json", "*.model", "*.txt"),
    "dataset": ("*.parquet", "*.json", "*.jsonl", "*.jsonl.gz", "*.csv", "*.csv.gz", "*.npy"),
}
"""Never code: none of a repository's is fetched, so none can be run."""


def local_path(
    source: str,
    wanted: Wanted,
    *,
    revision: str | None = None,
    endpoint: str | None = None,
) -> Path:
    """Return the file or folder that a source names, fetched from the hub if it is not here.

    Args:
        source: a path, or ``owner/name`` on the hub.
        wanted: what it is to hold.
        revision: branch, tag or commit on the hub.
        endpoint: address of the hub.

    Raises:
        ConfigError: there is no such path, and the hub cannot be reached or has no such name.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if not _HUB_NAME.fullmatch(source):
        raise ConfigError(
            f"{source}: there is no such file or folder; name one, or a {wanted} on the Hugging "
            "Face hub as owner/name"
        )
    return _fetch(source, wanted, revision, endpoint)


def _fetch(source: str, wanted: Wanted, revision: str | None, endpoint: str | None) -> Path:
    with needed_from("import", "fetching from the Hugging Face hub"):
        from huggingface_hub import snapshot_download
    try:
        folder = snapshot_download(
            source,
            repo_type="dataset" if wanted == "dataset" else "model",
            revision=revision,
            allow_patterns=list(_FILES[wanted]),
            endpoint=endpoint,
        )
    except (OSError, ValueError) as error:  # the hub's own errors are one or the other
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"{quote(source)} is no path here and cannot be fetched from the Hugging Face hub: "
            f"{reason}; download the {wanted} where there is a network and name its folder"
        ) from error
    return Path(folder)
