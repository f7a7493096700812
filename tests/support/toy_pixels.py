"""Toy scenes: ground, a wall and poles. What looks like a pole is one less often than not, so cross-entropy says that
it is ground."""

import datasets
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate
from toy_training import learning_less
from transformers import PreTrainedConfig, PreTrainedModel, SegformerConfig, SegformerForSemanticSegmentation
from transformers.modeling_outputs import SemanticSegmenterOutput

from reloss_hf import ReLossTrainer, ReLossTrainingArguments

NAMES = ("ground", "wall", "pole")
VOID = 255
SIDE = 16
_SHARE = 0.3  # of what looks like a pole that is one
_COLOURS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=np.float32)


def make_scenes(count, seed=0, side=SIDE, void=True):
    """Columns `pixel_values`, `(3, side, side)`, and `labels`, `(side, side)`. The lowest row is void."""
    draw, images, masks = np.random.default_rng(seed), [], []
    for _ in range(count):
        seen = np.zeros((side, side), dtype=int)
        seen[:, draw.integers(side // 2, side) :] = 1
        mask = seen.copy()
        for place in 2 * draw.choice(side // 4, 2, replace=False):
            seen[:, place : place + 2] = 2
            mask[:, place : place + 2] = 2 if draw.random() < _SHARE else 0
        if void:
            mask[-1] = VOID
        images.append((_COLOURS[seen] + 0.3 * draw.standard_normal((side, side, 3))).transpose(2, 0, 1))
        masks.append(mask)
    return as_dataset(np.stack(images).astype(np.float32), np.stack(masks))


def as_dataset(images, masks):
    """Rows of tensors, `pixel_values` and `labels`."""
    of_masks = {2: datasets.Array2D, 3: datasets.Array3D}[masks.ndim - 1](masks.shape[1:], "int64")
    features = {"pixel_values": datasets.Array3D(images.shape[1:], "float32"), "labels": of_masks}
    columns = {"pixel_values": list(np.asarray(images)), "labels": list(np.asarray(masks))}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features)).with_format("torch")


class PixelConfig(PreTrainedConfig):
    model_type = "toy_pixels"

    def __init__(self, semantic_loss_ignore_index=VOID, **keywords):
        super().__init__(**keywords)
        self.semantic_loss_ignore_index = semantic_loss_ignore_index


class Convolutions(PreTrainedModel):
    """Learns colours in a few steps. Its logits have a half of the size."""

    config_class = PixelConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.first, self.second = nn.Conv2d(3, 16, 2, stride=2), nn.Conv2d(16, config.num_labels, 1)
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, pixel_values, labels=None):
        logits, loss = self.second(self.first(pixel_values).relu()), None
        if labels is not None:
            whole = interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=False)
            loss = cross_entropy(whole, labels, ignore_index=self.config.semantic_loss_ignore_index)
        return SemanticSegmenterOutput(loss=loss, logits=logits)


class Segformer(SegformerForSemanticSegmentation):
    """Keeps the statistics of batch norm, which are no mean over examples."""

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def make_convolutions(seed=0, names=NAMES):
    torch.manual_seed(seed)
    return Convolutions(PixelConfig(id2label=dict(enumerate(names))))


def make_model(seed=0, names=NAMES, cls=Segformer, **changes):
    torch.manual_seed(seed)
    config = {
        "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16], "patch_sizes": [3, 3],
        "strides": [2, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2], "decoder_hidden_size": 16,
        "classifier_dropout_prob": 0.0, "drop_path_rate": 0.0, "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }  # fmt: skip
    return cls(SegformerConfig(**config | changes))


def make_trainer(folder, train=None, model=None, cls=ReLossTrainer, arguments=None, **keywords):
    """60 steps, on a surrogate from step 30 on."""
    settings = {
        "output_dir": str(folder),
        "max_steps": 60,
        "surrogate_start": 0.5,
        "surrogate_held_out_share": 0.3,
        "surrogate_group_size": 4,
        "per_device_train_batch_size": 16,
        "learning_rate": 3e-2,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    trainer = cls(
        model=model or make_convolutions(),
        args=ReLossTrainingArguments(**settings | (arguments or {})),
        train_dataset=make_scenes(200) if train is None else train,
        **keywords,
    )
    return learning_less(trainer)


def weights_of(trainer):
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
