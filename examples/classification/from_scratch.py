"""Small models from scratch, for characters and for images."""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTForImageClassification,
)

PAD, START, SEPARATOR, UNKNOWN = "[PAD]", "[CLS]", "[SEP]", "[UNK]"


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer for the characters of the texts. It separates pairs as BERT does."""
    backend = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    trainer = trainers.WordLevelTrainer(special_tokens=[PAD, START, SEPARATOR, UNKNOWN], show_progress=False)
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {SEPARATOR}",
        pair=f"{START} $A {SEPARATOR} $B:1 {SEPARATOR}:1",
        special_tokens=[(token, backend.token_to_id(token)) for token in (START, SEPARATOR)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, cls_token=START, sep_token=SEPARATOR, unk_token=UNKNOWN
    )


def build_text_model(
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
    return BertForSequenceClassification(config)


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
