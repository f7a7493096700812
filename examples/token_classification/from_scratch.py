"""A small tagger from scratch, and its tokenizer."""

from collections.abc import Iterable

from small_bert import PAD, SEPARATOR, START, UNKNOWN, configuration, with_special_tokens
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertForTokenClassification, PreTrainedModel, PreTrainedTokenizerFast


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
    return with_special_tokens(backend)


def build_model(tokenizer: PreTrainedTokenizerFast, *size: int, **labels) -> PreTrainedModel:
    """A tagger; see `configuration`."""
    return BertForTokenClassification(configuration(tokenizer, *size, **labels))
