"""Toy poses: four joints, dots of four colours, which a small network finds. Some are hidden."""

import forced
import pytest
import torch
import transformers
from PIL import Image
from torch import nn
from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation
from transformers.models.vitpose.image_processing_pil_vitpose import VitPoseImageProcessorPil

from reloss_hf import ReLossTrainer, ReLossTrainingArguments, prepare_pose_features

NAMES = ("left_hand", "right_hand", "head", "foot")
SIZE = (32, 24)  # height and width of the input
TORSO = {"torso": [(2, 3)], "threshold": 0.08}
PCK = {"metric": "pck", "metric_options": TORSO}
SHORT = {"max_steps": 6, "surrogate_start": 3, "surrogate_learn_again": 0}
_COLOURS = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1.0, 0]])


def make_rows(count, seed=0, joints=4):
    """Rows of tensors: the head above, the foot below, a hand on either side; the picture is noisy."""
    draw = torch.Generator().manual_seed(seed)
    middle = torch.tensor([[6.0, 16], [17, 16], [11.5, 6], [11.5, 25]])[:joints]
    rows = []
    for _ in range(count):
        keypoints = middle + 2.5 * torch.randn(joints, 2, generator=draw).clamp(-1.8, 1.8)
        visible = torch.rand(joints, generator=draw) < 0.9
        visible[2:] |= torch.rand((), generator=draw) < 0.9
        pixels = dots(keypoints, SIZE, _COLOURS) + 0.3 * torch.randn(3, *SIZE, generator=draw)
        rows.append({"pixel_values": pixels, "keypoints": keypoints, "visible": visible})
    return rows


def make_persons(count, seed=0, joints=17):
    """Pictures of PIL with the joints of COCO, or of Leeds Sports Poses, and the columns of COCO."""
    draw, rows = torch.Generator().manual_seed(seed), []
    template = 2 + 26 * torch.rand(joints, 2, generator=torch.Generator().manual_seed(1))
    colours = torch.rand(joints, 3, generator=torch.Generator().manual_seed(2))
    for _ in range(count):
        keypoints = 4 + template + 1.5 * torch.randn(joints, 2, generator=draw)
        pixels = dots(keypoints, (40, 40), colours / 2).clamp(max=1)
        flat = [value for place in keypoints.tolist() for value in (*place, 2)]
        image = Image.fromarray((255 * pixels).permute(1, 2, 0).byte().numpy())
        rows.append({"image": image, "bbox": [6.0, 6.0, 26.0, 26.0], "keypoints": flat})
    return rows


def make_files(count, folder, seed=0):
    """The same with paths of files."""
    folder.mkdir(exist_ok=True)
    rows = make_persons(count, seed)
    for number, row in enumerate(rows):
        path = folder / f"{seed}_{number}.png"
        row["image"].save(path)
        row["image"] = str(path)
    return rows


def dots(keypoints, size, colours):
    """A dot of its own colour at each joint, shape `(3, *size)`."""
    y, x = (torch.arange(side).float() for side in size)
    squares = (y[:, None] - keypoints[:, 1, None, None]).square() + (x[None] - keypoints[:, 0, None, None]).square()
    return torch.einsum("jhw,jc->chw", 2 * (-squares / 4).exp(), colours[: len(keypoints)])


def make_processor():
    return VitPoseImageProcessorPil(size={"height": SIZE[0], "width": SIZE[1]})


def warm_vitpose(joints=17):
    """A small VitPose that has learned a little from such persons."""
    model = make_vitpose(joints)
    rows = prepare_pose_features(make_persons(120, seed=3, joints=joints), make_processor())
    arguments = {"surrogate_start": None, "max_steps": 60}
    make_trainer("out", rows, model, arguments=arguments).train()
    return model


def make_vitpose(joints=4, seed=0, **backbone):
    """Patches of 8, heatmaps of 16 x 12."""
    torch.manual_seed(seed)
    names = dict(enumerate(NAMES[:joints])) if joints <= 4 else {number: str(number) for number in range(joints)}
    config = VitPoseConfig(
        backbone_config=VitPoseBackboneConfig(
            image_size=list(SIZE), patch_size=[8, 8], hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            mlp_ratio=2, out_indices=[1], **backbone,
        ),
        id2label=names,
        label2id={name: number for number, name in names.items()},
    )  # fmt: skip
    return VitPoseForPoseEstimation(config)


def make_sapiens2():
    """Patches of 8, heatmaps of 16 x 12."""
    pytest.importorskip("transformers.models.sapiens2")
    torch.manual_seed(0)
    config = transformers.Sapiens2Config(
        image_size=list(SIZE), patch_size=8, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_attention_heads=2, num_first_full_attention_layers=1,
        num_last_full_attention_layers=1, num_register_tokens=1,
        head_config={"upsample_out_channels": [16], "conv_out_channels": [16]},
        id2label=dict(enumerate(NAMES)), label2id={name: number for number, name in enumerate(NAMES)},
    )  # fmt: skip
    return transformers.Sapiens2ForPoseEstimation(config)


class Dots(nn.Module):
    """A module of one's own that finds dots soon, with heatmaps of half the size of its input."""

    def __init__(self, joints=4, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU(),
            nn.Conv2d(8, joints, 5, padding=2),
        )  # fmt: skip

    def forward(self, pixel_values):
        return {"heatmaps": self.layers(pixel_values)}


class Forced(forced.Forced):
    """Does not look at the metric, either."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        if self.learner is not None:
            self.learning._look = lambda *arguments, **keywords: None


def make_trainer(folder, train=None, model=None, cls=ReLossTrainer, arguments=None, **keywords):
    """60 steps, on a surrogate from step 30 on."""
    settings = {
        "output_dir": str(folder),
        "max_steps": 60,
        "surrogate_start": 0.5,
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-2,
        "logging_steps": 10,
        "surrogate_group_size": 24,
        "surrogate_held_out_share": 0.4,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return cls(
        model=model or Dots(),
        args=ReLossTrainingArguments(**settings | (arguments or {})),
        train_dataset=make_rows(160) if train is None else train,
        **keywords,
    )


def changed(rows, **columns):
    """The rows with other values of some columns, each a function of the row."""
    return [row | {name: change(row) for name, change in columns.items()} for row in rows]


def weights_of(trainer):
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
