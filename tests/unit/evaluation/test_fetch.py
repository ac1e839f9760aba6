"""Downloads are checked, whole or not at all, and name the remedy where they fail."""

import gzip
import hashlib
import io
import itertools
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pointsman.errors import ConfigError
from pointsman.evaluation.fetch import DownloadFailed, check_mirror, fetch
from pointsman.evaluation.originals import Original, mmlu_subjects, originals, read_key
from tests.fakes.web import Asked, FakeWeb, Reply

CONTENT = b'{"question": "1+1?"}\n' * 10_000


def original(path: str = "benchmarks/x/test.jsonl", content: bytes = CONTENT) -> Original:
    """A file like those of the table."""
    return Original(
        set="gsm8k",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        path=path,
        url="https://example.com/org/repo/file.jsonl",
    )


def files_in(folder: Path) -> list[str]:
    """Every file below the folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def replies(*these: Reply) -> Callable[[Asked], Reply]:
    """One after the other, the last for ever."""
    line = itertools.chain(these, itertools.repeat(these[-1]))
    return lambda _: next(line)


def get(file: Original, data: Path, web: FakeWeb, slept: list[float] | None = None) -> str:
    """Fetches from the fake."""
    waits = [] if slept is None else slept
    return fetch(file, data, mirror=web.url, progress=lambda _: None, sleep=waits.append)


def test_a_file_is_fetched_once_and_kept(tmp_path: Path) -> None:
    """A second run asks nobody."""
    with FakeWeb(replies(Reply(body=CONTENT))) as web:
        assert get(original(), tmp_path, web) == "fetched"
        assert get(original(), tmp_path, web) == "there"
    assert [asked.path for asked in web.asked] == ["/org/repo/file.jsonl"]
    assert (tmp_path / "benchmarks/x/test.jsonl").read_bytes() == CONTENT
    assert files_in(tmp_path) == ["benchmarks/x/test.jsonl"]


def test_a_gz_is_compressed_here_and_checked_by_its_content(tmp_path: Path) -> None:
    """Whichever zlib packed it."""
    file = original("extra/train.jsonl.gz")
    with FakeWeb(replies(Reply(body=CONTENT))) as web:
        assert get(file, tmp_path, web) == "fetched"
    path = tmp_path / file.path
    assert gzip.decompress(path.read_bytes()) == CONTENT
    path.write_bytes(gzip.compress(CONTENT, compresslevel=1))
    assert file.is_in(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    assert not file.is_in(tmp_path)
    path.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00garbage")
    assert not file.is_in(tmp_path)


def test_a_wrong_file_is_replaced(tmp_path: Path) -> None:
    """A damaged one is not measured on."""
    path = tmp_path / "benchmarks/x/test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    with FakeWeb(replies(Reply(body=CONTENT))) as web:
        assert get(original(), tmp_path, web) == "replaced"
    assert path.read_bytes() == CONTENT


def test_what_may_pass_is_tried_three_times(tmp_path: Path) -> None:
    """A busy server and a broken connection do not end a long fetch."""
    slept: list[float] = []
    passing = replies(Reply(503), Reply(body=CONTENT[:500], cut=True), Reply(body=CONTENT))
    with FakeWeb(passing) as web:
        assert get(original(), tmp_path, web, slept) == "fetched"
    assert slept == [1.0, 2.0]
    assert (tmp_path / "benchmarks/x/test.jsonl").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("reply", "tries", "told"),
    [
        (Reply(404), 1, "HTTP 404"),
        (Reply(500), 3, "HTTP 500"),
        (Reply(body=CONTENT[:9], cut=True), 3, "broke off"),
        (Reply(body=b"<html>log in</html>"), 1, "not the file that was published"),
        (Reply(body=CONTENT + b"more"), 1, "not the file that was published"),
        (Reply(302, headers={"Location": "file:///etc/hostname"}), 1, "HTTP 302"),
    ],
)
def test_a_failure_names_address_reason_and_remedy(
    tmp_path: Path, reply: Reply, tries: int, told: str
) -> None:
    """And leaves nothing half-written, nor takes a log-in page for data."""
    moved: list[int] = []
    with FakeWeb(replies(reply)) as web, pytest.raises(DownloadFailed) as caught:
        fetch(original(), tmp_path, mirror=web.url, progress=moved.append, sleep=lambda _: None)
    for part in (web.url, told, "--mirror", "benchmarks/x/test.jsonl"):
        assert part in caught.value.message
    assert len(web.asked) == tries
    assert files_in(tmp_path) == []
    assert sum(moved) == 0


def test_nobody_there_is_one_line(tmp_path: Path) -> None:
    """As offline."""
    with FakeWeb(replies(Reply())) as web:
        pass
    with pytest.raises(DownloadFailed, match="refused") as caught:
        get(original(), tmp_path, web)
    assert "\n" not in caught.value.message


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """With the options that choose another."""
    (tmp_path / "file").write_text("")
    with FakeWeb(replies(Reply(body=CONTENT))) as web, pytest.raises(ConfigError, match="--data"):
        get(original(), tmp_path / "file", web)


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """Not even a temporary file."""

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with FakeWeb(replies(Reply(body=CONTENT))) as web, pytest.raises(KeyboardInterrupt):
        fetch(original(), tmp_path, mirror=web.url, progress=interrupt, sleep=lambda _: None)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["", "mirror", "ftp://h/x", "file:///tmp", "http://", "http://[x", "https://h/?a=b"]
)
def test_a_mirror_is_http_or_https(url: str) -> None:
    """Nothing else is ever opened."""
    with pytest.raises(ConfigError, match="--mirror"):
        check_mirror(url)


def test_a_mirror_stands_for_scheme_and_host() -> None:
    """A caching proxy needs no list of files."""
    assert original().address("http://m/raw/") == "http://m/raw/org/repo/file.jsonl"
    assert original().address(None) == "https://example.com/org/repo/file.jsonl"


def tar_of(names: list[str]) -> bytes:
    """MMLU's archive, with one question in each of these files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in names:
            content = b'"What, then?",1,2,3,4,B\n'
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_of_mmlus_archive_only_the_keys_are_kept(tmp_path: Path) -> None:
    """166 megabytes become one, and no name in the archive chooses where to write."""
    names = [f"data/test/{subject}_test.csv" for subject in mmlu_subjects()]
    content = tar_of([*names, "data/dev/x_dev.csv", "../evil.csv"])
    key = Original(
        set="mmlu_key",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        path="benchmarks/mmlu/test",
        url="https://example.com/~h/data.tar",
    )
    with FakeWeb(replies(Reply(body=content))) as web:
        assert get(key, tmp_path, web) == "fetched"
        assert get(key, tmp_path, web) == "there"
    assert len(files_in(tmp_path)) == 57
    rows = read_key(tmp_path / "benchmarks/mmlu/test/anatomy_test.csv")
    assert rows == [["What, then?", "1", "2", "3", "4", "B"]]


def test_another_archive_is_refused(tmp_path: Path) -> None:
    """A file that it lacks is named."""
    content = tar_of(["data/test/other.csv"])
    key = Original(
        set="mmlu_key",
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        path="test",
        url="https://example.com/data.tar",
    )
    with FakeWeb(replies(Reply(body=content))) as web, pytest.raises(ConfigError, match="abstract"):
        get(key, tmp_path, web)


def test_the_table_is_complete() -> None:
    """57 subjects, pinned commits, and paths that stay in the data folder."""
    files = originals(["gsm8k", "mmlu", "mt-bench", "gsm8k_train", "mmlu_key"])
    assert len(mmlu_subjects()) == 57
    assert len(files) == 3 + 58 + 3 + 1 + 1
    assert len({file.path for file in files}) == len(files)
    for file in files:
        assert file.url.startswith("https://")
        assert len(bytes.fromhex(file.sha256)) == 32
        assert ".." not in file.path
        assert not Path(file.path).is_absolute()
    assert not any("/main/" in file.url or "/master/" in file.url for file in files)


def test_the_table_knows_the_real_files(data_folder: Path) -> None:
    """The checksums are those of the files that evaluation's figures were checked on."""
    for file in originals():
        if not file.path.endswith("gsm8k/test.jsonl"):
            assert file.is_in(data_folder), file.path
