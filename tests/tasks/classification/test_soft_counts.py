"""The loss of soft counts learns which mean of which ratio a metric is, and costs learn in the probability, too."""

import pytest
import torch
from drawn_classes import CLASSES, drawn, predictions_of
from forced import Forced
from toy_classes import make_trainer, weights_of

from reloss_hf import CandidateLearner


def learned(metric: str, surrogate: str, **options):
    learner = CandidateLearner(metric, surrogate, metric_options=options)
    return learner.learn(predictions_of(drawn(True, offset=1.5))), learner.surrogate


@pytest.mark.parametrize("surrogate", ["SoftCounts", "ClassProbabilityCosts"])
def test_it_ranks_better_than_cross_entropy(surrogate):
    report, _ = learned("f1", surrogate, average="macro")
    assert report.spearman > 0.9 and report.objection is None


def test_it_finds_out_what_the_metric_is_a_mean_of():
    macro, micro = (learned("f1", "SoftCounts", average=average)[1] for average in ("macro", "micro"))
    assert micro.together.sigmoid() > macro.together.sigmoid() + 0.1
    _, f2 = learned("fbeta_score", "SoftCounts", average="macro", beta=2.0)
    _, half = learned("fbeta_score", "SoftCounts", average="macro", beta=0.5)
    miss_for_alarm = [(loss.log_ratios[1] - loss.log_ratios[0]).exp() for loss in (f2, macro, half)]
    assert miss_for_alarm[0] > 1.5 * miss_for_alarm[1] and miss_for_alarm[1] > 1.5 * miss_for_alarm[2]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("surrogate", ["ClassCosts", "SoftCounts", "ClassProbabilityCosts"])
def test_more_probability_for_a_gold_label_never_costs_more(surrogate, several):
    features = drawn(several)
    learner = CandidateLearner("f1", surrogate, metric_options={"average": "macro"})
    learner.learn(predictions_of(features))
    logits = features["logits"].requires_grad_(True)
    (slope,) = torch.autograd.grad(learner.surrogate.batch_loss(features), logits)
    gold = features["labels"].bool() if several else torch.nn.functional.one_hot(features["labels"], CLASSES).bool()
    assert (slope[gold] <= 0).all()


def test_eight_micro_batches_have_the_step_of_one(tmp_path):
    runs = []
    for size, accumulation in ((8, 1), (1, 8)):
        arguments = {
            "max_steps": 6,
            "surrogate_start": 2,
            "surrogate_class": "SoftCounts",
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": accumulation,
            "optim": "sgd",
            "learning_rate": 0.1,
        }
        options = {"metric": "f1", "metric_options": {"average": "macro"}}
        trainer = make_trainer(tmp_path, cls=Forced, arguments=arguments, **options)
        trainer.train()
        runs.append(weights_of(trainer))
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-6)
