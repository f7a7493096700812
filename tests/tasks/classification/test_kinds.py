"""Other classifiers than of texts, and settings that people train them with."""

import datasets
import numpy as np
import pytest
import torch
from forced import Forced
from peft import LoraConfig, get_peft_model
from toy_classes import make_model, make_rows, make_trainer
from transformers import (
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
)

from reloss_hf import (
    ClassWeightedCrossEntropy,
    FocalLoss,
    LabelSmoothedCrossEntropy,
    LogitAdjustedCrossEntropy,
    ReLossTrainer,
    SoftF1Loss,
)

MACRO = {"metric": "f1", "metric_options": {"average": "macro"}}


def images(count=160):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, count)
    pixels = draw.random((count, 3, 8, 8)) + labels[:, None, None, None] / 3
    return datasets.Dataset.from_dict({"pixel_values": pixels.astype("float32").tolist(), "label": labels.tolist()})


def sounds(count=160):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, count)
    waves = np.sin(np.arange(400) * (1 + labels[:, None]) / 9) + 0.1 * draw.normal(size=(count, 400))
    return datasets.Dataset.from_dict({"input_values": waves.astype("float32").tolist(), "label": labels.tolist()})


def image_model():
    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_labels=3, **small))


def sound_model():
    torch.manual_seed(0)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    layers = {"conv_dim": (8, 8), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2}
    convolutions = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "mask_time_prob": 0.0}
    config = Wav2Vec2Config(**small, **layers, **convolutions, num_labels=3, classifier_proj_size=8)
    return Wav2Vec2ForSequenceClassification(config)


@pytest.mark.parametrize(
    ("model", "data", "processor"),
    [(image_model, images, ViTImageProcessor), (sound_model, sounds, Wav2Vec2FeatureExtractor)],
)
def test_images_and_sounds_go_through_the_switch(tmp_path, model, data, processor):
    arguments = {"max_steps": 8, "per_device_train_batch_size": 8, "surrogate_held_out_share": 0.3}
    trainer = make_trainer(
        tmp_path, data(), model(), Forced, arguments, eval_dataset=data(), processing_class=processor(), **MACRO
    )
    trainer.train()
    assert trainer.surrogate_in_force
    assert np.isfinite(trainer.evaluate()["eval_loss"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"bf16": True},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
        {"surrogate_cross_entropy_share": 0.5},
        {"auto_find_batch_size": True},
        {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps",
         "eval_steps": 4, "metric_for_best_model": "eval_share", "save_total_limit": 1},
    ],
)  # fmt: skip
def test_settings_of_the_trainer_go_through_the_switch(tmp_path, arguments):
    arguments = {"max_steps": 8, "surrogate_held_out_share": 0.3} | arguments
    rows = make_rows(300)
    trainer = make_trainer(
        tmp_path, rows, None, Forced, arguments, eval_dataset=rows, compute_metrics=lambda _: {"share": 1.0}, **MACRO
    )
    trainer.train()
    assert trainer.surrogate_in_force
    assert np.isfinite(trainer.state.log_history[-1]["train_loss"])


def test_adapters_are_trained(tmp_path):
    model = get_peft_model(make_model(), LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"]))
    arguments = {"max_steps": 8, "surrogate_held_out_share": 0.3}
    trainer = make_trainer(tmp_path, make_rows(300), model, Forced, arguments, **MACRO)
    trainer.train()
    assert trainer.surrogate_in_force


HAND_MADE = [
    ClassWeightedCrossEntropy,
    lambda: ClassWeightedCrossEntropy(power=0.5),
    LogitAdjustedCrossEntropy,
    FocalLoss,
    LabelSmoothedCrossEntropy,
    SoftF1Loss,
    lambda: SoftF1Loss("micro"),
]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("loss", HAND_MADE)
def test_hand_made_losses_take_one_line_and_split_batches_have_the_step_of_one(tmp_path, loss, several):
    weights = []
    for size, accumulation in ((8, 1), (1, 8)):
        arguments = {
            "max_steps": 2,
            "surrogate_start": 0,
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": accumulation,
            "optim": "sgd",
            "learning_rate": 0.5,
        }
        trainer = make_trainer(tmp_path, make_rows(64, several=several), None, ReLossTrainer, arguments, several,
                               surrogate=loss())  # fmt: skip
        trainer.train()
        weights.append(torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


def test_hand_made_losses_equal_what_is_pasted_from_forums():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 2, 1, 1, 0, -100])
    features, known = {"logits": logits, "labels": labels}, labels != -100
    shares = [0.5, 0.3, 0.2]
    adjusted = torch.nn.functional.cross_entropy(logits[known] + torch.tensor(shares).log(), labels[known])
    torch.testing.assert_close(LogitAdjustedCrossEntropy(shares).batch_loss(features), adjusted)
    probability = logits.softmax(1)[known, labels[known]]
    focal = -((1 - probability) ** 2) * probability.log()
    torch.testing.assert_close(FocalLoss(2).batch_loss(features), focal.mean())
    weights = torch.tensor([1.0, 2.0, 5.0])
    pasted = torch.nn.functional.cross_entropy(logits[known], labels[known], weights, reduction="none").mean()
    torch.testing.assert_close(ClassWeightedCrossEntropy(weights=[1, 2, 5]).batch_loss(features), pasted)
    soft = torch.nn.functional.one_hot(labels[known], 3).float()
    hits, predicted, gold = (logits.softmax(1)[known] * soft).sum(0), logits.softmax(1)[known].sum(0), soft.sum(0)
    torch.testing.assert_close(SoftF1Loss().batch_loss(features), 1 - (2 * hits / (predicted + gold)).mean())
