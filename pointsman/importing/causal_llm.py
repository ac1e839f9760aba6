"""RouteLLM's `causal_llm` checkpoint → a bundle: a Llama that rates an answer it has not seen.

Its tokens ``[[1]]`` to ``[[5]]`` stand at the tail of the vocabulary, and the two texts round the
question lie beside the weights.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from tokenizers import AddedToken, Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel

from pointsman.errors import ConfigError
from pointsman.importing.checkpoints import checkpoint_folders, read_model, read_tokenizer
from pointsman.importing.graphs import export_graph
from pointsman.importing.settings import ImportSettings
from pointsman.importing.writing import ImportedFiles, write_imported
from pointsman.routers.causal_llm import PromptFormat
from pointsman.routers.embedding import EmbedderSettings
from pointsman.training.export_causal import CAUSAL_OUTPUTS, LABEL_TOKENS, LabelDecoder

SYSTEM_FILE = "system_ft_v5.txt"
"""What RouteLLM tells the model to do."""

QUESTION_FILE = "classifier_ft_v5.txt"
"""What stands round the question, which is ``{question}`` in it."""

_TURN = "<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"
"""A turn in the format of RouteLLM's checkpoint. No header of an assistant's follows the last, and
the tokenizer begins the text."""

QUANTISED = ("MatMul",)
"""The table of tokens is read once a token and stays as it is."""


def import_causal_llm(settings: ImportSettings) -> Path:
    """Write the bundle of a decoder with label tokens and return its folder.

    Raises:
        ConfigError: the folder holds no such decoder, no tokenizer, or not both texts.
    """
    folder, tokenizer_folder = checkpoint_folders(settings)
    before, after = routellm_texts(folder)
    tokenizer = read_tokenizer(tokenizer_folder)
    label_ids = label_tokens(tokenizer)
    model = read_model(AutoModelForCausalLM, folder)
    vocabulary = model.get_output_embeddings().weight.shape[0]
    if max(label_ids) >= vocabulary:
        raise ConfigError(
            f"{tokenizer_folder}: with its labels the tokenizer has {max(label_ids) + 1} tokens "
            f"and the model {vocabulary}; name the tokenizer it was trained with by --tokenizer"
        )
    prompt_format = PromptFormat(
        before=before,
        after=after,
        max_tokens=int(model.config.max_position_embeddings),
        add_special_tokens=True,
        stop_tokens=_stop_tokens(model),
    )
    shared = {
        "tokenizer": tokenizer.to_str().encode("utf-8"),
        "format": prompt_format.to_bytes(),
    }
    module = LabelDecoder(model, label_ids)
    served, full = export_graph(module, CAUSAL_OUTPUTS, settings.precision, QUANTISED)
    return write_imported(
        settings,
        ImportedFiles(
            kind="causal_llm",
            embedder=EmbedderSettings(
                max_tokens=prompt_format.max_tokens, dimension=len(label_ids)
            ),
            contents={**served.roles("decoder"), **shared},
            float32=None if full is None else {**full.roles("decoder"), **shared},
        ),
    )


def routellm_texts(folder: Path) -> tuple[str, str]:
    """Return what stands before the question and what after it, as RouteLLM's code joins them.

    Raises:
        ConfigError: a text is missing, or has no single ``{question}``.
    """
    system = _TURN.format(role="system", text=_read_text(folder / SYSTEM_FILE).strip())
    path = folder / QUESTION_FILE
    mark = uuid4().hex
    try:
        filled = _read_text(path).format(question=mark).strip()
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(f"{path}: has a field that is not {{question}}: {error}") from error
    parts = _TURN.format(role="user", text=filled).split(mark)
    if len(parts) != 2:
        raise ConfigError(f"{path}: must name {{question}} once, and does {len(parts) - 1} times")
    return system + parts[0], parts[1]


def label_tokens(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of the five labels, worst rating first; added where there are none.

    RouteLLM adds them to the base model's tokenizer whenever it starts, so a checkpoint's own
    tokenizer may have them or not; either way they follow the vocabulary.
    """
    tokenizer.add_special_tokens([AddedToken(label, normalized=False) for label in LABEL_TOKENS])
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[label] for label in LABEL_TOKENS]


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}; RouteLLM's causal_llm checkpoints hold "
            f"{SYSTEM_FILE} and {QUESTION_FILE} beside their weights"
        ) from error


def _stop_tokens(model: PreTrainedModel) -> tuple[int, ...]:
    """Return the tokens after which nothing follows."""
    stop = model.generation_config.eos_token_id
    if stop is None:
        return ()
    return tuple(stop) if isinstance(stop, list) else (int(stop),)
