import json

import pytest
import torch

from reloss_hf import Predictions
from reloss_hf.learning.store import PredictionStore


def predictions(count, length=3, candidate=0, start=0):
    return Predictions(
        {"scores": torch.arange(float(count * length)).view(count, length), "grid": torch.ones(count, length, 2)},
        [f"prediction {start + i}" for i in range(count)],
        [f"reference {start + i}" for i in range(count)],
        torch.full((count,), candidate),
    )


def test_shorter_tensors_are_padded_with_zeros_when_joined():
    joined = Predictions.concatenate([predictions(2, length=3), predictions(1, length=5, candidate=1)])
    assert joined.features["scores"].shape == (3, 5)
    assert joined.features["scores"][0].tolist() == [0, 1, 2, 0, 0]
    assert joined.features["grid"].shape == (3, 5, 2)
    assert joined.candidates.tolist() == [0, 0, 1]


def test_saved_and_loaded_they_are_the_same(tmp_path):
    original = predictions(4)
    original.references[0] = {"text": ["a", "ä"], "answer_start": [0, 3]}
    original.save(tmp_path)
    loaded = Predictions.load(tmp_path)
    assert loaded.predictions == original.predictions
    assert loaded.references == original.references
    assert loaded.candidates.equal(original.candidates)
    assert all(loaded.features[name].equal(value) for name, value in original.features.items())


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("reloss_hf.learning.predictions.FORMAT_VERSION", 7)
    predictions(1).save(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 7, newer than 1: upgrade"):
        Predictions.load(tmp_path)


def test_writers_of_different_names_append_and_the_same_name_replaces(tmp_path):
    predictions(2500).save(tmp_path, "process-00000")
    predictions(10, start=5000).save(tmp_path, "process-00001")
    assert len(list(tmp_path.glob("*"))) == 4
    assert len(Predictions.load(tmp_path)) == 2510
    predictions(1100).save(tmp_path, "process-00000")
    loaded = Predictions.load(tmp_path)
    assert loaded.predictions == [f"prediction {i}" for i in (*range(1100), *range(5000, 5010))]


def test_a_shard_needs_nothing_of_this_library_to_be_read(tmp_path):
    original = predictions(3)
    original.save(tmp_path)
    raw = (tmp_path / "predictions-00000.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["references"]) == original.references
    assert header["scores"]["shape"] == [3, 3]


@pytest.mark.parametrize("kept", [0, 4, 0.1, 0.5, -1])
def test_a_truncated_shard_is_named_and_the_rest_is_used(tmp_path, kept):
    predictions(2, start=0).save(tmp_path, "whole")
    predictions(200, start=2).save(tmp_path, "cut")
    path = tmp_path / "cut-00000.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.warns(UserWarning, match=r"cut-00000\.safetensors is damaged and left out"):
        loaded = Predictions.load(tmp_path)
    assert loaded.predictions == ["prediction 0", "prediction 1"]


def test_an_unfinished_shard_is_not_seen(tmp_path, monkeypatch):
    predictions(2).save(tmp_path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        predictions(4).save(tmp_path)
    assert len(Predictions.load(tmp_path)) == 2


def test_a_folder_without_predictions_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no predictions"):
        Predictions.load(tmp_path / "nowhere")


def test_parts_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="'predictions': 1.*'references': 2"):
        Predictions({}, ["a"], ["a", "b"], torch.zeros(1))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_store_is_bounded_and_has_the_same_place_for_an_example_however_many_processes_there_are(processes):
    stores = [PredictionStore(10, process, processes) for process in range(processes)]
    examples = iter(range(24))
    placed = {}
    for _ in range(24 // 4):
        for store in stores:
            rows = [next(examples) for _ in range(4 // processes)]
            placed |= dict(zip(store.reserve(1, len(rows)), rows, strict=False))
    assert placed == {place: place for place in range(10)}
    assert stores[0].seen(1) == 24
    assert stores[0].seen(0) == 0


def test_rows_in_order_are_the_same_whoever_held_them():
    rows = Predictions.concatenate([predictions(4, candidate=c, start=4 * c) for c in (0, -1, 1)])
    shuffled = rows.select(torch.randperm(12, generator=torch.Generator().manual_seed(0))).in_order()
    assert shuffled.candidates.tolist() == [-1] * 4 + [0] * 4 + [1] * 4
    assert shuffled.predictions == rows.in_order().predictions
    assert shuffled.features["scores"].equal(rows.in_order().features["scores"])


def test_predictions_with_nan_or_infinite_scores_are_skipped_and_counted():
    store = PredictionStore(capacity=10)
    bad = predictions(4)
    bad.features["scores"][1, 2] = float("nan")
    bad.features["scores"][3, 0] = float("-inf")
    store.add(bad)
    assert store.predictions().predictions == ["prediction 0", "prediction 2"]
    assert store.skipped == 2


def test_features_of_one_number_are_stored_and_judged_like_others():
    store = PredictionStore(capacity=10)
    scored = predictions(3)
    scored.features["number"] = torch.tensor([1.0, float("inf"), 2.0])
    store.add(scored)
    store.add(scored.select([]))
    store.add(scored.select([2]))
    assert store.predictions().features["number"].tolist() == [1.0, 2.0, 2.0]
    assert store.skipped == 1


def test_a_store_continues_where_it_was_saved(tmp_path):
    store = PredictionStore(capacity=3)
    store.add(predictions(2).select(store.reserve(0, 2)))
    store.skipped = 5
    store.save(tmp_path)
    other = PredictionStore(capacity=3)
    other.load(tmp_path)
    assert list(other.reserve(0, 2)) == [2]
    assert other.predictions().predictions == ["prediction 0", "prediction 1"]
    assert other.skipped == 5


def test_of_several_processes_the_first_continues_with_what_was_saved(tmp_path):
    store = PredictionStore(capacity=6)
    store.add(predictions(4).select(store.reserve(0, 4)))
    store.save(tmp_path)
    others = [PredictionStore(6, process, processes=2) for process in range(2)]
    for other in others:
        other.load(tmp_path)
    assert [len(other) for other in others] == [4, 0]
    assert [list(other.reserve(0, 1)) for other in others] == [[4], [5]]


def test_an_empty_store_can_be_saved_and_loaded(tmp_path):
    PredictionStore(capacity=3).save(tmp_path)
    store = PredictionStore(capacity=3)
    store.load(tmp_path)
    assert len(store) == len(store.predictions()) == 0
