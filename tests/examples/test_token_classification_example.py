"""The example of tagging, and the corpus that it weaves for itself."""

import json
from functools import partial

import pytest
from places import ROOT

FOLDER = ROOT / "examples" / "token_classification"
SMALL = ["--layers", "1", "--width", "32", "--num_train_epochs", "2", "--vocabulary", "500"]
SMALL += ["--warmup_steps", "5", "--surrogate_learn_again", "0", "--disable_tqdm", "True", "--use_cpu"]
pytest.importorskip("babel")


@pytest.fixture
def corpus(folder):
    import cldr_corpus

    return cldr_corpus


@pytest.fixture
def run(run_script):
    return partial(run_script, "run_ner.py", *SMALL)


def test_sentences_hold_entities_and_what_looks_like_them(corpus):
    splits = corpus.load(train=300, validation=20, test=100)
    names = splits["train"].features["ner_tags"].feature.names
    entities = set()
    for row in splits["train"]:
        tags = [names[tag] for tag in row["ner_tags"]]
        assert len(tags) == len(row["tokens"]) and all(word.strip() for word in row["tokens"])
        for before, tag in zip(["O", *tags], tags, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]
        entities |= {tag[2:] for tag in tags if tag != "O"}
    assert entities == {"AMOUNT", "CURRENCY", "DATE", "TERRITORY"}
    text = [" ".join(row["tokens"]) for row in splits["train"]]
    assert any("may rain" in line for line in text) and any("Hotel is full" in line for line in text)
    assert splits["train"].to_list() == corpus.load(train=300, validation=20, test=100)["train"].to_list()
    seen = {word for row in splits["train"]["tokens"] for word in row}
    assert sum(word not in seen for row in splits["test"]["tokens"] for word in row) > 20


def test_the_example_trains_both_arms_from_one_warm_start(run, tmp_path, capsys):
    results = run("--max_train_samples", "400", "--max_eval_samples", "60")
    assert [row["arm"] for row in results["arms"]] == ["cross_entropy", "surrogate"]
    assert results["warm_start"]["updates"] == 14 and all(row["updates"] == 20 for row in results["arms"])
    for row in results["arms"]:
        assert all(0 <= row[name] <= 1 for name in ("precision", "recall", "f1", "f1_validation"))
        assert set(row["by_type"]) <= {"AMOUNT", "CURRENCY", "DATE", "TERRITORY"}
    assert (tmp_path / "out" / "precision_and_recall.png").read_bytes().startswith(b"\x89PNG")
    assert "| surrogate | " in capsys.readouterr().out


def test_files_with_names_of_tags_and_other_columns_are_taken(run, tmp_path):
    rows = [{"words": ["to", f"town{n % 5}", "x"], "tags": ["O", "B-LOC", "O"]} for n in range(120)]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = [*("--train_file", str(tmp_path / "train.jsonl"), "--validation_file", str(tmp_path / "validation.jsonl"))]
    columns = ["--text_column_name", "words", "--label_column_name", "tags"]
    options = ["--metric_options", '{"scheme": "IOB2", "mode": "strict"}', "--loss", "o_weight", "dice"]
    results = run(*files, *columns, *options)
    assert [row["arm"] for row in results["arms"]] == ["o_weight", "dice"]
