"""Pointsman routes each prompt to a strong or a weak language model."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("pointsman")
except PackageNotFoundError:  # a checkout that nobody installed
    __version__ = "0+unknown"
