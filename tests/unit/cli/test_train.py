"""`pointsman train` as it is typed: what its options come to, and which do not go together."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pointsman.cli.main import command_line, main
from pointsman.cli.train import settings_of
from pointsman.errors import ConfigError

if TYPE_CHECKING:
    from pointsman.training.settings import TrainSettings


def settings(*arguments: str) -> "TrainSettings":
    """Return what a command line comes to."""
    return settings_of(command_line().parse_args(["train", *arguments]))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of ours, for its name alone."""
    (tmp_path / "data" / "preferences").mkdir(parents=True)
    return tmp_path / "data"


def test_untold_everything_is_the_routers_choice(data: Path) -> None:
    """The shipped pair, seed 0, embeddings kept."""
    told = settings("mf", "--data", str(data), "--out", "bundles")
    assert (told.data, told.own_data, told.out) == (data, (), Path("bundles"))
    assert (told.pair.strong, told.pair.weak) == ("gpt-4o-2024-05-13", "mixtral-8x7b-instruct-v0.1")
    assert (told.seed, told.balance, told.device, told.resume) == (0, "none", "auto", False)
    assert told.cache is not None
    assert told.cache.name == "pointsman"
    numbers = (told.max_steps, told.epochs, told.batch_size, told.learning_rate, told.patience)
    assert numbers == (None,) * 5


def test_everything_can_be_told(data: Path) -> None:
    """Each option arrives under its name; models in one spelling."""
    told = settings(
        *("bert", "--data", "a.jsonl", str(data), "logs", "--out", "o", "--name", "mine"),
        *("--strong-model", "openai/GPT-4o", "--weak-model", "Llama", "--balance", "sqrt"),
        *("--skip-bad-rows", "--encoder", "e", "--save-encoder", "s", "--cache", "c", "--resume"),
        *("--seed", "3", "--device", "cpu", "--max-steps", "10", "--epochs", "0.5"),
        *(
            "--mmlu-labels",
            "1500:0",
            "--batch-size",
            "8",
            "--learning-rate",
            "1e-4",
            "--patience",
            "2",
            "--report",
            "r.html",
        ),
    )
    assert (told.data, told.own_data) == (data, (Path("a.jsonl"), Path("logs")))
    assert (told.pair.strong, told.pair.weak) == ("gpt-4o-2024-05-13", "llama")
    assert (told.name, told.balance, told.skip_bad_rows) == ("mine", "sqrt", True)
    assert told.mmlu_labels == "1500:0"
    assert (told.encoder, told.save_encoder, told.cache) == (Path("e"), Path("s"), Path("c"))
    assert (told.resume, told.seed, told.device) == (True, 3, "cpu")
    assert (told.max_steps, told.epochs, told.batch_size) == (10, 0.5, 8)
    assert (told.learning_rate, told.patience, told.report) == (1e-4, 2, Path("r.html"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mf", "--name", "Mine"), r"--name `Mine` is not \[a-z0-9_\]\+"),
        (("bert", "--resume", "--no-cache"), "--no-cache does not keep"),
        (("mf", "--epochs", "2"), "--epochs means nothing to mf; it is for bert and causal_llm"),
        (("bert", "--base-model", "m"), "--base-model means nothing to bert; it is for causal_llm"),
        (("mf", "--mmlu-labels", "some"), "--mmlu-labels `some`: write none, all, or how many"),
        (("mf", "--mmlu-labels", "1500:0"), "--mmlu-labels 1500:0 needs the folder that holds"),
        (("sw_ranking", "--save-encoder", "e"), "nothing to sw_ranking; it is for bert"),
        (("mf", "--strong-model", "a", "--weak-model", "x/A"), "are both `a`"),
    ],
)
def test_what_does_not_go_together_is_said(arguments: tuple[str, ...], said: str) -> None:
    """Before anything is read or trained."""
    with pytest.raises(ConfigError, match=said):
        settings(*arguments, "--data", "rows.jsonl", "--out", "bundles")


def test_two_data_folders_are_one_too_many(data: Path, tmp_path: Path) -> None:
    """Benchmarks to keep away from would be those of one of them."""
    (tmp_path / "other" / "preferences").mkdir(parents=True)
    with pytest.raises(ConfigError, match="two folders that hold preferences/"):
        settings("mf", "--data", str(data), str(tmp_path / "other"), "--out", "bundles")


@pytest.mark.parametrize("number", ["0", "-1", "nan", "inf", "many"])
def test_a_number_above_zero_is_one(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, with the value."""
    with pytest.raises(SystemExit) as raised:
        settings("bert", "--data", "d", "--out", "o", f"--epochs={number}")
    assert raised.value.code == 2
    assert f"`{number}` is not a number above 0" in capsys.readouterr().err


def test_its_help_has_examples_and_the_shapes_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    """One for each kind of router."""
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = capsys.readouterr().out
    for kind in ("mf", "bert", "causal_llm", "sw_ranking"):
        assert f"\n  pointsman train {kind} " in told
    assert told.count('{"prompt": ') == 3
