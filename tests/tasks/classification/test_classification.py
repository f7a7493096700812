"""Classifiers learn the costs of their errors from a metric by name, and train on them."""

import logging

import numpy as np
import pytest
import torch
from forced import Forced
from sklearn.metrics import f1_score
from toy_classes import CLASSES, Bag, make_model, make_rows, make_trainer, recall_of_rare, weights_of

from reloss_hf import SurrogateLoss
from reloss_hf.tasks import task_for

MACRO = {"average": "macro"}


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    trainer = make_trainer(
        tmp_path_factory.mktemp("out"),
        several=True,
        model=Bag(several=True),
        metric=recall_of_rare,
        surrogate_dataset=make_rows(800, seed=7, several=True),
        arguments={"learning_rate": 0.1},
    )
    trainer.train()
    return trainer


def test_a_metric_that_cross_entropy_orders_badly_is_learned_and_takes_over(learned):
    report = learned.surrogate_report
    assert report.same_examples
    assert report.spearman > report.spearman_cross_entropy + 0.3
    in_force = {e["step"]: e["surrogate_in_force"] for e in learned.state.log_history if "surrogate_in_force" in e}
    assert in_force == {10: 0, 20: 0, 30: 0, 40: 1, 50: 1, 60: 1}


def test_what_the_metric_asks_for_costs_more(learned):
    missed, alarmed = learned.surrogate.costs
    assert (missed[1:] > 3 * alarmed[1:]).all()


def test_training_on_it_raises_the_metric(learned, tmp_path):
    test = make_rows(400, seed=5, several=True)
    plain = make_trainer(
        tmp_path, several=True, model=Bag(several=True), arguments={"surrogate_start": None, "learning_rate": 0.1}
    )
    plain.train()
    scores = []
    for trainer in (plain, learned):
        predicted = (trainer.predict(test).predictions > 0).astype(int)
        scores.append(recall_of_rare(predicted, np.array(test["labels"])))
    assert scores[1] > scores[0] + 0.1


def test_it_is_learned_at_the_switch_and_again(learned):
    steps = [e["step"] for e in learned.state.log_history if "surrogate_spearman" in e]
    assert steps == [30, 37, 45, 52]


def test_a_share_of_the_training_data_is_held_out_once_with_every_class_in_it(tmp_path, caplog):
    rows = make_rows(300, imbalance=2.0)
    with caplog.at_level(logging.WARNING):
        one, two = (make_trainer(tmp_path, train=rows, metric="f1", metric_options=MACRO) for _ in range(2))
    assert "30 of the 300 training examples are held out" in caplog.text
    assert len(one.train_dataset) == 270 and len(one.learning.dataset) == 30
    assert one.learning.dataset["input_ids"][:] == two.learning.dataset["input_ids"][:]
    assert set(one.learning.dataset["labels"][:]) == set(rows["labels"][:])
    kept = {tuple(row) for row in one.train_dataset["input_ids"][:]}
    assert not kept & {tuple(row) for row in one.learning.dataset["input_ids"][:]}


def test_a_slice_of_ones_own_leaves_the_training_data_alone(tmp_path):
    trainer = make_trainer(tmp_path, metric="f1", metric_options=MACRO, surrogate_dataset=make_rows(60, seed=3))
    assert len(trainer.train_dataset) == 1200 and len(trainer.learning.dataset) == 60


def test_a_shuffled_metric_is_refused_and_training_stays_on_cross_entropy(tmp_path, caplog):
    draw = np.random.default_rng(0)
    trainer = make_trainer(tmp_path, metric=lambda predictions, references: draw.random())
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "Training stays on cross-entropy" in caplog.text
    assert trainer.surrogate is None


def test_where_the_metric_falls_after_the_switch_training_goes_back(tmp_path, caplog):
    class Misled(Forced):
        """Learns the opposite of the metric that it looks at."""

        def _learn(self, *predictions):
            surrogate, report, _ = super()._learn(*predictions)
            surrogate.log_scale.data += 2
            surrogate.remainders.data = torch.tensor([[-6.0] * CLASSES, [3.0] * CLASSES])
            return surrogate, report, None

    rows = {"several": True, "arguments": {"surrogate_start": 0.5, "max_steps": 80, "surrogate_held_out_share": 0.3}}
    trainer = make_trainer(tmp_path, cls=Misled, metric="f1", metric_options=MACRO, **rows)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "f1 of the held-out examples became worse" in caplog.text
    in_force = [e["surrogate_in_force"] for e in trainer.state.log_history if "surrogate_in_force" in e]
    assert in_force[-1] == 0 and max(in_force) > 0


@pytest.mark.parametrize("several", [False, True])
def test_a_resumed_run_ends_as_one_that_was_not_stopped(tmp_path, several):
    def run(folder, **arguments):
        settings = {"save_strategy": "steps", "save_steps": 20, "max_steps": 60} | arguments
        return make_trainer(folder, cls=Forced, several=several, arguments=settings, metric="f1", metric_options=MACRO)

    whole = run(tmp_path / "whole")
    whole.train()
    resumed = run(tmp_path / "whole")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-40"))
    torch.testing.assert_close(weights_of(resumed), weights_of(whole), rtol=1e-5, atol=1e-6)
    assert torch.equal(resumed.surrogate.costs, whole.surrogate.costs)


def test_eight_micro_batches_have_the_step_of_one(tmp_path):
    runs = []
    for size, accumulation in ((8, 1), (1, 8), (4, 2)):
        arguments = {
            "max_steps": 6,
            "surrogate_start": 2,
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": accumulation,
            "optim": "sgd",
            "learning_rate": 0.1,
        }
        trainer = make_trainer(tmp_path, cls=Forced, arguments=arguments, metric="f1", metric_options=MACRO)
        trainer.train()
        runs.append(weights_of(trainer))
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(runs[0], runs[2], rtol=1e-4, atol=1e-6)


def test_predictions_are_saved_as_candidates_of_the_same_examples(tmp_path):
    from reloss_hf import Predictions

    arguments = {"save_predictions": True, "surrogate_learn_again": 1}
    trainer = make_trainer(tmp_path, cls=Forced, arguments=arguments, metric="f1", metric_options=MACRO)
    trainer.train()
    saved = Predictions.load(tmp_path / "predictions")
    assert saved.candidates.unique().tolist() == [0, 1]
    first, second = (saved.select(saved.candidates == number) for number in (0, 1))
    assert first.references == second.references
    assert not torch.equal(first.features["logits"], second.features["logits"])


def test_a_learned_surrogate_is_saved_and_trains_another_model(learned, tmp_path):
    learned.surrogate.save_pretrained(tmp_path / "surrogate")
    loaded = SurrogateLoss.from_pretrained(tmp_path / "surrogate")
    assert torch.equal(loaded.costs, learned.surrogate.costs)
    arguments = {"surrogate_start": 0, "max_steps": 2}
    again = make_trainer(tmp_path, several=True, arguments=arguments, surrogate=tmp_path / "surrogate")
    again.train()
    assert again.surrogate_in_force


def test_a_module_of_ones_own_is_known_by_its_logits_and_labels(tmp_path):
    trainer = make_trainer(tmp_path, model=Bag(), cls=Forced, metric="f1", metric_options=MACRO)
    assert trainer.task.name == "classification"
    trainer.train()
    assert trainer.surrogate_in_force and trainer.surrogate.classes == CLASSES


def test_the_class_of_the_model_tells_the_task():
    assert task_for(make_model()).name == "classification"


def test_integer_labels_of_several_at_once_are_cast(tmp_path):
    trainer = make_trainer(tmp_path, several=True, arguments={"max_steps": 2, "surrogate_start": None})
    trainer.train()
    assert np.isfinite(trainer.state.log_history[-1]["train_loss"])


def test_averages_are_over_all_classes_also_where_some_do_not_occur(tmp_path):
    trainer = make_trainer(tmp_path, metric="f1", metric_options=MACRO)
    score = trainer.learner.metric([0, 1, 1, 0], [0, 1, 0, 0], [range(4)])[0]
    assert score == pytest.approx(f1_score([0, 1, 0, 0], [0, 1, 1, 0], labels=range(4), average="macro"))


@pytest.mark.parametrize(
    ("keywords", "arguments", "message"),
    [
        ({"metric": lambda predictions, references: 0.5}, {}, "does not depend on the predictions"),
        ({"metric": "f1", "metric_options": {"average": "samples"}}, {}, "Samplewise metrics"),
        ({"metric": "f1"}, {}, "multiclass but average='binary'"),
        ({"metric": "f1", "metric_options": MACRO}, {"surrogate_held_out_share": 0.0}, "surrogate_dataset="),
        ({"metric": "f1", "metric_options": MACRO}, {"surrogate_held_out_share": 0.001}, "has 1 examples.*at least 20"),
        ({"metric": "f1", "metric_options": MACRO}, {"surrogate_held_out_share": 1.0}, "below 1"),
        ({"metric": "f1", "metric_options": MACRO}, {"surrogate_learn_again": -1}, "surrogate_learn_again=-1"),
        ({"metric": "f1", "metric_options": MACRO}, {"surrogate_class": "FocalLoss"}, "FocalLoss.*cannot be learned"),
        ({"metric": "f1"}, {"surrogate_predictions": "generate"}, "generates nothing"),
    ],
)
def test_bad_input_is_refused_at_construction(tmp_path, keywords, arguments, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        make_trainer(tmp_path, arguments=arguments, **keywords)


def test_a_regression_head_is_refused(tmp_path):
    with pytest.raises(ValueError, match="regression head"):
        make_trainer(tmp_path, model=make_model(classes=1), metric="f1")


def test_labels_outside_of_the_classes_are_named(tmp_path):
    rows = make_rows(300).map(lambda row: {"labels": row["labels"] + 2})
    with pytest.raises(ValueError, match=r"labels \[4, 5\] are no classes of the model, which are 0 to 3"):
        make_trainer(tmp_path, train=rows, metric="f1", metric_options=MACRO)


def test_a_class_that_never_occurs_in_the_slice_is_named_and_costs_what_others_do(tmp_path, caplog):
    held_out = make_rows(300, seed=4).filter(lambda row: row["labels"] != 3)
    trainer = make_trainer(tmp_path, cls=Forced, metric="f1", metric_options=MACRO, surrogate_dataset=held_out)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "never occur" in caplog.text and "[3]" in caplog.text
    costs = trainer.surrogate.costs.log()
    torch.testing.assert_close(costs[:, 3], costs[:, :3].mean(1), rtol=0.2, atol=0.2)


def test_candidates_that_the_metric_cannot_score_are_left_out_and_counted(tmp_path):
    def picky(predictions, references):
        if np.asarray(predictions)[:3].sum() % 4 == 0:
            raise ZeroDivisionError("nothing of that")
        return recall_of_rare(predictions, references)

    model, held_out = Bag(several=True), make_rows(400, seed=7, several=True)
    arguments = {"learning_rate": 0.1, "surrogate_learn_again": 0}
    trainer = make_trainer(
        tmp_path, several=True, model=model, metric=picky, surrogate_dataset=held_out, arguments=arguments
    )
    with pytest.warns(UserWarning, match="could not score"):
        trainer.train()
    report = trainer.surrogate_report
    assert 0 < report.groups_left_out < report.held_out_groups * 4
    assert report.spearman > report.spearman_cross_entropy
