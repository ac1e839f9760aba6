"""The fine-tuning loop: it learns, repeats itself, resumes, stops, and averages."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.errors import ConfigError

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("default")]

PROMPTS = [
    text
    for number in range(50)
    for text in (f"what is the easy sum of {number} and two", f"prove the hard theorem {number}")
]


@pytest.fixture(scope="module")
def training(torch_installed: None) -> Any:
    """The modules under test, imported where torch is."""
    import torch

    from pointsman.training import averaging, batches, checkpoint, classifier, export, finetune
    from pointsman.training.labels import PromptLabels
    from pointsman.training.optimization import FinetuneSettings

    return SimpleNamespace(
        torch=torch,
        averaging=averaging,
        batches=batches,
        checkpoint=checkpoint,
        classifier=classifier,
        export=export,
        finetune=finetune,
        PromptLabels=PromptLabels,
        quick=FinetuneSettings(
            steps=24,
            batch_size=8,
            learning_rate=1e-3,
            head_learning_rate=1e-2,
            evaluate_every=6,
            device="cpu",
        ),
    )


@pytest.fixture
def corpus(training: Any, tiny_encoder: Path) -> Any:
    """Easy and hard prompts in turn, one in ten of them another source's step signal."""
    hard = np.tile(np.asarray([0.1, 0.9], dtype=np.float32), 50)
    labels = training.PromptLabels(
        prompt_index=np.arange(100),
        source_index=np.arange(100) % 10 // 9,
        classes=np.stack([hard, 0.75 * (1 - hard), 0.25 * (1 - hard)], axis=1),
        ratings=np.full((100, 5), 0.2, dtype=np.float32),
        strong_fails=hard / 2,
        has_outcomes=np.arange(100) % 10 != 9,
        weights=np.ones(100),
    )
    tokenizer = (tiny_encoder / "tokenizer.json").read_bytes()
    ids = training.batches.tokenize(tokenizer, PROMPTS, 32)
    return training.classifier.classifier_corpus(ids, labels, labels.tasks())


@pytest.fixture
def model(training: Any, tiny_encoder: Path) -> Any:
    """Make the same untrained classifier each time."""

    def make() -> Any:
        encoder = training.export.load_encoder(tiny_encoder)
        labels = [type("T", (), {"weight": 0.5})] * 3
        return training.classifier.PromptClassifier(
            encoder, training.export.Pooling.of_tuned(2), labels, source_count=2, dropout=0.1
        )

    return make


def _weights(model: Any) -> bytes:
    return b"".join(value.detach().numpy().tobytes() for value in model.state_dict().values())


def test_the_loss_falls_and_the_prompts_are_told_apart(training, corpus, model) -> None:
    """The whole network learns, not the heads alone."""
    tuned = model()
    before = {name: value.clone() for name, value in tuned.body.state_dict().items()}
    curve = training.finetune.finetune(tuned, corpus, training.quick)
    assert curve.steps == [6, 12, 18, 24]
    assert curve.training_losses[-1] < curve.training_losses[0] - 0.2
    assert curve.held_out_losses == []
    changed = {
        name for name, value in tuned.body.state_dict().items() if (value != before[name]).any()
    }
    assert any("layer.0." in name for name in changed)
    assert not any("word_embeddings" in name for name in changed)
    batch = corpus.batch(np.arange(100), training.torch.device("cpu"))
    with training.torch.no_grad():
        logits = tuned.classes(tuned.body(batch.input_ids, batch.attention_mask))
    assert (logits[1::2, 0].min() > logits[0::2, 0].max()).item()


def test_a_seed_gives_the_same_weights(training, corpus, model) -> None:
    """And another seed others."""
    results = []
    for seed in (3, 3, 4):
        tuned = model()
        training.finetune.finetune(tuned, corpus, replace(training.quick, seed=seed))
        results.append(_weights(tuned))
    assert results[0] == results[1]
    assert results[0] != results[2]


def _interrupt_after(model: Any, steps: int) -> None:
    """Make the model's loss raise, as Ctrl-C would, after so many training batches."""
    original, seen = model.losses, []

    def losses(batch: Any) -> Any:
        if model.training:
            seen.append(1)
            if len(seen) > steps:
                raise KeyboardInterrupt
        return original(batch)

    model.losses = losses


def test_a_resumed_training_ends_as_an_uninterrupted_one(training, corpus, model, tmp_path) -> None:
    """Bit for bit: weights, optimiser, dropout and the order of batches are all taken up."""
    held_out = corpus.subset(np.arange(100) >= 80)
    corpus = corpus.subset(np.arange(100) < 80)
    whole = model()
    expected = training.finetune.finetune(whole, corpus, training.quick, held_out=held_out)

    path = tmp_path / "bert.checkpoint"
    first = model()
    _interrupt_after(first, 15)
    with pytest.raises(KeyboardInterrupt):
        training.finetune.finetune(
            first,
            corpus,
            training.quick,
            held_out=held_out,
            checkpoint=training.checkpoint.CheckpointFile(path=path, resume=False),
        )
    assert [file.name for file in tmp_path.iterdir()] == ["bert.checkpoint"]
    resumed = model()
    curve = training.finetune.finetune(
        resumed,
        corpus,
        training.quick,
        held_out=held_out,
        checkpoint=training.checkpoint.CheckpointFile(path=path, resume=True),
    )
    assert curve == expected
    assert _weights(resumed) == _weights(whole)
    done = model()
    _interrupt_after(done, 0)  # not a step is left to take
    again = training.checkpoint.CheckpointFile(path=path, resume=True)
    training.finetune.finetune(done, corpus, training.quick, held_out=held_out, checkpoint=again)
    assert _weights(done) == _weights(whole)


def test_another_trainings_checkpoint_is_refused(training, corpus, model, tmp_path) -> None:
    """Other labels, settings or starting weights: nothing is mixed."""
    path = tmp_path / "bert.checkpoint"
    interrupted = model()
    _interrupt_after(interrupted, 10)
    with pytest.raises(KeyboardInterrupt):
        training.finetune.finetune(
            interrupted,
            corpus,
            training.quick,
            checkpoint=training.checkpoint.CheckpointFile(path=path, resume=False),
        )
    resume = training.checkpoint.CheckpointFile(path=path, resume=True)
    with pytest.raises(ConfigError, match=r"bert\.checkpoint belongs to .* without --resume"):
        training.finetune.finetune(
            model(), corpus, replace(training.quick, steps=30), checkpoint=resume
        )
    corpus.labels["classes"][0] = [1, 0, 0]
    with pytest.raises(ConfigError, match="other data"):
        training.finetune.finetune(model(), corpus, training.quick, checkpoint=resume)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"cos\nsystem\n(S'true'\ntR."])
def test_a_damaged_checkpoint_is_named(training, corpus, model, tmp_path, content) -> None:
    """A file with code in it is damaged too."""
    path = tmp_path / "bert.checkpoint"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bert\.checkpoint cannot be resumed from"):
        training.finetune.finetune(
            model(),
            corpus,
            training.quick,
            checkpoint=training.checkpoint.CheckpointFile(path=path, resume=True),
        )


def test_training_stops_early_and_keeps_the_best(training, corpus, model) -> None:
    """Held-out prompts with the opposite labels: the better it learns, the worse it gets."""
    opposite = corpus.subset(np.arange(100) < 20)
    opposite.labels["classes"][:] = opposite.labels["classes"][::-1].copy()
    opposite.labels["tasks"][:] = 0.5
    settings = replace(training.quick, steps=60, evaluate_every=3, patience=2)
    tuned = model()
    curve = training.finetune.finetune(tuned, corpus, settings, held_out=opposite)
    assert curve.steps[-1] < 60
    best = int(np.argmin(curve.held_out_losses))
    assert curve.best_step == curve.steps[best]
    assert len(curve.steps) == best + 1 + settings.patience
    batch = opposite.batch(np.arange(20), training.torch.device("cpu"))
    with training.torch.no_grad():
        loss = tuned.losses(batch).mean().item()
    assert loss == pytest.approx(curve.held_out_losses[best], abs=0.02)  # bfloat16 on the way


def test_lower_layers_stay_as_they_are(training, corpus, model) -> None:
    """One tuned layer of two: the first and the embeddings are those of before."""
    tuned = model()
    before = {name: value.clone() for name, value in tuned.body.state_dict().items()}
    training.finetune.finetune(tuned, corpus, replace(training.quick, steps=3, tuned_layers=1))
    changed = {
        name for name, value in tuned.body.state_dict().items() if (value != before[name]).any()
    }
    assert changed
    assert all("layer.1." in name for name in changed)


def test_a_look_takes_some_of_the_held_out_examples(training, corpus, model) -> None:
    """The same ones each time."""
    tuned = model()
    original, seen = tuned.losses, []

    def losses(batch: Any) -> Any:
        if not tuned.training:
            seen.append(batch.input_ids.tolist())
        return original(batch)

    tuned.losses = losses
    settings = replace(training.quick, look_examples=5, evaluate_every=12)
    training.finetune.finetune(tuned, corpus, settings, held_out=corpus)
    assert [len(ids) for ids in seen] == [5, 5]
    assert seen[0] == seen[1]


def test_a_loss_that_is_no_number_is_an_error(training, corpus, model) -> None:
    """Rather than weights of NaN."""
    corpus.labels["classes"][:] = np.nan
    with pytest.raises(ValueError, match="loss is nan at step 0"):
        training.finetune.finetune(model(), corpus, training.quick)


def test_a_missing_gpu_is_named(training) -> None:
    """Instead of torch's own assertion."""
    from pointsman.training.optimization import find_device

    if training.torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="--device cpu"):
        find_device("cuda")


def test_learning_rates_by_layer(training, model) -> None:
    """Heads have their own; each layer a fraction of that above; norms and biases no decay."""
    from pointsman.training.optimization import learning_rate_factor, parameter_groups

    settings = replace(training.quick, layer_decay=0.5, weight_decay=0.1)
    tuned = model()
    names = {id(value): name for name, value in tuned.named_parameters()}
    peaks = {}
    for group in parameter_groups(tuned, settings):
        for value in group["params"]:
            peaks[names[id(value)]] = (group["peak"], group["weight_decay"])
    base = "body.encoder.encoder.layer"
    assert peaks[f"{base}.1.output.dense.weight"] == (1e-3, 0.1)
    assert peaks[f"{base}.0.output.dense.bias"] == (5e-4, 0.0)
    assert peaks["body.encoder.embeddings.position_embeddings.weight"] == (2.5e-4, 0.1)
    assert peaks["classes.weight"] == (1e-2, 0.1)
    factors = [learning_rate_factor(step, replace(settings, steps=20)) for step in range(20)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert all(later < earlier for earlier, later in pairwise(factors[2:]))
    assert 0 < factors[-1] < 0.1


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_a_bucket_holds_each_example_once(training, lengths, batch_size, seed) -> None:
    """Whatever the sizes; and a look at the held-out examples passes each exactly once."""
    corpus = training.batches.Corpus(
        token_ids=[np.ones(length, dtype=np.int32) for length in lengths],
        weights=np.ones(len(lengths)),
        labels={},
    )
    drawn = min(len(lengths), 16 * batch_size)
    bucket = [corpus.rows_of_step(s, batch_size, seed) for s in range(-(-drawn // batch_size))]
    assert len({*np.concatenate(bucket)}) == drawn == sum(map(len, bucket))
    assert all(1 <= len(rows) <= batch_size for rows in bucket)
    assert sorted(np.concatenate(list(corpus.rows_by_length(batch_size)))) == [*range(len(lengths))]
    batch = corpus.batch(bucket[0], training.torch.device("cpu"))
    assert batch.attention_mask.sum(1).tolist() == [lengths[row] for row in bucket[0]]


def test_weights_decide_how_often_an_example_is_drawn(training) -> None:
    """Three times the weight, three times as often, where few of many are drawn."""
    corpus = training.batches.Corpus(
        token_ids=[np.ones(3, dtype=np.int32)] * 4000,
        weights=np.repeat([3.0, 1.0], 2000),
        labels={},
    )
    rows = np.concatenate([corpus.rows_of_step(step, 4, 0) for step in range(800)])
    assert (rows < 2000).mean() == pytest.approx(0.75, abs=0.03)


@given(alpha=st.floats(0, 1), value=st.floats(-10, 10), other=st.floats(-10, 10))
def test_interpolation_is_the_formula(training, alpha, value, other) -> None:
    """(1 - alpha) pretrained + alpha tuned, exact at both ends."""
    first, second = ({"w": training.torch.tensor([number])} for number in (value, other))
    found = training.averaging.interpolate(first, second, alpha)["w"].item()
    assert found == pytest.approx((1 - alpha) * value + alpha * other, abs=1e-5)
    for end, expected in ((0.0, first), (1.0, second)):
        assert training.averaging.interpolate(first, second, end)["w"] == expected["w"]


def test_a_soup_is_the_mean_of_its_seeds(training) -> None:
    """Of models with the same weights only."""
    states = [{"w": training.torch.full((2,), number)} for number in (1.0, 2.0, 6.0)]
    assert training.averaging.mean_weights(states)["w"].tolist() == [3.0, 3.0]
    with pytest.raises(ValueError, match="only one of the models"):
        training.averaging.mean_weights(
            [{"w": training.torch.zeros(1)}, {"v": training.torch.zeros(1)}]
        )
    with pytest.raises(ValueError, match="no weights"):
        training.averaging.mean_weights([])


def test_the_command_overrides_the_recipe(training, tmp_path: Path) -> None:
    """Epochs become steps, the lesser of two limits holds, and the seed is always the command's."""
    from pointsman.training.optimization import overridden
    from pointsman.training.settings import TrainSettings

    told = TrainSettings(data=tmp_path, out=tmp_path, seed=7, epochs=2, max_steps=50, batch_size=10)
    found = overridden(training.quick, told, examples=100)
    assert (found.steps, found.batch_size, found.seed) == (20, 10, 7)
    assert overridden(training.quick, told, examples=1000).steps == 50
    assert found.learning_rate == training.quick.learning_rate
    untold = TrainSettings(data=tmp_path, out=tmp_path)
    assert overridden(training.quick, untold, examples=100).steps == training.quick.steps


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 1), st.floats(0, 1), st.floats(0, 1)),
        min_size=1,
        max_size=30,
    )
)
def test_soft_labels_are_means_per_prompt_and_source(rows) -> None:
    """Every row is a distribution; its first class is how often weak models fell short."""
    from pointsman.training.datasets import Outcomes
    from pointsman.training.labels import held_out_prompts, label_prompts

    prompt, source, strong, weak = (np.asarray(column) for column in zip(*rows, strict=True))
    outcomes = Outcomes(
        prompts=tuple("abcde"),
        roots=np.asarray([0, 0, 1, 2, 2]),
        prompt_index=prompt,
        source_index=source,
        sources=("exam", "exam (question alone)"),
        strong_models=("s",) * len(rows),
        weak_models=("w",) * len(rows),
        strong_scores=strong,
        weak_scores=weak,
    )
    labels = label_prompts(outcomes)
    assert len(labels.weights) == len({*zip(prompt.tolist(), source.tolist(), strict=True)})
    assert np.allclose(labels.classes.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(labels.ratings.sum(axis=1), 1, atol=1e-5)
    for row in range(len(labels.weights)):
        same = (prompt == labels.prompt_index[row]) & (source == labels.source_index[row])
        assert labels.weak_fails[row] == pytest.approx(1 - weak[same].mean(), abs=1e-5)
        assert labels.weights[row] == (1.0, 0.3)[labels.source_index[row]]
    held_out = held_out_prompts(outcomes, 0.34, seed=0)
    assert {*outcomes.roots[held_out]}.isdisjoint(outcomes.roots[~held_out])
    assert len({*outcomes.roots[held_out]}) == 1
