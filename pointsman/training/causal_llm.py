"""`pointsman train causal_llm`: a decoder that rates the weak model's answer, from data to bundle.

::

    clean outcomes → ratings 1 to 5 → decoder and label rows, tuned together → weights averaged
            → int8 ONNX graph → Platt on held-out prompts → figures, golden win rates → bundle

The decoder is any causal language model of transformers; untold, one that begins as MiniLM with a
causal mask, small enough for a CPU to train and to serve.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec.structs import replace as replace_struct
from numpy.typing import NDArray
from transformers import PreTrainedModel

from pointsman.routers.causal_llm import CausalRouter, PromptFormat, PromptTokens
from pointsman.routers.embedding import EmbedderSettings
from pointsman.training.averaging import Averaging, Checkpoints, finetune_averaged
from pointsman.training.datasets import Outcomes, source_weights
from pointsman.training.decoder import RatingDecoder, add_labels, load_decoder, rating_corpus
from pointsman.training.encoder import read_tokenizer, token_limit
from pointsman.training.export import installed_encoder, quantize
from pointsman.training.export_causal import export_causal
from pointsman.training.export_causal_bert import export_causal_bert
from pointsman.training.finetune import TrainingCurve
from pointsman.training.finishing import calibrate, finish, in_parallel
from pointsman.training.labels import held_out_prompts, label_prompts
from pointsman.training.optimization import FinetuneSettings, overridden
from pointsman.training.preparation import prepare
from pointsman.training.settings import TrainSettings

KIND = "causal_llm"


@dataclass(frozen=True, kw_only=True)
class CausalRecipe:
    """What `train causal_llm` does untold; docs/training-log.md says why."""

    finetune: FinetuneSettings = field(default_factory=lambda: FinetuneSettings(steps=300))

    averaging: Averaging = field(default_factory=Averaging)

    held_out_fraction: float = 0.1
    """Part of the questions that only stops training, picks its best step and calibrates."""

    first_token_weight: float = 0.1
    """Weight of the loss for which the first new token is a rating, against the rating's own. It
    is learnt within some steps; without it, the router would have to generate until one comes."""

    max_tokens: int = 256
    """Tokens of the whole prompt with its format."""

    before: str = "[Question]\n"
    """Text before the prompt. A decoder that begins as an encoder has no use for one: its
    tokenizer's own marks stand there."""

    after: str = "\n\nPrediction:\n"
    """Text after the prompt, in the same case."""


def train_causal_llm(settings: TrainSettings, recipe: CausalRecipe | None = None) -> Path:
    """Tune, calibrate, measure and write the bundle; return its folder.

    The same data, seed and machine give the same bundle, as far as torch is deterministic there.

    Raises:
        ConfigError: data, model or checkpoint cannot be read, or the device is not there.
        ValueError: the router is upside down on held-out prompts; there is nothing to ship then.
    """
    recipe = recipe or CausalRecipe()
    base = settings.base_model or settings.encoder or installed_encoder()
    model = load_decoder(base)
    tokenizer, label_ids = add_labels(model, read_tokenizer(base))
    prompt_format = _format(recipe, base, model)
    material = prepare(settings)
    outcomes = material.outcomes
    held_out = held_out_prompts(outcomes, recipe.held_out_fraction, settings.seed)
    tokens = PromptTokens(tokenizer, prompt_format)
    decoder, curves = _tune(
        settings, recipe, base=base, tokens=tokens, outcomes=outcomes, held_out=held_out
    )
    export = export_causal_bert if _begins_as_encoder(model) else export_causal
    float32 = export(decoder.tuned_model(), label_ids)
    served = quantize(float32)
    uncalibrated = CausalRouter(served, tokenizer, prompt_format)
    calibrated = calibrate(outcomes, held_out, settings.pair, in_parallel(uncalibrated))
    line = (calibrated.platt.scale, calibrated.platt.bias)
    prompt_format = replace_struct(prompt_format, platt=line)
    router = CausalRouter(served, tokenizer, prompt_format)
    folder = finish(
        settings,
        material,
        kind=KIND,
        embedder=EmbedderSettings(
            max_tokens=prompt_format.max_tokens, dimension=prompt_format.label_count
        ),
        contents={"decoder": served, "tokenizer": tokenizer, "format": prompt_format.to_bytes()},
        rate=in_parallel(router),
        served=router,
        unquantized=CausalRouter(float32, tokenizer, prompt_format),
        held_out=calibrated.held_out,
        curves=curves,
    )
    if checkpoints := Checkpoints.of(settings, KIND):
        checkpoints.remove()
    return folder


def _tune(
    settings: TrainSettings,
    recipe: CausalRecipe,
    *,
    base: Path,
    tokens: PromptTokens,
    outcomes: Outcomes,
    held_out: NDArray[np.bool_],
) -> tuple[RatingDecoder, list[TrainingCurve]]:
    """Return the tuned decoder, on the CPU, and how its trainings went."""
    labels = label_prompts(outcomes, source_weights(outcomes, settings.balance))
    token_ids = [np.asarray(tokens.ids(prompt), dtype=np.int32) for prompt in outcomes.prompts]
    corpus = rating_corpus(token_ids, labels)
    looked_at = held_out[labels.prompt_index]

    def make() -> RatingDecoder:
        model = load_decoder(base)
        _, label_ids = add_labels(model, read_tokenizer(base))
        return RatingDecoder(
            model,
            label_ids,
            source_count=len(outcomes.sources),
            first_token_weight=recipe.first_token_weight,
        )

    return finetune_averaged(
        make,
        corpus.subset(~looked_at),
        overridden(recipe.finetune, settings, len(corpus)),
        recipe.averaging,
        held_out=corpus.subset(looked_at) if looked_at.any() else None,
        checkpoints=Checkpoints.of(settings, KIND),
        description="fine-tuning the decoder",
    )


def _format(recipe: CausalRecipe, base: Path, model: PreTrainedModel) -> PromptFormat:
    """Return how prompts are put to this model."""
    begins_as_encoder = _begins_as_encoder(model)
    stop = model.generation_config.eos_token_id if model.generation_config else None
    return PromptFormat(
        before="" if begins_as_encoder else recipe.before,
        after="" if begins_as_encoder else recipe.after,
        max_tokens=min(recipe.max_tokens, token_limit(base)),
        add_special_tokens=True,
        stop_tokens=() if stop is None else tuple(stop if isinstance(stop, list) else [stop]),
    )


def _begins_as_encoder(model: PreTrainedModel) -> bool:
    return bool(model.config.model_type == "bert")
