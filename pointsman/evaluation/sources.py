"""A benchmark's name → its prompts and both models' scores: evaluation's one way to its data.

A name is looked up in this order: the configuration's `benchmarks`, RouteLLM's three, the
preference sets of the data folder, a file of graded prompts.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError, PointsmanError
from pointsman.evaluation.benchmarks import (
    BENCHMARKS,
    Benchmark,
    in_natural_unit,
    load_benchmark,
)
from pointsman.evaluation.generated import of_models
from pointsman.evaluation.preferences import (
    canonical_model,
    choose_pair,
    preference_benchmark,
    preference_names,
)
from pointsman.files import cache_folder
from pointsman.routers.settings import BenchmarkSettings, ToolsConfig
from pointsman.routing import ModelPair, quote
from pointsman.rows import STANDARD, Row, read_rows

_FIELDS = BenchmarkSettings()
_EXAMPLE_ROW = '{"prompt": "Hello!", "strong_score": 1, "weak_score": 0}'


def data_folder(environ: Mapping[str, str]) -> Path:
    """Returns where fetched and generated data lies: `POINTSMAN_DATA`, or `data` in the cache."""
    named = environ.get("POINTSMAN_DATA")
    return Path(named) if named else cache_folder(environ) / "data"


def benchmark_names(data: Path, config: ToolsConfig) -> list[str]:
    """Returns the names that can be measured now, in the order in which they are looked up."""
    fetched = [name for name in BENCHMARKS if _folder(data, name).is_dir()]
    return list(dict.fromkeys([*config.benchmarks, *fetched, *preference_names(data)]))


def find_benchmark(
    name: str,
    *,
    data: Path,
    config: ToolsConfig,
    strong_model: str | None = None,
    weak_model: str | None = None,
) -> Benchmark:
    """Returns the benchmark of this name, for the models asked for.

    Args:
        name: One of `benchmark_names`, or the path of a JSON Lines or CSV file that has `prompt`,
            `strong_score` and `weak_score`, and perhaps `strong_cost` and `weak_cost`, a row.
        data: The folder that holds ``benchmarks/``, ``preferences/`` and ``generated/``.
        config: Names benchmarks of its own.
        strong_model: By default the one that was graded; in any spelling.
        weak_model: Likewise.

    Raises:
        ConfigError: There is no such benchmark, it is damaged, or it lacks a model's scores.
    """
    routellms = name.replace("_", "-")
    if name in config.benchmarks:
        found = _configured(name, config, strong_model, weak_model)
    elif routellms in BENCHMARKS:
        found = of_models(
            load_benchmark(routellms, data),
            data,
            strong_model=strong_model,
            weak_model=weak_model,
        )
    elif name in preference_names(data):
        found = preference_benchmark(name, data, strong_model=strong_model, weak_model=weak_model)
    elif name == STANDARD or (name and Path(name).exists() and not Path(name).is_dir()):
        found = _from_file(_stem(name), name, _FIELDS, strong_model, weak_model)
    else:
        raise _unknown(name, data, config)
    if canonical_model(found.pair.strong) == canonical_model(found.pair.weak):
        raise ConfigError(
            f"benchmark {quote(name)}: the strong and the weak model are both {found.pair.weak}; "
            "name two different models"
        )
    return found


def _unknown(name: str, data: Path, config: ToolsConfig) -> ConfigError:
    names = ", ".join(dict.fromkeys([*config.benchmarks, *BENCHMARKS, *preference_names(data)]))
    return ConfigError(
        f"no benchmark and no file is called {quote(name)}; there are: {names}. Data is looked for "
        f"in {data}: `pointsman data fetch` gets it, --data or POINTSMAN_DATA name another folder"
    )


def _folder(data: Path, name: str) -> Path:
    return data / "benchmarks" / name.replace("-", "_")


def _stem(name: str) -> str:
    if name == STANDARD:
        return "standard-input"
    stem = Path(name).name.removesuffix(".gz")
    return stem.rpartition(".")[0] or stem


# Benchmarks of one's own


def _configured(
    name: str, config: ToolsConfig, strong_model: str | None, weak_model: str | None
) -> Benchmark:
    settings = config.benchmarks[name]
    key = f"{config.source}: benchmarks.{name}"
    if bool(settings.file) == bool(settings.factory):
        raise ConfigError(f"{key} must name either a file or a class")
    if settings.file:
        return _from_file(name, settings.file, settings, strong_model, weak_model)
    found = _from_class(key, settings.factory or "", settings.options)
    choose_pair([found.pair], strong_model, weak_model, source=key)
    return replace(found, name=name)


def _from_class(key: str, factory: str, options: Mapping[str, Any]) -> Benchmark:
    module_name, _, class_name = factory.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), class_name)(**options)
        found = made.load()
    except PointsmanError:
        raise
    except Exception as error:  # somebody else's class: whatever it raises, the key is named
        raise ConfigError(
            f"{key}.class: {factory} cannot be loaded: {type(error).__name__}: {error}; write "
            "package.module:Class, with a method load() that returns a "
            "pointsman.evaluation.benchmarks.Benchmark, and install the package beside pointsman"
        ) from error
    if not isinstance(found, Benchmark):
        raise ConfigError(
            f"{key}.class: load() of {factory} returned {type(found).__name__}, not a "
            "pointsman.evaluation.benchmarks.Benchmark"
        )
    return found


def _from_file(
    name: str,
    path: str,
    fields: BenchmarkSettings,
    strong_model: str | None,
    weak_model: str | None,
) -> Benchmark:
    """Returns a file's rows as they are: a prompt that comes twice counts twice."""
    rows = list(read_rows(path))
    if not rows:
        raise ConfigError(f"{path}: there are no rows; write one a prompt, such as {_EXAMPLE_ROW}")
    rows, pair = _rows_of_pair(rows, path, fields, strong_model, weak_model)
    strong = np.asarray([row.number(fields.strong_score) for row in rows])
    weak = np.asarray([row.number(fields.weak_score) for row in rows])
    scale, unit = in_natural_unit(np.concatenate([strong, weak]))
    return Benchmark(
        name=name,
        pair=pair,
        unit=unit,
        prompts=tuple(row.text(fields.prompt) for row in rows),
        weak_scores=scale * weak,
        strong_scores=scale * strong,
        weak_costs=_costs(rows, fields.weak_cost),
        strong_costs=_costs(rows, fields.strong_cost),
    )


def _rows_of_pair(
    rows: list[Row],
    path: str,
    fields: BenchmarkSettings,
    strong_model: str | None,
    weak_model: str | None,
) -> tuple[list[Row], ModelPair]:
    """Returns the rows of the models asked for, where rows name models; else all of them."""
    if rows[0].has("strong") and rows[0].has("weak"):
        pairs = [ModelPair(strong=row.text("strong"), weak=row.text("weak")) for row in rows]
        kept, pair = choose_pair(pairs, strong_model, weak_model, source=path)
        return [rows[index] for index in kept], pair
    return rows, ModelPair(
        strong=strong_model or fields.strong_score.removesuffix("_score"),
        weak=weak_model or fields.weak_score.removesuffix("_score"),
    )


def _costs(rows: list[Row], field: str) -> NDArray[np.float64] | None:
    """Returns float64[n] dollars, or None where no row tells."""
    if not any(row.has(field) for row in rows):
        return None
    costs = np.asarray([row.number(field) for row in rows])
    if (costs < 0).any():
        raise ConfigError(f"{rows[int(np.argmin(costs))].place}: the {field} is below 0")
    return costs
