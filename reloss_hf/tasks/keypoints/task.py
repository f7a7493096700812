"""Models of poses: a heatmap for each joint of a person."""

from collections.abc import Sequence, Sized
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from ...learning.metrics import LoadedGroupMetric
from ...learning.predictions import Predictions
from ...surrogate import CountedLoss, SurrogateLoss, weighted_mean
from ..base import Candidate, Inputs
from ..models import as_in_evaluation, forked_random_state, is_known_as, named_outputs
from ..same_examples import CandidateTask, of_candidates
from .candidates import perturbed
from .hand_made import HardKeypointMining, HeatmapCrossEntropy, SoftArgmaxLoss
from .heatmaps import decode_poses, peaks, pixels_of_heatmap
from .joints import left_and_right, names_of_joints
from .losses import (
    ExpectedMiss,
    GatedSquaredError,
    KeypointLoss,
    KeypointSquaredError,
    LogExpectedMiss,
    mean_of_visible,
)
from .metrics import METRICS, references_of
from .preparation import SIGMA, PoseDataset

_CLASSES = frozenset({"VitPoseForPoseEstimation", "Sapiens2ForPoseEstimation"})


class KeypointsTask(CandidateTask):
    """Poses of persons. The output `heatmaps` has the shape `(n, J, h, w)`.

    A batch has `keypoints`, `(x, y)` in pixels of the input, `(n, J, 2)`, and `visible`, `(n, J)`. It may have `box`,
    width and height of the person, and `area`, both in pixels of the input, and `heatmap_sigma`, `(n,)`. Or it has
    heatmaps as `labels`, `(n, J, h, w)`, and may have `label_weights`, `(n, J, ...)`, 0 for joints that are not
    labelled. None of these reaches the model.

    A joint that is labelled and lies outside of the input has no part in the loss. For metrics it counts.

    Predictions are the places that `decode_poses` gives. See `metrics` for references.
    """

    name = "keypoints"
    does = "finds the joints of a person"
    columns = ("keypoints", "visible", "box", "area", "heatmap_sigma", "label_weights")
    default_surrogate = LogExpectedMiss
    default_loss = None
    hand_made = (KeypointSquaredError, HeatmapCrossEntropy, HardKeypointMining, SoftArgmaxLoss)
    computes_base_loss = True
    metrics: ClassVar = METRICS
    perturbed = staticmethod(perturbed)
    group_size = 32
    needs_processing_class = False
    labels = ("keypoints", "visible")
    logits = ("heatmaps",)

    def __init__(self, model: torch.nn.Module, processing_class: Any):
        super().__init__(model, processing_class)
        named = getattr(getattr(model, "config", None), "id2label", None) or {}
        names = tuple(str(named[number]) for number in sorted(named, key=int))
        self.joints, self.names = len(names), _with_sides(names)

    @classmethod
    def handles(cls, model: torch.nn.Module) -> bool:
        return is_known_as(model, _CLASSES)

    @classmethod
    def fits(cls, outputs: Any, inputs: Inputs) -> bool:
        heatmaps = named_outputs(outputs, cls.logits)["heatmaps"]
        return heatmaps is not None and heatmaps.ndim == 4 and (_has_keypoints(inputs) or _has_heatmaps(inputs))

    def labels_in(self, inputs: Inputs) -> tuple[str, ...]:
        if _has_keypoints(inputs):
            more = ("box", "area")
            return (*self.labels, *(more if all(inputs.get(name) is not None for name in more) else ()))
        if _has_heatmaps(inputs):
            return ("labels",) if inputs.get("label_weights") is None else ("labels", "label_weights")
        return ()

    def require_labels(self, inputs: Inputs) -> None:
        if not _has_keypoints(inputs) and not _has_heatmaps(inputs):
            raise ValueError(
                f"the batch has no 'keypoints' and 'visible', and no heatmaps as 'labels', only {sorted(inputs)}: make "
                "the data by prepare_pose_features, or add the columns keypoints, (x, y) of each joint in pixels of "
                "the input, and visible"
            )

    def batch_size(self, inputs: Inputs) -> int:
        return len(inputs["keypoints" if _has_keypoints(inputs) else "labels"])

    def weight(self, inputs: Inputs) -> Tensor:
        return _labelled(inputs)[1].sum()

    def for_model(self, inputs: Inputs) -> Inputs:
        return {name: value for name, value in super().for_model(inputs).items() if name != "labels"}

    def meet(self, model: torch.nn.Module, inputs: Inputs) -> None:
        if self.has_met or not self.labels_in(inputs):
            return
        with as_in_evaluation(model):
            outputs = model(**self.without_labels(inputs))
        self._require_logits(outputs)
        heatmaps = named_outputs(outputs, self.logits)["heatmaps"]
        self._require_fit(heatmaps, inputs)
        if _has_keypoints(inputs):
            _require_pixels(inputs)
        if len(self.names) != heatmaps.shape[1]:
            self.names = names_of_joints(heatmaps.shape[1])
        self.joints, self.has_met = heatmaps.shape[1], True

    def fit(self, surrogate: SurrogateLoss, dataset: Any) -> None:
        if isinstance(surrogate, ExpectedMiss | GatedSquaredError) and self.joints not in (0, surrogate.joints):
            raise ValueError(
                f"surrogate={type(surrogate).__name__} was learned for {surrogate.joints} joints, and "
                f"{type(self.model).__name__} has {self.joints}: pass metric= to learn one for this model"
            )

    def base_loss(self, model_loss: Any, model: torch.nn.Module, inputs: Inputs) -> tuple[Tensor, Any]:
        """The squared error. The models of transformers compute none, or one that counts hidden joints."""
        outputs = model(**self.without_labels(inputs))
        features = self.features(model, outputs, inputs, ())
        if _has_keypoints(inputs):
            losses = KeypointLoss.cross_entropy(features)
        else:
            errors = (features["heatmaps"] - inputs["labels"].to(features["heatmaps"])).square().mean((2, 3))
            losses = mean_of_visible(errors, features)
        loss = weighted_mean(losses, KeypointLoss.weights(features))
        return loss, (loss, *outputs) if isinstance(outputs, tuple) else outputs

    def features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, reads: tuple[str, ...]
    ) -> dict[str, Tensor]:
        heatmaps = named_outputs(outputs, self.logits)["heatmaps"].float()
        self._require_fit(heatmaps, inputs)
        keypoints, visible = _labelled(inputs)
        count, size = len(heatmaps), torch.tensor(_input_size(inputs)).flip(0)
        sigma = inputs.get("heatmap_sigma")
        sigma = torch.full((count,), SIGMA) if sigma is None else sigma.float()
        return {
            "heatmaps": heatmaps,
            "keypoints": keypoints.to(heatmaps.device).float(),
            "visible": visible.to(heatmaps.device),
            "input_size": size.expand(count, 2).to(heatmaps),
            "heatmap_sigma": sigma.to(heatmaps),
        }

    def forced_predictions(
        self, outputs: Any, inputs: Inputs, candidates: Sequence[Candidate], seeds: Sequence[int]
    ) -> Predictions:
        rows = slice(len(seeds))
        features = self.features(self.model, outputs, inputs, ())
        references = [value.cpu().numpy() for value in _gold(inputs)]
        references = references_of(*references)[rows]
        features = {name: value[rows].detach().cpu() for name, value in features.items()}
        kept = features["visible"].any(1).nonzero().flatten()
        predictions = Predictions(
            {name: value.contiguous() for name, value in features.items()},
            self.decode(features, self.names).tolist(),
            references,
            torch.zeros(len(references), dtype=torch.long),
            self.names,
        ).select(kept)
        return of_candidates(predictions, candidates)

    @staticmethod
    def decode(features: dict[str, Tensor], names: Sequence[str]) -> np.ndarray:
        """`(x, y)` of each joint in pixels of the input, shape `(n, J, 2)`."""
        scale = pixels_of_heatmap(features["heatmaps"], features["input_size"])
        return (peaks(features["heatmaps"]) * scale.unsqueeze(1)).float().numpy()

    @staticmethod
    def new_surrogate(cls: type[CountedLoss], features: dict[str, Tensor]) -> CountedLoss:
        joints = features["heatmaps"].shape[1]
        return cls(joints=joints) if issubclass(cls, ExpectedMiss | GatedSquaredError) else cls()

    def held_out(self, dataset: Any) -> Any:
        """Without random changes of the images."""
        if isinstance(dataset, Subset):
            return Subset(self.held_out(dataset.dataset), dataset.indices)
        return dataset.without_augmentation() if isinstance(dataset, PoseDataset) else dataset

    def label_table(self, dataset: Any) -> Tensor | None:
        """None: every slice has all joints."""

    def sample_pair(self) -> tuple[Any, Any]:
        """A pose with the right places."""
        pose = self._sample_pose()
        return pose.tolist(), references_of(pose[None], np.ones((1, len(pose))), np.array([[200, 200]]))[0]

    def try_metric(self, metric: LoadedGroupMetric, dataset: Any, group_size: int) -> None:
        pose, reference = self.sample_pair()
        far, same = (np.array(pose) + 1000).tolist(), [[0.0, 0.0]] * len(pose)
        try:
            scores = metric([pose, pose, far, far, same, same], [reference] * 6, np.arange(6).reshape(3, 2))
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(
                f"metric={metric.name!r} cannot score poses: {error}. Predictions are (x, y) of each joint, references "
                "dicts of 'keypoints', 'box' and 'area': pass 'pck', 'oks' or a function of these"
            ) from error
        if len(set(scores.tolist())) == 1:
            raise ValueError(
                f"the metric {metric.name!r} is {scores[0]} for right places, for wrong ones and for one place, so it "
                "does not depend on the predictions; pass another metric="
            )
        if isinstance(dataset, Sized) and hasattr(dataset, "__getitem__") and len(dataset):
            with forked_random_state():  # rows may be drawn at random
                rows = (dataset[place] for place in range(len(dataset)))
                unlabelled = all("visible" in row and not np.asarray(row["visible"]).any() for row in rows)
            if unlabelled:
                raise ValueError(
                    f"no joint of the {len(dataset)} examples in train_dataset is visible: set 'visible' for the "
                    "joints that are labelled"
                )

    def _sample_pose(self) -> np.ndarray:
        return np.random.default_rng(0).uniform(0, 200, (self.joints or 17, 2))

    def _require_fit(self, heatmaps: Tensor, inputs: Inputs) -> None:
        if _has_keypoints(inputs):
            keypoints, visible = inputs["keypoints"], inputs["visible"]
            if keypoints.shape != (*heatmaps.shape[:2], 2) or visible.shape != heatmaps.shape[:2]:
                raise ValueError(
                    f"keypoints of the shape {tuple(keypoints.shape)} and visible of the shape {tuple(visible.shape)} "
                    f"do not fit heatmaps of the shape {tuple(heatmaps.shape)}, which need {heatmaps.shape[1]} joints: "
                    f"pass keypoints of the shape {(*heatmaps.shape[:2], 2)} and visible of the shape "
                    f"{tuple(heatmaps.shape[:2])}, or load the model with num_labels={keypoints.shape[1]}"
                )
        elif inputs["labels"].shape != heatmaps.shape:
            raise ValueError(
                f"labels of the shape {tuple(inputs['labels'].shape)} do not fit heatmaps of the shape "
                f"{tuple(heatmaps.shape)}: make them of this shape, or pass keypoints and visible"
            )


def _has_keypoints(inputs: Inputs) -> bool:
    return inputs.get("keypoints") is not None and inputs.get("visible") is not None


def _has_heatmaps(inputs: Inputs) -> bool:
    return isinstance(inputs.get("labels"), Tensor) and inputs["labels"].ndim == 4


def _gold(inputs: Inputs) -> tuple[Tensor, ...]:
    """The keypoints, which of them are labelled, and the boxes and areas, if the batch has these."""
    if _has_keypoints(inputs):
        more = [inputs[name] for name in ("box", "area") if inputs.get(name) is not None]
        return (inputs["keypoints"], inputs["visible"], *(more if len(more) == 2 else ()))
    heatmaps, weights = inputs["labels"], inputs.get("label_weights")
    visible = heatmaps.amax((2, 3)) > 0
    if weights is not None:
        visible &= weights.flatten(1).unflatten(1, (heatmaps.shape[1], -1)).amax(2) > 0
    height, width = _input_size(inputs)
    places = decode_poses(heatmaps, (height, width))
    return torch.minimum(places.clamp(min=0), torch.tensor([width, height], device=places.device) - 1), visible


def _labelled(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The keypoints, and which of them are labelled and lie inside of the input; those that do not are 0."""
    keypoints, visible, *_ = _gold(inputs)
    height, width = _input_size(inputs)
    limits = torch.tensor([width, height], device=keypoints.device) - 0.5
    inside = ((keypoints > -0.5) & (keypoints < limits)).all(2) & visible.bool()
    return keypoints.masked_fill(~inside.unsqueeze(2), 0), inside


def _require_pixels(inputs: Inputs) -> None:
    """Raises ValueError if keypoints are not in pixels of the input. If no joint is labelled, nothing tells it."""
    height, width = _input_size(inputs)
    places = inputs["keypoints"][inputs["visible"].bool()]
    if len(places) and not _labelled(inputs)[1].any():
        raise ValueError(
            f"none of the {len(places)} visible joints in the first batch lies inside of the input of {width} x "
            f"{height} pixels: give 'keypoints' in pixels of the input, as prepare_pose_features does"
        )
    if len(places) > 1 and ((places >= 0) & (places <= 1)).all():
        raise ValueError(
            f"all {len(places)} visible joints in the first batch lie between 0 and 1, in a corner of the input of "
            f"{width} x {height} pixels: give 'keypoints' in pixels of the input, and not as shares of it"
        )


def _input_size(inputs: Inputs) -> tuple[int, int]:
    """Height and width of the input: of `pixel_values`, or else of the only tensor that looks like images."""
    images = [inputs["pixel_values"]] if "pixel_values" in inputs else [
        value
        for name, value in inputs.items()
        if name not in ("labels", "label_weights") and isinstance(value, Tensor) and value.ndim == 4
    ]  # fmt: skip
    if len(images) != 1:
        raise ValueError(
            f"the batch of {sorted(inputs)} has {len(images)} tensors of images, and no 'pixel_values', so the size of "
            "the input is unknown: name the images 'pixel_values'"
        )
    return tuple(images[0].shape[-2:])


def _with_sides(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, if they tell left from right; else those that are usual for so many joints."""
    return names if left_and_right(names) else names_of_joints(len(names))
