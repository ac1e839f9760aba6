"""Names of routers and of a benchmark → a study: what `evaluate` and `report` both do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pointsman.evaluation.benchmarks import Benchmark
from pointsman.evaluation.costs import OUTPUT_TOKENS, known_costs
from pointsman.evaluation.notes import ScoredRouter
from pointsman.evaluation.scores import cached_win_rates
from pointsman.evaluation.sources import find_benchmark
from pointsman.evaluation.study import Study, StudySettings, study
from pointsman.models_file import ModelsFile
from pointsman.routers.bundle import Bundle, prompt_digest, read_manifest
from pointsman.routers.registry import RANDOM_NAME, SHIPPED_BUNDLES, LoadedRouter
from pointsman.routers.settings import RouterSettings, ToolsConfig

_TRAINING_PROMPTS = "training_prompts"


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What the figures of a run depend on, and where its data is."""

    config: ToolsConfig
    data: Path
    cache: Path | None
    """Folder that keeps win rates between runs; None keeps none."""
    settings: StudySettings
    strong_model: str | None = None
    weak_model: str | None = None
    models: ModelsFile | None = None
    """Prices, to reckon with cost."""
    output_tokens: int | None = None
    """Of an answer, where its cost is estimated; `OUTPUT_TOKENS` by default."""
    threads: int | None = None
    overwrite: Collection[str] = ()
    """Routers whose kept win rates are computed anew."""

    def benchmark(self, name: str) -> Benchmark:
        """Returns the benchmark of this name.

        Raises:
            ConfigError: There is none, or it is damaged.
        """
        return find_benchmark(
            name,
            data=self.data,
            config=self.config,
            strong_model=self.strong_model,
            weak_model=self.weak_model,
        )

    def study(self, benchmark: Benchmark, routers: Sequence[LoadedRouter]) -> Study:
        """Returns the study of these routers, whose prompts are scored with a progress bar.

        Raises:
            ConfigError: A router returns something else than rates, or the models file lacks a
                model of the benchmark.
        """
        costs = known_costs(
            benchmark, self.models, output_tokens=self.output_tokens or OUTPUT_TOKENS
        )
        scored = [self._scored(router, benchmark) for router in routers]
        return study(benchmark, scored, self.settings, costs=costs)

    def _scored(self, router: LoadedRouter, benchmark: Benchmark) -> ScoredRouter:
        return ScoredRouter(
            name=router.name,
            revision=router.revision,
            rates=cached_win_rates(
                router,
                benchmark.prompts,
                cache=self.cache,
                threads=self.threads,
                overwrite=router.name in self.overwrite,
            ),
            trained_on=trained_on(router.name, self.config, benchmark.prompts),
            repeatable=router.cacheable,
        )


def trained_on(name: str, config: ToolsConfig, prompts: Sequence[str]) -> int | None:
    """Returns how many of the prompts the router's bundle trained on; None where nobody knows.

    Prompts that differ in case and white space only are the same.

    Raises:
        RouterNotReady: The bundle's list of training prompts is damaged.
    """
    settings = config.routers.get(name, RouterSettings())
    if settings.factory:
        return None
    if name == RANDOM_NAME and not settings.bundle:
        return 0
    folder = Path(settings.bundle) if settings.bundle else SHIPPED_BUNDLES / name
    manifest = read_manifest(folder)
    if _TRAINING_PROMPTS not in manifest.files:
        return None
    # Its scoring files are read and checked already, by whoever loaded the router.
    digests = Bundle(manifest=manifest, contents={}, folder=folder).training_prompt_digests()
    return sum(prompt_digest(prompt) in digests for prompt in prompts)
