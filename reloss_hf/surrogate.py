"""The base of every surrogate loss: its inputs, its values, and how to save and load it."""

import inspect
import json
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .report import HeldOutGroups
from .sharing.hub import fetch
from .sharing.mixin import HubMixin

Features = dict[str, Tensor]

FORMAT_VERSION = 1
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
HELD_OUT_NAME = "held_out_groups.safetensors"


class SurrogateLoss(HubMixin, nn.Module, ABC):
    """A loss that orders predictions as a metric does, once it is learned.

    A subclass names its task and the features that it reads, and defines `score`. Its `__init__` takes only JSON
    values, because `config.json` stores them. One base class in the folder of a task holds what all its losses share.

    Example:
        >>> surrogate = SurrogateLoss.from_pretrained("bleu")
        >>> losses = surrogate({"target_log_probs": log_probs, "target_mask": mask})

    References:
        Huang et al., *Relational Surrogate Loss Learning*, ICLR 2022.

    Attributes:
        task: the name of the task whose features it reads.
        reads: the names of these features.
        scores: the names of all features of the task that come from the model's logits. The norm of a gradient is
            measured on these, after `to_logits`.
        base_loss_name: the name of the loss before the switch, in logs, reports and cards.
        about: a clause that a model card adds after the features that the loss reads.
        limits: sentences that a model card lists as limits.
        info: how it was learned (metric, held-out Spearman, ...), saved in `config.json`.
        held_out: the groups that it was measured on; None if it was not learned.
    """

    task: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    scores: ClassVar[tuple[str, ...]]
    base_loss_name: ClassVar[str] = "cross-entropy"
    about: ClassVar[str] = ""
    limits: ClassVar[tuple[str, ...]] = ()

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.info: dict[str, Any] = {}
        self.held_out: HeldOutGroups | None = None

    @abstractmethod
    def score(self, features: Features) -> Tensor:
        """The unscaled loss of each example, float32 of shape `(n,)`, lower for better predictions."""

    @staticmethod
    @abstractmethod
    def cross_entropy(features: Features) -> Tensor:
        """The loss before the switch of each example, computed from the same features, shape `(n,)`. Surrogates are
        compared with it. It is cross-entropy unless `base_loss_name` says otherwise."""

    @staticmethod
    def to_logits(score: Tensor) -> Tensor:
        """Convert one feature of `scores` to what the model computes: the same, unless a subclass says otherwise. The
        norm of a loss's gradient is measured on it."""
        return score

    @staticmethod
    def from_logits(logits: Tensor) -> Tensor:
        """The inverse of `to_logits`, differentiable."""
        return logits

    def forward(self, features: Features) -> Tensor:
        """The loss of each example, float32 of shape `(n,)`.

        Args:
            features: the tensors that `reads` names, shape `(n, ...)`; see the task.
        """
        missing = [name for name in self.reads if name not in features]
        if missing:
            raise ValueError(f"{type(self).__name__} reads {missing}, but features={sorted(features)} lack them")
        with torch.autocast(self.log_scale.device.type, enabled=False):
            inputs = {name: features[name] for name in self.reads}
            return self.log_scale.exp() * self.score(
                {name: value.float() if value.is_floating_point() else value for name, value in inputs.items()}
            )

    @staticmethod
    def weights(features: Features) -> Tensor:
        """The weight of each example in the loss of a group or a batch, shape `(n,)`: the weight that it has in the
        metric of a group. All examples weigh the same unless a task says otherwise."""
        anything = next(iter(features.values()))
        return torch.ones(len(anything), device=anything.device)

    def batch_loss(self, features: Features, whole: Tensor | None = None) -> Tensor:
        """The mean loss of a batch, a scalar in which each example counts by its weight.

        Args:
            features: the features of the batch, or of a part of it.
            whole: the mean statistics of the whole batch, if this is a part of it; see `CountedLoss`.
        """
        return weighted_mean(self(features), self.weights(features))

    def target_weights(self, features: Features) -> tuple[Tensor, Tensor] | None:
        """The probability of each target, and its weight in the gradient: `-∂loss/∂log p`, up to a factor. Two tensors
        of shape `(targets,)`; None if the loss reads no probabilities of targets."""
        return None

    def error_costs(self) -> dict[str, Tensor]:
        """The cost of each kind of error, by the name of the kind, shape `(classes,)`. It is empty if the loss has no
        such costs."""
        return {}

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of `__init__` that rebuild this surrogate; each is an attribute of the same name."""
        return {
            name: getattr(self, name) for name in inspect.signature(type(self).__init__).parameters if name != "self"
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json`, `model.safetensors` and, if known, `held_out_groups.safetensors` into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "library_name": "reloss_hf",
            "format_version": FORMAT_VERSION,
            "surrogate_class": type(self).__name__,
            "task": self.task,
            "config": self.config,
            "info": self.info,
            "held_out_groups": self.held_out is not None,
        }
        (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        weights = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS_NAME, metadata={"format": "pt"})
        if self.held_out is not None:
            save_file({k: v.cpu().contiguous() for k, v in vars(self.held_out).items()}, folder / HELD_OUT_NAME)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        revision: str | None = None,
        token: str | None = None,
        subfolder: str | None = None,
    ) -> "SurrogateLoss":
        """Load a surrogate. It has the class that was saved.

        Args:
            name_or_path: `"bleu"` or `"squad_f1"`, which come with the package; a folder that `save_pretrained` wrote;
                or a repository on the hub.
            revision: a branch, tag or commit of that repository.
            token: a token for private repositories; by default the one that `hf auth login` stored.
            subfolder: its place in the folder or repository. Pass `"surrogate"` for a model that was trained on one.

        Raises:
            ValueError: the surrogate is neither in a folder nor on the hub, its class is unknown or no subclass of
                `cls`, its format is newer, or a weight is missing, superfluous or of another shape.
        """

        def file(name: str) -> Path:
            return fetch(name_or_path, name if subfolder is None else f"{subfolder}/{name}", revision, token)

        try:
            saved = json.loads(file(CONFIG_NAME).read_text(encoding="utf-8"))
            if saved.get("library_name") != "reloss_hf":
                raise ValueError(f"{name_or_path} holds no surrogate: library_name={saved.get('library_name')!r}")
            if saved["format_version"] > FORMAT_VERSION:
                raise ValueError(
                    f"{name_or_path} has format {saved['format_version']}, newer than {FORMAT_VERSION}: upgrade "
                    "reloss_hf"
                )
            weights = load_file(file(WEIGHTS_NAME))
            held_out = load_file(file(HELD_OUT_NAME)) if saved.get("held_out_groups") else None
        except (json.JSONDecodeError, SafetensorError) as error:
            raise ValueError(f"{name_or_path} is damaged ({error}): save or download it again") from error
        surrogate = cls._build(saved["surrogate_class"], saved["config"])
        _load_strictly(surrogate, weights, name_or_path)
        surrogate.info = saved["info"]
        surrogate.held_out = held_out and HeldOutGroups(**held_out)
        return surrogate.eval().requires_grad_(False)

    @classmethod
    def _build(cls, class_name: str, config: dict[str, Any]) -> "SurrogateLoss":
        subclass = surrogate_class(class_name)
        if not issubclass(subclass, cls):
            raise ValueError(f"{class_name} is not a {cls.__name__}: load it with SurrogateLoss.from_pretrained")
        known = inspect.signature(subclass.__init__).parameters
        unknown = sorted(set(config) - set(known))
        if unknown:
            warnings.warn(f"{class_name} does not know the configuration keys {unknown} and ignores them", stacklevel=3)
        return subclass(**{name: value for name, value in config.items() if name in known})


class CountedLoss(SurrogateLoss):
    """A loss that depends on a group, or a batch, only through the mean of its statistics.

    Statistics are numbers of each example. They are computed once for many candidates, so learning takes a moment.

    Attributes:
        linear: whether the loss of a group is the mean of the losses of its examples. If it is not, the loss of a batch
            depends on the whole batch. Micro-batches are then trained on its slope at the statistics of the whole
            batch.
    """

    linear: ClassVar[bool] = True

    @abstractmethod
    def statistics(self, features: Features) -> Tensor:
        """The statistics of each example, shape `(n, ...)`; 0 for an example without a label."""

    @abstractmethod
    def of_statistics(self, mean: Tensor) -> Tensor:
        """The unscaled loss of groups, shape `(...)`, from the means of their statistics, `(..., *shape of one)`."""

    def mean_statistics(self, features: Features) -> Tensor:
        """The mean of the statistics of a batch, in which each example counts by its weight."""
        with torch.autocast(self.log_scale.device.type, enabled=False):
            statistics = self.statistics({k: v.float() if v.is_floating_point() else v for k, v in features.items()})
        weights = self.weights(features)
        return torch.tensordot(weights, statistics, 1) / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def mean_statistics_of_copies(self, copies: Features, count: int) -> Tensor:
        """The mean statistics of each of `count` copies of some examples, which differ in `scores` alone and come one
        after the other, shape `(count, *shape of one)`. One at a time, because those of pixels take memory."""
        parts = zip(*(value.chunk(count) for value in copies.values()), strict=True)
        return torch.stack([self.mean_statistics(dict(zip(copies, part, strict=True))) for part in parts])

    def batch_loss(self, features: Features, whole: Tensor | None = None) -> Tensor:
        """The loss of a batch. For a part of a batch, a loss that is not linear gives the loss of the whole batch. The
        gradients of the parts, summed by their weights, are then the gradient of the whole batch.

        Args:
            features: the features of the batch, or of a part of it.
            whole: the mean statistics of the whole batch; None if `features` are the whole batch.
        """
        if self.linear:
            return super().batch_loss(features)
        mean = self.mean_statistics(features)
        if whole is None:
            return self.log_scale.exp() * self.of_statistics(mean)
        with torch.enable_grad():
            point = whole.detach().requires_grad_(True)
            loss = self.of_statistics(point)
            (slope,) = torch.autograd.grad(loss, point)
        return self.log_scale.exp() * (loss.detach() + (slope * (mean - mean.detach())).sum())

    def observe(self, features: Features) -> None:
        """Read from examples what the loss needs before it is learned."""

    def settle(self, features: Features, earlier: "CountedLoss | None" = None) -> None:
        """Read from examples what the loss needs once it is learned.

        Args:
            features: the held-out examples that it was learned from, of shape `(n, ...)`.
            earlier: the loss of the same class that the model is trained on so far, if there is one.
        """

    def foreseen(self, features: Features) -> Features | None:
        """The features of these examples if a model is trained to where their loss is least; None if that is not
        known."""
        return None

    def score(self, features: Features) -> Tensor:
        return self.of_statistics(self.statistics(features))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean along the last dimension; 0 if all weights are 0."""
    return (weights * values).sum(-1) / weights.sum(-1).clamp(min=torch.finfo(weights.dtype).tiny)


def surrogate_classes() -> dict[str, type[SurrogateLoss]]:
    """The concrete subclasses of `SurrogateLoss` by name, those of the library and those of the user. A class without a
    task is a base of others."""
    classes = _subclasses(SurrogateLoss)
    return {c.__name__: c for c in classes if hasattr(c, "task") and not inspect.isabstract(c)}


def surrogate_class(name: str) -> type[SurrogateLoss]:
    """The class with this name, one of `surrogate_classes`.

    Raises:
        ValueError: no class has this name.
    """
    classes = surrogate_classes()
    if name not in classes:
        raise ValueError(
            f"there is no surrogate {name!r}; use one of {sorted(classes)}, or import your own class first"
        )
    return classes[name]


def _subclasses(cls: type) -> list[type]:
    return [found for child in cls.__subclasses__() for found in (child, *_subclasses(child))]


def _load_strictly(surrogate: SurrogateLoss, weights: dict[str, Tensor], source: str | Path) -> None:
    expected = {name: tuple(value.shape) for name, value in surrogate.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        raise ValueError(
            f"the weights in {source} do not fit {type(surrogate).__name__}: "
            + ", ".join(f"{name} is {found.get(name)}, should be {expected.get(name)}" for name in wrong)
        )
    surrogate.load_state_dict(weights)
