"""Data, the model, the warm start and the judges of the benchmark of poses."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from classifiers import HELD_OUT_SHARE
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedConfig, PreTrainedModel, TimmWrapperForImageClassification, default_data_collator
from transformers.utils import ModelOutput
from warm_starts import CONSTANT_RATE, UntilItStopsRising, stored_start, with_two_rates

from reloss_hf import GroupMetric, ReLossMixin, ReLossTrainingArguments, decode_poses, prepare_pose_features
from reloss_hf.tasks.keypoints.metrics import references_of

# What a trainer is told of each metric. The first decides when the warm start ends.
JUDGES: dict[str, tuple[str, dict[str, Any]]] = {
    "PCK@0.1": ("pck", {"threshold": 0.1}),
    "PCK@0.2": ("pck", {"threshold": 0.2}),
    "OKS": ("oks", {}),
}
SIZE = (128, 128)
JOINTS = 14
SIGMA = 1.5  # pixels of the heatmaps of 32 x 32
BATCH = 32
EPOCHS, PATIENCE = 80, 4  # of the warm start, at most; it ends after so many epochs without a gain on validation
LEARNING_RATE, HEAD_LEARNING_RATE = 5e-4, 2e-3
_JUDGED = ("validation", "test")


@dataclass
class Data:
    """Attributes:
    rest: what is trained on, mirrored, scaled and rotated at random.
    held_out: what losses are learned from.
    """

    rest: Any
    held_out: Any
    validation: Any
    test: Any
    new_model: Callable[[], PreTrainedModel]


def load_poses(shared: Path, model_folder: Path, most: int | None = None) -> Data:
    """Leeds Sports Poses, extended; the same training examples and the same slice for every seed.

    Args:
        model_folder: the pretrained EfficientNet-Lite0.
        most: images of each split; None for all.
    """
    files = {part: str(shared / "lspet" / f"{part}.parquet") for part in ("train", *_JUDGED)}
    rows = datasets.load_dataset("parquet", data_files=files)
    order = np.random.RandomState(0).permutation(len(rows["train"]))[:most]
    held_out = round(HELD_OUT_SHARE * len(order))

    def prepared(part: datasets.Dataset, augment: bool = False) -> Any:
        return prepare_pose_features(part, size=SIZE, augment=augment, sigma=SIGMA)

    return Data(
        rest=prepared(rows["train"].select(order[held_out:]), augment=True),
        held_out=prepared(rows["train"].select(order[:held_out])),
        validation=prepared(_first(rows["validation"], most)),
        test=prepared(_first(rows["test"], most)),
        new_model=lambda: LitePose(LitePoseConfig(model_folder=str(model_folder))),
    )


class LitePoseConfig(PreTrainedConfig):
    model_type = "lite_pose"

    def __init__(self, model_folder: str = "", widths: tuple[int, ...] = (128, 96, 64), **keywords):
        super().__init__(**keywords)
        self.model_folder, self.widths = model_folder, widths


class LitePose(PreTrainedModel):
    """EfficientNet-Lite0 under narrow deconvolutions, which take in its earlier stages. Heatmaps of 32 x 32."""

    config_class = LitePoseConfig

    def __init__(self, config: LitePoseConfig):
        super().__init__(config)
        body = TimmWrapperForImageClassification.from_pretrained(config.model_folder).timm_model
        self.stem, self.blocks = nn.Sequential(body.conv_stem, body.bn1), body.blocks
        self.taps = {1: 24, 2: 40, 4: 112, 6: 320}  # channels of the stages of 32, 16, 8 and 4 pixels
        below = list(self.taps.values())[:-1][::-1]
        before = [self.taps[6], *config.widths[:-1]]
        self.head_up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(wide, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for wide, width in zip(before, config.widths, strict=True)
        )
        self.head_lateral = nn.ModuleList(
            nn.Conv2d(wide, width, 1) for wide, width in zip(below, config.widths, strict=True)
        )
        self.head_last = nn.Conv2d(config.widths[-1], JOINTS, 3, padding=1)
        nn.init.normal_(self.head_last.weight, std=1e-3)  # heatmaps are about 0 at first
        nn.init.zeros_(self.head_last.bias)

    def forward(self, pixel_values: Tensor) -> ModelOutput:
        states, found = self.stem((2 * pixel_values - 1).contiguous(memory_format=torch.channels_last)), []
        for number, stage in enumerate(self.blocks):
            states = stage(states)
            if number in self.taps:
                found.append(states)
        states = found.pop()
        for up, lateral in zip(self.head_up, self.head_lateral, strict=True):
            states = up(states) + lateral(found.pop())
        return ModelOutput(heatmaps=self.head_last(states))


def optimizer_of(model: PreTrainedModel, factor: float = 1.0) -> torch.optim.Optimizer:
    return with_two_rates(model, "head_", factor * LEARNING_RATE, factor * HEAD_LEARNING_RATE)


def arguments(folder: Path, **changes) -> ReLossTrainingArguments:
    """Training arguments that all runs have in common."""
    common = {
        "output_dir": str(folder),
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": 64,
        "lr_scheduler_type": "linear",
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 50,
        "disable_tqdm": True,
    }
    return ReLossTrainingArguments(**common | changes)


@torch.no_grad()
def scores(model: PreTrainedModel, part: Any) -> dict[str, float]:
    """The judges of a model, times 100."""
    model.eval()
    poses, references = [], []
    for batch in DataLoader(part, 64, collate_fn=default_data_collator):
        poses += decode_poses(model(batch["pixel_values"]).heatmaps, SIZE).tolist()
        references += references_of(batch["keypoints"].numpy(), batch["visible"].numpy())
    rows = np.arange(len(poses))[None]
    found = {name: GroupMetric(metric, options=options) for name, (metric, options) in JUDGES.items()}
    return {name: round(100 * float(metric(poses, references, rows)[0]), 3) for name, metric in found.items()}


class _WarmTrainer(ReLossMixin, UntilItStopsRising):
    pass


def warm_start(data: Data, seed: int, folder: Path, epochs: int = EPOCHS) -> dict:
    """A model trained with the squared error at a constant rate until validation no longer rises; trained where it is
    not stored in `folder`."""
    first = next(iter(JUDGES))

    def measured(model: PreTrainedModel) -> dict:
        return {part: scores(model, getattr(data, part)) for part in _JUDGED}

    changes = {"num_train_epochs": epochs, "eval_strategy": "epoch"} | CONSTANT_RATE
    return stored_start(
        folder / f"lspet-{seed}.pt",
        data.new_model,
        arguments(folder, seed=seed, surrogate_start=None, **changes),
        optimizer_of,
        measured,
        trainer_class=_WarmTrainer,
        score=lambda model: scores(model, data.validation)[first],
        patience=PATIENCE,
        train_dataset=data.rest,
        eval_dataset=data.validation,
    )


def _first(rows: datasets.Dataset, most: int | None) -> datasets.Dataset:
    return rows.select(range(min(most or len(rows), len(rows))))
