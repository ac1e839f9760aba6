"""Files appear whole or not at all, and nothing else changes on the way."""

import os
import stat
from pathlib import Path

import pytest

from pointsman.files import cache_folder, whole_file, write_whole


def test_what_was_written_is_there_and_nothing_beside_it(tmp_path: Path) -> None:
    """Folders are made as needed; no temporary name is left."""
    path = tmp_path / "new" / "file.bin"
    write_whole(path, b"first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_changes_nothing(
    tmp_path: Path, before: bytes | None, interruption: type[BaseException]
) -> None:
    """Ctrl-C in the middle leaves the old file, or none, and no debris."""
    path = tmp_path / "file.bin"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(interruption), whole_file(path) as stream:
        stream.write(b"half")
        raise interruption
    assert [one.read_bytes() for one in tmp_path.iterdir()] == ([] if before is None else [before])


def test_until_the_end_the_old_file_is_read(tmp_path: Path) -> None:
    """Whoever opens it meanwhile sees the old content; a tool may write over its own input."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with whole_file(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_new_file_has_the_permissions_that_any_has(tmp_path: Path) -> None:
    """The umask decides, as for `open`: prompts may be private."""
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "file.bin", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.bin").stat().st_mode) == 0o600


def test_an_old_file_keeps_its_permissions(tmp_path: Path) -> None:
    """Writing anew is no reason to open a file to others."""
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_whole(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_keeps_pointing_where_it_did(tmp_path: Path) -> None:
    """`latest.jsonl` stays a link, and its target is what is written."""
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    write_whole(link, b"x")
    assert link.is_symlink()
    assert target.read_bytes() == b"x"


def test_what_is_no_file_is_written_to_and_not_replaced() -> None:
    """`--output /dev/null` as root must not turn the device into a file."""
    null = Path(os.devnull)
    write_whole(null, b"x")
    assert stat.S_ISCHR(null.stat().st_mode)


def test_a_folder_cannot_be_written(tmp_path: Path) -> None:
    """It is an OSError, which the tools tell in one line."""
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, b"x")


def test_the_cache_is_where_the_desktop_standard_has_it() -> None:
    """XDG_CACHE_HOME if it is set, else ~/.cache."""
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/pointsman")
    assert cache_folder({"XDG_CACHE_HOME": ""}) == Path.home() / ".cache" / "pointsman"
