"""Small models from scratch, for characters and for images."""

from collections.abc import Iterable

from small_bert import PAD, SEPARATOR, START, UNKNOWN, configuration, with_special_tokens
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer for the characters of the texts. It separates pairs as BERT does."""
    backend = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    trainer = trainers.WordLevelTrainer(special_tokens=[PAD, START, SEPARATOR, UNKNOWN], show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return with_special_tokens(backend)


def build_text_model(tokenizer: PreTrainedTokenizerFast, *size: int, **labels) -> PreTrainedModel:
    """A classifier; see `configuration`."""
    return BertForSequenceClassification(configuration(tokenizer, *size, **labels))


def build_image_model(image_size: int, channels: int, layers: int, width: int, heads: int, **labels) -> PreTrainedModel:
    config = ViTConfig(
        image_size=image_size,
        patch_size=max(1, image_size // 4),
        num_channels=channels,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        **labels,
    )
    return ViTForImageClassification(config)
