"""Training arguments of the ReLoss trainers."""

from dataclasses import dataclass, field

from transformers import Seq2SeqTrainingArguments, TrainingArguments


class Start(float):
    """A number, or `"None"` of a command line as None."""

    def __new__(cls, value: float | str) -> "Start | None":
        return None if value == "None" else super().__new__(cls, value)


@dataclass
class ReLossArguments:
    """What `ReLossTrainingArguments` and `ReLossSeq2SeqTrainingArguments` add to those of transformers, and a class of
    your own to those of another trainer:

        >>> @dataclass
        ... class MyArguments(ReLossArguments, SFTConfig): ...
    """

    surrogate_start: Start | None = field(
        default=0.7,
        metadata={
            "help": "When the surrogate replaces cross-entropy: below 1 a fraction of the run, from 2 on a step; 0 "
            "with a given surrogate: from the first step; None: never."
        },
    )
    surrogate_class: str | None = field(
        default=None,
        metadata={"help": "The class of the surrogate to learn, such as NgramSurrogate; None: the task's default."},
    )
    surrogate_predictions: str = field(
        default="forced",
        metadata={
            "help": "What is learned from: 'forced', the arg-max of the training batches' logits, with no further "
            "forward pass, or 'generate', the model's own decoding of surrogate_dataset (or eval_dataset): what the "
            "metric is really computed on, but slower."
        },
    )
    surrogate_snapshots: int = field(
        default=8,
        metadata={"help": "At how many times, evenly spread until surrogate_start, predictions are collected."},
    )
    surrogate_snapshot_size: int = field(
        default=512,
        metadata={"help": "How many examples are collected at each of these times, over all processes."},
    )
    surrogate_group_size: int | None = field(
        default=None,
        metadata={
            "help": "How many examples the metric is computed on at once while the surrogate is learned; None: as many "
            "as fit the task, 8 for text."
        },
    )
    surrogate_held_out_share: float = field(
        default=0.1,
        metadata={
            "help": "The share of the training data that is held out, and not trained on, to learn a surrogate from, "
            "for tasks that learn from candidates of the same examples (classification); surrogate_dataset= takes its "
            "place."
        },
    )
    surrogate_learn_again: int = field(
        default=3,
        metadata={"help": "How often a surrogate is learned again after the switch, for the same tasks."},
    )
    surrogate_cross_entropy_share: float = field(
        default=0.0,
        metadata={"help": "The share of cross-entropy, 0 to 1, that stays in the loss beside the surrogate."},
    )
    save_predictions: bool = field(
        default=False,
        metadata={
            "help": "Whether what was collected is written to output_dir/predictions, to be read by the reloss "
            "command. It holds texts of the training data, and goes along where output_dir is pushed to the hub."
        },
    )

    def __init_subclass__(cls, **keywords):
        super().__init_subclass__(**keywords)
        require_order(cls, ReLossArguments, TrainingArguments)

    def __post_init__(self):
        super().__post_init__()
        if self.surrogate_start is not None and self.surrogate_start < 0:
            raise ValueError(f"surrogate_start={self.surrogate_start} must be 0 or more, or None")
        if self.surrogate_start == 1:
            raise ValueError(
                f"surrogate_start={self.surrogate_start} may mean all of the run, or its first step: pass None for a "
                "run without a surrogate, 0 with surrogate= for one from the first step, a fraction below 1, or a step "
                "from 2 on"
            )
        if self.surrogate_start is not None and self.surrogate_start > 1 and self.surrogate_start % 1:
            raise ValueError(
                f"surrogate_start={self.surrogate_start} must be a fraction below 1, or a whole step from 2 on"
            )
        if self.surrogate_predictions not in ("forced", "generate"):
            raise ValueError(f"surrogate_predictions={self.surrogate_predictions!r} must be 'forced' or 'generate'")
        if not 0 <= self.surrogate_cross_entropy_share <= 1:
            raise ValueError(
                f"surrogate_cross_entropy_share={self.surrogate_cross_entropy_share} must lie between 0 and 1"
            )
        if not 0 <= self.surrogate_held_out_share < 1:
            raise ValueError(f"surrogate_held_out_share={self.surrogate_held_out_share} must be 0 or more, and below 1")
        if self.surrogate_learn_again < 0:
            raise ValueError(f"surrogate_learn_again={self.surrogate_learn_again} must be 0 or more")
        for name in ("surrogate_snapshots", "surrogate_snapshot_size", "surrogate_group_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.surrogate_group_size is not None and self.surrogate_snapshot_size < self.surrogate_group_size:
            raise ValueError(
                f"surrogate_snapshot_size={self.surrogate_snapshot_size} must be at least "
                f"surrogate_group_size={self.surrogate_group_size}"
            )


def require_order(mixed: type, mixin: type, base: type) -> None:
    """Raises TypeError where a class names the mixin behind what it is to change."""
    order = mixed.__mro__
    if base in order and order.index(base) < order.index(mixin):
        others = ", ".join(parent.__name__ for parent in mixed.__bases__ if parent is not mixin)
        raise TypeError(
            f"{mixed.__name__} names {mixin.__name__} behind {others}, where it changes nothing: write "
            f"class {mixed.__name__}({mixin.__name__}, {others})"
        )


@dataclass
class ReLossTrainingArguments(ReLossArguments, TrainingArguments):
    """`transformers.TrainingArguments` and the arguments of `ReLossArguments`."""


@dataclass
class ReLossSeq2SeqTrainingArguments(ReLossArguments, Seq2SeqTrainingArguments):
    """`transformers.Seq2SeqTrainingArguments` and the arguments of `ReLossArguments`."""
