"""A small tagger from scratch, and its tokenizer."""

from collections.abc import Iterable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForTokenClassification, PreTrainedModel, PreTrainedTokenizerFast

PAD, START, SEPARATOR, UNKNOWN = "[PAD]", "[CLS]", "[SEP]", "[UNK]"


def train_tokenizer(texts: Iterable[list[str]], size: int) -> PreTrainedTokenizerFast:
    """A tokenizer for pieces of the words in texts.

    Args:
        texts: the words of each text.
        size: the number of its tokens.
    """
    backend = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [PAD, START, SEPARATOR, UNKNOWN]
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    backend.train_from_iterator((" ".join(words) for words in texts), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {SEPARATOR}",
        special_tokens=[(token, backend.token_to_id(token)) for token in (START, SEPARATOR)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, cls_token=START, sep_token=SEPARATOR, unk_token=UNKNOWN
    )


def build_model(
    tokenizer: PreTrainedTokenizerFast, layers: int, width: int, heads: int, length: int, **labels
) -> PreTrainedModel:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=length,
        pad_token_id=tokenizer.pad_token_id,
        **labels,
    )
    return BertForTokenClassification(config)
