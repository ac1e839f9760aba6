"""`pointsman import` as it is typed: what it says, what it writes, what it leaves behind."""

import json
from pathlib import Path

import numpy as np
import pytest

from pointsman.cli.main import main
from pointsman.routers.bundle import read_manifest
from tests.conftest import missing

pytestmark = pytest.mark.train


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An `mf` checkpoint of RouteLLM's shapes in a folder of its own."""
    try:
        from safetensors.numpy import save_file
    except ModuleNotFoundError:
        missing("safetensors", "pip install 'pointsman[import]'")
    generator = np.random.default_rng(0)
    folder = tmp_path / "mf_gpt4_augmented"
    folder.mkdir()
    tensors = {
        "P.weight": generator.normal(size=(64, 128)).astype(np.float32),
        "text_proj.0.weight": generator.normal(size=(128, 1536)).astype(np.float32),
        "classifier.0.weight": generator.normal(size=(1, 128)).astype(np.float32),
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_it_writes_a_bundle_and_says_how_to_serve_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results alone go to standard output."""
    out = tmp_path / "bundles"
    assert main(["import", "mf", str(checkpoint), "--out", str(out), "--name", "theirs"]) == 0
    told = capsys.readouterr()
    assert told.out == (
        f"wrote {out / 'theirs'}\nserve it with a configuration file that says: "
        f"routers: {{theirs: {{bundle: {out / 'theirs'}, embeddings: {{}}}}}}\n"
    )
    manifest = read_manifest(out / "theirs")
    assert (manifest.kind, manifest.name) == ("mf", "theirs")
    assert manifest.figures["imported from"] == "mf_gpt4_augmented"
    assert str(tmp_path) not in json.dumps(manifest.figures)


def test_the_configuration_that_it_prints_is_one(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Copied into a file, it is read and names the bundle."""
    from pointsman.routers.settings import read_config

    out = tmp_path / "bundles"
    main(["import", "mf", str(checkpoint), "--out", str(out)])
    printed = capsys.readouterr().out.partition("that says: ")[2]
    path = tmp_path / "config.yaml"
    path.write_text(printed)
    settings = read_config(str(path)).routers["mf"]
    assert settings.bundle == str(out / "mf")
    assert settings.embeddings is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "Mine"], "--name `Mine` is not [a-z0-9_]+"),
        (["--weak-model", "gpt-4o"], "no vector for model 'gpt-4o'"),
        (["--calibrate", "prompts.jsonl"], "at an endpoint"),
        (["another"], "mf is one checkpoint and 2 were named"),
    ],
)
def test_what_is_wrong_is_one_line_and_writes_nothing(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    """Exit status 1."""
    out = tmp_path / "bundles"
    assert main(["import", "mf", str(checkpoint), *arguments, "--out", str(out)]) == 1
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert not out.exists()


def test_interrupted_it_leaves_nothing_half_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while files are being written: no bundle, no temporary file."""
    from pointsman.routers import bundle

    def interrupt(path: Path, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "write_whole", interrupt)
    out = tmp_path / "bundles"
    assert main(["import", "mf", str(checkpoint), "--out", str(out)]) == 130
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_its_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """One for each kind of router."""
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    told = capsys.readouterr().out
    for kind in ("mf", "bert", "causal_llm", "sw_ranking"):
        assert f"\n  pointsman import {kind} " in told
