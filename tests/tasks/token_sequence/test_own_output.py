"""Losses that read the model's own output, whatever its encoder reads, and how outputs are decoded."""

from functools import partial

import peft
import pytest
import torch
from tiny_generators import LEARNS, TOKENS, WIDTH, WORDS, LabelsAlone, captions, overlap, prompts, switched, t5, whisper
from transformers import (
    ProcessorMixin,
    ProphetNetConfig,
    ProphetNetForConditionalGeneration,
    T5ForConditionalGeneration,
    WhisperFeatureExtractor,
    default_data_collator,
)

from reloss_hf import MinimumRiskLoss, OwnOutputSurrogate, collect_predictions


@pytest.mark.parametrize("loss", [OwnOutputSurrogate, MinimumRiskLoss])
@pytest.mark.parametrize("name", ["speech", "pictures", "tuples", "several sequences", "a tuple as encoder's output"])
def test_losses_on_the_own_output_train_whatever_the_encoder_reads(make, rows, speech, tokenizer, loss, name):
    several = t5()
    several.generation_config.num_beams = several.generation_config.num_return_sequences = 2
    prophet = ProphetNetConfig(
        vocab_size=WORDS, hidden_size=WIDTH, num_encoder_layers=1, num_decoder_layers=1, num_encoder_attention_heads=2,
        num_decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=40, **TOKENS,
    )  # fmt: skip
    pictures = [{"pixel_values": torch.randn(3, 16, 16), "labels": row["labels"]} for row in rows]
    model, train = {
        "speech": (whisper, speech),
        "pictures": (captions, pictures),
        "tuples": (lambda: t5(return_dict=False), rows),
        "several sequences": (lambda: several, rows),
        "a tuple as encoder's output": (partial(ProphetNetForConditionalGeneration, prophet), rows),
    }[name]
    trainer = make(model(), train, surrogate=loss(), processing_class=tokenizer)
    switched(trainer)
    assert len(collect_predictions(trainer, train[:8])) == 8


def test_the_own_output_begins_with_the_start_token_whether_generate_keeps_it_or_not(make, speech, tokenizer):
    class Strips(T5ForConditionalGeneration):
        def generate(self, *arguments, **keywords):
            return super().generate(*arguments, **keywords)[:, 1:]

    def own_output(model, train):
        trainer = make(model.eval(), train, processing_class=tokenizer)
        batch = default_data_collator(train[:3])
        return trainer.task.generate(model, batch, model(**trainer.task.without_labels(batch)))

    train = [{"input_ids": row["labels"], "labels": row["labels"]} for row in speech]
    strips, keeps = t5(Strips), t5()
    keeps.load_state_dict(strips.state_dict())
    assert own_output(strips, train).equal(own_output(keeps, train))
    heard = own_output(whisper(), speech)
    inputs = default_data_collator(speech[:3])["input_features"]
    logits = whisper().eval()(input_features=inputs, decoder_input_ids=heard[:, :-1]).logits
    assert (heard[:, 0] == 0).all() and logits.argmax(-1).equal(heard[:, 1:])


class TextProcessor(ProcessorMixin):
    attributes = ("tokenizer",)
    tokenizer_class = "AutoTokenizer"

    def __init__(self, tokenizer=None, **keywords):
        super().__init__(tokenizer)


def test_predictions_are_decoded_by_the_tokenizer_of_a_processor(make, speech, tokenizer):
    learns = {"arguments": LEARNS, "metric": overlap}
    trainer = make(whisper(), speech, processing_class=TextProcessor(tokenizer=tokenizer), **learns)
    found = collect_predictions(trainer, speech[:8])
    assert found.references == [tokenizer.decode(row["labels"]) for row in speech[:8]]


REFUSED = [
    (
        whisper,
        {"metric": overlap},
        "processing_class=WhisperFeatureExtractor cannot decode predictions: pass the tokenizer",
    ),
    (whisper, {"surrogate": MinimumRiskLoss()}, "processing_class=WhisperFeatureExtractor cannot .*pass the tokenizer"),
    (
        lambda: prompts(peft.PromptTuningConfig, t5(), "SEQ_2_SEQ_LM"),
        {"surrogate": OwnOutputSurrogate()},
        "PeftModelForSeq2SeqLM learns a prompt.*surrogate_predictions='forced'",
    ),
    (
        lambda: prompts(peft.PrefixTuningConfig, t5(), "SEQ_2_SEQ_LM"),
        {"surrogate": OwnOutputSurrogate()},
        "PeftModelForSeq2SeqLM learns a prompt.*surrogate_predictions='forced'",
    ),
    (
        LabelsAlone,
        {"surrogate": OwnOutputSurrogate(), "task": "token_sequence"},
        r"LabelsAlone has no forward\(decoder_input_ids=\).*no generate\(\)",
    ),
]


@pytest.mark.parametrize(("model", "keywords", "message"), REFUSED)
def test_what_cannot_be_decoded_is_refused_at_construction(make, model, keywords, message):
    with pytest.raises(ValueError, match=message):
        make(model(), processing_class=WhisperFeatureExtractor(feature_size=8), arguments=LEARNS, **keywords)
