"""The base of all tasks. A task turns the outputs of a model into predictions and into the features of surrogates."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..learning.calling import name_of
from ..learning.metrics import LoadedGroupMetric, LoadedMetric
from ..learning.predictions import Predictions
from ..surrogate import SurrogateLoss
from .models import arguments_of, as_in_evaluation, loss_of, named_outputs, same, tokenizer_of

Inputs = dict[str, Any]
# Like `Trainer.compute_loss(model, inputs, return_outputs=True)`: returns the loss and the outputs.
LossAndOutputs = tuple[Tensor, Any]


@dataclass(frozen=True)
class Candidate:
    """The maker of a prediction: the model at one time of its training, or a corruption of it.

    Attributes:
        number: counts the times at which predictions are collected, from 0.
        corruption: the share of the predicted units that are changed, 0 to 1; 0 changes nothing.
        improve: whether units are changed to those of the reference, or away from them.
    """

    number: int
    corruption: float = 0.0
    improve: bool = False

    @property
    def id(self) -> int:
        """The value in `Predictions.candidates`: 0 and above for the model's own predictions, negative for others."""
        return -1 - self.number if self.corruption else self.number

    def corrupted(self) -> "Candidate":
        """A corruption of this candidate. As `number` grows, the strengths spread evenly over (0, 0.8). Every other
        corruption improves the predictions instead of spoiling them."""
        golden = 0.6180339887
        return Candidate(self.number, 0.8 * ((self.number + 1) * golden % 1), improve=self.number % 2 == 1)


@dataclass(frozen=True)
class NamedMetric:
    """A metric that users can name and that needs no download.

    Attributes:
        load: makes the metric; its keywords are the metric's options.
        main_key: the main number of its result, if the result has several.
        replaces_module: whether it also replaces the `evaluate` module of that name.
        lower_is_better: whether it is an error rate.
        options_of_module: maps the options of that module to the keywords of `load`, if their names differ.
        surrogate: the class to learn for it if the user names none; None for the default of the task.
    """

    load: Callable[..., LoadedMetric]
    main_key: str | None = None
    replaces_module: bool = False
    lower_is_better: bool = False
    options_of_module: Mapping[str, str] = field(default_factory=dict)
    surrogate: type[SurrogateLoss] | None = None


class Task(ABC):
    """A kind of model output, with its features and its decoding. Each trainer has one task.

    Attributes:
        name: the name of the task, as in `SurrogateLoss.task`.
        does: what a model of this task does, as a verb; for error messages.
        columns: columns of the data set that features are made from and that the model does not take.
        own_output: the features for which the model reads its own output.
        decoded: those of them for which it decodes this output, token by token.
        default_surrogate: the class to learn if neither the user nor the metric names one.
        default_loss: the class of the loss after the switch if the user names no metric. It learns nothing.
        hand_made: the losses that a diagnosis compares; the first is the loss before the switch.
        computes_base_loss: whether the task computes the loss before the switch itself. It then asks neither the model
            for it nor the `compute_loss` of another trainer.
        metrics: the metrics that need no download, by name.
        group_size: how many examples the metric is computed on at once while a surrogate is learned.
        needs_processing_class: whether decoding predictions needs the processing class.
        reads_logits_and_labels_alone: whether features need only logits and labels, and no other inputs.
        label_columns: the columns of a data set that tell the labels of its examples; the first that is there counts.
        labels: the names of the labels in a batch.
        logits: the names of the outputs that features are made from, in the order of a tuple.
        processing_class: the tokenizer, or the tokenizer of the given processor; None if there is none.
        keeps_labels: whether the logits of the model change if it is not given labels.
        ignored: the label that counts for nothing beside -100, if the model has another.
    """

    name: ClassVar[str]
    does: ClassVar[str]
    columns: ClassVar[tuple[str, ...]] = ()
    own_output: ClassVar[tuple[str, ...]] = ()
    decoded: ClassVar[tuple[str, ...]] = ()
    default_surrogate: ClassVar[type[SurrogateLoss]]
    default_loss: ClassVar[type[SurrogateLoss] | None]
    hand_made: ClassVar[tuple[type[SurrogateLoss], ...]]
    computes_base_loss: ClassVar[bool] = False
    metrics: ClassVar[dict[str, NamedMetric]] = {}
    group_size: ClassVar[int] = 8
    needs_processing_class: ClassVar[bool] = True
    reads_logits_and_labels_alone: ClassVar[bool] = False
    label_columns: ClassVar[tuple[str, ...]] = ("labels", "label", "label_ids")
    labels: ClassVar[tuple[str, ...]]
    logits: ClassVar[tuple[str, ...]]
    ignored: int = -100

    def __init__(self, model: torch.nn.Module, processing_class: Any):
        self.processing_class = tokenizer_of(processing_class)
        self.model, self._given = model, processing_class
        self._arguments = arguments_of(model)
        self.keeps_labels = False
        self.has_met = False

    def of(self, model: torch.nn.Module) -> "Task":
        """The same task for another model."""
        return type(self)(model, self._given)

    @property
    def base_loss_name(self) -> str:
        """The name of the loss before the switch."""
        return self.hand_made[0].base_loss_name

    @property
    def base_loss_key(self) -> str:
        """Its name in logs."""
        return self.base_loss_name.lower().replace("-", "_").replace(" ", "_")

    @classmethod
    def compared(cls, predictions: Predictions) -> list[SurrogateLoss]:
        """The hand-made losses, built for such predictions."""
        return [loss() for loss in cls.hand_made]

    @classmethod
    def surrogate_for(cls, metric: LoadedGroupMetric) -> type[SurrogateLoss]:
        """The class to learn from a metric if the user names none."""
        named = cls.metrics.get(name_of(metric.metric))
        return named.surrogate if named is not None and named.surrogate is not None else cls.default_surrogate

    @classmethod
    def learns_from_candidates(cls, surrogate: type[SurrogateLoss]) -> bool:
        """Whether a class is learned from candidates of the same examples, which only a `CandidateTask` makes. Else it
        is learned from groups of different examples."""
        return False

    @classmethod
    def group_size_for(cls, surrogate: type[SurrogateLoss]) -> int:
        """How many examples the metric is computed on at once while a class is learned."""
        return cls.group_size

    @classmethod
    @abstractmethod
    def handles(cls, model: torch.nn.Module) -> bool:
        """Whether the class of the model says that it is for this task."""

    @classmethod
    @abstractmethod
    def fits(cls, outputs: Any, inputs: Inputs) -> bool:
        """Whether the names and shapes of a batch's outputs and labels fit this task. It decides if the class of the
        model does not."""

    @classmethod
    def reads(cls, features: dict[str, Tensor]) -> bool:
        """Whether the losses of this task read such features."""
        return set(cls.hand_made[0].reads) <= set(features)

    @classmethod
    def reads_own_output(cls, surrogate: SurrogateLoss) -> bool:
        """Whether the loss reads features for which the model reads its own output."""
        return not set(cls.own_output).isdisjoint(surrogate.reads)

    def collator(self, data_collator: Callable) -> Callable:
        """The data collator, adapted to the columns of this task."""
        return data_collator

    @abstractmethod
    def require_labels(self, inputs: Inputs) -> None:
        """Raises ValueError if the batch has no labels to learn from."""

    def labels_in(self, inputs: Inputs) -> tuple[str, ...]:
        """The names of the labels that a batch has, if the model does not tell them to the Trainer; empty otherwise."""
        return ()

    @abstractmethod
    def batch_size(self, inputs: Inputs) -> int:
        """How many examples the batch has."""

    def examples_in(self, dataset: Any) -> int:
        """How many examples a data set of known length has."""
        return len(dataset)

    @abstractmethod
    def weight(self, inputs: Inputs) -> Tensor:
        """The weight of a micro-batch in its batch, a scalar: the sum of `SurrogateLoss.weights` over its examples."""

    def meet(self, model: torch.nn.Module, inputs: Inputs) -> None:
        """Find out from the first batch with labels whether the model gives the same logits without labels. This takes
        two forward passes, and none if `knows(model)` says that the class of the model tells it.

        Raises:
            ValueError: this task cannot read the outputs.
        """
        if self.has_met or any(inputs.get(name) is None for name in self.labels):
            return
        if not self.knows(model):
            with as_in_evaluation(model):
                labelled = model(**self.for_model(inputs))
                self._require_logits(labelled)
                try:
                    plain = named_outputs(model(**self.without_labels(inputs)), self.logits).values()
                    self.keeps_labels |= not same(named_outputs(labelled, self.logits).values(), plain)
                except Exception:  # a forward of the user's own may need labels and raise anything
                    self.keeps_labels = True
            self.look_at(labelled, inputs)
        self.has_met = True

    @classmethod
    def knows(cls, model: torch.nn.Module) -> bool:
        """Whether the class of the model tells all that `meet` would find out."""
        return False

    def look_at(self, outputs: Any, inputs: Inputs) -> None:  # noqa: B027
        """Read from the first batch, and its outputs without dropout, what the task needs to know."""

    def fit(self, surrogate: SurrogateLoss, dataset: Any) -> None:  # noqa: B027
        """Give a loss the facts that it needs about the training data.

        Args:
            surrogate: the loss, changed in place.
            dataset: the training data.
        """

    def base_loss(
        self, model_loss: Callable[[torch.nn.Module, Inputs], LossAndOutputs], model: torch.nn.Module, inputs: Inputs
    ) -> LossAndOutputs:
        """The loss before the switch, the mean over the micro-batch, and the outputs. It is the model's own loss unless
        a task says otherwise. It is 0 if no example counts, where a mean would be NaN.

        Args:
            model_loss: returns the model's own loss and the outputs.
            model: the model to train.
            inputs: the micro-batch.
        """
        loss, outputs = model_loss(model, self.for_model(inputs))
        nothing_counts = self.weight(inputs).to(loss.device) == 0
        return torch.where(nothing_counts, loss.nan_to_num(nan=0.0), loss), outputs

    def without_labels(self, inputs: Inputs) -> Inputs:
        """Model inputs that give the same logits. They have no labels, so the model computes no loss of its own, unless
        it needs the labels."""
        if self.keeps_labels:
            return self.for_model(inputs)
        return {name: value for name, value in self.for_model(inputs).items() if name not in self.labels}

    def with_logits(self, model: torch.nn.Module, outputs: Any, inputs: Inputs) -> Any:
        """The outputs. If the model gave no logits beside its loss, those of a forward pass without labels."""
        if all(logits is not None for logits in named_outputs(outputs, self.logits).values()):
            return outputs
        if self.keeps_labels or loss_of(outputs) is None:
            self._require_logits(outputs)
        outputs = model(**self.without_labels(inputs))
        self._require_logits(outputs)
        return outputs

    def require_tokenizer(self, given: Any) -> None:
        """Raises ValueError if the given `processing_class` is no tokenizer and has none, because decoding needs a
        tokenizer."""
        if self.processing_class is None:
            name = None if given is None else type(given).__name__
            raise ValueError(
                f"processing_class={name} cannot decode predictions: pass the tokenizer, or a processor that has one"
            )

    def for_model(self, inputs: Inputs) -> Inputs:
        """The part of a batch that the model takes: no columns of this task, and no arguments unknown to `forward`."""
        known = set(inputs) if self._arguments is None else self._arguments
        return {name: value for name, value in inputs.items() if name in known and name not in self.columns}

    def lasting_loss(self, outputs: Any, features: dict[str, Tensor]) -> Tensor | None:
        """The part of the model's own loss that stays after the switch, such as that of an auxiliary head; the mean
        over the micro-batch. None if there is none."""
        return None

    @abstractmethod
    def features(
        self, model: torch.nn.Module, outputs: Any, inputs: Inputs, reads: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """The named features, and those of the loss before the switch, from the outputs for a batch. They are
        differentiable."""

    @abstractmethod
    def forced_predictions(
        self, outputs: Any, inputs: Inputs, candidates: Sequence[Candidate], seeds: Sequence[int]
    ) -> Predictions:
        """Predictions of the first `len(seeds)` examples from the given outputs, without a further forward pass, by one
        candidate after the other. Draw random corruptions from `uniform_draws(seeds, ...)`."""

    def predictions(self, outputs: Any, inputs: Inputs, number: int) -> Predictions:
        """The model's own predictions of a batch, with all features that learning reads.

        Args:
            outputs: the outputs of the model.
            inputs: the batch.
            number: the number of the candidate.
        """
        return self.forced_predictions(outputs, inputs, [Candidate(number)], range(self.batch_size(inputs)))

    def generated_predictions(
        self, model: torch.nn.Module, inputs: Inputs, candidate: Candidate, reads: tuple[str, ...]
    ) -> Predictions:
        """Predictions that the model decodes by itself, for tasks whose models can."""
        raise NotImplementedError

    def require_generation(self, reads: tuple[str, ...] = ()) -> None:
        """Raises ValueError if the model cannot decode by itself. `surrogate_predictions="generate"` needs this, and so
        do losses that read such features. This method always raises; a task whose models decode overrides it."""
        raise ValueError(
            f"a model that {self.does} generates nothing: its outputs are its prediction, so pass "
            "surrogate_predictions='forced'"
        )

    def _require_logits(self, outputs: Any) -> None:
        missing = [name for name, value in named_outputs(outputs, self.logits).items() if value is None]
        if missing:
            names = sorted(outputs) if hasattr(outputs, "keys") else type(outputs).__name__
            raise ValueError(
                f"the model's output has no {missing}, only {names}: a loss of the task {self.name!r} needs "
                f"{list(self.logits)}, so return them beside the loss, also in training"
            )

    @abstractmethod
    def sample_pair(self) -> tuple[Any, Any]:
        """A prediction and a reference in the format of `Predictions`, to try a metric on."""

    def try_metric(self, metric: LoadedGroupMetric, dataset: Any, group_size: int) -> None:
        """Raises an error if the metric cannot score groups of this task's predictions for the training data."""
        prediction, reference = self.sample_pair()
        metric([prediction] * group_size, [reference] * group_size, [range(group_size)])


def uniform_draws(seeds: Sequence[int], count: int) -> Tensor:
    """Random numbers in [0, 1), shape `(len(seeds), count)`. A row depends only on its own seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.rand(count, generator=generator) for generator in generators])
