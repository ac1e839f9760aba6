"""Random checkpoints in Hugging Face's layout, small and of RouteLLM's families."""

from pathlib import Path
from typing import Any

WORDS = (
    "what is the sum of two and three prove that every prime above is odd write a poem about rain "
    "explain how tides work in simple words sort list function python question prediction"
)
SYSTEM = "\n[Instruction]\nRate the answer from 1 to 5.\n"
QUESTION = "[Question]\n{question}\n\nPrediction:\n"
LABELS = [f"[[{rating}]]" for rating in range(1, 6)]
CHAT = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def xlm_roberta(folder: Path, *, labels: int = 3, max_length: int | None = 40) -> Any:
    """Writes an XLM-RoBERTa classifier with its tokenizer; returns the model."""
    import json

    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    ids = {token: tokenizer.token_to_id(token) for token in special}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", ids["<s>"]), ("</s>", ids["</s>"])]
    )
    torch.manual_seed(4)
    model = XLMRobertaForSequenceClassification(
        XLMRobertaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=66,
            type_vocab_size=1,
            num_labels=labels,
            initializer_range=0.4,
            pad_token_id=ids["<pad>"],
            bos_token_id=ids["<s>"],
            eos_token_id=ids["</s>"],
        )
    ).eval()
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    if max_length is not None:
        config = {"model_max_length": max_length}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return model


def llama(folder: Path, *, with_labels: bool = True, seed: int = 5, emphasis: float = 3.0) -> Any:
    """Writes a Llama with label tokens and RouteLLM's two texts; returns the model.

    Args:
        folder: where to.
        with_labels: whether the tokenizer beside it has the labels, as a saved one would.
        seed: of the weights.
        emphasis: how much larger the labels' logits are than others'; 3 is not enough for a label
            to come first after every prompt.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=CHAT, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([WORDS] * 3, trainer)
    first = tokenizer.token_to_id(CHAT[0])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CHAT[0]} $A", special_tokens=[(CHAT[0], first)]
    )
    vocabulary = tokenizer.get_vocab_size() + len(LABELS)
    if with_labels:
        tokenizer.add_special_tokens(LABELS)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            initializer_range=0.3,
            bos_token_id=first,
            eos_token_id=tokenizer.token_to_id("<|eot_id|>"),
        )
    ).eval()
    with torch.no_grad():
        model.lm_head.weight[-len(LABELS) :] *= emphasis
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "system_ft_v5.txt").write_text(SYSTEM)
    (folder / "classifier_ft_v5.txt").write_text(QUESTION)
    return model
