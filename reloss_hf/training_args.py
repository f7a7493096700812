"""Training arguments of the ReLoss trainers."""

from dataclasses import dataclass, field

from transformers import Seq2SeqTrainingArguments, TrainingArguments


class Start(float):
    """A number; the string `"None"`, from a command line, becomes None."""

    def __new__(cls, value: float | str) -> "Start | None":
        return None if value == "None" else super().__new__(cls, value)


@dataclass
class ReLossArguments:
    """The arguments that `ReLossTrainingArguments` and `ReLossSeq2SeqTrainingArguments` add to those of transformers.
    Mix this class into the arguments of another trainer in the same way:

        >>> @dataclass
        ... class MyArguments(ReLossArguments, SFTConfig): ...
    """

    surrogate_start: Start | None = field(
        default=0.7,
        metadata={
            "help": "When the surrogate replaces cross-entropy. A value below 1 is a fraction of the run, a value from "
            "2 on is a step. Pass 0 with a given surrogate to start at once, and None to stay on cross-entropy."
        },
    )
    surrogate_class: str | None = field(
        default=None,
        metadata={"help": "The class of the surrogate to learn, such as NgramSurrogate. None is the task's default."},
    )
    surrogate_predictions: str = field(
        default="forced",
        metadata={
            "help": "The predictions to learn from. 'forced' takes the arg-max of the training batches' logits and "
            "needs no further forward pass. 'generate' lets the model decode surrogate_dataset (or eval_dataset): the "
            "metric scores such outputs in the end, but decoding is slower."
        },
    )
    surrogate_snapshots: int = field(
        default=8,
        metadata={"help": "How often predictions are collected. The times are spread evenly until surrogate_start."},
    )
    surrogate_snapshot_size: int = field(
        default=512,
        metadata={"help": "How many examples are collected each time, over all processes."},
    )
    surrogate_group_size: int | None = field(
        default=None,
        metadata={
            "help": "How many examples the metric is computed on at once while the surrogate is learned. None is the "
            "task's default, 8 for text."
        },
    )
    surrogate_held_out_share: float = field(
        default=0.1,
        metadata={
            "help": "The share of the training data to hold out and learn a surrogate from; the model is not trained "
            "on it. For models of classes, tags and pixels and for readers that may abstain, which learn from "
            "candidates of the same examples. surrogate_dataset= replaces it."
        },
    )
    surrogate_learn_again: int = field(
        default=3,
        metadata={"help": "How often a surrogate is learned again after the switch, for the same tasks."},
    )
    surrogate_cross_entropy_share: float = field(
        default=0.0,
        metadata={"help": "The share of cross-entropy that stays in the loss after the switch, 0 to 1."},
    )
    save_predictions: bool = field(
        default=False,
        metadata={
            "help": "Whether to write the collected predictions to output_dir/predictions, for the reloss command. "
            "They contain texts of the training data. A push of output_dir to the hub uploads them too."
        },
    )

    def __init_subclass__(cls, **keywords):
        super().__init_subclass__(**keywords)
        require_order(cls, ReLossArguments, TrainingArguments)

    def __post_init__(self):
        super().__post_init__()
        if self.surrogate_start is not None and self.surrogate_start < 0:
            raise ValueError(f"surrogate_start={self.surrogate_start} is negative: pass 0 or more, or None")
        if self.surrogate_start == 1:
            raise ValueError(
                f"surrogate_start={self.surrogate_start} may mean the whole run or its first step: pass None to train "
                "without a surrogate, 0 with surrogate= to start at once, a fraction below 1, or a step from 2 on"
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
    """Raises TypeError if a class lists the mixin after the class that the mixin changes."""
    order = mixed.__mro__
    if base in order and order.index(base) < order.index(mixin):
        others = ", ".join(parent.__name__ for parent in mixed.__bases__ if parent is not mixin)
        raise TypeError(
            f"{mixed.__name__} lists {mixin.__name__} after {others}, so the mixin changes nothing: write "
            f"class {mixed.__name__}({mixin.__name__}, {others})"
        )


@dataclass
class ReLossTrainingArguments(ReLossArguments, TrainingArguments):
    """`transformers.TrainingArguments` and the arguments of `ReLossArguments`."""


@dataclass
class ReLossSeq2SeqTrainingArguments(ReLossArguments, Seq2SeqTrainingArguments):
    """`transformers.Seq2SeqTrainingArguments` and the arguments of `ReLossArguments`."""
