"""Whose endpoint a model name means: LiteLLM's prefixes, for the SDK, `serve` and `data generate`.

RouteLLM calls its models through LiteLLM, so that is how its users write them:
`anyscale/mistralai/Mixtral-8x7B-Instruct-v0.1`, `ollama_chat/llama3`. Here are the providers that
have an OpenAI-compatible endpoint at an address of their own; every other model is OpenAI's, or
lives at the base URL that is given.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

_LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAddress:
    """Where a model is called."""

    base_url: str
    """What `/chat/completions` is appended to; without a slash at the end."""
    model: str
    """What the provider calls the model."""
    api_key_env: str
    """The environment variable that holds the key: of several that are usual, the one that is set,
    else the first."""

    @property
    def is_local(self) -> bool:
        """Whether the endpoint is on this machine or its network, where a key is rarely asked for.

        True for loopback and private addresses, and for host names that only a local network knows:
        `gpu-box`, `vllm.local`, `host.docker.internal`.
        """
        try:
            host = urlsplit(self.base_url).hostname or ""
        except ValueError:
            return False
        try:
            return ip_address(host).is_private
        except ValueError:  # a name
            return bool(host) and ("." not in host or host.endswith(_LOCAL_SUFFIXES))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Provider:
    base_url: str
    keys: tuple[str, ...]
    bases: tuple[str, ...]
    """Variables that name another base URL."""
    versioned: bool = False
    """Whether a base URL that does not end in `/v1` lacks it: what LiteLLM takes there is the
    provider's root, or may be."""
    folder: str = ""
    """What a model's name is put behind unless it is a path already."""


def address_of(model: str, *, base_url: str | None, environ: Mapping[str, str]) -> ModelAddress:
    """Returns where a model is called and how it is called there; never fails, asks nobody.

    Args:
        model: A name as LiteLLM has it. A prefix that is listed here, `openai/` too, is taken off;
            any other, such as the `mistralai/` of a Hugging Face name, belongs to the name.
        base_url: Where the model is, whatever its prefix and the environment say.
        environ: Read for `<PREFIX>_API_BASE` (`OPENAI_BASE_URL` without a prefix), and to tell
            which of several key variables is set. An empty value is none.
    """
    prefix, slash, rest = model.partition("/")
    provider = _PROVIDERS.get(prefix) if slash and rest else None
    if provider is None:
        provider, rest = _PROVIDERS["openai"], model
    base = base_url or _first_set(provider.bases, environ) or provider.base_url
    base = base.strip().rstrip("/")
    if provider.versioned and not base.endswith("/v1"):
        base += "/v1"
    if provider.folder and not rest.startswith("accounts/") and "#" not in rest:
        rest = provider.folder + rest
    key = next((name for name in provider.keys if environ.get(name)), provider.keys[0])
    return ModelAddress(base_url=base, model=rest, api_key_env=key)


def _first_set(names: Iterable[str], environ: Mapping[str, str]) -> str | None:
    return next((environ[name] for name in names if environ.get(name)), None)


def _usual(name: str, base_url: str, *, versioned: bool = False) -> _Provider:
    return _Provider(
        base_url=base_url,
        keys=(f"{name}_API_KEY",),
        bases=(f"{name}_API_BASE",),
        versioned=versioned,
    )


_OLLAMA = _usual("OLLAMA", "http://localhost:11434", versioned=True)
_PROVIDERS: Mapping[str, _Provider] = {
    "openai": _Provider(
        base_url="https://api.openai.com/v1",
        keys=("OPENAI_API_KEY",),
        bases=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    ),
    "anthropic": _usual("ANTHROPIC", "https://api.anthropic.com/v1", versioned=True),
    "anyscale": _usual("ANYSCALE", "https://api.endpoints.anyscale.com/v1"),
    "cerebras": _usual("CEREBRAS", "https://api.cerebras.ai/v1"),
    "deepinfra": _usual("DEEPINFRA", "https://api.deepinfra.com/v1/openai"),
    "deepseek": _usual("DEEPSEEK", "https://api.deepseek.com/v1"),
    "fireworks_ai": _Provider(
        base_url="https://api.fireworks.ai/inference/v1",
        keys=(
            *("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
            *("FIREWORKSAI_API_KEY", "FIREWORKS_AI_TOKEN"),
        ),
        bases=("FIREWORKS_API_BASE",),
        folder="accounts/fireworks/models/",
    ),
    "gemini": _Provider(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        bases=(),  # LiteLLM's GEMINI_API_BASE is an address of Google's own protocol
    ),
    "groq": _usual("GROQ", "https://api.groq.com/openai/v1"),
    "hosted_vllm": _usual("HOSTED_VLLM", "http://localhost:8000/v1"),
    "llamafile": _usual("LLAMAFILE", "http://localhost:8080/v1"),
    "lm_studio": _usual("LM_STUDIO", "http://localhost:1234/v1"),
    "mistral": _Provider(
        base_url="https://api.mistral.ai/v1",
        keys=("MISTRAL_API_KEY",),
        bases=("MISTRAL_AZURE_API_BASE", "MISTRAL_API_BASE"),
        versioned=True,
    ),
    "nvidia_nim": _usual("NVIDIA_NIM", "https://integrate.api.nvidia.com/v1"),
    "ollama": _OLLAMA,
    "ollama_chat": _OLLAMA,
    "openrouter": _Provider(
        base_url="https://openrouter.ai/api/v1",
        keys=("OPENROUTER_API_KEY", "OR_API_KEY"),
        bases=("OPENROUTER_API_BASE",),
    ),
    "perplexity": _Provider(
        base_url="https://api.perplexity.ai",
        keys=("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
        bases=("PERPLEXITY_API_BASE",),
    ),
    "sambanova": _usual("SAMBANOVA", "https://api.sambanova.ai/v1"),
    "together_ai": _Provider(
        base_url="https://api.together.xyz/v1",
        keys=(
            *("TOGETHER_API_KEY", "TOGETHER_AI_API_KEY"),
            *("TOGETHERAI_API_KEY", "TOGETHER_AI_TOKEN"),
        ),
        bases=("TOGETHER_AI_API_BASE",),
    ),
    "xai": _usual("XAI", "https://api.x.ai/v1"),
}
"""Prefix → provider; names of variables as LiteLLM has them (docs.litellm.ai/docs/providers)."""
