"""Small BERTs from scratch, and what their tokenizers share."""

from tokenizers import Tokenizer, processors
from transformers import BertConfig, PreTrainedTokenizerFast

PAD, START, SEPARATOR, UNKNOWN = "[PAD]", "[CLS]", "[SEP]", "[UNK]"


def with_special_tokens(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer that marks texts, and pairs of texts, as BERT does."""
    backend.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {SEPARATOR}",
        pair=f"{START} $A {SEPARATOR} $B:1 {SEPARATOR}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (START, SEPARATOR)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, cls_token=START, sep_token=SEPARATOR, unk_token=UNKNOWN
    )


def configuration(
    tokenizer: PreTrainedTokenizerFast, layers: int, width: int, heads: int, length: int, **others
) -> BertConfig:
    """Of an encoder that reads at most `length` tokens."""
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=length,
        pad_token_id=tokenizer.pad_token_id,
        **others,
    )
