"""Taggers trained on a learned loss of entity F1, and what a sceptic would train instead.

    python benchmarks/token_classification.py --shared ../shared/data --data wnut17 --seeds 0

One run at a time is trained, and added to the results at once; what is there is skipped. Within a data set and a seed
all arms continue one warm start of cross-entropy, which has stopped rising, for an epoch, on the same sentences, with
the same fresh optimizer and schedule; losses take over from the third update on. Learning rates, the weight of `O` and
the form of the Dice loss are chosen on validation on the first seed. WNUT17 is trained on tweets and judged on other
texts, so its losses are learned from validation; `surrogate_of_training` is learned from held-out tweets. `--table`
prints the table.
"""

from pathlib import Path

import torch
from classifiers import arguments
from one_by_one import SWITCH, TRAINERS, TimedTrainer, run_all, scaled, shared_flags, trained
from results_file import Results
from taggers import DATA, Data, load_sentences, optimizer_of, predict, scores, warm_start

from reloss_hf import (
    OutsideWeightedCrossEntropy,
    ReLossTrainingArguments,
    SurrogateLoss,
    TagDiceLoss,
    TagSoftF1Loss,
)

LEARNED_FROM = {"wnut17": "validation", "ncbi_disease": "held_out"}
LEARNERS = TRAINERS | {"surrogate_of_training": TimedTrainer}
ARMS = ("cross_entropy", "o_weight", "dice", "as_written", "surrogate", "shuffled_control", "surrogate_of_training")
# What is tried beside learning rates.
SETTINGS = {"o_weight": {"weight": (0.2, 0.5)}, "dice": {"of": ("tokens", "batch")}}


def main() -> None:
    parser = shared_flags(__doc__, ARMS, "runs/token_classification", seeds=range(5))
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--most", type=int, help="sentences of each split, for a quick look; all by default")
    options = parser.parse_args()
    metrics = {name: {"entity F1": "f1"} for name in DATA}
    path = options.results / "token_classification.json"
    results = Results(path, ARMS, metrics, others=("precision", "recall"))
    if options.table:
        return results.print_arms()

    def load(name: str, seed: int) -> dict:
        data = load_sentences(name, options.shared, options.most)
        return {"data": data, "start": warm_start(name, data, seed, options.runs), "folder": options.runs}

    def skipped(name: str, metric: str, arm: str, seed: int) -> bool:
        return arm == "surrogate_of_training" and LEARNED_FROM[name] == "held_out"

    return run_all(options, results, options.data, load, run_arm, SETTINGS, skipped)


def run_arm(arm: str, metric: None, variant: dict, name: str, seed: int, data: Data, start: dict, folder: Path) -> dict:
    """Train, and measure on validation and test."""
    torch.manual_seed(seed)
    model = data.new_model()
    model.load_state_dict(start["model"])
    if arm in LEARNERS:
        part = "held_out" if arm == "surrogate_of_training" else LEARNED_FROM[name]
        changes = {"metric": "seqeval", "surrogate_dataset": getattr(data, part).sort("length")}
    elif arm == "cross_entropy":
        changes = {}
    else:
        changes = {"surrogate": scaled(hand_made(arm, variant, data), start["held_out"])}
    switch = None if arm == "cross_entropy" else SWITCH
    args = arguments(folder, data, num_train_epochs=1, warmup_steps=10, seed=seed, surrogate_start=switch)
    trainer = LEARNERS.get(arm, TimedTrainer)(
        model,
        ReLossTrainingArguments(**args),
        train_dataset=data.rest,
        data_collator=data.collate,
        optimizers=(optimizer_of(model, variant["factor"]), None),
        **changes,
    )
    run = {"bf16": data.bf16} | trained(trainer)
    if trainer.learning is not None and trainer.surrogate is not None:
        costs = {kind: found.tolist() for kind, found in trainer.surrogate.error_costs().items()}
        run["costs"] = {kind: dict(zip(data.names, _rounded(found), strict=True)) for kind, found in costs.items()}
    run["warm_start"] = {key: start[key] for key in ("curve", "seconds", "validation", "test")}
    for part in ("validation", "test"):
        run[part] = scores(predict(model, getattr(data, part), data.collate), data.names)
    return run


def hand_made(arm: str, variant: dict, data: Data) -> SurrogateLoss:
    outside = data.names.index("O")
    if arm == "o_weight":
        return OutsideWeightedCrossEntropy(variant["weight"], outside)
    return TagDiceLoss() if variant["of"] == "tokens" else TagSoftF1Loss(outside=outside)


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]


if __name__ == "__main__":
    main()
