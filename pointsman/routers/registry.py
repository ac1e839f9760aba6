"""Router name → a loaded router: the scorer's, the SDK's and the evaluation's one way in.

A name is looked up in this order: a class that the configuration names, a bundle that it names,
the built-in ``random``, a bundle of that name in the bundles folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from pointsman.errors import ConfigError, RouterNotReady, UnknownRouter
from pointsman.routers.base import OnePromptAtATime, Router
from pointsman.routers.bert import BertRouter, ClassifierHead
from pointsman.routers.bundle import MANIFEST_NAME, Bundle, load_bundle, percentile_among
from pointsman.routers.causal_llm import CausalRouter, PromptFormat
from pointsman.routers.embedding import Embedder, EmbedderSettings, TextEmbedder
from pointsman.routers.forms import FORMS, FormGate, FormRouter, FormWeights
from pointsman.routers.kernel import KernelWeights
from pointsman.routers.manifest import QUANTILE_COUNT, GoldenReport
from pointsman.routers.mf import BilinearWeights, MatrixFactorizationRouter
from pointsman.routers.random_baseline import RandomRouter
from pointsman.routers.sw_ranking import SimilarityIndex, SimilarityRouter
from pointsman.routing import ModelPair

SHIPPED_BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
"""The trained routers that come with the package."""

RANDOM_NAME = "random"

BuiltT = TypeVar("BuiltT")


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedRouter:
    """A router that is ready to score, and what is known about it."""

    name: str
    router: Router
    revision: str
    """Changes whenever the win rates do; goes into cache keys, headers and reports."""

    training_pair: ModelPair | None
    """The model pair the win rates speak of; None for a router that knows of none."""

    quantiles: NDArray[np.float64]
    """float64[1001], win rates over the calibration prompts; float64[0] without calibration."""

    calibration_prompts: str
    """The prompts behind the quantiles, in words; empty without calibration."""

    calibration_count: int | None = None
    """How many prompts those are; None where the quantiles come from no prompts."""

    cacheable: bool = True
    """Whether the revision tells win rates apart: not for a class that names no revision of its
    own, nor for random draws without a seed."""

    golden: GoldenReport | None = None
    """How this machine compares with the one the bundle was made on; None without a bundle, and
    for one that has no golden win rates. Never ``refused``: such a router is not loaded."""

    def percentile(self, strong_win_rate: float) -> float:
        """Return the percentage of calibration prompts at or below this rate, in [0, 100].

        NaN for a router that has no calibration prompts.
        """
        if not len(self.quantiles):
            return float("nan")
        return percentile_among(self.quantiles, strong_win_rate)


def load_router(
    name: str,
    *,
    bundles_dir: Path | None = None,
    bundle: Path | None = None,
    factory: str | None = None,
    options: Mapping[str, Any] | None = None,
    embedder: TextEmbedder | None = None,
) -> LoadedRouter:
    """Load a router and check it against its golden win rates.

    Args:
        name: the public name, ``[a-z0-9_]+``.
        bundles_dir: where bundles are looked up by name; the shipped ones by default.
        bundle: the folder of one bundle, whatever its name.
        factory: ``package.module:Class`` of a router of your own, or of RouteLLM's.
        options: keyword arguments for the class (``seed`` for ``random``); bundles take none.
        embedder: embeds the prompts for a bundle without an encoder of its own, and is not used
            for any other router.

    Raises:
        UnknownRouter: nothing has this name; lists what there is.
        ConfigError: the class, its options or the manifest are wrong, or the bundle's prompts are
            embedded elsewhere and ``embedder`` is missing or of another dimension.
        RouterNotReady: a file is damaged, or the golden win rates differ grossly.
    """
    arguments = dict(options or {})
    if factory is not None and bundle is not None:
        raise ConfigError(f"router {name!r} names both a class and a bundle; keep one of them")
    if factory is not None:
        return _load_class(name, factory, arguments)
    if bundle is not None:
        return _load_bundled(name, bundle, arguments, embedder)
    if name == RANDOM_NAME:
        return _load_random(arguments)
    folder = (bundles_dir or SHIPPED_BUNDLES) / name
    if name not in router_names(bundles_dir):
        known = ", ".join(router_names(bundles_dir))
        raise UnknownRouter(f"no router is called {name!r}; there are: {known}")
    return _load_bundled(name, folder, arguments, embedder)


def router_names(bundles_dir: Path | None = None) -> list[str]:
    """Return the names that `load_router` knows without a class or a bundle, sorted."""
    folder = bundles_dir or SHIPPED_BUNDLES
    return sorted({RANDOM_NAME, *(path.parent.name for path in folder.glob(f"*/{MANIFEST_NAME}"))})


def _load_random(options: dict[str, Any]) -> LoadedRouter:
    router = _construct(RANDOM_NAME, RandomRouter, options)
    return LoadedRouter(
        name=RANDOM_NAME,
        router=router,
        revision=router.revision,
        training_pair=None,
        quantiles=np.linspace(0.0, 1.0, QUANTILE_COUNT),
        calibration_prompts="any prompts: its win rates are uniform",
        cacheable=options.get("seed") is not None,
        golden=None,
    )


def _load_bundled(
    name: str, folder: Path, options: dict[str, Any], embedder: TextEmbedder | None
) -> LoadedRouter:
    if options:
        raise ConfigError(
            f"router {name!r} comes from a bundle, which takes no options; remove "
            f"{', '.join(sorted(options))}"
        )
    bundle = load_bundle(folder)
    kind = bundle.manifest.kind
    if kind not in BUNDLE_KINDS:
        known = ", ".join(sorted(BUNDLE_KINDS))
        raise ConfigError(f"the bundle at {folder} is of kind {kind!r}; this version reads {known}")
    router = BUNDLE_KINDS[kind](name, bundle, embedder)
    golden = bundle.check_golden(router)
    if golden is not None and golden.verdict == "refused":
        raise RouterNotReady(golden.message)
    calibration = bundle.manifest.calibration
    return LoadedRouter(
        name=name,
        router=router,
        revision=bundle.manifest.revision,
        training_pair=_pair_of(bundle),
        quantiles=bundle.quantiles,
        calibration_prompts=calibration.description if calibration else "",
        calibration_count=calibration.prompts if calibration else None,
        golden=golden,
    )


def _load_class(name: str, factory: str, options: dict[str, Any]) -> LoadedRouter:
    built = _construct(name, _import_class(name, factory), options)
    router = built if isinstance(built, Router) else OnePromptAtATime(built)
    return LoadedRouter(
        name=name,
        router=router,
        revision=str(getattr(built, "revision", factory)),
        training_pair=getattr(built, "training_pair", None),
        quantiles=np.empty(0, dtype=np.float64),
        calibration_prompts="",
        cacheable=hasattr(built, "revision"),
        golden=None,
    )


def _import_class(name: str, factory: str) -> type[Any]:
    module_name, _, class_name = factory.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"router {name!r}: cannot load {factory!r}: {error}; write package.module:Class and "
            "install the package beside pointsman"
        ) from error
    if isinstance(found, type) and (
        issubclass(found, Router) or hasattr(found, "calculate_strong_win_rate")
    ):
        return found
    raise ConfigError(
        f"router {name!r}: {factory!r} is neither a pointsman.routers.base.Router nor a class with "
        "RouteLLM's calculate_strong_win_rate(prompt)"
    )


def _construct(name: str, router_class: type[BuiltT], options: dict[str, Any]) -> BuiltT:
    try:
        return router_class(**options)
    except TypeError as error:
        raise ConfigError(
            f"router {name!r} does not accept the options {sorted(options)}: {error}"
        ) from error


def _load_mf(name: str, bundle: Bundle, embedder: TextEmbedder | None) -> Router:
    embedder = _embedder_of(name, bundle, embedder)
    pair = _pair_of(bundle)
    weights = BilinearWeights.from_bytes(bundle.read_file("weights"))
    if "gate" not in bundle.manifest.files:
        return MatrixFactorizationRouter(embedder, weights, pair)
    others = [_form_weights(bundle, form) for form in FORMS[1:]]
    gate = FormGate.from_bytes(bundle.read_file("gate"))
    return FormRouter(embedder, gate, [weights, *others], pair)


def _form_weights(bundle: Bundle, form: str) -> FormWeights:
    kernel = f"kernel_{form}"
    if kernel in bundle.manifest.files:
        return KernelWeights.from_bytes(bundle.read_file(kernel))
    return BilinearWeights.from_bytes(bundle.read_file(f"weights_{form}"))


def _load_sw_ranking(name: str, bundle: Bundle, embedder: TextEmbedder | None) -> Router:
    index = SimilarityIndex.from_bytes(bundle.read_file("index"))
    return SimilarityRouter(_embedder_of(name, bundle, embedder), index)


def _load_bert(name: str, bundle: Bundle, embedder: TextEmbedder | None) -> Router:
    head = ClassifierHead.from_bytes(bundle.read_file("head"))
    return BertRouter(_embedder_of(name, bundle, embedder), head)


def _load_causal_llm(_name: str, bundle: Bundle, _embedder: TextEmbedder | None) -> Router:
    prompt_format = PromptFormat.from_bytes(bundle.read_file("format"))
    return CausalRouter(bundle.graph("decoder"), bundle.read_file("tokenizer"), prompt_format)


_encoders: WeakValueDictionary[tuple[str, str, EmbedderSettings], Embedder] = WeakValueDictionary()
"""Checksums of graph and tokenizer, and limits → the encoder, while a router has it."""

_opening = Lock()


def _embedder_of(name: str, bundle: Bundle, embedder: TextEmbedder | None) -> TextEmbedder:
    """Return what embeds a bundle's prompts; routers over one encoder share its session."""
    settings = bundle.manifest.embedder
    if settings.model:
        return _remote_embedder(name, settings, embedder)
    graph, tokenizer = bundle.graph("encoder"), bundle.read_file("tokenizer")
    files = bundle.manifest.files
    key = (files["encoder"].sha256, files["tokenizer"].sha256, settings)
    with _opening:
        found = _encoders.get(key)
        if found is None:
            found = _encoders[key] = Embedder(graph, tokenizer, settings)
    return found


def _remote_embedder(
    name: str, settings: EmbedderSettings, embedder: TextEmbedder | None
) -> TextEmbedder:
    if embedder is None:
        raise ConfigError(
            f"router {name!r} has its prompts embedded by {settings.model} and no endpoint is "
            f"named; write `$.routers.{name}.embeddings` ({{}} is OpenAI's own)"
        )
    given = embedder.settings.dimension
    if given != settings.dimension:
        raise ConfigError(
            f"router {name!r} was trained on embeddings of {settings.dimension} numbers "
            f"({settings.model}) and the endpoint gives {given}; name its model at "
            f"`$.routers.{name}.embeddings`"
        )
    return embedder


def _pair_of(bundle: Bundle) -> ModelPair:
    pair = bundle.manifest.training_pair
    return ModelPair(strong=pair.strong, weak=pair.weak)


BUNDLE_KINDS: Mapping[str, Callable[[str, Bundle, TextEmbedder | None], Router]] = {
    "mf": _load_mf,
    "sw_ranking": _load_sw_ranking,
    "bert": _load_bert,
    "causal_llm": _load_causal_llm,
}
"""Kind of a manifest → how its files become a router, given its name and who embeds elsewhere."""
