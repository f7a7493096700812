"""What is known of joints by their names: which are left and right, and which span the torso and the head."""

from collections.abc import Sequence

LSP_14 = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
)  # fmt: skip
COCO_17 = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
# Of COCO's joints: the deviation of what people mark, as a share of the square root of the person's area.
COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
)  # fmt: skip

Pairs = Sequence[Sequence[int]]
_KNOWN = {len(names): names for names in (LSP_14, COCO_17)}
_TORSO = (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"))
_HEAD = {14: (("neck", "head_top"),), 17: (("left_ear", "right_ear"),)}
_SIDES = (("left", "right"), ("Left", "Right"), ("L_", "R_"), ("l_", "r_"))


def names_of_joints(count: int) -> tuple[str, ...]:
    """The names of so many joints: those of Leeds Sports Poses for 14, of COCO for 17, else their numbers."""
    return _KNOWN.get(count) or tuple(f"joint_{number}" for number in range(count))


def left_and_right(names: Sequence[str]) -> list[tuple[int, int]]:
    """The numbers of the joints that differ only in their side: `left` and `right`, or `L_` and `R_`."""
    places, found = {name: place for place, name in enumerate(names)}, []
    for place, name in enumerate(names):
        others = (name.replace(left, right, 1) for left, right in _SIDES if left in name)
        found += [(place, places[other]) for other in others if other in places and other != name][:1]
    return found


def mirrored_order(pairs: Pairs, joints: int) -> list[int]:
    """The order of the joints after left and right are exchanged.

    Raises:
        ValueError: the pairs do not fit the joints.
    """
    order, seen = list(range(joints)), set()
    for pair in pairs:
        if len(pair) != 2 or pair[0] == pair[1] or not all(0 <= place < joints for place in pair) or seen & {*pair}:
            raise ValueError(
                f"flip_pairs={[tuple(pair) for pair in pairs]} do not fit {joints} joints: pass pairs of two numbers "
                f"from 0 to {joints - 1}, (left, right), each joint in one pair at most"
            )
        seen |= {*pair}
        order[pair[0]], order[pair[1]] = pair[1], pair[0]
    return order


def torso_of(joints: int) -> Pairs | None:
    """The two diagonals from a shoulder to the other hip, of 14 or 17 joints."""
    return _numbers(_TORSO, joints)


def head_of(joints: int) -> Pairs | None:
    """The neck and the top of the head, of 14 joints; the two ears, of 17."""
    return _numbers(_HEAD.get(joints, ()), joints)


def _numbers(pairs: Sequence[tuple[str, str]], joints: int) -> Pairs | None:
    names = _KNOWN.get(joints)
    return names and tuple((names.index(first), names.index(second)) for first, second in pairs)
