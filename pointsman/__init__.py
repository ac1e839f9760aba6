"""Pointsman routes each prompt to a strong or a weak language model."""

import importlib
import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pointsman.controller import Controller, RoutingError

# ONNX Runtime 1.29 and later report to their maker unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Controller", "RoutingError", "__version__"]

try:
    __version__ = version("pointsman")
except PackageNotFoundError:  # a checkout that nobody installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> object:
    """Returns the SDK's names; services and the command line start without what it needs."""
    if name in {"Controller", "RoutingError"}:
        try:
            return getattr(importlib.import_module("pointsman.controller"), name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{name} needs {error.name}; run `pip install 'pointsman[sdk]'`", name=error.name
            ) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
