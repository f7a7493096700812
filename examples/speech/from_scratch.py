"""Small models of speech from scratch, and their processors."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer
from transformers import (
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertForCTC,
    Wav2Vec2BertProcessor,
    Wav2Vec2CTCTokenizer,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

_END = "<|endoftext|>"
_PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")


def build_ctc_processor(texts: Iterable[str], folder: Path) -> Wav2Vec2BertProcessor:
    """A processor for characters of texts.

    Args:
        folder: where the vocabulary is written.
    """
    letters = sorted(set("".join(texts)) - {" "})
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "|", *letters])}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocab.json"
    path.write_text(json.dumps(vocabulary, ensure_ascii=False))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": None, "eos_token": None}
    tokenizer = Wav2Vec2CTCTokenizer(str(path), word_delimiter_token="|", **special)
    return Wav2Vec2BertProcessor(SeamlessM4TFeatureExtractor(feature_size=40, num_mel_bins=40), tokenizer)


def build_ctc_model(
    processor: Wav2Vec2BertProcessor, layers: int, width: int, heads: int, dropout: float
) -> Wav2Vec2BertForCTC:
    parts = ("hidden", "attention", "activation", "final", "feat_proj")
    config = Wav2Vec2BertConfig(
        vocab_size=len(processor.tokenizer),
        pad_token_id=processor.tokenizer.pad_token_id,
        feature_projection_input_dim=2 * processor.feature_extractor.feature_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        conv_depthwise_kernel_size=15,
        layerdrop=0.0,
        apply_spec_augment=False,
        conformer_conv_dropout=dropout,
        **{f"{part}_dropout": dropout for part in parts},
    )
    return Wav2Vec2BertForCTC(config)


def build_whisper_processor(texts: Iterable[str], vocabulary: int, seconds: int) -> WhisperProcessor:
    """A processor for pieces of the words in texts.

    Args:
        vocabulary: the number of tokens, beside the special ones.
        seconds: the longest speech.
    """
    backend = ByteLevelBPETokenizer()
    backend.train_from_iterator([f" {text}" for text in texts], vocab_size=vocabulary, show_progress=False)
    trained = json.loads(backend.to_str())["model"]
    special = [_END, *_PROMPT]
    tokens = trained["vocab"] | {token: len(trained["vocab"]) + number for number, token in enumerate(special)}
    merges = [tuple(pair) for pair in trained["merges"]]
    tokenizer = WhisperTokenizer(
        vocab=tokens,
        merges=merges,
        add_prefix_space=True,
        language="en",
        task="transcribe",
        pad_token=_END,
        extra_special_tokens=list(_PROMPT),
    )
    return WhisperProcessor(WhisperFeatureExtractor(feature_size=40, chunk_length=seconds), tokenizer)


def build_whisper(
    processor: WhisperProcessor, layers: int, width: int, heads: int, dropout: float
) -> WhisperForConditionalGeneration:
    tokenizer, extractor = processor.tokenizer, processor.feature_extractor
    end = tokenizer.eos_token_id
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=extractor.feature_size,
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        max_source_positions=extractor.nb_max_frames // 2,
        max_target_positions=64,
        dropout=dropout,
        decoder_start_token_id=tokenizer.convert_tokens_to_ids(_PROMPT[0]),
        init_std=0.2,  # with 0.02, which suits larger models, the decoder does not listen for hundreds of updates
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), end),
    )
    return WhisperForConditionalGeneration(config)
