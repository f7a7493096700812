"""The common part of the example scripts: flags, data, arms that continue one warm start, and their scores."""

import copy
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import datasets
from transformers import HfArgumentParser, PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from reloss_hf import ReLossCallback
from reloss_hf.sharing.plots import plot_held_out, to_png

# Training arguments for the corpora that the examples make themselves.
DEFAULTS = {
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "warmup_steps": 200,
    "logging_steps": 50,
    "save_strategy": "no",
    "report_to": "none",
}
_SPEARMANS = ("spearman", "spearman_within")
INITIAL_MODEL = "initial_model"


@dataclass
class DataArguments:
    dataset_name: str | None = field(default=None, metadata={"help": "A data set of the hub."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Its configuration."})
    train_file: str | None = field(default=None, metadata={"help": "A file of JSON lines, CSV or Parquet."})
    validation_file: str | None = field(default=None, metadata={"help": "Likewise."})
    test_file: str | None = field(default=None, metadata={"help": "Likewise; by default the validation data."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on so many examples."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Validate and test on so many examples."})


def parse(*classes: type, **defaults: Any) -> tuple:
    """The command line as objects of these data classes.

    Args:
        defaults: of training arguments, in addition to `DEFAULTS`.
    """
    parser = HfArgumentParser(classes)
    parser.set_defaults(**DEFAULTS | defaults)
    return parser.parse_args_into_dataclasses()


class WarmStart(ReLossCallback):
    """Ends the run with a checkpoint just before the surrogate would be learned. All arms start from it."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.start_step:
            control.should_save = control.should_training_stop = True


@dataclass
class Experiment(ABC):
    """Trains and evaluates the arms. A repeated script skips the finished parts.

    Attributes:
        metric: the name of the metric, for the plot and for the files.
    """

    args: TrainingArguments
    out: Path

    metric: ClassVar[str]

    @abstractmethod
    def trainer(self, arm: str, model: str | Path, callbacks=None, **changes) -> Trainer:
        """A trainer for a saved model, with the `--output_dir` of this arm and changes to the arguments."""

    @property
    def attention(self) -> str | None:
        """The attention of a model. On a CPU, the fused attention is slower on short sequences."""
        return "eager" if self.args.device.type == "cpu" else None

    @abstractmethod
    def score(self, folder: str | Path) -> dict:
        """The numbers of a saved model for the table, measured on the splits in their own order."""

    @abstractmethod
    def validation_score(self, model: PreTrainedModel) -> float:
        """The metric of a model in evaluation mode on the validation split, with the fastest decoding."""

    def arguments(self, arm: str, changes: dict[str, Any]) -> TrainingArguments:
        """The arguments of the script, with the output folder of this arm and the changes."""
        args = copy.copy(self.args)
        for name, value in {"output_dir": str(self.out / arm), **changes}.items():
            setattr(args, name, value)
        return args

    def compare(self, arms: dict[str, dict[str, Any]]) -> list[dict]:
        """Train the warm start and the arms, and write `results.json`. Returns the rows of the results.

        Args:
            arms: what each arm changes in the trainer of the warm start; see `arms_of`.
        """
        start, checkpoint = self.warm_start()
        rows = [self.arm(arm, checkpoint, **changes) for arm, changes in arms.items()]
        if self.args.process_index == 0:
            self.write_results(start, rows)
        return [start, *rows]

    def warm_start(self) -> tuple[dict, str]:
        """Train the warm start. Returns its row of the results and its checkpoint."""
        if get_last_checkpoint(make_folder(self.out / "warm_start")) is None:
            self.trainer("warm_start", self.out / INITIAL_MODEL, callbacks=[WarmStart()]).train()
        with self.args.main_process_first(desc="saving"):
            checkpoint = get_last_checkpoint(self.out / "warm_start")
        row = {"arm": "warm_start", "updates": int(checkpoint.rsplit("-", 1)[1])}
        return row | self.scores("warm_start", checkpoint), checkpoint

    def arm(self, arm: str, warm_start: str, **changes) -> dict:
        """Continue the warm start. Returns the row of the results for this arm."""
        path = make_folder(self.out / arm) / "row.json"
        if not path.exists():
            trainer = self.trainer(arm, warm_start, **changes)
            started = time.perf_counter()
            trainer.train(resume_from_checkpoint=warm_start)
            row = {"arm": arm, "updates": trainer.state.global_step, "seconds": round(time.perf_counter() - started, 1)}
            trainer.save_model()
            report = trainer.surrogate_report
            refused = report.objection if report is not None and trainer.surrogate is None else None
            row |= {"report": report and report.as_dict(), "refused": refused}
            if self.args.process_index == 0:
                path.write_text(json.dumps(row, indent=2))
                if report is not None:
                    picture = self.out / f"loss_against_{self.metric.lower()}.png"
                    picture.write_bytes(to_png(plot_held_out(trainer.learner.held_out_groups, report)))
        with self.args.main_process_first(desc="saving"):
            row = json.loads(path.read_text())
        return row | self.scores(arm, self.out / arm)

    def scores(self, arm: str, folder: str | Path) -> dict:
        """The scores of a saved model, from a file if they are known."""
        path = make_folder(self.out / arm) / f"{self.metric.lower()}.json"
        with self.args.main_process_first(desc="scoring"):
            if not path.exists():
                path.write_text(json.dumps(self.score(folder), indent=2))
        return json.loads(path.read_text())

    def write_results(self, warm_start: dict, arms: list[dict]) -> None:
        """Write `results.json`. If there is a surrogate's report, cross-entropy gets its Spearmans from it."""
        report = next((arm["report"] for arm in arms if arm["report"]), None)
        for arm in arms:
            for name in _SPEARMANS:
                base = name.replace("spearman", "spearman_cross_entropy")
                measured = {"surrogate": name, "cross_entropy": base, "squared_error": base}
                arm[name] = report[measured[arm["arm"]]] if report and arm["arm"] in measured else None
        results = {"warm_start": warm_start, "arms": arms, "command": " ".join(sys.argv)}
        (self.out / "results.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def arms_of(names: list[str], base: str, not_learned: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the named arms change in the trainer, in their order in the table.

    Args:
        base: the name of the arm that stays on the loss before the switch.
        not_learned: the changes of the arms whose loss is given.
    """
    changes = {base: {"surrogate_start": None}, **not_learned, "surrogate": {}}
    return {arm: changes[arm] for arm in changes if arm in names}


def save_initial_model(model: PreTrainedModel, args: TrainingArguments) -> None:
    """Save the initial model of the warm start, on the first process, before the others continue."""
    with args.main_process_first(desc="saving"):
        if args.process_index == 0:
            model.save_pretrained(Path(args.output_dir) / INITIAL_MODEL)


def print_table(rows: list[dict], scores: list[str]) -> None:
    columns = [*scores, *_SPEARMANS, "updates", "seconds"]
    print(f"\n| arm | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for row in rows:
        print(f"| {row['arm']} | {' | '.join(_cell(name, row.get(name)) for name in columns)} |")
    for row in rows:
        if row.get("refused"):
            print(f"\nThe surrogate was refused, so its arm trained on cross-entropy: {row['refused']}")


def read_splits(data_args: DataArguments, own_corpus: Callable[[], datasets.DatasetDict]) -> datasets.DatasetDict:
    """The splits that `--dataset_name` or the `--…_file` flags name. Without these flags, the example's own corpus."""
    if data_args.dataset_name is not None:
        return datasets.load_dataset(data_args.dataset_name, data_args.dataset_config_name)
    if data_args.train_file is not None:
        files = {split: getattr(data_args, f"{split}_file") for split in ("train", "validation", "test")}
        kind = {".csv": "csv", ".parquet": "parquet"}.get(Path(data_args.train_file).suffix, "json")
        return datasets.load_dataset(kind, data_files={split: path for split, path in files.items() if path})
    return own_corpus()


def limited(raw: datasets.DatasetDict, data_args: DataArguments) -> datasets.DatasetDict:
    """`train`, `validation` and `test`, cut to `--max_train_samples` and `--max_eval_samples`. `validation` replaces a
    missing `test`."""
    if "validation" not in raw:
        raise ValueError(f"the data set has {list(raw)}, and no validation data: pass --validation_file")
    sources = {"train": raw["train"], "validation": raw["validation"], "test": raw.get("test", raw["validation"])}
    most = dict.fromkeys(sources, data_args.max_eval_samples) | {"train": data_args.max_train_samples}
    return datasets.DatasetDict(
        {split: rows.select(range(min(most[split] or len(rows), len(rows)))) for split, rows in sources.items()}
    )


def with_columns(raw: datasets.DatasetDict, data_args: DataArguments, names: dict[str, str]) -> datasets.DatasetDict:
    """The data with the columns under the names that a script reads.

    Args:
        names: by the flag that says how a column is called in the data.
    """
    columns = {getattr(data_args, flag): name for flag, name in names.items()}
    missing = [column for column in columns if column not in raw["train"].column_names]
    if missing:
        flags = " and ".join(f"--{flag}" for flag in names)
        raise ValueError(f"the columns {missing} are none of {raw['train'].column_names}: pass {flags}")
    return raw.rename_columns({old: new for old, new in columns.items() if old != new})


def hold_out(raw: datasets.DatasetDict, args: TrainingArguments) -> None:
    """Move a share of `train` to the split `surrogate`, in place. Surrogates are learned from it, and no arm is trained
    on it."""
    parts = raw["train"].train_test_split(args.surrogate_held_out_share, seed=args.seed)
    raw["train"], raw["surrogate"] = parts["train"], parts["test"]


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if name in _SPEARMANS else str(value)
