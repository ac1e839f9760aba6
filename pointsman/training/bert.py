"""`pointsman train bert`: an encoder fine-tuned end to end, from data on disk to the bundle.

::

    clean outcomes → soft labels → encoder and heads, tuned together → weights averaged
            → int8 ONNX graph → Platt on held-out prompts → figures, golden win rates → bundle

The tuned encoder is saved as well: `train mf` and `train sw_ranking` take it with ``--encoder``,
and the three bundles then share one graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from pointsman.routers.bert import BertRouter, ClassifierHead
from pointsman.routers.embedding import Embedder
from pointsman.training.averaging import Averaging, Checkpoints, finetune_averaged
from pointsman.training.batches import tokenize
from pointsman.training.classifier import PromptClassifier, classifier_corpus
from pointsman.training.datasets import Outcomes, source_weights
from pointsman.training.encoder import (
    check_is_free,
    layer_count,
    make_encoder,
    read_tokenizer,
    save_encoder,
    token_limit,
)
from pointsman.training.export import Pooling, installed_encoder, load_encoder
from pointsman.training.figures import Rate
from pointsman.training.finetune import TrainingCurve
from pointsman.training.finishing import calibrate, finish
from pointsman.training.labels import held_out_prompts, label_prompts
from pointsman.training.optimization import FinetuneSettings, overridden
from pointsman.training.preparation import prepare
from pointsman.training.settings import TrainSettings

KIND = "bert"


@dataclass(frozen=True, kw_only=True)
class BertRecipe:
    """What `train bert` does untold; docs/training-log.md says why."""

    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)

    averaging: Averaging = field(default_factory=Averaging)

    dropout: float = 0.1
    """Part of the embedding that the heads do not see in a step, in [0, 1)."""

    held_out_fraction: float = 0.1
    """Part of the questions that only stops training, picks its best step and calibrates."""

    max_tokens: int = 256
    """512 was worth 0.003 APGR on MMLU and nothing elsewhere, for twice the worst latency."""


def train_bert(settings: TrainSettings, recipe: BertRecipe | None = None) -> Path:
    """Tune, calibrate, measure and write the bundle; return its folder.

    The same data, seed and machine give the same bundle, as far as torch is deterministic there.

    Raises:
        ConfigError: data, encoder or checkpoint cannot be read, or the device is not there.
        ValueError: the router is upside down on held-out prompts; there is nothing to ship then.
    """
    recipe = recipe or BertRecipe()
    if settings.save_encoder:
        check_is_free(settings.save_encoder)
    start = settings.encoder or installed_encoder()
    pooling = Pooling.of_tuned(layer_count(start))
    max_tokens = min(recipe.max_tokens, token_limit(start))
    material = prepare(settings)
    outcomes = material.outcomes
    held_out = held_out_prompts(outcomes, recipe.held_out_fraction, settings.seed)
    classifier, curves = _tune(
        settings,
        recipe,
        start=start,
        pooling=pooling,
        max_tokens=max_tokens,
        outcomes=outcomes,
        held_out=held_out,
    )
    head = _head(classifier)
    with _encoder_folder(settings) as folder:
        save_encoder(classifier.body.encoder, read_tokenizer(start), pooling, head, folder)
        encoder = make_encoder(folder, pooling, max_tokens)
    embedder, embeddings = encoder.embedder(), encoder.cached(settings.cache)

    def rate(head: ClassifierHead, embedder: Embedder = embedder) -> Rate:
        router = BertRouter(embedder, head)
        return lambda prompts: router.win_rates_of(embeddings.embed(prompts))

    calibrated = calibrate(outcomes, held_out, settings.pair, rate(head))
    head = replace(head, platt=calibrated.platt)
    folder = finish(
        settings,
        material,
        kind=KIND,
        embedder=encoder.settings,
        contents={
            "encoder": encoder.served,
            "tokenizer": encoder.tokenizer,
            "head": head.to_bytes(),
        },
        rate=rate(head),
        served=BertRouter(embedder, head),
        unquantized=BertRouter(encoder.unquantized(), head),
        held_out=calibrated.held_out,
        curves=curves,
    )
    if checkpoints := Checkpoints.of(settings, KIND):
        checkpoints.remove()
    return folder


def _tune(
    settings: TrainSettings,
    recipe: BertRecipe,
    *,
    start: Path,
    pooling: Pooling,
    max_tokens: int,
    outcomes: Outcomes,
    held_out: NDArray[np.bool_],
) -> tuple[PromptClassifier, list[TrainingCurve]]:
    """Return the tuned classifier, on the CPU, and how its trainings went."""
    labels = label_prompts(outcomes, source_weights(outcomes, settings.balance))
    tasks = labels.tasks()
    token_ids = tokenize(read_tokenizer(start), outcomes.prompts, max_tokens)
    corpus = classifier_corpus(token_ids, labels, tasks)
    looked_at = held_out[labels.prompt_index]

    def make() -> PromptClassifier:
        return PromptClassifier(
            load_encoder(start),
            pooling,
            tasks,
            source_count=len(outcomes.sources),
            dropout=recipe.dropout,
        )

    return finetune_averaged(
        make,
        corpus.subset(~looked_at),
        overridden(recipe.finetune, settings, len(corpus)),
        recipe.averaging,
        held_out=corpus.subset(looked_at) if looked_at.any() else None,
        checkpoints=Checkpoints.of(settings, KIND),
        description="fine-tuning the encoder",
    )


def _head(classifier: PromptClassifier) -> ClassifierHead:
    weights, bias = classifier.head()
    return ClassifierHead(weights=weights, bias=bias)


@contextmanager
def _encoder_folder(settings: TrainSettings) -> Iterator[Path]:
    """Yield where the tuned encoder is saved: where the user wants it, or with the cache."""
    if settings.save_encoder:
        yield settings.save_encoder
    elif settings.cache:
        yield settings.cache / "encoders" / (settings.name or KIND)
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder) / "encoder"
