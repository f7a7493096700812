"""The origin of a surrogate, for its card: the model and the data whose predictions it was learned from."""

from pathlib import Path
from typing import Any

import datasets
import torch

from ..training_args import ReLossArguments


def training_origin(model: torch.nn.Module, dataset: Any, args: ReLossArguments) -> dict[str, Any]:
    """JSON values: the model's name and class, the data set's name, split and size, and how predictions were made.

    For a model in a folder only the name of the folder is kept.
    """
    name = getattr(model, "name_or_path", "")
    info = dataset.info if isinstance(dataset, datasets.Dataset) else datasets.DatasetInfo()
    named = info.dataset_name != info.builder_name  # data from files carry the name of the file format
    return {
        "model": Path(name).name if Path(name).exists() else name,
        "model_class": type(model).__name__,
        "dataset": info.dataset_name if named else None,
        "dataset_config": info.config_name if named else None,
        "split": str(dataset.split) if getattr(dataset, "split", None) else None,
        "predictions": args.surrogate_predictions,
        "snapshots": args.surrogate_snapshots,
        "snapshot_size": args.surrogate_snapshot_size,
    }
