"""The picture: the same bytes each time, whole files, and names shown as they are."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pointsman.evaluation.benchmarks import Benchmark
from pointsman.evaluation.methods import METRIC_MODES, Method, MetricMode
from pointsman.evaluation.notes import ScoredRouter
from pointsman.evaluation.study import Study, StudySettings, study
from pointsman.routing import ModelPair

plot = pytest.importorskip("pointsman.evaluation.plot")

BENCHMARK = Benchmark(
    name="own",
    prompts=("a", "bb", "ccc", "dd"),
    pair=ModelPair(strong="gpt-$4$ <b>", weak="小さい"),
    unit="percent right",
    weak_scores=np.asarray([0.0, 100.0, 0.0, 100.0]),
    strong_scores=np.full(4, 100.0),
)
ROUTERS = [
    ScoredRouter(name=f"r{number}", revision="1", rates=np.roll(np.arange(4.0), number))
    for number in range(8)
]


def drawn(benchmark: Benchmark, mode: MetricMode = "full") -> Study:
    """A small study of more routers than there are colours."""
    return study(benchmark, ROUTERS, StudySettings(method=Method(mode=mode), samples=5))


@pytest.mark.parametrize("mode", METRIC_MODES)
def test_two_runs_draw_the_same_bytes(tmp_path: Path, mode: MetricMode) -> None:
    """No date, no random id: a picture under version control changes only with its figures."""
    one = plot.write_plots(drawn(BENCHMARK, mode), tmp_path / "one")
    two = plot.write_plots(drawn(BENCHMARK, mode), tmp_path / "two")
    assert [path.name for path in one] == ["own.png", "own.svg"]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert b"dc:date" not in one[1].read_bytes()


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    """A dollar is no formula, a bracket no tag; letters that the font lacks are no warning."""
    _, svg = plot.write_plots(drawn(BENCHMARK), tmp_path)
    texts = "".join(ET.parse(svg).getroot().itertext())
    assert "gpt-$4$ <b>" in texts
    assert "小さい" in texts


@pytest.mark.parametrize(
    ("name", "stem"), [("../etc/x y", "etc-x-y"), ("..", "benchmark"), ("a.b", "a.b")]
)
def test_a_benchmarks_name_is_no_path(tmp_path: Path, name: str, stem: str) -> None:
    """Whatever it is called, its picture is in the folder asked for."""
    paths = plot.write_plots(drawn(replace(BENCHMARK, name=name)), tmp_path)
    assert paths == [tmp_path / f"{stem}.png", tmp_path / f"{stem}.svg"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_an_undefined_study_is_drawn(tmp_path: Path) -> None:
    """Two equal models are two lines on each other, and no error."""
    equal = replace(BENCHMARK, weak_scores=np.full(4, 100.0))
    assert all(path.stat().st_size for path in plot.write_plots(drawn(equal), tmp_path))


def test_markup_for_a_page_keeps_its_ids_to_itself() -> None:
    """Every id has the prefix, and every reference finds its id."""
    root = ET.fromstring(plot.svg_markup(drawn(BENCHMARK), prefix="b7-"))
    ids = [element.get("id", "") for element in root.iter() if element.get("id")]
    assert ids and all(name.startswith("b7-") for name in ids)
    links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith("href")]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert root.get("width") is None
    assert root.get("viewBox")
