"""RouteLLM's `Controller`: routing in the caller's own process, with the `openai` client.

    messages → prompt text → strong win rate → decision → the chosen model's `openai` client

The same functions as in the cluster decide, so that a router, a threshold and a prompt give the
same model here and there.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sized
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
from tqdm import tqdm

from pointsman.errors import ConfigError
from pointsman.prompts import prompt_text
from pointsman.routers.bulk import win_rates
from pointsman.routing import Choice, ModelPair
from pointsman.sdk.arguments import (
    Config,
    RoutingError,
    as_text,
    sequence_of,
    tools_config,
)
from pointsman.sdk.clients import ModelClients
from pointsman.sdk.decisions import Decisions, load_routers

if TYPE_CHECKING:
    from openai import AsyncStream, Stream
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

__all__ = ["Controller", "RoutingError"]


class Completions:
    """`client.chat.completions`, as in the `openai` client."""

    def __init__(self, controller: Controller) -> None:
        self.create = controller.completion
        self.acreate = controller.acompletion


class Chat:
    """`client.chat`, as in the `openai` client."""

    def __init__(self, controller: Controller) -> None:
        self.completions = Completions(controller)


class Controller:
    """Routes chat completions between two models; may be shared by threads and event loops.

    Args:
        routers: Names of the routers to load.
        strong_model: The strong model, named as LiteLLM does: `gpt-4o`, `together_ai/...`.
        weak_model: The weak model.
        config: RouteLLM's mapping from router name to keyword arguments, or Pointsman's own, or the
            path of a YAML file with either; by default the routers that ship with Pointsman.
        api_base: Base URL of both models, if not what their prefixes or the environment say.
        api_key: Key of both models, if not the ones in the environment.
        progress_bar: Whether loading and `batch_calculate_win_rate` show a bar on standard error.
        strong_api_base: Base URL of the strong model alone.
        strong_api_key: Key of the strong model alone.
        weak_api_base: Base URL of the weak model alone.
        weak_api_key: Key of the weak model alone.

    Attributes:
        model_pair: The two names as they were given.
        routers: Name → router, as loaded.
        model_counts: Router → model → completions asked for.

    Raises:
        UnknownRouter: There is no such router.
        ConfigError: The configuration is wrong.
        RouterNotReady: A file of a router is damaged.
    """

    def __init__(  # noqa: PLR0917  # RouteLLM's order
        self,
        routers: Iterable[str],
        strong_model: str,
        weak_model: str,
        config: Config = None,
        api_base: str | None = None,
        api_key: str | None = None,
        progress_bar: bool = False,
        *,
        strong_api_base: str | None = None,
        strong_api_key: str | None = None,
        weak_api_base: str | None = None,
        weak_api_key: str | None = None,
    ) -> None:
        names = {"strong_model": strong_model, "weak_model": weak_model}
        if wrong := [name for name, model in names.items() if not model]:
            raise ConfigError(f"{wrong[0]} is empty; give a model's name, such as gpt-4o")
        self.model_pair = ModelPair(strong=strong_model, weak=weak_model)
        self.model_counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._progress_bar = progress_bar
        self._counting = Lock()
        self._clients: dict[Choice, ModelClients] = {
            "strong": ModelClients(
                strong_model,
                base_url=strong_api_base or api_base,
                api_key=strong_api_key or api_key,
            ),
            "weak": ModelClients(
                weak_model, base_url=weak_api_base or api_base, api_key=weak_api_key or api_key
            ),
        }
        if isinstance(routers, str):
            raise ConfigError(f'routers is a list of names, such as ["{routers}"], not one name')
        self.routers = load_routers(list(routers), tools_config(config), progress_bar=progress_bar)
        self._decisions = Decisions(self.routers)
        self.chat = Chat(self)

    @overload
    def completion(
        self, *, stream: Literal[True], messages: Iterable[Any], **call: Any
    ) -> Stream[ChatCompletionChunk]: ...
    @overload
    def completion(
        self, *, stream: Literal[False] | None = None, messages: Iterable[Any], **call: Any
    ) -> ChatCompletion: ...
    @overload
    def completion(
        self, *, messages: Iterable[Any], **call: Any
    ) -> ChatCompletion | Stream[ChatCompletionChunk]: ...
    def completion(
        self,
        *,
        messages: Iterable[Any],
        model: str | None = None,
        router: str | None = None,
        threshold: float | None = None,
        **further: Any,
    ) -> Any:
        """Returns the chosen model's answer, as the `openai` client gives it.

        Args:
            messages: The conversation; its last user turn is scored.
            model: `router-<name>-<threshold>` or `router-<name>-p<percent>`; wins over the rest.
            router: A router's name.
            threshold: In [0, 1]; strong iff the strong win rate reaches it.
            further: All else that `chat.completions.create` takes, passed on as it is; with
                `stream=True` a stream of chunks is returned.

        Raises:
            RoutingError: There is no router or threshold to decide by, or messages are wrong.
            ConfigError: The chosen model has no key, or `openai` is not installed.
            openai.OpenAIError: What the client raises.
        """
        messages = sequence_of(messages)
        router, choice = self._decisions.decide(messages, model, router, threshold)
        create: Any = self._clients[choice].client().chat.completions.create
        self._count(router, choice)
        return create(model=self._clients[choice].model, messages=messages, **further)

    @overload
    async def acompletion(
        self, *, stream: Literal[True], messages: Iterable[Any], **call: Any
    ) -> AsyncStream[ChatCompletionChunk]: ...
    @overload
    async def acompletion(
        self, *, stream: Literal[False] | None = None, messages: Iterable[Any], **call: Any
    ) -> ChatCompletion: ...
    @overload
    async def acompletion(
        self, *, messages: Iterable[Any], **call: Any
    ) -> ChatCompletion | AsyncStream[ChatCompletionChunk]: ...
    async def acompletion(
        self,
        *,
        messages: Iterable[Any],
        model: str | None = None,
        router: str | None = None,
        threshold: float | None = None,
        **further: Any,
    ) -> Any:
        """Returns what `completion` does, without blocking the event loop: a thread scores.

        Raises:
            RoutingError, ConfigError, openai.OpenAIError: As `completion`.
        """
        messages = sequence_of(messages)
        loop = asyncio.get_running_loop()

        def prepare() -> tuple[str, Choice, Any]:
            name, choice = self._decisions.decide(messages, model, router, threshold)
            return name, choice, self._clients[choice].client_of(loop).chat.completions.create

        name, choice, create = await asyncio.to_thread(prepare)
        self._count(name, choice)
        return await create(model=self._clients[choice].model, messages=messages, **further)

    def route(self, prompt: str, router: str, threshold: float) -> str:
        """Returns the name of the model that this prompt goes to, without calling it.

        Raises:
            RoutingError: No such router, the threshold is not in [0, 1], or the prompt is no text.
        """
        return self.model_pair.pick(
            self._decisions.decide(
                [{"role": "user", "content": as_text(prompt)}], None, router, threshold
            )[1]
        )

    def batch_calculate_win_rate(self, prompts: Iterable[str], router: str) -> Any:
        """Returns the strong win rate of each prompt, in order, computed on all cores.

        Args:
            prompts: A pandas Series, which gives a Series with its index and name, or any other
                iterable of texts, which gives float64[n].
            router: A router's name.

        Raises:
            RoutingError: No such router, or a prompt is not text.
        """
        loaded = self._decisions.router(router)
        if isinstance(prompts, str):
            raise RoutingError("prompts is one text; give a list of texts", param="prompts")
        total = len(prompts) if isinstance(prompts, Sized) else None
        texts = (prompt_text([{"role": "user", "content": as_text(prompt)}]) for prompt in prompts)
        rates = tqdm(
            win_rates(loaded.router, texts),
            desc=f"Scoring with {router}",
            total=total,
            disable=not self._progress_bar,
        )
        # float64: a float32 array would round the threshold that it is compared with.
        computed = np.fromiter(rates, dtype=np.float64)
        pandas = sys.modules.get("pandas")
        if pandas is not None and isinstance(prompts, pandas.Series):
            return pandas.Series(computed, index=prompts.index, name=prompts.name)
        return computed

    def close(self) -> None:
        """Closes the connections of `completion`; what is called later opens new ones."""
        for clients in self._clients.values():
            clients.close()

    async def aclose(self) -> None:
        """Closes the connections of `completion`, and those of `acompletion` in this event loop."""
        for clients in self._clients.values():
            await clients.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _count(self, router: str, choice: Choice) -> None:
        with self._counting:
            self.model_counts[router][self.model_pair.pick(choice)] += 1
