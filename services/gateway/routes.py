"""Model field, rules and prompt → `Route`: which model is asked, and what decided that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.errors import UpstreamUnavailable
from pointsman.prompts import PromptPolicy, prompt_text
from pointsman.routing import RouterRef, parse_model_field
from services.gateway.access import Record
from services.gateway.callers import Caller
from services.gateway.directory import Directory
from services.gateway.request import ChatRequest
from services.gateway.rules import RuleSettings, matching
from services.gateway.savings import DIRECT
from services.gateway.scoring import Decision, DecisionMaker

WIN_RATE = "win_rate"
ALIAS = "alias"
FALLBACK = "fallback"
RULE = "rule:"


@dataclass(frozen=True, slots=True)
class Route:
    """Which model is asked."""

    model: str
    reason: str
    """What decided it: `win_rate`, `fallback` (no win rate could be had), `rule:<name>`, `alias`
    (of a model), `direct` (a model was named)."""
    decision: Decision | None = None
    """The router's; None where no router was asked."""


class Routes:
    """Chooses models.

    Args:
        decisions: Chooses between the models of the pair.
        directory: Knows the models and routers there are.
        prompt_policy: Which text is scored.
        aliases: Model field → model field.
        rules: Name → rule, in the order in which they are tried.
    """

    def __init__(
        self,
        decisions: DecisionMaker,
        directory: Directory,
        prompt_policy: PromptPolicy,
        aliases: Mapping[str, str],
        rules: Mapping[str, RuleSettings],
    ) -> None:
        self._decisions = decisions
        self._directory = directory
        self._prompt_policy = prompt_policy
        self._aliases = aliases
        self._rules = rules

    async def choose(
        self, chat: ChatRequest, headers: Mapping[str, str], caller: Caller, record: Record
    ) -> Route:
        """Returns the route of a request, for a caller that may take it.

        Args:
            chat: The request.
            headers: Its HTTP headers.
            caller: Who asks.
            record: Hears which router was asked for, and how long scoring took.

        Raises:
            InvalidRequest: The model field is malformed.
            KeyNotAllowed: The caller may not use that router or model.
            UnknownModel: No such model.
            UnknownRouter: No such router.
            PointsmanError: There is no win rate and the configuration wants an error.
        """
        field = self._aliases.get(chat.model, chat.model)
        alias = chat.model if chat.model in self._aliases else None
        ref = parse_model_field(field)
        if ref is None:
            record.router = DIRECT
            caller.require_model(field, alias)
            self._directory.require_model(field, caller)
            return Route(field, ALIAS if alias else DIRECT)
        record.router = self._directory.router_label(ref.router)
        caller.require_router(ref.router, alias)
        self._directory.require_router(ref.router, caller)
        if reason := self._directory.not_ready_reason:  # the models are the operator's trouble
            raise UpstreamUnavailable(f"The gateway is not ready: {reason}.")
        if (rule := matching(self._rules, chat.messages, chat.tools, headers)) is not None:
            return Route(self._rules[rule].model, RULE + rule)
        return await self._scored(ref, chat.messages, record)

    async def _scored(
        self, ref: RouterRef, messages: list[dict[str, Any]], record: Record
    ) -> Route:
        prompt = prompt_text(messages, self._prompt_policy)
        with record.stage("score"):
            decision = await self._decisions.decide(ref, prompt, record.request_id)
        return Route(decision.model, FALLBACK if decision.fallback else WIN_RATE, decision)
