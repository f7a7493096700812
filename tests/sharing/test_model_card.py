import json
from types import SimpleNamespace

import datasets
import pytest
import torch
from huggingface_hub import ModelCard
from synthetic import synthetic
from synthetic_classes import synthetic_classes

from reloss_hf import CandidateLearner, NgramSurrogate, SurrogateLearner, SurrogateLoss
from reloss_hf.run.origin import training_origin
from reloss_hf.sharing.model_card import write_model_card


@pytest.fixture(scope="module")
def surrogate():
    learner = SurrogateLearner("sacrebleu", "NgramSurrogate", group_size=4, groups=64, steps=20, progress=False)
    learner.learn(synthetic())
    return learner.surrogate


def test_the_card_says_what_was_measured_and_nothing_else(surrogate, tmp_path):
    surrogate.info["training"] = {"model": "me/marian-toy", "dataset": "toy", "split": "train", "predictions": "forced"}
    card = ModelCard.load(write_model_card(surrogate, tmp_path, "me/reloss-bleu"))
    info = surrogate.info
    results = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert results == {
        "Spearman of the surrogate with bleu, all groups": round(info["spearman"], 4),
        "Spearman of cross-entropy with bleu, all groups": round(info["spearman_cross_entropy"], 4),
        "Spearman of the surrogate with bleu, within a candidate": round(info["spearman_within"], 4),
        "Spearman of cross-entropy with bleu, within a candidate": round(info["spearman_cross_entropy_within"], 4),
    }
    assert card.data.library_name == "reloss_hf"
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["toy"]
    assert card.data.tags == ["reloss", "relational-surrogate-loss", "bleu", "token-sequence"]
    for said in (
        f"| this surrogate | {info['spearman']:.3f} | {info['spearman_within']:.3f} |",
        f"over {info['held_out_groups']} groups of 4 held-out predictions",
        "| its settings | `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:",
        "| source model | me/marian-toy |",
        "| source data | toy, train |",
        "| learning rate | 0.03 |",
        "| `max_order` | 4 |",
        'surrogate="me/reloss-bleu"',
        "(held_out_groups.png)",
        "@inproceedings{huang2022relational",
    ):
        assert said in card.text
    assert (tmp_path / "held_out_groups.png").read_bytes().startswith(b"\x89PNG")


def test_the_card_of_costs_speaks_of_candidates_of_the_same_examples(tmp_path):
    learner = CandidateLearner("f1", metric_options={"average": "macro"}, sets=4, steps=25)
    learner.learn(synthetic_classes(models=1))
    card = ModelCard.load(write_model_card(learner.surrogate, tmp_path))
    info = learner.surrogate.info
    assert {result.metric_name: result.metric_value for result in card.data.eval_results} == {
        "Spearman of the surrogate with f1, candidates of the same examples": round(info["spearman"], 4),
        "Spearman of cross-entropy with f1, candidates of the same examples": round(info["spearman_cross_entropy"], 4),
    }
    for said in (
        f"over {info['held_out_groups']} candidates of sets of up to {info['group_size']} held-out examples. A",
        f"| | candidates of the same examples |\n|---|---|\n| this surrogate | {info['spearman']:.3f} |\n",
        f"| held-out candidates | {info['held_out_groups']} |",
        "For others, learn it again",
    ):
        assert said in card.text
    assert "groups of" not in card.text and "within a candidate" not in card.text


def test_a_surrogate_that_was_never_learned_claims_nothing(tmp_path):
    card = ModelCard.load(write_model_card(NgramSurrogate(), tmp_path))
    assert card.data.eval_results is None
    assert "Spearman" not in card.text
    assert not list(tmp_path.glob("*.png"))


def test_an_edited_card_keeps_what_a_user_wrote(surrogate, tmp_path):
    path = write_model_card(surrogate, tmp_path)
    text = path.read_text().replace("license: apache-2.0", "license: mit\nlanguage: de\nbase_model: me/marian")
    text = text.replace("- reloss\n", "- reloss\n- mine\n", 1).replace("\n# Ngram", "\n# Edited")
    path.write_text(text + "\n## My notes\n\nGood on holidays.\n")
    card = ModelCard.load(write_model_card(surrogate, tmp_path))
    assert card.data.license == "mit"
    assert card.data.language == "de"
    assert card.data.base_model == "me/marian"
    assert {"mine", "reloss", "bleu"} <= set(card.data.tags)
    assert len(card.data.eval_results) == 4
    assert card.text.count("## My notes\n\nGood on holidays.") == card.text.count("# NgramSurrogate") == 1
    assert "# Edited" not in card.text


def test_a_card_without_the_generated_part_gets_it_below(surrogate, tmp_path):
    (tmp_path / "README.md").write_text("# All mine\n\nHello.\n")
    card = ModelCard.load(write_model_card(surrogate, tmp_path))
    assert card.text.index("# All mine\n\nHello.") < card.text.index("# NgramSurrogate")


def test_the_groups_behind_a_card_are_saved_with_the_surrogate(surrogate, tmp_path):
    surrogate.save_pretrained(tmp_path)
    loaded = SurrogateLoss.from_pretrained(tmp_path)
    assert loaded.info == json.loads(json.dumps(surrogate.info))
    for name, values in vars(surrogate.held_out).items():
        assert getattr(loaded.held_out, name).equal(values)
    write_model_card(loaded, tmp_path)
    assert (tmp_path / "held_out_groups.png").exists()


def test_the_origin_names_a_data_set_of_the_hub_but_no_path_of_this_machine(tmp_path):
    args = SimpleNamespace(surrogate_predictions="forced", surrogate_snapshots=8, surrogate_snapshot_size=512)
    model = torch.nn.Linear(1, 1)
    model.name_or_path = str(tmp_path)
    info = datasets.DatasetInfo(builder_name="parquet", dataset_name="squad", config_name="plain_text")
    data = datasets.Dataset.from_dict({"a": [1]}, info=info, split="train")
    origin = training_origin(model, data, args)
    assert (origin["model"], origin["dataset"], origin["split"]) == (tmp_path.name, "squad", "train")
