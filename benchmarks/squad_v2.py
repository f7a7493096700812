"""Readers that abstain, trained on a learned loss of SQuAD 2.0's F1, and what a sceptic would train or tune instead.

    python benchmarks/squad_v2.py --shared ../shared/data --seeds 0

The data are SQuADShifts; a third of the questions has another passage of the same source, without the answer. One run
at a time is trained, and added to the results at once; what is there is skipped. Within a seed all arms continue one
warm start of cross-entropy, which has stopped rising, for an equal number of updates, on the same questions, with the
same fresh optimizer and schedule; losses take over from the third update on. Learning rates are chosen on validation on
the first seed. `cross_entropy_tuned` is cross-entropy with the threshold that is best on validation. `--table` prints
the table.
"""

import torch
from one_by_one import SWITCH, TRAINERS, TimedTrainer, run_all, scaled, shared_flags, trained
from readers import EPOCHS, Data, load_questions, optimizer_of, predict, scores, settings, warm_start
from results_file import Results

from reloss_hf import AnswersCrossEntropy, ReLossTrainingArguments

NAME = "squadshifts"
ARMS = ("cross_entropy", "answers_cross_entropy", *TRAINERS)
ROWS = ("cross_entropy", "cross_entropy_tuned", *ARMS[1:])


def main() -> None:
    parser = shared_flags(__doc__, ARMS, "runs/squad_v2", seeds=range(5))
    parser.add_argument("--updates", type=int, default=48, help="of each arm")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the warm start, at most")
    parser.add_argument("--most", type=int, help="questions of each part, for a quick look; all by default")
    options = parser.parse_args()
    metrics = {NAME: {"SQuAD 2.0 F1": "f1"}}
    results = Results(options.results / "squad_v2.json", ROWS, metrics, others=("exact", "answer", "no_answer"))
    if options.table:
        return results.print_arms()

    def load(name: str, seed: int) -> dict:
        data = load_questions(options.shared, options.most)
        return {"data": data, "start": warm_start(data, seed, options.runs, options.epochs), "options": options}

    return run_all(options, results, [NAME], load, run_arm)


def run_arm(arm: str, metric: None, variant: dict, name: str, seed: int, data: Data, start: dict, options) -> dict:
    """Train, and measure on validation and test."""
    torch.manual_seed(seed)
    model = data.new_model()
    model.load_state_dict(start["model"])
    changes = {}
    if arm in TRAINERS:
        changes = {"metric": "squad_v2", "surrogate_dataset": data.held_out.windows}
    elif arm == "answers_cross_entropy":
        changes = {"surrogate": scaled(AnswersCrossEntropy(), start["held_out"])}
    args = settings(
        options.runs,
        data,
        seed=seed,
        max_steps=options.updates,
        warmup_steps=options.updates // 10,
        surrogate_start=None if arm == "cross_entropy" else SWITCH,
        surrogate_learn_again=1,  # predicting the slice takes as long as several updates
    )
    trainer = TRAINERS.get(arm, TimedTrainer)(
        model,
        ReLossTrainingArguments(**args),
        train_dataset=data.rest.windows,
        processing_class=data.tokenizer,
        data_collator=data.collate,
        optimizers=(optimizer_of(model, variant["factor"]), None),
        **changes,
    )
    run = {"bf16": data.bf16} | trained(trainer)
    if trainer.learning is not None and trainer.surrogate is not None:
        run["costs"] = {kind: round(float(cost), 3) for kind, cost in trainer.surrogate.error_costs().items()}
        run["shift"] = round(float(trainer.surrogate.shift), 3)
    run["warm_start"] = {key: start[key] for key in ("curve", "seconds", "validation", "test")}
    logits = {part: predict(model, getattr(data, part), data) for part in ("validation", "test")}
    for part, found in logits.items():
        run[part] = scores(found, getattr(data, part))
    if arm == "cross_entropy":
        best = run["validation"]["best"]
        run["tuned_validation"], run["tuned"] = (scores(logits[p], getattr(data, p), best) for p in logits)
    return run


if __name__ == "__main__":
    main()
