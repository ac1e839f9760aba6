"""Files of weights: what is read, and what is refused without running anything."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from pointsman.errors import ConfigError
from pointsman.importing.tensors import read_tensors, weights_file

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("torch_installed")]


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "ran"))


def test_both_formats_hold_the_same(tmp_path: Path) -> None:
    """Half precision included, which becomes float32."""
    import torch
    from safetensors.torch import save_file

    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.float16)}
    save_file(tensors, tmp_path / "model.safetensors")
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    for name in ("model.safetensors", "pytorch_model.bin"):
        read = read_tensors(tmp_path / name)
        assert {key: value.dtype for key, value in read.items()} == dict.fromkeys("ab", np.float32)
        np.testing.assert_array_equal(read["a"], [[0, 1, 2], [3, 4, 5]])
    assert weights_file(tmp_path).name == "model.safetensors"


def test_a_pickle_that_asks_to_run_code_is_not_run(tmp_path: Path) -> None:
    """It is named with the remedy."""
    path, trace = tmp_path / "pytorch_model.bin", tmp_path / "trace"
    path.write_bytes(pickle.dumps({"P.weight": Bomb(trace)}))
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin cannot be read.*safetensors"):
        read_tensors(path)
    assert not trace.exists()


def test_an_archive_that_asks_to_run_code_is_not_run(tmp_path: Path) -> None:
    """As `torch.save` writes it."""
    import torch

    path, trace = tmp_path / "pytorch_model.bin", tmp_path / "trace"
    torch.save({"P.weight": Bomb(trace)}, path)
    with pytest.raises(ConfigError, match="never run"):
        read_tensors(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 64])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    """Empty, cut short or something else altogether."""
    path = tmp_path / name
    path.write_bytes(content)
    try:
        assert read_tensors(path) == {}  # a header that names no tensor is a whole file
    except ConfigError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    """A list, or something that is no tensor."""
    import torch

    path = tmp_path / "pytorch_model.bin"
    for content in ([torch.ones(1)], {"epoch": 3}):
        torch.save(content, path)
        with pytest.raises(ConfigError, match="no state dict"):
            read_tensors(path)


def test_numbers_must_be_finite(tmp_path: Path) -> None:
    """A NaN would only show when prompts are scored."""
    from safetensors.numpy import save_file

    path = tmp_path / "model.safetensors"
    save_file({"P.weight": np.asarray([1.0, np.nan], dtype=np.float32)}, path)
    with pytest.raises(ConfigError, match=r"P\.weight has numbers that are not finite"):
        read_tensors(path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    """It says which names are looked for."""
    with pytest.raises(ConfigError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        weights_file(tmp_path)
