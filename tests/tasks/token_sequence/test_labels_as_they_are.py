"""Labels as data sets have them: none in a micro-batch, negative ones, padding that is trained on, a single token."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from reloss_hf import ReLossTrainer, ReLossTrainingArguments
from reloss_hf.surrogate import surrogate_class

WORDS = 43
LOSSES = ("NgramSurrogate", "LogNgramSurrogate", "TokenCrossEntropy", "TokenErrorProbability")
LOSSES += ("TransformerTokenSurrogate",)


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=WORDS, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                    num_key_value_heads=2)
    )  # fmt: skip


def sentences(count, length=6):
    draw = torch.Generator().manual_seed(0)
    ids = [torch.randint(3, WORDS, (length,), generator=draw) for _ in range(count)]
    return [{"input_ids": row, "labels": row.clone()} for row in ids]


def settings(folder, **changes):
    return {
        "output_dir": str(folder), "max_steps": 1, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8,
        "optim": "sgd", "learning_rate": 0.1, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
        "use_cpu": True, "disable_tqdm": True, **changes,
    }  # fmt: skip


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("filters", [True, False])
def test_a_micro_batch_without_labels_leaves_loss_and_logs_those_of_the_plain_trainer(tmp_path, filters):
    rows = sentences(8)
    rows[3]["labels"] = torch.full((6,), -100)
    plain = Trainer(llama(), TrainingArguments(**settings(tmp_path)), train_dataset=rows)
    ours = ReLossTrainer(
        llama(),
        ReLossTrainingArguments(**settings(tmp_path, surrogate_start=None, logging_nan_inf_filter=filters)),
        train_dataset=rows,
    )
    plain.train()
    ours.train()
    expected, found = plain.state.log_history, ours.state.log_history
    assert found[0]["loss"] == pytest.approx(expected[0]["loss"])
    assert found[0]["cross_entropy"] == pytest.approx(expected[0]["loss"])
    assert found[1]["train_loss"] == pytest.approx(expected[1]["train_loss"])
    torch.testing.assert_close(weights(ours.model), weights(plain.model))


@pytest.mark.parametrize("name", LOSSES)
def test_rows_of_one_token_cost_nothing(tmp_path, name):
    changes = {"surrogate_start": 0, "logging_nan_inf_filter": False, "per_device_train_batch_size": 2}
    trainer = ReLossTrainer(
        llama(),
        ReLossTrainingArguments(**settings(tmp_path, **changes)),
        train_dataset=sentences(16, length=1),
        surrogate=surrogate_class(name)(),
    )
    before = weights(trainer.model)
    trainer.train()
    logs = trainer.state.log_history[0]
    assert logs["cross_entropy"] == 0
    assert logs["surrogate_loss"] == pytest.approx(logs["loss"])
    assert weights(trainer.model).equal(before)


class Unigrams(nn.Module):
    """Its loss passes over -1, as that of nanoGPT does."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Embedding(WORDS, 16), nn.Linear(16, WORDS))

    def forward(self, input_ids, labels=None):
        logits = self.net(input_ids)
        loss = None if labels is None else cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)
        return {"logits": logits} if loss is None else {"loss": loss, "logits": logits}


def test_any_negative_label_is_no_target(tmp_path, tokenizer):
    rows = sentences(16)
    for row in rows:
        row["labels"][[1, 4]] = -1
    args = ReLossTrainingArguments(**settings(tmp_path, max_steps=4, surrogate_start=2))
    trainer = ReLossTrainer(Unigrams(), args, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    assert trainer.surrogate_in_force
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    outputs, task = trainer.model(**batch), trainer.task
    assert task.weight(batch) == 16 * 4
    features = task.features(trainer.model, outputs, batch, ("target_log_probs",))
    mean = features["target_log_probs"].sum() / features["target_mask"].sum()
    torch.testing.assert_close(-mean, outputs["loss"])


def test_padding_that_the_models_loss_counts_is_counted(toy_model, tokenizer, tmp_path):
    model = toy_model().eval()
    batch = {"input_ids": torch.randint(3, WORDS, (4, 6)), "labels": torch.randint(3, WORDS, (4, 6))}
    batch["labels"][:, 4:] = tokenizer.pad_token_id
    task = ReLossTrainer(model, ReLossTrainingArguments(**settings(tmp_path)), train_dataset=sentences(8)).task
    features = task.features(model, model(**task.without_labels(batch)), batch, ("target_log_probs",))
    mean = features["target_log_probs"].sum() / features["target_mask"].sum()
    torch.testing.assert_close(-mean, model(**batch).loss)
