"""Classifiers trained on a learned loss of a metric, and everything that a sceptic would train or tune instead.

    python benchmarks/classification.py --shared ../shared/data --data go_emotions --seeds 0

One run at a time is trained, and added to the results at once; what is there is skipped. Within a data set and a seed
all arms continue one warm start for an epoch, on the same examples, with the same fresh optimizer and schedule; losses
take over from the third update on. Learning rates, and the power of class weights, are chosen on validation on the
first seed. `--table` prints the tables.
"""

from pathlib import Path

import torch
from classification_metrics import JUDGES, decide, tuned_shift
from classifiers import BATCH, CORPORA, Data, arguments, load_texts, optimizer_of, predict, warm_start
from one_by_one import SWITCH, TRAINERS, TimedTrainer, run_all, scaled, shared_flags, trained
from picture_classifiers import load_pictures
from results_file import Results

from reloss_hf import ReLossTrainingArguments
from reloss_hf.classes.losses import targets_of
from reloss_hf.tasks.classification.hand_made import (
    ClassWeightedCrossEntropy,
    LogitAdjustedCrossEntropy,
    SoftF1Loss,
)

# Trained for each metric; the others once for all rows of their data.
BY_METRIC = ("soft_f1", "surrogate", "shuffled_control")
ARMS = ("cross_entropy", "class_weights", "logit_adjustment", "as_written", *BY_METRIC)
ROWS = ("cross_entropy", "cross_entropy_tuned", "class_weights", "logit_adjustment", "soft_f1", "surrogate")
ROWS += ("as_written", "shuffled_control")
CONTROLS = {("go_emotions", "macro F1"), ("go_emotions", "micro F1"), ("tweet_eval_emoji", "macro F1"), ("cola", "MCC")}
# What is tried beside learning rates.
SETTINGS = {"class_weights": {"power": (1.0, 0.5)}}


def main() -> None:
    parser = shared_flags(__doc__, ARMS, "runs/classification")
    parser.add_argument("--pictures_model", type=Path, help="the folder of EfficientNet-Lite0, for clothing")
    parser.add_argument("--data", nargs="+", choices=JUDGES, default=list(JUDGES))
    parser.add_argument("--metrics", nargs="+", help="of those that arms are trained on; all by default")
    options = parser.parse_args()
    results = results_in(options.results)
    if options.table:
        results.print_rows()
        return results.print_specificity()

    def skipped(name: str, metric: str, arm: str, seed: int) -> bool:
        return (
            (arm in BY_METRIC and bool(options.metrics) and metric not in options.metrics)
            or (arm == "logit_adjustment" and name == "go_emotions")  # of several labels, weights are the usual remedy
            or (arm == "soft_f1" and JUDGES[name][metric].soft_f1 is None)
            or (arm == "shuffled_control" and (name, metric) not in CONTROLS)
        )

    def loaded(name: str, seed: int) -> dict:
        return load(options, name, seed) | {"folder": options.runs}

    run_all(options, results, options.data, loaded, run_arm, SETTINGS, skipped)


def results_in(folder: Path) -> Results:
    metrics = {data: {name: name for name in judges} for data, judges in JUDGES.items()}
    tables = {"go_emotions": ("go_emotions", "")}
    return Results(folder / "classification.json", ROWS, metrics, BY_METRIC, specificity_of=tables)


def load(options, name: str, seed: int) -> dict:
    corpus = CORPORA[name]
    if corpus.pictures:
        data = load_pictures(corpus, options.shared, options.pictures_model)
    else:
        data = load_texts(corpus, options.shared)
    judge = next(iter(JUDGES[name].values()))
    references = data.labels("validation")
    start = warm_start(corpus, data, seed, options.runs, lambda logits: judge(decide(logits, data.several), references))
    return {"data": data, "start": start}


def run_arm(
    arm: str, metric: str | None, variant: dict, name: str, seed: int, data: Data, start: dict, folder: Path
) -> dict:
    """Train, and measure all metrics of the data."""
    torch.manual_seed(seed)
    model = data.new_model()
    model.load_state_dict(start["model"])
    changes = {}
    if arm in TRAINERS:
        judge = JUDGES[name][metric] if metric else next(iter(JUDGES[name].values()))
        changes = {"metric": judge.metric, "metric_options": judge.options, "surrogate_dataset": data.held_out}
    elif arm != "cross_entropy":
        changes = {"surrogate": scaled(hand_made(arm, metric, variant, name, data), batches_of(data, start))}
    switch = None if arm == "cross_entropy" else SWITCH
    args = arguments(folder, data, num_train_epochs=1, warmup_steps=20, seed=seed, surrogate_start=switch)
    trainer = TRAINERS.get(arm, TimedTrainer)(
        model,
        ReLossTrainingArguments(**args),
        train_dataset=data.rest,
        data_collator=data.collate,
        optimizers=(optimizer_of(model, variant["factor"]), None),
        **changes,
    )
    run = {"bf16": data.bf16} | trained(trainer)
    run["warm_start"] = {"curve": start["curve"], "seconds": round(start["seconds"], 1)}
    logits = {part: predict(model, data, part) for part in ("held_out", "validation", "test")}
    settings = "-".join(str(value) for value in (name, seed, arm, metric, *variant.values()) if value is not None)
    torch.save(logits, folder / f"logits-{settings.replace('/', '')}.pt")
    references = {part: data.labels(part) for part in logits}
    for part in ("validation", "test"):
        decided = decide(logits[part], data.several)
        run[part] = {key: round(judge(decided, references[part]), 3) for key, judge in JUDGES[name].items()}
    if arm == "cross_entropy":
        run["tuned"] = {}
        for key, judge in JUDGES[name].items():
            shift = tuned_shift(logits["validation"], references["validation"], judge, data.several)
            run["tuned"][key] = round(judge(decide(logits["test"] + shift, data.several), references["test"]), 3)
    return run


def hand_made(arm: str, metric: str | None, variant: dict, name: str, data: Data):
    labels = torch.from_numpy(data.labels("rest"))
    targets = targets_of({"logits": torch.zeros(len(labels), len(data.names)), "labels": labels})
    frequencies = ((1 + targets.sum(0)) / (2 + len(targets))).tolist()
    if arm == "class_weights":
        return ClassWeightedCrossEntropy(frequencies, power=variant["power"])
    if arm == "logit_adjustment":
        return LogitAdjustedCrossEntropy(frequencies)
    return SoftF1Loss(JUDGES[name][metric].soft_f1)


def batches_of(data: Data, start: dict) -> list[dict]:
    """The features of the slice in batches, by the warm start."""
    labels = torch.from_numpy(data.labels("held_out"))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return [{"logits": start["held_out"][rows], "labels": labels[rows]} for rows in order.split(BATCH)]


if __name__ == "__main__":
    main()
