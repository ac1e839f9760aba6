"""The official client, unchanged, against the demo provider: what a newcomer does first."""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from services.process import Process
from tests.fakes.cluster import HELLO, RunningCluster, cluster, models_of

pytestmark = pytest.mark.integration

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Says what the weather is.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningCluster]:
    """A cluster over the demo provider."""
    folder: Path = tmp_path_factory.mktemp("demo")
    with (folder / "demo.log").open("wb") as log:
        provider = Process("demo_provider", {"POINTSMAN_DEMO_PORT": "0"}, log=log.fileno())
        url = f"http://{(await provider.start()).address}/v1"
        try:
            async with cluster(folder, models_of(url)) as running:
                yield running
        finally:
            await provider.stop()


@pytest.fixture
async def client(demo: RunningCluster) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, pointed at the gateway; it retries nothing, so that we see all."""
    async with openai.AsyncOpenAI(
        base_url=f"{demo.url}/v1", api_key="none-needed", max_retries=0
    ) as client:
        yield client


async def test_whole_answer(client: openai.AsyncOpenAI) -> None:
    """The answer says plainly who speaks and under which name."""
    raw = await client.chat.completions.with_raw_response.create(
        model="router-random-0.5",
        messages=HELLO,  # type: ignore[arg-type]
    )
    answer = raw.parse()
    decision = raw.headers["x-pointsman-decision"]
    assert answer.model == f"fake-{decision}"
    assert f"demo provider, answering as fake-{decision}" in str(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_streamed_answer_equals_the_whole_one(client: openai.AsyncOpenAI) -> None:
    """Chunks add up to the answer, and usage comes only if asked for."""
    whole = await client.chat.completions.create(model="strong", messages=HELLO)  # type: ignore[arg-type]
    for options in (openai.omit, {"include_usage": True}):
        stream = await client.chat.completions.create(
            model="strong",
            messages=HELLO,  # type: ignore[arg-type]
            stream=True,
            stream_options=options,  # type: ignore[arg-type]
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content
        usages = [chunk.usage for chunk in chunks if chunk.usage]
        assert usages == ([] if options is openai.omit else [whole.usage])


async def test_streaming_helper_understands_the_chunks(client: openai.AsyncOpenAI) -> None:
    """The helper is stricter than plain iteration: roles, indices and the object's name count."""
    async with client.chat.completions.stream(
        model="router-random-0.5",
        messages=HELLO,  # type: ignore[arg-type]
    ) as stream:
        completion = await stream.get_final_completion()
    assert "demo provider" in str(completion.choices[0].message.content)


async def test_tools_go_there_and_come_back(client: openai.AsyncOpenAI) -> None:
    """A tool call, its result as the last turn, and an answer; streamed fragments too."""
    first = await client.chat.completions.create(
        model="router-random-0.5",
        messages=HELLO,  # type: ignore[arg-type]
        tools=[TOOL],  # type: ignore[list-item]
    )
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls is not None
    call = message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    second = await client.chat.completions.create(
        model="router-random-0.5",
        messages=[*HELLO, message, result],  # type: ignore[list-item]
        tools=[TOOL],  # type: ignore[list-item]
    )
    assert "Sunny." in str(second.choices[0].message.content)
    async with client.chat.completions.stream(
        model="strong",
        messages=HELLO,  # type: ignore[arg-type]
        tools=[TOOL],  # type: ignore[list-item]
    ) as stream:
        streamed = await stream.get_final_completion()
    calls = streamed.choices[0].message.tool_calls
    assert calls is not None
    assert (calls[0].function.name, calls[0].function.arguments) == (
        "weather",
        '{"city": "demo"}',
    )


async def test_errors_are_the_clients_own_exceptions(client: openai.AsyncOpenAI) -> None:
    """`except openai.NotFoundError` works, with code, param and request id."""
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="gpt-nobody", messages=HELLO)  # type: ignore[arg-type]
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert unknown.value.request_id
    with pytest.raises(openai.BadRequestError) as malformed:
        await client.chat.completions.create(model="router-random-7", messages=HELLO)  # type: ignore[arg-type]
    assert malformed.value.param == "model"
    with pytest.raises(openai.BadRequestError):
        await client.chat.completions.create(model="router-random-0.5", messages=[])


async def test_models_list(client: openai.AsyncOpenAI) -> None:
    """The client's own model type reads every entry."""
    names = [model.id async for model in client.models.list()]
    shares = [f"router-random-p{percent}" for percent in range(10, 100, 10)]
    assert names == ["strong", "weak", *shares]
