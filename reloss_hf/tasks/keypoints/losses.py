"""Losses on heatmaps of keypoints.

| feature | shape | meaning |
|---|---|---|
| `heatmaps` | `(n, J, h, w)` | what the model gives for each joint |
| `keypoints` | `(n, J, 2)` | `(x, y)` of the joints in pixels of the model's input |
| `visible` | `(n, J)` | whether a joint is labelled and inside of the input |
| `input_size` | `(n, 2)` | width and height of the input in pixels |
| `heatmap_sigma` | `(n,)` | standard deviation of the Gaussian target in pixels of the heatmap |

| loss | learned | reads |
|---|---|---|
| `ExpectedMiss` | sharpness, radius, joint weights, share of the squared error | `1 - P(distance < r)` |
| `LogExpectedMiss` | the same | `-log P(distance < r)` |
| `GatedSquaredError` | a gate for each joint by the size of its error | squared error |
| `KeypointSquaredError` | nothing | squared error |

The loss of an example is the mean over its visible joints, and its weight is their number. The hand-made losses are in
`hand_made`.
"""

import math

import torch
from torch import Tensor, nn

from ...surrogate import CountedLoss, Features, SurrogateLoss
from .heatmaps import bumps, pixels_of_heatmap, without_tiny

# The least sharpness of a softmax and how many there are, where the mean heatmap is 1 at its peak.
_SHARPNESS, _DOUBLINGS = 4.0, 4  # 4, 8, 16 and 32
# Radii, in shares of the person's longer side.
_RADII = (0.02, 0.04, 0.08, 0.16, 0.32)
# The person's longer side is at least this share of the input's, as few joints may be visible.
_SMALLEST_PERSON = 0.25
# The standard deviation of a bump that has fallen to one half at a distance of 1.
_HALF = 1 / math.sqrt(2 * math.log(2))
# The least and the largest share of the squared error. Without it, only the order within a heatmap would be trained.
_SHARES = (0.2, 0.8)
# Logarithms of a joint's error, in mean errors, between which the gate is linear.
_KNOTS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
_LEAST = 1e-6
# The logarithm of a probability near 0 has no gradient worth following.
_LEAST_PROBABILITY = 1e-4


class KeypointLoss(SurrogateLoss):
    """Base of the losses on heatmaps. The loss of an example is the mean over its visible joints, and its weight is
    their number."""

    task = "keypoints"
    reads = ("heatmaps", "keypoints", "visible", "input_size", "heatmap_sigma")
    scores = ("heatmaps",)
    base_loss_name = "squared error"
    limits = (
        "It fits the model and the data that it was learned with. For others, learn it again.",
        "It knows one person in each image.",
    )

    @staticmethod
    def cross_entropy(features: Features) -> Tensor:
        """The squared error."""
        return mean_of_visible(squared_errors(features), features)

    @staticmethod
    def weights(features: Features) -> Tensor:
        """The number of visible joints of each example."""
        return features["visible"].float().sum(1)


class KeypointSquaredError(KeypointLoss):
    """The squared distance of a heatmap from a Gaussian of height 1, whose centre is not rounded to a pixel. The mean
    over pixels."""

    def score(self, features: Features) -> Tensor:
        return self.cross_entropy(features)


class ExpectedMiss(CountedLoss, KeypointLoss):
    """The expected miss under the softmax of a heatmap, `1 - P(distance < r)`, blended with the squared error.

    A place at a distance `d` from the gold one is `1 - 2 ** -(d / r)²` of a miss: 0 at the gold place, one half at the
    radius, 1 far away. The loss is a mean over several radii and over softmaxes of several sharpnesses. The weights of
    these are learned, and so are the weights of the joints and the share of the squared error. The radii are shares of
    the person's longer side. The sharpnesses and the scale of the squared error are measured on the heatmaps that it is
    learned from. So it is tied to no size of heatmaps. A higher heatmap at the gold place never costs more, unless it
    is above its target.

    Args:
        joints: the number of joints.
    """

    about = "is for the joints of the model that it was learned with"

    def __init__(self, joints: int):
        super().__init__()
        self.joints = joints
        self.sharpness = nn.Parameter(torch.zeros(_DOUBLINGS))
        self.radius = nn.Parameter(torch.zeros(len(_RADII)))
        self.log_weights = nn.Parameter(torch.zeros(joints))
        self.blend = nn.Parameter(torch.zeros(()))
        self.register_buffer("peak", torch.ones(()))
        self.register_buffer("error", torch.full((), 0.01))

    @property
    def weights_of_joints(self) -> Tensor:
        """The weights of the joints, shape `(joints,)`; their mean is 1."""
        return self.joints * self.log_weights.softmax(0)

    def error_costs(self) -> dict[str, Tensor]:
        return {"miss": self.weights_of_joints.detach().cpu()}

    @torch.no_grad()
    def observe(self, features: Features) -> None:
        """Measure the height of the peaks and the squared error."""
        visible = features["visible"]
        if visible.any():
            heatmaps = features["heatmaps"].float()
            self.peak.copy_((heatmaps.amax((2, 3)) - heatmaps.mean((2, 3)))[visible].mean().clamp(min=_LEAST))
            self.error.copy_(squared_errors(features)[visible].mean().clamp(min=_LEAST))

    def statistics(self, features: Features) -> Tensor:
        """The miss for each sharpness and radius, then the squared error, of each joint, divided by the number of
        visible joints, shape `(n, 21, joints)`."""
        return self._statistics(features["heatmaps"].unsqueeze(2), features)

    def mean_statistics_of_copies(self, copies: Features, count: int) -> Tensor:
        """The copies of an image share its targets, which are computed once."""
        images = len(copies["heatmaps"]) // count
        gold = {name: value[:images] for name, value in copies.items()}
        heatmaps = copies["heatmaps"].unflatten(0, (count, images)).permute(1, 2, 0, 3, 4)
        weights, total = self.weights(gold), 0
        for image in range(images):  # one at a time, so that its copies fit the cache
            of_image = {name: value[image, None] for name, value in gold.items()}
            statistics = self._statistics(heatmaps[image, None].contiguous(), of_image)
            total += weights[image] * statistics.unflatten(1, (count, -1))[0]
        return total / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def of_statistics(self, mean: Tensor) -> Tensor:
        share = _SHARES[0] + (_SHARES[1] - _SHARES[0]) * self.blend.sigmoid()
        misses = (self.sharpness.softmax(0).unsqueeze(1) * self.radius.softmax(0)).flatten()
        parts = torch.cat([(1 - share) * misses, share.view(1)])
        return torch.einsum("...pj,p,j->...", mean, parts, self.weights_of_joints)

    def regulariser(self) -> Tensor:
        """A penalty that keeps all weights near each other. A sharp softmax alone ranks best, and its gradient is 0 for
        most places."""
        others = torch.cat([self.sharpness, self.radius, self.blend.view(1)])
        return 0.1 * self.log_weights.square().mean() + 0.02 * others.square().mean()

    def _statistics(self, heatmaps: Tensor, features: Features) -> Tensor:
        """Those of copies, one after the other. The heatmaps have the shape `(n, joints, copies, h, w)`."""
        require_joints(self, features)
        errors = (heatmaps - targets_of(features).unsqueeze(2)).square().mean((3, 4)) / self.error
        radii = torch.tensor((*_RADII, torch.inf), device=heatmaps.device)  # the last counts all places
        widths = radii * _person_size(features).unsqueeze(1) * _HALF
        rows, columns = bumps(places_of(features).unsqueeze(2), widths.unsqueeze(1), heatmaps.shape[3:])
        near = (rows.unsqueeze(4) * columns.unsqueeze(3)).flatten(3).transpose(2, 3).contiguous()
        heatmaps, hits = heatmaps.flatten(3), []
        # The highest value is taken off for the range of floats alone.
        chances = (_SHARPNESS / self.peak * (heatmaps - heatmaps.detach().amax(3, keepdim=True))).exp()
        for doubling in range(_DOUBLINGS):
            chances = without_tiny(chances.square() if doubling else chances)
            counts = chances @ near
            hits.append((counts[..., :-1] / counts[..., -1:]).clamp(max=1))
        parts = torch.cat([self._miss(torch.cat(hits, 3)), errors.unsqueeze(3)], 3)
        return of_visible(parts.permute(0, 2, 3, 1).flatten(1, 2), features)

    @staticmethod
    def _miss(hit: Tensor) -> Tensor:
        return 1 - hit


class LogExpectedMiss(ExpectedMiss):
    """The same with the logarithm, `-log P(distance < r)`: a joint that is far from right keeps its gradient.

    Args:
        joints: the number of joints.
    """

    @staticmethod
    def _miss(hit: Tensor) -> Tensor:
        return -(hit + _LEAST_PROBABILITY).log()


class GatedSquaredError(CountedLoss, KeypointLoss):
    """The squared error of a joint times a gate, which is learned for each joint as a function of the error itself.

    It is the paper's loss on heatmaps, whose gate is a network that reads the whole map of errors. This gate reads its
    mean. It may fall where the error rises, so the loss is not monotone.

    Args:
        joints: the number of joints.

    References:
        Huang et al., *Relational Surrogate Loss Learning*, ICLR 2022.
    """

    about = "is for the joints of the model that it was learned with"

    def __init__(self, joints: int):
        super().__init__()
        self.joints = joints
        self.log_gates = nn.Parameter(torch.zeros(len(_KNOTS), joints))
        self.register_buffer("error", torch.full((), 0.01))

    @torch.no_grad()
    def observe(self, features: Features) -> None:
        """Measure the squared error."""
        if features["visible"].any():
            self.error.copy_(squared_errors(features)[features["visible"]].mean().clamp(min=_LEAST))

    def statistics(self, features: Features) -> Tensor:
        """The error of each joint at the knot next to it, divided by the number of visible joints, shape
        `(n, 7, joints)`."""
        require_joints(self, features)
        errors = squared_errors(features) / self.error
        knots = torch.tensor(_KNOTS, device=errors.device).view(1, -1, 1)
        places = (errors + _LEAST).log().clamp(_KNOTS[0], _KNOTS[-1]).unsqueeze(1)
        return of_visible((1 - (places - knots).abs()).clamp(min=0) * errors.unsqueeze(1), features)

    def of_statistics(self, mean: Tensor) -> Tensor:
        return (self.log_gates.exp() * mean).sum((-2, -1))

    def regulariser(self) -> Tensor:
        """A penalty that keeps the gates near 1."""
        return 0.03 * self.log_gates.square().mean()


def squared_errors(features: Features) -> Tensor:
    """The squared distance of each heatmap from its target, the mean over pixels, shape `(n, joints)`."""
    return (features["heatmaps"] - targets_of(features)).square().mean((2, 3))


def targets_of(features: Features) -> Tensor:
    """Gaussians of height 1 around the gold places, shape `(n, joints, h, w)`."""
    widths = features["heatmap_sigma"].unsqueeze(1)
    rows, columns = bumps(places_of(features), widths, features["heatmaps"].shape[2:])
    return rows.unsqueeze(3) * columns.unsqueeze(2)


def places_of(features: Features) -> Tensor:
    """The gold places in pixels of the heatmap, shape `(n, joints, 2)`."""
    return features["keypoints"] / pixels_of_heatmap(features["heatmaps"], features["input_size"]).unsqueeze(1)


def mean_of_visible(values: Tensor, features: Features) -> Tensor:
    """The mean of values of joints, `(n, joints)`, over those that are visible, `(n,)`."""
    return of_visible(values.unsqueeze(1), features).sum((1, 2))


def of_visible(values: Tensor, features: Features) -> Tensor:
    """Values of shape `(n, ..., joints)`, divided by the number of visible joints; 0 for others."""
    visible = features["visible"].unsqueeze(1)
    return values.masked_fill(~visible, 0) / visible.sum(2, keepdim=True).clamp(min=1)


def require_joints(loss: SurrogateLoss, features: Features) -> None:
    """Raises ValueError if a loss was learned for another number of joints."""
    if features["heatmaps"].shape[1] != loss.joints:
        raise ValueError(
            f"this {type(loss).__name__} is for {loss.joints} joints, but there are heatmaps of "
            f"{features['heatmaps'].shape[1]}: learn it again"
        )


def _person_size(features: Features) -> Tensor:
    """The longer side of the box around the visible joints, in pixels of the heatmap, shape `(n,)`."""
    keypoints, hidden = features["keypoints"], ~features["visible"].unsqueeze(2)
    sides = keypoints.masked_fill(hidden, -torch.inf).amax(1) - keypoints.masked_fill(hidden, torch.inf).amin(1)
    longest = features["input_size"].amax(1)
    longer = torch.maximum(sides.amax(1), _SMALLEST_PERSON * longest)
    return longer / pixels_of_heatmap(features["heatmaps"], features["input_size"]).mean(1)
