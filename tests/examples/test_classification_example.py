"""The example of classification, and the data that it makes for itself."""

from collections import Counter

import pytest
from places import ROOT

FOLDER = ROOT / "examples" / "classification"
SMALL = ["--layers", "1", "--width", "32", "--per_device_train_batch_size", "16", "--num_train_epochs", "2"]
SMALL += ["--warmup_steps", "5", "--surrogate_learn_again", "1", "--disable_tqdm", "True", "--use_cpu"]
pytest.importorskip("babel")
ARMS = ["cross_entropy", "surrogate"]


@pytest.fixture
def own_data(folder):
    import own_data

    return own_data


@pytest.fixture
def run(run_script, capsys):
    """Results, and what was printed."""

    def run(*arguments):
        return run_script("run_classification.py", *SMALL, *arguments), capsys.readouterr().out

    return run


def test_names_have_the_languages_that_use_them_and_there_is_a_tail(own_data):
    splits = own_data.load_names()
    rows = {row["text"]: row["label"] for part in splits.values() for row in part}
    assert sum(map(len, splits.values())) == len(rows)  # no name is in two parts
    assert set(rows["Schweiz"]) >= {"de", "sv"}
    counts = Counter(language for languages in rows.values() for language in languages)
    assert set(counts) == set(own_data.LANGUAGES)
    assert counts["en"] > 5 * counts["sl"]
    assert splits["train"].to_list() == own_data.load_names()["train"].to_list()


def test_digits_get_rarer_one_by_one(own_data):
    splits = own_data.load_digits()
    counts = Counter(label for part in splits.values() for label in part["label"])
    assert counts[0] > 2 * counts[5] > 4 * counts[9] > 0
    assert splits["train"][0]["image"].size == (8, 8)


def test_the_example_trains_both_arms_on_texts_from_one_warm_start(run, tmp_path):
    results, printed = run("--max_train_samples", "300", "--max_eval_samples", "100")
    assert [row["arm"] for row in results["arms"]] == ARMS
    start, arms = results["warm_start"], results["arms"]
    assert start["updates"] == 20 and all(row["updates"] == 28 for row in arms)
    for row in arms:
        assert row["metric"] == "f1 macro" and 0 <= row["score"] <= 1 and row["seconds"] > 0
        assert len(row["f1_by_class"]) == 20
        assert row["score"] == pytest.approx(sum(row["f1_by_class"]) / 20, abs=1e-3)
    assert (tmp_path / "out" / "f1_by_class.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "loss_against_f1.png").read_bytes().startswith(b"\x89PNG")
    assert "| surrogate | " in printed


def test_the_example_trains_on_images_by_a_metric_of_ones_choice(run):
    results, _ = run("--image", "--metric_name", "matthews_correlation", "--max_train_samples", "200")
    assert [row["arm"] for row in results["arms"]] == ARMS
    assert {row["metric"] for row in results["arms"]} == {"matthews_correlation"}


def test_pairs_of_texts_come_from_files_with_the_labels_as_they_are(run, tmp_path):
    rows = [f"a{number % 7},b{number % 3},{'same' if number % 4 else 'other'}" for number in range(200)]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.csv").write_text("\n".join(["first,second,class", *rows]) + "\n")
    files = [*("--train_file", str(tmp_path / "train.csv"), "--validation_file", str(tmp_path / "validation.csv"))]
    columns = ["--text_column_names", "first,second", "--label_column_name", "class", "--num_train_epochs", "1"]
    losses = ["--loss", "class_weights", "surrogate"]
    results, _ = run(*files, *columns, *losses)
    assert [row["arm"] for row in results["arms"]] == ["class_weights", "surrogate"]
    assert all(len(row["f1_by_class"]) == 2 for row in results["arms"])
