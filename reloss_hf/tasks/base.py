"""What a task has to offer: how predictions, and the features that surrogates read, come out of a model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..learning.metrics import LoadedGroupMetric, LoadedMetric
from ..learning.predictions import Predictions
from ..surrogate import SurrogateLoss
from .models import arguments_of, as_in_evaluation, loss_of, named_outputs, same, tokenizer_of

Inputs = dict[str, Any]
# What `Trainer.compute_loss(model, inputs, return_outputs=True)` gives: the loss and the outputs.
LossAndOutputs = tuple[Tensor, Any]


@dataclass(frozen=True)
class Candidate:
    """Which candidate makes a prediction: the model at one time of its training, or a corruption of it.

    Attributes:
        number: counts the times at which predictions are collected, from 0.
        corruption: the share of the predicted units that are changed, 0 to 1; 0 leaves the prediction as it is.
        improve: whether units are changed to the reference's, rather than away from it.
    """

    number: int
    corruption: float = 0.0
    improve: bool = False

    @property
    def id(self) -> int:
        """What `Predictions.candidates` holds: 0 and above for the model's own predictions, negative for others."""
        return -1 - self.number if self.corruption else self.number

    def corrupted(self) -> "Candidate":
        """A corruption of this candidate. Its strength is spread evenly over (0, 0.8) as `number` grows, and every
        other one improves the predictions instead of spoiling them."""
        golden = 0.6180339887
        return Candidate(self.number, 0.8 * ((self.number + 1) * golden % 1), improve=self.number % 2 == 1)


@dataclass(frozen=True)
class NamedMetric:
    """A metric that users name, and that needs no download.

    Attributes:
        load: makes it; its keywords are the metric's options.
        main_key: the number of its result that it is known for, where it has several.
        replaces_module: whether an `evaluate` module of that name is computed by it, too.
        lower_is_better: whether it is an error rate.
        options_of_module: how that module calls those of its options that `load` calls otherwise.
    """

    load: Callable[..., LoadedMetric]
    main_key: str | None = None
    replaces_module: bool = False
    lower_is_better: bool = False
    options_of_module: Mapping[str, str] = field(default_factory=dict)


class Task(ABC):
    """A kind of model output, its features and its decoding. One for each trainer.

    Attributes:
        name: matches `SurrogateLoss.task`.
        does: what a model of this task does, as a verb: for errors.
        columns: of the data set, that features are made from and the model does not take.
        own_output: the features for which the model has to decode by itself.
        default_surrogate: the class that is learned when the user names none.
        default_loss: that of the loss, as it is written, where the user names no metric and so nothing is learned.
        hand_made: the losses that a diagnosis compares; the first is the loss before the switch.
        metrics: those that need no download, by name.
        group_size: how many examples the metric is computed on at once while a surrogate is learned.
        needs_processing_class: whether predictions are decoded by it.
        reads_logits_and_labels_alone: whether features are made from these two, without the other inputs.
        labels: the names of the labels in a batch.
        logits: the names of the outputs that features are made from, in the order of a tuple.
        processing_class: the tokenizer, also where a processor that has one is given; None where there is none.
        keeps_labels: whether the model needs the labels to give the logits that it gives with them.
    """

    name: ClassVar[str]
    does: ClassVar[str]
    columns: ClassVar[tuple[str, ...]] = ()
    own_output: ClassVar[tuple[str, ...]] = ()
    default_surrogate: ClassVar[type[SurrogateLoss]]
    default_loss: ClassVar[type[SurrogateLoss]]
    hand_made: ClassVar[tuple[type[SurrogateLoss], ...]]
    metrics: ClassVar[dict[str, NamedMetric]] = {}
    group_size: ClassVar[int] = 8
    needs_processing_class: ClassVar[bool] = True
    reads_logits_and_labels_alone: ClassVar[bool] = False
    labels: ClassVar[tuple[str, ...]]
    logits: ClassVar[tuple[str, ...]]

    def __init__(self, model: torch.nn.Module, processing_class: Any):
        self.processing_class = tokenizer_of(processing_class)
        self.model, self._given = model, processing_class
        self._arguments = arguments_of(model)
        self.keeps_labels = False
        self._has_met = False

    def of(self, model: torch.nn.Module) -> "Task":
        """The same task of another model."""
        return type(self)(model, self._given)

    @property
    def base_loss_name(self) -> str:
        """What the loss before the switch is called."""
        return self.hand_made[0].base_loss_name

    @property
    def base_loss_key(self) -> str:
        """Its name in logs."""
        return self.base_loss_name.replace("-", "_").replace(" ", "_")

    @classmethod
    def compared(cls, features: dict[str, Tensor]) -> list[SurrogateLoss]:
        """The hand-made losses, made for features like these."""
        return [loss() for loss in cls.hand_made]

    @classmethod
    @abstractmethod
    def handles(cls, model: torch.nn.Module) -> bool:
        """Whether the class of the model says that it is for this task."""

    @classmethod
    @abstractmethod
    def fits(cls, outputs: Any, inputs: Inputs) -> bool:
        """Whether the names and shapes of a batch's outputs and labels are those of this task: asked where no class
        says."""

    @classmethod
    def decodes_for(cls, surrogate: SurrogateLoss) -> bool:
        """Whether the model has to decode by itself for what the loss reads."""
        return not set(cls.own_output).isdisjoint(surrogate.reads)

    def collator(self, data_collator: Callable) -> Callable:
        """The data collator, made fit for the columns of this task."""
        return data_collator

    @abstractmethod
    def require_labels(self, inputs: Inputs) -> None:
        """Raises ValueError where the batch holds no labels to learn from."""

    @abstractmethod
    def batch_size(self, inputs: Inputs) -> int:
        """How many examples the batch has."""

    def examples_in(self, dataset: Any) -> int:
        """How many examples a data set of known length has."""
        return len(dataset)

    @abstractmethod
    def weight(self, inputs: Inputs) -> Tensor:
        """How much a micro-batch counts in its batch, a scalar: what its examples add to `SurrogateLoss.weights`."""

    def meet(self, model: torch.nn.Module, inputs: Inputs) -> None:
        """Find out, from the first batch with labels, what the class of the model does not tell: whether it gives the
        same logits without labels. It costs two forward passes, and none where `knows(model)` says that the class
        does.

        Raises:
            ValueError: the outputs are none that this task can read.
        """
        if self._has_met or any(inputs.get(name) is None for name in self.labels):
            return
        if not self.knows(model):
            with as_in_evaluation(model):
                labelled = model(**self.for_model(inputs))
                self._require_logits(labelled)
                try:
                    plain = named_outputs(model(**self.without_labels(inputs)), self.logits).values()
                    self.keeps_labels |= not same(named_outputs(labelled, self.logits).values(), plain)
                except Exception:  # whatever a forward of the user's own raises that reckons with labels
                    self.keeps_labels = True
            self.look_at(labelled, inputs)
        self._has_met = True

    @classmethod
    def knows(cls, model: torch.nn.Module) -> bool:
        """Whether the class of the model tells all that `meet` finds out."""
        return False

    def look_at(self, outputs: Any, inputs: Inputs) -> None:  # noqa: B027
        """What a task wants to know from the first batch and its outputs, without dropout."""

    def fit(self, surrogate: SurrogateLoss, labels: Callable[[], list]) -> None:  # noqa: B027
        """Tell a given loss what it has to know of the training data.

        Args:
            surrogate: changed in place.
            labels: gives the labels of all training examples.
        """

    def base_loss(
        self, model_loss: Callable[[torch.nn.Module, Inputs], LossAndOutputs], model: torch.nn.Module, inputs: Inputs
    ) -> LossAndOutputs:
        """The loss before the switch, the mean of the micro-batch, and the outputs. The model's own, unless a task says
        otherwise; 0 where nothing counts, of which the mean is not a number.

        Args:
            model_loss: gives the model's own.
            model: that is trained.
            inputs: of a micro-batch.
        """
        loss, outputs = model_loss(model, self.for_model(inputs))
        nothing_counts = self.weight(inputs).to(loss.device) == 0
        return torch.where(nothing_counts, loss.nan_to_num(nan=0.0), loss), outputs

    def without_labels(self, inputs: Inputs) -> Inputs:
        """Model inputs that give the same logits, but make the model compute no loss of its own, where it can do
        without labels."""
        if self.keeps_labels:
            return self.for_model(inputs)
        return {name: value for name, value in self.for_model(inputs).items() if name not in self.labels}

    def with_logits(self, model: torch.nn.Module, outputs: Any, inputs: Inputs) -> Any:
        """The outputs, or, where the model gave no logits beside its loss, those of a forward pass without labels."""
        if all(logits is not None for logits in named_outputs(outputs, self.logits).values()):
            return outputs
        if self.keeps_labels or loss_of(outputs) is None:
            self._require_logits(outputs)
        outputs = model(**self.without_labels(inputs))
        self._require_logits(outputs)
        return outputs

    def require_tokenizer(self, given: Any) -> None:
        """Raises ValueError where what was given as `processing_class` is no tokenizer and has none, so that nothing
        can be decoded."""
        if self.processing_class is None:
            name = None if given is None else type(given).__name__
            raise ValueError(
                f"processing_class={name}, but predictions have to be decoded: pass the tokenizer, or a processor that "
                "has one"
            )

    def for_model(self, inputs: Inputs) -> Inputs:
        """What the model takes of a batch: not the columns of this task, nor what its `forward` does not know."""
        known = set(inputs) if self._arguments is None else self._arguments
        return {name: value for name, value in inputs.items() if name in known and name not in self.columns}

    @abstractmethod
    def features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, reads: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """The named features, and those of the loss before the switch, differentiable, from the outputs for a batch."""

    @abstractmethod
    def forced_predictions(
        self, outputs: Any, inputs: Inputs, candidates: Sequence[Candidate], seeds: Sequence[int]
    ) -> Predictions:
        """Predictions of the first `len(seeds)` examples from the outputs at hand, with no further forward pass, by one
        candidate after the other. Where chance corrupts them, `uniform_draws(seeds, ...)` is it."""

    def generated_predictions(
        self, model: torch.nn.Module, inputs: Inputs, candidate: Candidate, reads: tuple[str, ...]
    ) -> Predictions:
        """Predictions that the model decodes by itself: of tasks whose models do."""
        raise NotImplementedError

    def require_generation(self, reads: tuple[str, ...] = ()) -> None:
        """Raises ValueError where the model cannot decode by itself, as `surrogate_predictions="generate"` wants, or a
        loss that reads these features. This method always does; a task whose models decode overrides it."""
        raise ValueError(
            f"a model that {self.does} generates nothing: its outputs are its prediction; pass "
            "surrogate_predictions='forced'"
        )

    def _require_logits(self, outputs: Any) -> None:
        missing = [name for name, value in named_outputs(outputs, self.logits).items() if value is None]
        if missing:
            names = sorted(outputs) if hasattr(outputs, "keys") else type(outputs).__name__
            raise ValueError(
                f"the model's output has no {missing}, only {names}: a loss of the task {self.name!r} is made from "
                f"{list(self.logits)}; return them beside the loss, also in training"
            )

    @abstractmethod
    def sample_pair(self) -> tuple[Any, Any]:
        """A prediction and a reference in the form that `Predictions` holds, to try a metric on."""

    def try_metric(self, metric: LoadedGroupMetric, dataset: Any, group_size: int) -> None:
        """Raises where the metric cannot score groups of what this task predicts on the data set that is trained on."""
        prediction, reference = self.sample_pair()
        metric([prediction] * group_size, [reference] * group_size, [range(group_size)])


def uniform_draws(seeds: Sequence[int], count: int) -> Tensor:
    """Numbers in [0, 1), shape `(len(seeds), count)`: a row depends on its own seed alone, and not on the batch."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.rand(count, generator=generator) for generator in generators])
