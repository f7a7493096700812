"""Models that generate text as people write and wrap them: each trains through the switch, or is refused before it."""

import peft
import pytest
import torch
from tiny_generators import (
    LEARNS,
    SMALL,
    TOKENS,
    WIDTH,
    WORDS,
    AsDict,
    Bigrams,
    FusedHead,
    HalfLoss,
    LabelsAlone,
    gpt2,
    llama,
    overlap,
    prompts,
    switched,
    t5,
)
from torch import nn
from transformers import (
    BartConfig,
    BartForCausalLM,
    BertConfig,
    BlipConfig,
    BlipForQuestionAnswering,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    Trainer,
    XLNetConfig,
    XLNetLMHeadModel,
    default_data_collator,
)

from reloss_hf.tasks.models import named_outputs

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
