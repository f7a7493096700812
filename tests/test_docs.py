"""The pages that readers see: every link leads somewhere, and every block of Python runs.

A block finds tiny models and data where a reader has real ones: under the same names in its namespace, or under the
same paths in the folder it runs in, where `from_pretrained` and `load_dataset` look before they ask the hub. Pushes and
pulls go to a hub on loopback.
"""

import ast
import json
import sys
from pathlib import Path
from types import ModuleType

import datasets
import evaluate
import huggingface_hub
import pytest
import toy_classes
import toy_pixels
import toy_poses
import toy_questions
import toy_speech
import toy_tags
from one_step import as_prompt, make_llama
from pages import read, slug
from places import ROOT, TESTS
from stand_in_hub import TOKEN, StandInHub
from tokenizers import processors
from toy_translation import SacrebleuModule, toy_pairs

import reloss_hf.tasks
from reloss_hf import (
    NgramSurrogate,
    ReLossSeq2SeqTrainer,
    ReLossSeq2SeqTrainingArguments,
    collect_predictions,
    prepare_pose_features,
)
from reloss_hf.learning.candidates import CandidateLearner

README, INDEX = ROOT / "README.md", ROOT / "docs" / "README.md"
DOCS = sorted(ROOT.glob("docs/**/*.md"))
LINKED = [README, *DOCS, *sorted(ROOT.glob("benchmarks/*.md")), *sorted(ROOT.glob("examples/**/README.md"))]
WITH_PYTHON = [path for path in DOCS if read(path).python]
# The loss that each block of the README ends on.
LOSSES_OF_THE_README = ["ClassCosts", "TagCosts", "LogExpectedMiss", "NgramSurrogate", "AnswersCrossEntropy"]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def hub():
    with StandInHub() as hub:
        yield hub


@pytest.fixture
def folder(hub, tmp_path, monkeypatch):
    """An empty folder to work in, with caches of its own, and the stand-in hub in place of the hub."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache" / "datasets")
    for name, value in hub.environment.items() | {("HF_TOKEN", TOKEN)}:
        monkeypatch.setenv(name, value)
    huggingface_hub.close_session()  # one that was opened before may take the way through a proxy
    (tmp_path / "page").mkdir()
    monkeypatch.chdir(tmp_path / "page")
    yield tmp_path / "page"
    huggingface_hub.close_session()


@pytest.fixture
def translation(warm_model, tokenizer, toy_data, collator):
    return {
        "model": warm_model(),
        "tokenizer": tokenizer,
        "train": toy_data(256),  # as many as are needed to learn a surrogate
        "validation": toy_data(16, seed=1),
        "collator": collator,
    }


@pytest.fixture
def make_trainer(translation):
    def make(**arguments):
        return ReLossSeq2SeqTrainer(
            model=translation["model"],
            args=ReLossSeq2SeqTrainingArguments(output_dir="out", surrogate_start=0, **arguments),
            train_dataset=translation["train"],
            processing_class=translation["tokenizer"],
            data_collator=translation["collator"],
        )

    return make


@pytest.fixture
def what_the_readme_downloads(folder, warm_model, tokenizer):
    """The models and data sets that its blocks name, tiny, in folders of the same names."""
    translator = "Helsinki-NLP/opus-mt-en-de"
    tokenizer.save_pretrained(translator)
    ends = type(tokenizer).from_pretrained(translator)  # a copy that ends its texts, as that of the real model does
    ends.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)]
    )
    ends.save_pretrained(translator)
    warm_model().save_pretrained(translator)
    data = Path("bentrevett/multi30k")
    data.mkdir(parents=True)
    for split, count in (("train", 64), ("validation", 16)):
        rows = [json.dumps({"en": english, "de": german}) for english, german in toy_pairs(count, seed=0)]
        (data / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")

    toy_questions.make_tokenizer(model_max_length=512).save_pretrained("google-bert/bert-base-uncased")
    toy_questions.make_model(length=512).save_pretrained("google-bert/bert-base-uncased")
    for split, count in (("train", 64), ("validation", 16)):
        toy_questions.make_examples(count, golds=2).to_json(f"{split}.jsonl")

    emotions = Path("google-research-datasets/go_emotions")
    emotions.mkdir(parents=True)
    for split, count in (("train", 800), ("validation", 16)):
        toy_questions.make_texts(count).to_json(emotions / f"{split}.jsonl")
    toy_questions.make_tokenizer(model_max_length=512).save_pretrained("answerdotai/ModernBERT-base")
    toy_questions.warm_classifier(toy_questions.make_texts(600, seed=1)).save_pretrained("answerdotai/ModernBERT-base")

    for split, count in (("", 600), ("_validation", 16)):
        toy_tags.make_sentences(count, seed=count).to_json(f"entities{split}.jsonl")
    toy_tags.make_tokenizer().save_pretrained("google-bert/bert-base-cased")
    toy_tags.warm_tagger(toy_tags.make_sentences(400, seed=1)).save_pretrained("google-bert/bert-base-cased")

    for split, count in (("", 400), ("_validation", 16)):
        rows = toy_poses.make_files(count, Path("persons"), seed=count)
        Path(f"poses{split}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    toy_poses.warm_vitpose().save_pretrained("usyd-community/vitpose-base-simple")
    toy_poses.make_processor().save_pretrained("usyd-community/vitpose-base-simple")


@pytest.fixture
def which_loss(folder, translation, monkeypatch):
    for name, value in {"sets": 3, "candidates": 12, "steps": 50}.items():
        monkeypatch.setitem(CandidateLearner.__init__.__kwdefaults__, name, value)
    NgramSurrogate().save_pretrained("out/surrogate")
    monkeypatch.setattr(evaluate, "load", {"sacrebleu": SacrebleuModule()}.__getitem__)
    classes = {"classifier": toy_classes.make_model(), "texts": toy_classes.make_rows(600)}
    tags = {"tagger": toy_tags.make_model(), "sentences": toy_tags.make_features(400)}
    monkeypatch.setattr("reloss_hf.tasks.semantic_segmentation.pixels.KEPT_PIXELS", 64)  # of images of 256
    pixels = {"segmenter": toy_pixels.make_convolutions(), "scenes": toy_pixels.make_scenes(200)}
    persons = prepare_pose_features(toy_poses.make_persons(200), toy_poses.make_processor())
    poses = {"pose_model": toy_poses.make_vitpose(17), "persons": persons}
    speech = {"recogniser": toy_speech.make_model(), "speech": toy_speech.make_rows(200, words=1)}
    speech |= {"speech_processor": toy_speech.make_processor(folder)}
    tokenizers = {"text_tokenizer": translation["tokenizer"], "tag_tokenizer": toy_tags.make_tokenizer()}
    return translation | classes | tags | pixels | poses | speech | tokenizers


@pytest.fixture
def command_line(folder, make_trainer, toy_data):
    return {"trainer": make_trainer(), "test": toy_data(16, seed=2)}


@pytest.fixture
def sharing(folder, make_trainer):
    return {"trainer": make_trainer(push_to_hub=True, hub_model_id="me/my-model")}


@pytest.fixture
def other_trainers(folder, translation, make_trainer, monkeypatch):
    pytest.importorskip("trl")
    # The page supposes a GPU: without one, TRL wants to be told to train on the CPU.
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    NgramSurrogate().save_pretrained("out/surrogate")
    collect_predictions(make_trainer(), translation["train"]).save("out/checkpoint-500/reloss_state")
    return translation | {
        "model": make_llama(translation["tokenizer"]),
        "train": translation["train"].map(as_prompt),
        "translator": translation["model"],
        "translations": translation["train"],
    }


@pytest.fixture
def adding_a_task(folder, monkeypatch):
    """The page adds its task to those of the library, which forgets it afterwards."""
    monkeypatch.setattr(reloss_hf.tasks, "TASKS", reloss_hf.tasks.TASKS)
    return {}


@pytest.mark.parametrize("path", LINKED, ids=name_of)
def test_every_link_leads_to_a_file_or_a_heading(path):
    assert read(path).broken_links() == []


def test_every_page_of_docs_is_in_the_index_and_in_the_readme():
    for page, folder in ((INDEX, ""), (README, "docs/")):
        linked = {target.partition("#")[0] for _, target in read(page).links}
        assert {f"{folder}{path.name}" for path in DOCS if path != INDEX} <= linked


@pytest.mark.parametrize("path", [README, *DOCS], ids=name_of)
def test_every_block_says_its_language_so_that_none_of_python_is_missed(path):
    assert {language for language, *_ in read(path).blocks} <= {"python", "bash"}


def test_the_blocks_of_the_readme_end_on_the_losses_that_they_promise(what_the_readme_downloads):
    losses = []
    for block in read(README).python:
        namespace = {}  # each block is whole
        exec(block, namespace)
        trainer = namespace["trainer"]
        assert trainer.surrogate_in_force
        assert 0 < trainer.reloss_callback.start_step < trainer.state.global_step
        losses.append(type(trainer.surrogate).__name__)
    assert losses == LOSSES_OF_THE_README


@pytest.mark.parametrize("path", WITH_PYTHON, ids=name_of)
def test_every_block_of_python_runs_after_those_before_it(path, request, caplog, monkeypatch):
    page = ModuleType("page")  # a module, as classes are pickled by the names of theirs
    vars(page).update(request.getfixturevalue(path.stem.replace("-", "_")))  # what the page supposes
    monkeypatch.setitem(sys.modules, "page", page)
    for block in read(path).python:
        exec(block, vars(page))
    assert "no surrogate could be learned" not in caplog.text  # which a run survives, with this warning


def test_the_page_on_adding_a_task_shows_the_code_that_is_tested():
    shown = "".join(
        text for language, _, text in read(ROOT / "docs" / "adding-a-task.md").blocks if language == "python"
    )
    tested = (TESTS / "test_custom_task.py").read_text(encoding="utf-8")
    definitions = [node for node in ast.parse(shown).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    assert {"GradeLoss", "GradingTask", "Grader"} <= {node.name for node in definitions}
    for node in definitions:
        assert ast.get_source_segment(shown, node) in tested, node.name


def test_what_a_block_raises_is_raised_with_the_line_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nx = 1\n```\n\n```python\nx\nundefined\n```\n")
    namespace = {}
    with pytest.raises(NameError, match="undefined") as caught:
        for block in read(page).python:
            exec(block, namespace)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (page, 9)


def test_a_block_that_does_not_end_is_an_error(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n")
    with pytest.raises(ValueError, match=r"page.md:1: the block does not end"):
        read(page)


def test_a_link_to_a_missing_file_or_heading_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# One\n```\n# Two\n```\n# One\n")
    links = ["other.md", "other.md#one-1", "#here", "https://example.org/x", "`[code](nothing.md)`"]
    broken = ["missing.md", "other.md#two", "other.md#one-2", "#there", "![image](missing.png)"]
    lines = [link if "](" in link else f"see [it]({link})" for link in (*links, *broken)]
    page = tmp_path / "page.md"
    ends = ["`a\nb` [over two\nlines](gone.md)", "[defined][one], [gone][two], [undefined][three]"]
    definitions = ["[one]: other.md", "[two]: gone.md"]
    page.write_text("# Here\n" + "\n".join([*lines, *ends, *definitions]) + "\n")
    found = [line.split(":")[1] for line in read(page).broken_links()]
    assert found == ["7", "8", "9", "10", "11", "14", "15", "15"]


def test_anchors_are_those_of_github():
    assert slug("Translation, Multi30k en→de: `1 - p`, a [link](x.md) & more_of it") == (
        "translation-multi30k-ende-1---p-a-link--more_of-it"
    )
