"""A small BERT and a WordPiece tokenizer for it, made from the training texts alone."""

from collections.abc import Iterable

from small_bert import PAD, SEPARATOR, START, UNKNOWN, configuration, with_special_tokens
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BertForQuestionAnswering, PreTrainedTokenizerFast


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A lowercasing WordPiece tokenizer for `[CLS] question [SEP] context [SEP]`."""
    backend = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = [PAD, UNKNOWN, START, SEPARATOR]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=special, min_frequency=2, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return with_special_tokens(backend)


def build_model(
    tokenizer: PreTrainedTokenizerFast, layers: int, width: int, heads: int, dropout: float, length: int
) -> BertForQuestionAnswering:
    """A reader; see `configuration`."""
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    size = (layers, width, heads, length)
    return BertForQuestionAnswering(configuration(tokenizer, *size, initializer_range=0.05, **dropouts))
