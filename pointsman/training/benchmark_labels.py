"""A benchmark's own labels, where a protocol says by name that they may be trained on.

The paper adds some 1,500 labels of MMLU's kind and tests on MMLU; without them nothing it trained
beat chance there by more than 0.024. The same protocol here: so many of the test set's questions,
drawn by a seed, are trained on, and MMLU is tested on the rest. A bundle for other prompts may be
trained on all of them, and has no MMLU figure of its own then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointsman.errors import ConfigError
from pointsman.evaluation.benchmarks import load_benchmark, protected_prompts
from pointsman.evaluation.preferences import canonical_model
from pointsman.routing import quote
from pointsman.training.datasets import Outcomes

MMLU_SOURCE = "mmlu"

_SHAPE = re.compile(r"none|all|([1-9][0-9]{0,4}):([0-9]{1,9})")


@dataclass(frozen=True)
class MmluLabels:
    """How many of MMLU's labels may be trained on, and which."""

    count: int | None
    """Questions drawn; 0 for none, None for all."""

    seed: int = 0
    """Of the draw."""

    @classmethod
    def parse(cls, text: str) -> MmluLabels:
        """Read ``none``, ``all`` or ``COUNT:SEED``.

        Raises:
            ConfigError: it is none of these.
        """
        match = _SHAPE.fullmatch(text)
        if not match:
            raise ConfigError(
                f"--mmlu-labels {quote(text)}: write none, all, or how many and by which seed "
                "they are drawn, such as 1500:0"
            )
        if match[1]:
            return cls(int(match[1]), int(match[2]))
        return cls(0 if text == "none" else None)

    def drawn(self, data: Path) -> Outcomes | None:
        """Return the outcomes of the questions drawn, None for none of them.

        Raises:
            ConfigError: the benchmark is not there, or has fewer questions.
        """
        if self.count == 0:
            return None
        benchmark = load_benchmark("mmlu", data)
        total = len(benchmark.prompts)
        if (self.count or 0) > total:
            raise ConfigError(f"--mmlu-labels {self.count}: MMLU has {total} questions")
        rows = np.sort(np.random.default_rng(self.seed).permutation(total)[: self.count])
        prompts = list(dict.fromkeys(benchmark.prompts[row] for row in rows))
        number = {prompt: index for index, prompt in enumerate(prompts)}
        return Outcomes(
            prompts=tuple(prompts),
            roots=np.arange(len(prompts)),
            prompt_index=np.asarray([number[benchmark.prompts[row]] for row in rows]),
            source_index=np.zeros(len(rows), dtype=np.int64),
            sources=(MMLU_SOURCE,),
            strong_models=(canonical_model(benchmark.pair.strong),) * len(rows),
            weak_models=(canonical_model(benchmark.pair.weak),) * len(rows),
            strong_scores=benchmark.strong_scores[rows] / 100.0,
            weak_scores=benchmark.weak_scores[rows] / 100.0,
        )

    @property
    def allowed_overlap(self) -> frozenset[str]:
        """Return what rows of other sources may overlap with: MMLU, if all of it is trained on."""
        return frozenset({"mmlu", "mmlu_stem"} if self.count is None else ())

    def protected(self, data: Path) -> Iterator[str]:
        """Yield every test prompt that is not trained on, see `protected_prompts`."""
        if not (data / "benchmarks").is_dir():
            return
        drawn = self.drawn(data)
        trained = set(drawn.prompts) if drawn else set()
        yield from (prompt for prompt in protected_prompts(data) if prompt not in trained)
