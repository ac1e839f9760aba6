"""RouteLLM's class over our routers: what it sends, counts, refuses and closes."""

import asyncio
import logging
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from openai import AsyncStream, Stream
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from pointsman import Controller, RoutingError
from pointsman.errors import ConfigError, InvalidRequest, UnknownRouter
from pointsman.routers.base import Router
from tests.fakes.provider import FakeProvider

HELLO = [{"role": "user", "content": "Hello!"}]
STRONG, WEAK = "gpt-4-1106-preview", "anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1"
SDK_PAGE = Path(__file__).parents[2] / "docs" / "sdk.md"
ROUTELLM = """
import os
from pointsman import Controller
import pandas as pd

os.environ["OPENAI_API_KEY"] = "sk-XXXXXX"
os.environ["ANYSCALE_API_KEY"] = "esecret_XXXXXX"
client = Controller(
    routers=["mf"],
    strong_model="gpt-4-1106-preview",
    weak_model="anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1",
    config={"mf": {"checkpoint_path": "routellm/mf_gpt4_augmented"}},
)
messages = [{"role": "user", "content": "Hello!"}]
first = client.chat.completions.create(model="router-mf-0.11593", messages=messages)
second = client.completion(router="mf", threshold=0.11593, messages=messages)
routed = client.route(prompt="What's the squareroot of 144?", router="mf", threshold=0.11593)
rates = client.batch_calculate_win_rate(
    prompts=pd.Series(["What's the squareroot of 144?"]), router="mf"
)
client.close()
"""


class LengthRouter(Router):
    """A prompt's win rate is its length in hundredths."""

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float32[n]."""
        return np.asarray([min(len(prompt), 100) / 100 for prompt in prompts], dtype=np.float32)


class HeldRouter(Router):
    """Scores once it is let go."""

    began: ClassVar = threading.Event()
    go: ClassVar = threading.Event()

    def strong_win_rates(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Returns 1 for each prompt."""
        self.began.set()
        self.go.wait()
        return np.ones(len(prompts), dtype=np.float32)


CONFIG = {
    "length": {"class": f"{__name__}:LengthRouter"},
    "held": {"class": f"{__name__}:HeldRouter"},
}


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProvider]:
    """A provider that is OpenAI, Anyscale and Ollama at once."""
    async with FakeProvider() as provider:
        monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
        monkeypatch.setenv("ANYSCALE_API_BASE", provider.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-strong")
        monkeypatch.setenv("ANYSCALE_API_KEY", "sk-weak")
        yield provider


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that knows of no provider."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "OPENAI_API_KEY", "ANYSCALE_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client() -> Iterator[Controller]:
    """A controller whose router counts characters."""
    with Controller(["length"], STRONG, WEAK, config=CONFIG) as client:
        yield client


def user(text: str) -> list[dict[str, str]]:
    """Returns one user turn."""
    return [{"role": "user", "content": text}]


async def test_routellms_examples_run_with_only_the_import_changed(
    provider: FakeProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """A RouteLLM user changes one line, and is told that thresholds mean something else."""
    names: dict[str, Any] = {}
    with caplog.at_level(logging.WARNING):
        await asyncio.to_thread(exec, ROUTELLM, names)
    assert isinstance(names["first"], ChatCompletion)
    assert names["first"].choices[0].message.content == "An answer."
    assert names["routed"] in {STRONG, WEAK}
    assert isinstance(names["rates"], pd.Series)
    assert names["client"].model_counts["mf"].total() == 2
    assert "not routellm/mf_gpt4_augmented" in caplog.text
    assert len(provider.calls) == 2


async def test_every_example_of_the_page_runs(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shown works, from the first block to the last, in one session."""
    blocks = re.findall(r"```python\n(.*?)```", SDK_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 8
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        text = block.replace("http://gpu-box:8000/v1", provider.url)
        await asyncio.to_thread(exec, compile(text, str(SDK_PAGE), "exec"), names)
    assert any("tools" in call.json for call in provider.calls)
    assert names["answer"].choices[0].message in names["messages"]
    assert "Bearer token-of-the-box" in {call.headers["Authorization"] for call in provider.calls}


async def test_the_request_is_the_callers_and_nothing_else(
    provider: FakeProvider, client: Controller
) -> None:
    """The provider's own name, its own key, every argument, and not one that nobody gave."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    for text, model, key in (
        ("x" * 90, STRONG, "sk-strong"),
        ("x", "mistralai/Mixtral-8x7B-Instruct-v0.1", "sk-weak"),
    ):
        answer = await asyncio.to_thread(
            client.chat.completions.create,
            model="router-length-0.5",
            messages=user(text),
            tools=tools,
            temperature=0.5,
            extra_body={"top_k": 3},
        )
        call = provider.calls.pop()
        assert call.json == {
            "model": model,
            "messages": user(text),
            "tools": tools,
            "temperature": 0.5,
            "top_k": 3,
        }
        assert call.headers["Authorization"] == f"Bearer {key}"
        assert answer.model == model


async def test_an_openai_organization_is_openais_business(
    provider: FakeProvider, client: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another provider does not learn who pays OpenAI."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    for threshold in (0, 1):
        await asyncio.to_thread(
            client.completion, router="length", threshold=threshold, messages=HELLO
        )
    strong, weak = ({k.lower(): v for k, v in call.headers.items()} for call in provider.calls)
    assert strong["openai-organization"] == "org-1"
    assert "openai-organization" not in weak


async def test_streams_are_the_clients_own(provider: FakeProvider, client: Controller) -> None:
    """Whoever reads chunks of `openai` reads these."""

    def read() -> str:
        stream = client.completion(model="router-length-0", messages=HELLO, stream=True)
        assert isinstance(stream, Stream)
        chunks = list(stream)
        assert all(isinstance(chunk, ChatCompletionChunk) for chunk in chunks)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    assert await asyncio.to_thread(read) == "An answer."
    stream = await client.acompletion(model="router-length-1", messages=HELLO, stream=True)
    assert isinstance(stream, AsyncStream)
    texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(texts) == "An answer."
    await client.aclose()


async def test_the_event_loop_turns_while_a_router_scores(provider: FakeProvider) -> None:
    """A slow router delays its own request and no other."""
    HeldRouter.began.clear()
    HeldRouter.go.clear()
    async with Controller(["held"], STRONG, WEAK, config=CONFIG) as client:
        call = asyncio.create_task(
            client.chat.completions.acreate(model="router-held-0.5", messages=HELLO)
        )
        await asyncio.to_thread(HeldRouter.began.wait)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not call.done()
        HeldRouter.go.set()
        assert (await call).model == STRONG


async def test_one_controller_serves_several_event_loops(provider: FakeProvider) -> None:
    """`asyncio.run` twice over one controller is what scripts and notebooks do."""
    client = Controller(["length"], STRONG, WEAK, config=CONFIG)

    async def ask() -> str:
        async with client:
            answer = await client.acompletion(model="router-length-0", messages=HELLO)
        return answer.model

    for _ in range(2):
        assert await asyncio.to_thread(asyncio.run, ask()) == STRONG
    assert client.model_counts["length"][STRONG] == 2


async def test_the_last_user_turn_is_scored(provider: FakeProvider, client: Controller) -> None:
    """Tool results, parts and the client's own objects are among messages; none breaks routing."""
    long: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "x" * 90}]},
        {"role": "tool", "tool_call_id": "1", "content": "short"},
    ]
    first = await client.acompletion(model="router-length-0.5", messages=iter(long))
    assert first.model == STRONG
    turns = [*long, first.choices[0].message]
    assert (await client.acompletion(model="router-length-0.5", messages=turns)).model == STRONG
    assert provider.calls[-1].json["messages"][-1]["content"] == "An answer."
    await client.aclose()


async def test_counts_are_of_completions_by_router_and_model(
    provider: FakeProvider, client: Controller
) -> None:
    """Costs are told by them: threads lose none, and route() adds none."""

    def ask(number: int) -> object:
        return client.completion(
            model="router-length-0.5", messages=user("x" * (90 if number % 2 else 1))
        )

    def ask_all() -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, range(40)))

    await asyncio.to_thread(ask_all)
    client.route("Hello!", "length", 0.5)
    assert client.model_counts == {"length": {STRONG: 20, WEAK: 20}}


def test_route_names_models_as_they_were_given(client: Controller, no_keys: None) -> None:
    """No key is needed, and a win rate that equals the threshold is strong."""
    assert client.route("x" * 50, "length", 0.5) == STRONG
    assert client.route("x" * 49, "length", 0.5) == WEAK
    assert (client.model_pair.strong, client.model_pair.weak) == (STRONG, WEAK)


async def test_model_wins_over_router_and_threshold(
    provider: FakeProvider, client: Controller
) -> None:
    """As in RouteLLM."""
    answer = await asyncio.to_thread(
        client.completion, model="router-length-0", router="nope", threshold=1, messages=HELLO
    )
    assert answer.model == STRONG


async def test_a_share_is_the_calibrated_threshold(provider: FakeProvider) -> None:
    """`p30` means what it means at the gateway."""
    with Controller(["mf"], STRONG, WEAK) as client:
        loaded = client.routers["mf"]
        bar = float(loaded.quantiles[700])
        for prompt in ("What is the capital of France?", "Prove that the primes are infinite."):
            answer = await asyncio.to_thread(
                client.completion, model="router-mf-p30", messages=user(prompt)
            )
            model = "mistralai/Mixtral-8x7B-Instruct-v0.1"
            expected = STRONG if client.route(prompt, "mf", bar) == STRONG else model
            assert answer.model == expected


@pytest.mark.parametrize(
    ("call", "param", "says"),
    [
        ({"model": "gpt-4"}, "model", "`gpt-4` names no router"),
        ({"model": ""}, "model", "routers here: length"),
        ({"model": "router-length-2"}, "model", "router-<name>-<threshold>"),
        ({"model": "router-length-p30"}, "model", "no calibration"),
        ({"model": "router-mf-0.5"}, "router", "there are: length"),
        ({"model": 3}, "model", "`3`"),
        ({}, "model", "both router and threshold"),
        ({"router": "length"}, "model", "both router and threshold"),
        ({"router": "mf", "threshold": 0.5}, "router", "`mf`"),
        ({"router": "length", "threshold": 1.5}, "threshold", "`1.5`"),
        ({"router": "length", "threshold": float("nan")}, "threshold", "`nan`"),
        ({"router": "length", "threshold": "0.5"}, "threshold", "not a number"),
        ({"model": "router-length-0", "messages": "Hello!"}, "messages", "is a list"),
        ({"model": "router-length-0", "messages": []}, "messages", "empty"),
        ({"model": "router-length-0", "messages": [3]}, "messages", "type int"),
    ],
)
async def test_what_cannot_be_routed_is_a_routing_error(
    client: Controller, call: dict[str, Any], param: str, says: str
) -> None:
    """It names the argument, before anything is sent or counted; async and sync say the same."""
    call = {"messages": HELLO, **call}
    with pytest.raises(RoutingError) as caught:
        client.completion(**call)
    assert says in str(caught.value)
    assert (caught.value.param, isinstance(caught.value, InvalidRequest)) == (param, True)
    with pytest.raises(RoutingError, match=re.escape(str(caught.value))):
        await client.acompletion(**call)
    assert not client.model_counts


@pytest.mark.parametrize("prompt", [None, 3, float("nan")])
def test_prompts_that_are_no_text_are_refused(client: Controller, prompt: Any) -> None:
    """A gap in a data frame is NaN, and must not be scored as if it were a text."""
    with pytest.raises(RoutingError, match="not text"):
        client.batch_calculate_win_rate(["Hello!", prompt], router="length")
    with pytest.raises(RoutingError, match="not text"):
        client.route(prompt, "length", 0.5)
    with pytest.raises(RoutingError, match="list of texts"):
        client.batch_calculate_win_rate("Hello!", router="length")


def test_batches_keep_order_index_and_name(client: Controller) -> None:
    """A Series comes back as one, anything else as float64, so that thresholds compare exactly."""
    texts = ["x" * n for n in (3, 1, 2)]
    expected = [np.float32(n / 100) for n in (3, 1, 2)]
    series = pd.Series(texts, index=["c", "a", "b"], name="prompt")
    rates = client.batch_calculate_win_rate(series, router="length")
    pd.testing.assert_series_equal(
        rates, pd.Series(expected, index=series.index, name="prompt", dtype="float64")
    )
    array = client.batch_calculate_win_rate(iter(texts), router="length")
    assert array.dtype == np.float64
    assert array.tolist() == rates.tolist()
    assert client.batch_calculate_win_rate([], router="length").shape == (0,)
    with pytest.raises(RoutingError, match="`nope`"):
        client.batch_calculate_win_rate(texts, router="nope")


def test_batch_and_route_agree_on_broken_text() -> None:
    """Half an emoji is scored as the gateway scores it, everywhere."""
    client = Controller(["mf"], STRONG, WEAK)
    prompts = ["What\ud83d is this?", "What\ufffd is this?"]
    first, second = client.batch_calculate_win_rate(prompts, router="mf")
    assert first == second
    assert {client.route(prompt, "mf", first) for prompt in prompts} == {STRONG}


def test_progress_shows_only_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """A library is silent; bars go to standard error."""
    for shown in (False, True):
        client = Controller(["length"], STRONG, WEAK, config=CONFIG, progress_bar=shown)
        client.batch_calculate_win_rate(["Hello!"], router="length")
        printed = capsys.readouterr()
        assert printed.out == ""
        assert ("Scoring with length" in printed.err) is shown


def test_a_missing_key_is_named_when_it_is_needed(client: Controller, no_keys: None) -> None:
    """Routing needs no key, so its absence is no error before the call."""
    for threshold, variable in ((0, "OPENAI_API_KEY"), (1, "ANYSCALE_API_KEY")):
        with pytest.raises(ConfigError, match=variable):
            client.completion(router="length", threshold=threshold, messages=HELLO)
    assert not client.model_counts


async def test_local_endpoints_need_no_key(provider: FakeProvider, no_keys: None) -> None:
    """Ollama and vLLM at home ask for none; a key of one's own is sent."""
    with Controller(
        ["length"], "openai/a", "b", CONFIG, api_base=provider.url, weak_api_key="mine"
    ) as client:
        for threshold in (0, 1):
            await asyncio.to_thread(
                client.completion, router="length", threshold=threshold, messages=HELLO
            )
    assert [call.json["model"] for call in provider.calls] == ["a", "b"]
    assert [call.headers["Authorization"] for call in provider.calls] == [
        "Bearer none",
        "Bearer mine",
    ]


def test_a_base_url_without_scheme_is_named(client: Controller, no_keys: None) -> None:
    """`localhost:8000` is the usual slip, and a connection error would not say so."""
    local = Controller(["length"], "a", "b", CONFIG, api_base="localhost:8000/v1", api_key="k")
    with pytest.raises(ConfigError, match="`localhost:8000/v1`"):
        local.completion(router="length", threshold=0, messages=HELLO)


async def test_closing_twice_is_fine_and_calling_again_opens_anew(
    provider: FakeProvider, client: Controller
) -> None:
    """Nobody has to know who closed first."""
    for _ in range(2):
        await client.acompletion(model="router-length-0", messages=HELLO)
        await client.aclose()
        await client.aclose()
        client.close()
    assert len(provider.calls) == 2


@pytest.mark.parametrize(
    ("routers", "config", "error", "says"),
    [
        ("mf", None, ConfigError, 'routers is a list of names, such as \\["mf"\\]'),
        (["nope"], None, UnknownRouter, "`nope`"),
        (["mine"], {"mine": {"bundle": "x/y"}}, ConfigError, "no router bundle at x/y"),
        (["mf"], {"mf": {"nope": 1}}, ConfigError, "config: router mf has the key `nope`"),
        (["mf"], ["mf"], ConfigError, "config is of type list"),
        (["mf"], "missing.yaml", ConfigError, "missing.yaml: cannot be read"),
    ],
)
def test_wrong_construction_is_told_at_once(
    routers: Any, config: Any, error: type[Exception], says: str
) -> None:
    """Not at the first request."""
    with pytest.raises(error, match=says):
        Controller(routers, STRONG, WEAK, config=config)


@pytest.mark.parametrize("missing", [None, ""])
def test_a_model_without_a_name_is_told_at_once(missing: Any) -> None:
    """What `os.environ.get` gives for a variable that nobody has set."""
    with pytest.raises(ConfigError, match="weak_model is empty"):
        Controller(["length"], STRONG, missing, config=CONFIG)


def test_a_yaml_file_configures(tmp_path: Path) -> None:
    """The same file that the command line reads."""
    path = tmp_path / "config.yaml"
    path.write_text("routers: {random: {options: {seed: 1}}}")
    rates = [
        Controller(["random"], STRONG, WEAK, config=config).batch_calculate_win_rate(
            ["Hello!"], router="random"
        )
        for config in (path, str(path), {"random": {"options": {"seed": 1}}})
    ]
    assert rates[0] == rates[1] == rates[2]


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Services and `pointsman --help` start without numpy, and routing runs without `openai`."""
    code = """
import sys, pointsman
assert not {"numpy", "openai", "pandas"} & set(sys.modules)
assert not hasattr(pointsman, "nope")
sys.modules["openai"] = None
from pointsman import Controller
client = Controller(["random"], "a", "b", api_key="k")
client.route("Hello!", "random", 0.5)
client.batch_calculate_win_rate(["Hello!"], router="random")
assert "pandas" not in sys.modules
try:
    client.completion(model="router-random-0", messages=[{"role": "user", "content": "Hi"}])
except pointsman.errors.ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'pointsman[sdk]'" in done.stdout
