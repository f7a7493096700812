"""Models that generate text as people write and wrap them: each trains through the switch, or is refused before it."""

from functools import partial

import peft
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BlipConfig,
    BlipForQuestionAnswering,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    ProcessorMixin,
    ProphetNetConfig,
    ProphetNetForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    XLNetConfig,
    XLNetLMHeadModel,
    default_data_collator,
)

from reloss_hf import (
    MinimumRiskLoss,
    OwnOutputSurrogate,
    ReLossSeq2SeqTrainer,
    ReLossSeq2SeqTrainingArguments,
    collect_predictions,
)
from reloss_hf.tasks.models import named_outputs

WIDTH, WORDS = 16, 43
SMALL = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
SMALL |= {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 0}


def t5(cls=T5ForConditionalGeneration, **changes):
    torch.manual_seed(0)
    config = T5Config(vocab_size=WORDS, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0,
                      eos_token_id=1, decoder_start_token_id=0)  # fmt: skip
    model = cls(config)
    for name, value in changes.items():
        setattr(model.config, name, value)
    return model


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1,
                    num_attention_heads=2, num_key_value_heads=2, initializer_range=0.5)
    )  # fmt: skip


def whisper():
    torch.manual_seed(0)
    return WhisperForConditionalGeneration(
        WhisperConfig(vocab_size=WORDS, d_model=WIDTH, max_source_positions=10, max_target_positions=40,
                      num_mel_bins=8, suppress_tokens=None, begin_suppress_tokens=None, **SMALL, **TOKENS)
    )  # fmt: skip


def gpt2(**changes):
    return GPT2Config(vocab_size=WORDS, n_embd=WIDTH, n_layer=1, n_head=2, n_positions=32, bos_token_id=1,
                      eos_token_id=1, initializer_range=0.5, **changes)  # fmt: skip


def captions():
    encoder = ViTConfig(hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                        image_size=16, patch_size=8)  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        encoder, gpt2(add_cross_attention=True, is_decoder=True)
    )
    model = VisionEncoderDecoderModel(config=config)
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id, settings.pad_token_id, settings.eos_token_id = 2, 0, 1
    return model


class Within(nn.Module):
    """A module of the user's own around an encoder-decoder model."""

    def __init__(self, has_config=True):
        super().__init__()
        self.net = t5()
        if has_config:
            self.config = self.net.config


class LabelsAlone(Within):
    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.net(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


class AsDict(Within):
    def forward(self, input_ids, labels=None, decoder_input_ids=None):
        outputs = self.net(input_ids=input_ids, labels=labels, decoder_input_ids=decoder_input_ids)
        return {name: outputs[name] for name in ("loss", "logits") if name in outputs}


class HalfLoss(T5ForConditionalGeneration):
    """It reckons with labels, and fails without them."""

    def forward(self, input_ids=None, labels=None, **keywords):
        outputs = super().forward(input_ids, labels=labels, **keywords)
        outputs.loss = 0.5 * outputs.loss
        return outputs


class FusedHead(T5ForConditionalGeneration):
    def forward(self, input_ids=None, labels=None, **keywords):
        outputs = super().forward(input_ids, labels=labels, **keywords)
        if self.training and labels is not None:
            outputs.logits = None
        return outputs


class Bigrams(nn.Module):
    """A language model from scratch, whose labels are, or are not, one position ahead of the input already."""

    def __init__(self, shifts, as_tuple=False, silent=False):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS))
        self.shifts, self.as_tuple, self.silent = shifts, as_tuple, silent

    def forward(self, input_ids, labels=None):
        logits = self.net(input_ids)
        if labels is None:
            return (logits,) if self.as_tuple else {"logits": logits}
        scores, targets = (logits[:, :-1], labels[:, 1:]) if self.shifts else (logits, labels)
        loss = cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-1)
        if self.silent and self.training:
            return (loss,) if self.as_tuple else {"loss": loss}
        return (loss, logits) if self.as_tuple else {"loss": loss, "logits": logits}


@pytest.fixture
def rows():
    draw = torch.Generator().manual_seed(0)
    return [
        {name: torch.randint(3, WORDS, (6,), generator=draw) for name in ("input_ids", "labels")} for _ in range(64)
    ]


@pytest.fixture
def speech(rows):
    return [{"input_features": torch.randn(8, 20), "labels": row["labels"]} for row in rows]


@pytest.fixture
def make(rows, tmp_path):
    def trainer(model, train=None, arguments=(), **keywords):
        settings = {
            "output_dir": str(tmp_path), "max_steps": 4, "per_device_train_batch_size": 16, "logging_steps": 1,
            "surrogate_start": 2, "save_strategy": "no", "report_to": "none", "use_cpu": True, "disable_tqdm": True,
            **dict(arguments),
        }  # fmt: skip
        args = ReLossSeq2SeqTrainingArguments(**settings)
        parts = {"train_dataset": rows if train is None else train, "data_collator": default_data_collator}
        return ReLossSeq2SeqTrainer(model, args, **parts | keywords)

    return trainer


LEARNS = {"surrogate_snapshots": 2, "surrogate_snapshot_size": 16, "surrogate_group_size": 2}


def overlap(predictions, references):
    pairs = zip(predictions, references, strict=True)
    return sum(len(set(p.split()) & set(r.split())) for p, r in pairs) / len(references)


def switched(trainer):
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["surrogate_in_force"] for entry in logs] == [0, 0, 1, 1]
    assert torch.tensor([entry["loss"] for entry in logs]).isfinite().all()
    return logs


OWN = {
    "tuples": lambda: t5(return_dict=False),
    "a dict": AsDict,
    "no config": lambda: AsDict(has_config=False),
    "labels alone": LabelsAlone,
    "half the loss": lambda: t5(HalfLoss),
    "a fused head": lambda: t5(FusedHead),
    "a language model, tuples": lambda: Bigrams(True, as_tuple=True),
    "a language model, dicts": lambda: Bigrams(False),
}


@pytest.mark.parametrize("name", OWN)
def test_own_models_train_through_the_switch_and_learn_from_a_metric(make, tokenizer, name):
    switched(make(OWN[name]()))
    learns = make(OWN[name](), arguments=LEARNS, metric=overlap, processing_class=tokenizer)
    learns.train()
    assert len(learns.predictions) == 2 * 2 * 16


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("as_tuple", [True, False])
def test_logits_that_a_head_leaves_out_in_training_are_asked_for_once_more(make, share, as_tuple):
    model = Bigrams(True, as_tuple, silent=True)
    logs = switched(make(model, arguments={"surrogate_cross_entropy_share": share}))
    whole = switched(make(Bigrams(True, as_tuple), arguments={"surrogate_cross_entropy_share": share}))
    assert [entry["loss"] for entry in logs] == pytest.approx([entry["loss"] for entry in whole])


def in_harmony(trainer, model, batch):
    """The loss of the model is cross-entropy of the features, from a forward pass without labels."""
    trainer._require_task(model.eval(), batch)
    task = trainer.task
    features = task.features(model, model(**task.without_labels(batch)), batch, ("target_log_probs",))
    loss = named_outputs(model(**batch), ["loss"])["loss"]
    mean = features["target_log_probs"].sum() / features["target_mask"].sum()
    torch.testing.assert_close(-mean, loss, rtol=1e-4, atol=1e-4)
    return task


def prompts(kind, model, task_type):
    return peft.get_peft_model(model, kind(task_type=task_type, num_virtual_tokens=2))


ALIGNED = {
    "a model that moves labels": (lambda: Bigrams(True), True),
    "one that is given them moved": (lambda: Bigrams(False), False),
    "llama": (llama, True),
    "llama with a prompt": (lambda: prompts(peft.PromptTuningConfig, llama(), "CAUSAL_LM"), True),
    "llama with p-tuning": (lambda: prompts(peft.PromptEncoderConfig, llama(), "CAUSAL_LM"), True),
    "llama with a prefix": (lambda: prompts(peft.PrefixTuningConfig, llama(), "CAUSAL_LM"), True),
    "t5 with a prompt": (lambda: prompts(peft.PromptTuningConfig, t5(), "SEQ_2_SEQ_LM"), False),
    "bart's decoder": (lambda: BartForCausalLM(BartConfig(vocab_size=WORDS, d_model=WIDTH, **SMALL, **TOKENS)), False),
    "xlnet": (
        lambda: XLNetLMHeadModel(XLNetConfig(vocab_size=WORDS, d_model=WIDTH, n_layer=1, n_head=2, d_inner=32)),
        False,
    ),
}


@pytest.mark.parametrize("name", ALIGNED)
def test_labels_are_moved_where_the_models_loss_moves_them(make, rows, name):
    build, shifts = ALIGNED[name]
    batch = default_data_collator(rows[:4])
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    model = build()
    batch = {key: value for key, value in batch.items() if key != "attention_mask" or not isinstance(model, Bigrams)}
    assert in_harmony(make(model), model, batch).shifts is shifts


@pytest.mark.parametrize("start", [0, 2])
def test_a_decoder_whose_start_token_is_the_padding_gives_the_same_logits_without_labels(make, rows, start):
    encoder = BertConfig(vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
                         intermediate_size=32, max_position_embeddings=32, initializer_range=0.5)  # fmt: skip
    torch.manual_seed(0)
    model = EncoderDecoderModel(
        config=EncoderDecoderConfig.from_encoder_decoder_configs(
            encoder, gpt2(add_cross_attention=True, is_decoder=True)
        )
    )
    model.config.decoder_start_token_id, model.config.pad_token_id = start, 0
    in_harmony(make(model), model, default_data_collator(rows[:4]))


def test_the_first_batch_is_looked_at_without_a_trace(make, rows):
    model = Bigrams(False)
    model.net.insert(1, nn.Dropout(0.5))
    model.net[1].eval()
    trainer, batch = make(model, task="token_sequence"), default_data_collator(rows[:4])
    state = torch.get_rng_state()
    trainer._require_task(model, batch)
    assert torch.get_rng_state().equal(state)
    assert model.training and not model.net[1].training
    assert all(parameter.grad is None for parameter in model.parameters())


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


def test_a_model_that_never_gives_logits_is_refused_before_the_first_step(make, rows, monkeypatch):
    monkeypatch.setattr(Trainer, "training_step", lambda *_, **__: pytest.fail("a step was made"))
    small = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BlipConfig(
        text_config=small | {"vocab_size": WORDS, "max_position_embeddings": 32, "encoder_hidden_size": WIDTH},
        vision_config=small | {"image_size": 16, "patch_size": 8},
        projection_dim=WIDTH,
    )
    train = [row | {"pixel_values": torch.randn(3, 16, 16), "attention_mask": torch.ones(6).long()} for row in rows]
    with pytest.raises(ValueError, match=r"no \['logits'\], only \['image_embeds'.*return them beside the loss"):
        make(BlipForQuestionAnswering(config), train).train()
