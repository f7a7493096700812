"""Reading comprehension through the trainers: a surrogate of SQuAD F1."""

import random

import datasets
import numpy as np
import pytest
import torch
from toy_questions import Squad, SquadV2, make_examples, make_model, make_tokenizer
from toy_training import learning_less
from transformers import DataCollatorWithPadding, DistilBertConfig, DistilBertForQuestionAnswering

from reloss_hf import (
    AnswersCrossEntropy,
    ExpectedF1Loss,
    GroupMetric,
    ReLossTrainer,
    ReLossTrainingArguments,
    SpanCrossEntropy,
    SurrogateLearner,
    SurrogateLoss,
    prepare_features,
    squad_compute_metrics,
)
from reloss_hf.surrogate import surrogate_class
from reloss_hf.tasks import Candidate, task_for
from reloss_hf.tasks.question_answering.task import QuestionAnsweringTask

SURROGATES = ("AnswersSurrogate", "ExpectedF1Loss", "SpanSurrogateMLP", "OverlapSurrogate", "SharpenedF1Surrogate")


@pytest.fixture(scope="module")
def toy():
    datasets.disable_progress_bars()
    tokenizer = make_tokenizer()
    examples = {"train": make_examples(1500), "validation": make_examples(200, seed=1)}
    features = {name: prepare_features(rows, tokenizer, 64, 16) for name, rows in examples.items()}
    return tokenizer, examples, features


@pytest.fixture(scope="module")
def learned_weights(toy):
    """Weights of a model that has learned to answer some of the toy questions."""
    tokenizer, _, features = toy
    model = make_model()
    optimizer, draw = torch.optim.Adam(model.parameters()), random.Random(0)
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 50)
        model(**batch_of(features["train"], tokenizer, draw.sample(range(1000), 32))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


@pytest.fixture
def make_trainer(toy, learned_weights, tmp_path):
    tokenizer, examples, features = toy

    def learned_model():
        model = make_model()
        model.load_state_dict(learned_weights)
        return model

    def make(model=None, train=None, arguments=(), **keywords):
        arguments = {
            "output_dir": str(tmp_path), "max_steps": 100, "learning_rate": 3e-3,
            "per_device_train_batch_size": 32, "per_device_eval_batch_size": 64, "surrogate_start": 0.7,
            "surrogate_group_size": 4,
            "report_to": "none", "use_cpu": True, "save_strategy": "no", "disable_tqdm": True, **dict(arguments),
        }  # fmt: skip
        trainer = ReLossTrainer(
            model=model or learned_model(),
            args=ReLossTrainingArguments(**arguments),
            train_dataset=train or features["train"],
            eval_dataset=features["validation"],
            processing_class=tokenizer,
            compute_metrics=squad_compute_metrics(examples["validation"], features["validation"], "squad"),
            **keywords,
        )
        return learning_less(trainer, groups=256, steps=60)

    return make


def batch_of(features, tokenizer, rows=range(32)):
    names = ("input_ids", "token_type_ids", "attention_mask", "start_positions", "end_positions")
    names = [name for name in names if name in features.column_names]
    return dict(DataCollatorWithPadding(tokenizer)(list(features.select_columns(names).select(rows))))


def generator():
    return torch.Generator().manual_seed(0)


def test_surrogate_of_f1_is_learned_ranks_better_than_cross_entropy_and_trains_the_model(make_trainer):
    arguments = {"max_steps": 300, "warmup_steps": 50, "surrogate_class": "SharpenedF1Surrogate"}
    trainer = make_trainer(make_model(), metric="squad", arguments=arguments)
    trainer.train()
    report = trainer.surrogate_report
    assert report.metric == "squad" and report.surrogate == "SharpenedF1Surrogate" and report.objection is None
    assert report.spearman > report.spearman_cross_entropy > 0.5
    assert trainer.surrogate_in_force
    assert trainer.evaluate()["eval_f1"] > 90
    references = [row["answers"]["text"][0] for row in trainer.predictions.references]
    assert all(len(text.split()) <= 4 for text in references)


def test_all_gold_answers_are_learned_from_and_with_one_alone_cross_entropy_stays(make_trainer, toy):
    several = prepare_features(make_examples(1500, golds=3), toy[0], 64, 16)
    trainer = make_trainer(train=several, metric="squad")
    trainer.train()
    assert trainer.surrogate_report.surrogate == "AnswersSurrogate"
    assert trainer.predictions.features["gold_spans"].shape[1:] == (3, 2)
    texts = [row["answers"]["text"] for row in trainer.predictions.references]
    assert all(1 <= len(answers) <= 2 and answers[0].split()[0] == answers[-1].split()[0] for answers in texts)
    alone = make_trainer(metric="squad")
    alone.train()
    assert alone.surrogate is None and "no better than cross-entropy" in alone.surrogate_report.objection


def test_where_no_metric_is_named_cross_entropy_with_all_answers_takes_over(make_trainer):
    trainer = make_trainer(arguments={"max_steps": 10, "logging_steps": 1})
    trainer.train()
    assert type(trainer.surrogate) is AnswersCrossEntropy
    assert [entry["surrogate_in_force"] for entry in trainer.state.log_history[:10]] == [0] * 7 + [1] * 3


@pytest.mark.parametrize("name", ["AnswersSurrogate", "SpanSurrogateMLP"])
def test_model_learns_from_random_start_on_surrogates_of_spans(make_trainer, name):
    arguments = {
        "max_steps": 300,
        "warmup_steps": 100,
        "per_device_train_batch_size": 64,
        "surrogate_start": 0,
    }
    torch.manual_seed(0)
    trainer = make_trainer(make_model(), surrogate=surrogate_class(name)(), arguments=arguments)
    trainer.train()
    assert trainer.evaluate()["eval_f1"] > 70  # 48 is the F1 of answering with the whole context


@pytest.mark.parametrize("surrogate", ["squad_f1", "ExpectedF1Loss", "OverlapSurrogate", "SharpenedF1Surrogate"])
def test_a_model_that_forgot_some_gains_on_surrogates_of_f1(make_trainer, surrogate):
    """From a random start they stay long with the whole context."""
    surrogate = surrogate if surrogate == "squad_f1" else surrogate_class(surrogate)()
    trainer = make_trainer(surrogate=surrogate, arguments={"max_steps": 60, "surrogate_start": 0})
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = trainer.evaluate()["eval_f1"]
    trainer.train()
    assert trainer.evaluate()["eval_f1"] > before + 5


def test_cross_entropy_of_spans_is_the_models_own(toy):
    tokenizer, _, features = toy
    inputs, model = batch_of(features["train"], tokenizer), make_model()
    outputs = model(**inputs)
    read = QuestionAnsweringTask(model, tokenizer).features(model, outputs, inputs, ())
    torch.testing.assert_close(SpanCrossEntropy()(read).mean(), outputs.loss)


@pytest.mark.parametrize("padding_side", ["right", "left"])
@pytest.mark.parametrize("token_types", [True, False])
def test_context_is_found_among_the_tokens_of_a_batch(padding_side, token_types):
    tokenizer = make_tokenizer(padding_side, token_types)
    features = prepare_features(make_examples(30, unanswerable=0.3), tokenizer, 20, 4)
    inputs = batch_of(features, tokenizer, range(len(features)))
    context, null = QuestionAnsweringTask(make_model(), tokenizer)._masks(inputs)
    for row, feature in enumerate(features):
        inside = [pair is not None for pair in feature["offset_mapping"]]
        assert context[row, : len(inside)].tolist() == inside and not context[row, len(inside) :].any()
        assert null[row].nonzero().flatten().tolist() == [feature["null_position"]]


def test_forced_predictions_are_the_best_spans_in_the_metrics_own_format(toy):
    tokenizer, _, features = toy
    inputs, model = batch_of(features["train"], tokenizer), make_model()
    task = QuestionAnsweringTask(model, tokenizer)
    outputs = model(**inputs)
    task.try_metric(GroupMetric("squad"), features["train"], 4)
    stored = task.forced_predictions(outputs, inputs, [Candidate(3)], range(20))
    assert len(stored) == 20 and stored.candidates.tolist() == [3] * 20
    assert len({row["id"] for row in stored.references}) == 20
    for row in range(20):
        context = stored.features["context_mask"][row].nonzero().flatten().tolist()
        pairs = [(s, e) for s in context for e in context if s <= e]
        s, e = max(pairs, key=lambda p, r=row: outputs.start_logits[r, p[0]] + outputs.end_logits[r, p[1]])
        assert stored.predictions[row]["prediction_text"] == tokenizer.decode(inputs["input_ids"][row, s : e + 1])
        gold = slice(inputs["start_positions"][row], inputs["end_positions"][row] + 1)
        assert stored.references[row]["answers"]["text"] == [tokenizer.decode(inputs["input_ids"][row, gold])]
        assert stored.references[row]["id"] == stored.predictions[row]["id"]


def test_ids_name_a_window_whatever_batch_it_is_in(toy):
    tokenizer, _, features = toy
    task = QuestionAnsweringTask(make_model(), tokenizer)
    ids = []
    for rows in (range(2), range(40)):  # padded to different lengths
        inputs = batch_of(features["train"], tokenizer, rows)
        stored = task.forced_predictions(make_model()(**inputs), inputs, [Candidate(0)], range(2))
        ids.append([row["id"] for row in stored.references])
    assert ids[0] == ids[1]


def test_corruption_spoils_predictions_and_improvement_mends_them(toy):
    tokenizer, _, features = toy
    inputs, metric = batch_of(features["train"], tokenizer, range(200)), GroupMetric("squad")
    task = QuestionAnsweringTask(make_model(), tokenizer)
    task.try_metric(metric, features["train"], 4)
    gold = torch.nn.functional.one_hot(torch.stack([inputs["start_positions"], inputs["end_positions"]]), 24).float()
    inputs = {k: torch.nn.functional.pad(v, (0, 24 - v.shape[1])) if v.dim() == 2 else v for k, v in inputs.items()}
    noise = torch.randn(2, 200, 24, generator=generator())

    def f1_and_loss(logits, **candidate):
        outputs = {"start_logits": logits[0], "end_logits": logits[1]}
        stored = task.forced_predictions(outputs, inputs, [Candidate(0, **candidate)], range(200))
        score = metric(stored.predictions, stored.references, np.arange(200)[None])[0]
        return score, float(ExpectedF1Loss()(stored.features).mean().detach())

    right, wrong = 9 * gold + noise, 4 * noise
    spoilt = [f1_and_loss(right, corruption=share) for share in (0.0, 0.3, 0.8)]
    mended = [f1_and_loss(wrong, corruption=share, improve=True) for share in (0.0, 0.3, 0.8)]
    assert spoilt[0][0] > 95 > spoilt[1][0] > spoilt[2][0]
    assert mended[0][0] < mended[1][0] < mended[2][0]
    for path in (spoilt, mended):  # the features tell of it, too
        assert (np.diff([loss for _, loss in path]) * np.diff([score for score, _ in path]) < 0).all()


def test_null_answers_are_learned_with_squad_v2(make_trainer, toy):
    tokenizer = toy[0]
    train = prepare_features(make_examples(1500, unanswerable=0.3), tokenizer, 64, 16)
    arguments = {"max_steps": 200, "surrogate_class": "SharpenedF1Surrogate"}
    trainer = make_trainer(train=train, metric=SquadV2(), arguments=arguments)
    trainer.train()
    assert trainer.surrogate_report.objection is None
    references = [row["answers"]["text"] for row in trainer.predictions.references]
    assert 0.2 < np.mean([not text for text in references]) < 0.4
    validation = make_examples(200, seed=2, unanswerable=0.3)
    features = prepare_features(validation, tokenizer, 64, 16)
    trainer.compute_metrics = squad_compute_metrics(validation, features, "squad_v2")
    scores = trainer.evaluate(features)
    assert scores["eval_HasAns_f1"] > 70 and scores["eval_NoAns_f1"] > 70


def test_squad_refuses_questions_without_an_answer_but_takes_windows_without_it(make_trainer, toy):
    tokenizer = toy[0]
    with pytest.raises(ValueError, match=r"'squad' cannot score questions without an answer.*squad_v2"):
        make_trainer(train=prepare_features(make_examples(200, unanswerable=0.2), tokenizer, 64, 16), metric=Squad())
    windows = prepare_features(make_examples(200), tokenizer, 14, 3)
    assert len(windows) > 250
    trainer = make_trainer(train=windows, metric=Squad(), arguments={"max_steps": 20})
    trainer.train()
    assert all(row["answers"]["text"] for row in trainer.predictions.references)


def test_exact_match_can_be_learned_by_its_key(make_trainer):
    arguments = {"max_steps": 30, "surrogate_class": "OverlapSurrogate"}
    trainer = make_trainer(metric=Squad(), metric_key="exact_match", arguments=arguments)
    trainer.train()
    assert trainer.surrogate_report.metric == "squad:exact_match"


def test_shuffled_metric_teaches_nothing(make_trainer):
    draw = np.random.default_rng(0)

    def shuffled(predictions, references):
        return draw.random()

    trainer = make_trainer(metric=shuffled, arguments={"max_steps": 30})
    trainer.train()
    assert trainer.surrogate_report.objection and trainer.surrogate is None


def test_surrogate_learned_in_training_is_loaded_again_and_learned_from_disk(make_trainer, tmp_path):
    trainer = make_trainer(make_model(), metric="squad", arguments={"max_steps": 100, "warmup_steps": 50})
    trainer.train()
    trainer.predictions.save(tmp_path / "predictions")
    learner = SurrogateLearner("squad", "SharpenedF1Surrogate", group_size=4, groups=512, steps=60, progress=False)
    assert learner.learn(tmp_path / "predictions").spearman > 0.5
    learner.surrogate.save_pretrained(tmp_path / "surrogate")
    loaded = SurrogateLoss.from_pretrained(tmp_path / "surrogate")
    again = make_trainer(surrogate=tmp_path / "surrogate", arguments={"surrogate_start": 0, "max_steps": 2})
    again.train()
    assert again.surrogate_in_force and torch.equal(again.surrogate.sharpness, loaded.sharpness)


def test_predictions_in_another_order_than_the_windows_are_not_scored(make_trainer, toy):
    with pytest.raises(ValueError, match="do not group them by length"):
        make_trainer(metric="squad").evaluate(toy[2]["validation"].select(range(199, -1, -1)))


def test_the_task_is_chosen_by_the_class_of_the_model_also_inside_of_a_wrapper(toy_model):
    config = DistilBertConfig(vocab_size=50, dim=8, hidden_dim=8, n_layers=1, n_heads=2)
    model = DistilBertForQuestionAnswering(config)
    assert task_for(model) is task_for(torch.nn.Sequential(model)) is QuestionAnsweringTask
    assert task_for(toy_model()) is not QuestionAnsweringTask


def test_model_without_token_types_is_trained(make_trainer, toy):
    config = DistilBertConfig(vocab_size=60, dim=16, hidden_dim=16, n_layers=1, n_heads=2, max_position_embeddings=64)
    trainer = make_trainer(DistilBertForQuestionAnswering(config), metric="squad", arguments={"max_steps": 30})
    trainer.train()
    assert trainer.surrogate_report is not None


def test_bad_use_is_named(make_trainer, toy):
    tokenizer = toy[0]
    task = QuestionAnsweringTask(make_model(), tokenizer)
    with pytest.raises(ValueError, match=r"no \['end_positions'\]"):
        task.require_labels({"input_ids": 1, "start_positions": 1})
    with pytest.raises(ValueError, match="generates nothing.*surrogate_predictions='forced'"):
        make_trainer(metric="squad", arguments={"surrogate_predictions": "generate"})
    with pytest.raises(ValueError, match="no 'start_logits'"):
        task.features(None, {"start_top_index": 0}, {}, ())
    with pytest.raises(ValueError, match="pass the tokenizer"):
        QuestionAnsweringTask(make_model(), None)
    with pytest.raises(ValueError, match=r"NgramSurrogate is for the task 'token_sequence'"):
        make_trainer(surrogate=surrogate_class("NgramSurrogate")())
