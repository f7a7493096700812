"""What losses with a cost for each kind of error have in common, whatever is decided."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from .surrogate import CountedLoss, Features

# In so many parts of the examples a gain is foreseen.
_PARTS = 5
# The largest distance of a log-cost from the mean, and the largest shift. Every cost stays below 40 times the others.
_LARGEST = 3.7


class ShiftedCosts(CountedLoss):
    """Base of losses with a cost for each kind of error and a shift of the logits.

    The costs hold for new examples. On examples that a model has fitted, they move its decisions less far, because few
    errors are left there. So in training the logits are moved down by a shift, as in logit adjustment. The shift is the
    distance from where the costs lead a model that knows the probabilities to where the loss of held-out examples is
    least. If the costs are learned again, what is still missing is added to it. `eval_loss` has the shift, too; ranking
    and diagnosis do not.

    Args:
        shifts: the number of logits that are moved, each by its own shift.

    Attributes:
        shift: what is taken from these logits, -3.7 to 3.7, shape `(shifts,)`; 0 until it is learned.

    References:
        Byrd and Lipton, *What is the Effect of Importance Weighting in Deep Learning?*, ICML 2019. Menon et al.,
        *Long-tail learning via logit adjustment*, ICLR 2021.
    """

    def __init__(self, shifts: int):
        super().__init__()
        self.register_buffer("shift", torch.zeros(shifts))

    @property
    @abstractmethod
    def costs(self) -> Tensor:
        """The costs, positive. Their geometric mean is about 1."""

    @abstractmethod
    def moved(self, features: Features, move: Tensor) -> Features:
        """The features of a model that adds this to its logits."""

    @abstractmethod
    def best_move(self, features: Features) -> Tensor:
        """What to add to the logits so that the loss of the examples is least, shape `(shifts,)`."""

    @abstractmethod
    def own_move(self, features: Features) -> Tensor:
        """How far the costs move the logits of a model whose probabilities are right, shape `(shifts,)`."""

    def settle(self, features: Features, earlier: "ShiftedCosts | None" = None) -> None:
        """Set the shift from held-out examples."""
        shift = self.best_move(features) - self.own_move(features)
        if earlier is not None:
            shift = shift + earlier.shift.to(shift) + earlier.own_move(features)
        self.shift.copy_(shift.clamp(-_LARGEST, _LARGEST))

    def foreseen(self, features: Features) -> Features | None:
        """Each part of the examples is moved as the others say. A part alone is too few to tell a gain from chance, and
        examples that tell their own move seem to gain."""
        part = torch.arange(len(next(iter(features.values())))) % _PARTS
        found = []
        for number in range(_PARTS):
            own = {name: value[part == number] for name, value in features.items()}
            others = {name: value[part != number] for name, value in features.items()}
            found.append(self.moved(own, self.best_move(others)))
        order = part.argsort(stable=True).argsort()
        return {name: torch.cat([moved[name] for moved in found])[order] for name in features}

    def score(self, features: Features) -> Tensor:
        return self.of_statistics(self.statistics(self.moved(features, -self.shift)))


class KindCosts(ShiftedCosts):
    """Base of losses with a cost for each of a few kinds of error, and one shift.

    Attributes:
        kinds: the names of the kinds of error.
    """

    kinds: ClassVar[tuple[str, ...]]

    def __init__(self):
        super().__init__(shifts=1)
        self.log_costs = nn.Parameter(torch.zeros(len(self.kinds)))

    @property
    def costs(self) -> Tensor:
        """The costs in the order of `kinds`, shape `(kinds,)`. Their geometric mean is about 1."""
        return costs_of(self.log_costs)

    def error_costs(self) -> dict[str, Tensor]:
        return dict(zip(self.kinds, self.costs.detach().cpu().split(1), strict=True))

    def regulariser(self) -> Tensor:
        """A penalty that keeps costs near 1 that the metric does not tell."""
        return 0.01 * self.log_costs.square().sum()


def costs_of(logarithms: Tensor) -> Tensor:
    """Costs from their logarithms, which are centred and kept within bounds."""
    return (_LARGEST * ((logarithms - logarithms.mean()) / _LARGEST).tanh()).exp()


def best_shift(odds: Tensor, positive: Tensor, miss: Tensor, false_alarm: Tensor, kept: float) -> Tensor:
    """What to add to log-odds so that costs of wrong decisions in the log-probability are least, shape `(1,)`.

    Args:
        odds: log-odds of the positive decision, of any shape.
        positive: the share of each that should be positive, 0 to 1, of the same shape.
        miss: the cost of deciding against a positive one.
        false_alarm: the cost of deciding for another.
        kept: so many costs of 1 outweigh that the log-odds are moved at all.
    """
    odds, positive = odds.double(), positive.double()
    move = odds.new_zeros(1, requires_grad=True)

    def loss() -> Tensor:
        missed, invented = softplus(-odds - move), softplus(odds + move)
        errors = miss.double() * positive * missed + false_alarm.double() * (1 - positive) * invented
        return errors.sum() + kept / 2 * move.square().sum()

    minimise(loss, [move])
    return move.detach().float()


@torch.enable_grad()
def minimise(loss: Callable[[], Tensor], unknown: Sequence[Tensor]) -> None:
    """Set the unknown tensors, in place, to where a convex loss is least."""
    optimizer = torch.optim.LBFGS(unknown, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = loss()
        total.backward()
        return total

    optimizer.step(closure)
