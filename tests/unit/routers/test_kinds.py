"""Every kind of bundle, from files to router: what it shares, what it lacks, what it needs."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx.external_data_helper import set_external_data

from pointsman.errors import ConfigError, RouterNotReady
from pointsman.routers import registry
from pointsman.routers.bert import ClassifierHead
from pointsman.routers.bundle import file_entry, load_bundle, save_bundle
from pointsman.routers.causal_llm import PromptFormat
from pointsman.routers.embedding import Embedder, EmbedderSettings
from pointsman.routers.manifest import Calibration, Golden, GoldenCase, Manifest, revision_of
from pointsman.routers.mf import BilinearWeights
from pointsman.routers.registry import BUNDLE_KINDS, load_router
from pointsman.routers.sw_ranking import SimilarityIndex
from tests.unit.routers.graphs import bigram_decoder, mean_encoder, word_tokenizer

DRAWS = np.random.default_rng(0)
WORDS = ["easy", "hard", "prompt", "?"]
TABLE = DRAWS.standard_normal((4, 3)).astype(np.float32)
TOKENIZER = word_tokenizer(WORDS)
ENCODER = {"encoder": mean_encoder(TABLE), "tokenizer": TOKENIZER}
WEIGHTS = BilinearWeights(
    model_names=("big", "small"),
    model_vectors=DRAWS.standard_normal((2, 5)).astype(np.float32),
    projection=DRAWS.standard_normal((5, 3)).astype(np.float32),
    classifier=np.ones(5, dtype=np.float32),
)
HEAD = ClassifierHead(
    weights=DRAWS.standard_normal((3, 3)).astype(np.float32), bias=np.zeros(3, dtype=np.float32)
)
INDEX = SimilarityIndex.build(
    embeddings=np.eye(3),
    prompt_index=np.asarray([0, 1, 2]),
    first_tier=np.asarray([0, 0, 1]),
    second_tier=np.asarray([1, 1, 0]),
    outcome=np.asarray([0, 1, 2]),
    tier_count=2,
    strong_tier=0,
    weak_tier=1,
)
FORMAT = PromptFormat(before="", after=" ?", max_tokens=16, add_special_tokens=False)
DECODER = bigram_decoder(
    DRAWS.standard_normal((4, 5)).astype(np.float32),
    np.full(4, -9.0, dtype=np.float32),
    np.zeros(4, dtype=np.int64),
)
FILES: Mapping[str, Mapping[str, bytes]] = {
    "mf": {**ENCODER, "weights": WEIGHTS.to_bytes()},
    "sw_ranking": {**ENCODER, "index": INDEX.to_bytes()},
    "bert": {**ENCODER, "head": HEAD.to_bytes()},
    "causal_llm": {"decoder": DECODER, "tokenizer": TOKENIZER, "format": FORMAT.to_bytes()},
}
LOCAL = EmbedderSettings(max_tokens=16, dimension=3)
REMOTE = EmbedderSettings(max_tokens=16, dimension=3, model="some-embedding-3")


class Elsewhere:
    """Another's embedder."""

    def __init__(self, dimension: int = 3) -> None:
        self.settings = EmbedderSettings(max_tokens=16, dimension=dimension)

    def embed(self, texts):
        """Return the same row for each text."""
        return np.ones((len(texts), self.settings.dimension), dtype=np.float32)


@pytest.fixture
def write(manifest: Manifest, tmp_path: Path):
    """Writes a bundle without calibration and golden prompts, and returns its folder."""

    def to_folder(
        kind: str,
        files: Mapping[str, bytes],
        embedder: EmbedderSettings = LOCAL,
        **sections: object,
    ) -> Path:
        entries = {role: file_entry(data, ".bin") for role, data in files.items()}
        written = msgspec.structs.replace(
            manifest,
            **{
                "name": kind,
                "kind": kind,
                "embedder": embedder,
                "files": entries,
                "revision": revision_of(kind, manifest.training_pair, embedder, entries),
                "calibration": None,
                "golden": None,
                **sections,
            },
        )
        return save_bundle(written, files, tmp_path)

    return to_folder


def test_these_are_all_kinds() -> None:
    """One bundle of each below."""
    assert set(BUNDLE_KINDS) == set(FILES)


@pytest.mark.parametrize("kind", FILES)
def test_a_bundle_of_each_kind_is_loaded(write, kind: str) -> None:
    """Without calibration and golden prompts there is no percentile, and nothing to compare."""
    loaded = load_router("mine", bundle=write(kind, FILES[kind]))
    rates = loaded.router.strong_win_rates(["easy prompt", "hard prompt"])
    assert ((rates > 0) & (rates < 1)).all()
    assert rates[0] != rates[1] or kind == "causal_llm"  # which goes by the last token here
    assert (loaded.golden, loaded.calibration_prompts, loaded.calibration_count) == (None, "", None)
    assert np.isnan(loaded.percentile(0.5))


def test_golden_prompts_and_percentiles_are_read_where_there_are_any(write) -> None:
    """As from a bundle that was trained."""
    rate = float(
        load_router("x", bundle=write("bert", FILES["bert"])).router.strong_win_rates(["easy"])[0]
    )
    golden = Golden(
        cases=(GoldenCase(prompt="easy", strong_win_rate=rate),),
        tolerance=0.01,
        gross_difference=0.1,
        how="by hand",
    )
    quantiles = tuple(step / 1000 for step in range(1001))
    calibration = Calibration(description="these", prompts=7, quantiles=quantiles)
    folder = write("bert", FILES["bert"], golden=golden, calibration=calibration)
    loaded = load_router("mine", bundle=folder)
    assert loaded.golden is not None
    assert loaded.golden.verdict == "ok"
    assert (loaded.calibration_prompts, loaded.calibration_count) == ("these", 7)
    assert loaded.percentile(0.25) == pytest.approx(25.0)


def test_routers_over_one_encoder_share_its_session(write, monkeypatch) -> None:
    """Three bundles, one graph in memory; another limit is another encoder."""
    opened = []

    class Counted(Embedder):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            opened.append(self)

    monkeypatch.setattr(registry, "Embedder", Counted)
    # Limits of this test's own: no other test's encoder is found.
    settings = EmbedderSettings(max_tokens=11, dimension=3)
    kinds = ("mf", "sw_ranking", "bert")
    routers = [load_router(kind, bundle=write(kind, FILES[kind], settings)) for kind in kinds]
    assert (len(routers), len(opened)) == (3, 1)
    shorter = EmbedderSettings(max_tokens=12, dimension=3)
    load_router("mf", bundle=write("mf", FILES["mf"], shorter))
    assert len(opened) == 2


def without_encoder(kind: str) -> dict[str, bytes]:
    """The files of a bundle whose prompts are embedded elsewhere."""
    return {role: data for role, data in FILES[kind].items() if role not in ENCODER}


@pytest.mark.parametrize("kind", ["mf", "sw_ranking", "bert"])
def test_prompts_may_be_embedded_elsewhere(write, kind: str) -> None:
    """By the embedder that is handed in."""
    folder = write(kind, without_encoder(kind), REMOTE)
    router = load_router("mine", bundle=folder, embedder=Elsewhere()).router
    expected = router.win_rates_of(np.ones((1, 3), dtype=np.float32))
    assert router.strong_win_rates(["anything"]).tolist() == expected.tolist()


def test_an_embedder_that_is_missing_is_named_by_its_setting(write) -> None:
    """The key path to write, and the model it is for."""
    folder = write("mf", without_encoder("mf"), REMOTE)
    with pytest.raises(ConfigError, match=r"some-embedding-3.*\$\.routers\.mine\.embeddings"):
        load_router("mine", bundle=folder)
    with pytest.raises(ConfigError, match=r"embeddings of 3 numbers .* gives 8"):
        load_router("mine", bundle=folder, embedder=Elsewhere(8))


def test_an_encoder_of_the_bundles_own_comes_first(write) -> None:
    """An embedder for other routers does not touch it."""
    folder = write("mf", FILES["mf"])
    prompts = ["easy prompt", "hard"]
    own = load_router("mine", bundle=folder).router.strong_win_rates(prompts)
    given = load_router("mine", bundle=folder, embedder=Elsewhere(8)).router
    assert given.strong_win_rates(prompts).tolist() == own.tolist()


def test_where_prompts_are_embedded_is_part_of_the_revision(manifest: Manifest) -> None:
    """Another model behind the endpoint is another router; none is what it was before."""
    revisions = {
        revision_of("mf", manifest.training_pair, settings, manifest.files)
        for settings in (LOCAL, REMOTE, msgspec.structs.replace(REMOTE, model="other"))
    }
    assert len(revisions) == 3
    assert msgspec.json.encode(LOCAL) == b'{"max_tokens":16,"dimension":3}'


def split(graph: bytes, name: str) -> tuple[bytes, bytes]:
    """The graph, and the weights of one of its tables as a file of their own."""
    model = onnx.load_from_string(graph)
    (table,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    data = table.raw_data
    set_external_data(table, location=file_entry(data, ".bin").name, length=len(data))
    table.ClearField("raw_data")
    return model.SerializeToString(), data


def test_weights_may_lie_beside_their_graph(write) -> None:
    """For what does not fit into 2 GB: found by blob name, verified, and the same win rates."""
    decoder, decoder_data = split(DECODER, "labels")
    encoder, encoder_data = split(ENCODER["encoder"], "table")
    parts = {
        "causal_llm": {"decoder": decoder, "decoder_data": decoder_data},
        "bert": {"encoder": encoder, "encoder_data": encoder_data},
    }
    for kind, changed in parts.items():
        whole = load_router("x", bundle=write(kind, FILES[kind])).router
        folder = write(kind, {**FILES[kind], **changed})
        assert not any(role.endswith("_data") for role in load_bundle(folder).contents)
        router = load_router("x", bundle=folder).router
        prompts = ["easy prompt", "hard"]
        assert (router.strong_win_rates(prompts) == whole.strong_win_rates(prompts)).all()
    blob = folder.parent / "blobs" / file_entry(encoder_data, ".bin").name
    blob.write_bytes(encoder_data[:-1] + b"?")
    with pytest.raises(RouterNotReady, match=r"encoder_data file .* is damaged"):
        load_router("x", bundle=folder)
    blob.unlink()
    with pytest.raises(RouterNotReady, match=r"encoder_data file .* cannot be read"):
        load_router("x", bundle=folder)


def test_a_missing_role_is_named(write) -> None:
    """An incomplete bundle says what it has."""
    with pytest.raises(ConfigError, match="has no 'head' file; it has: encoder, tokenizer"):
        load_router("x", bundle=write("bert", ENCODER))


def test_a_kind_from_the_future_is_named(write) -> None:
    """A bundle this version cannot read says which kinds it can."""
    with pytest.raises(ConfigError, match="'oracle'; this version reads bert, causal_llm, mf, sw"):
        load_router("x", bundle=write("oracle", ENCODER))
