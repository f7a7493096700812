import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest
from synthetic import synthetic
from synthetic_classes import synthetic_classes

import reloss_hf
from reloss_hf import ClassCosts, NgramSurrogate, Predictions, SurrogateLoss
from reloss_hf.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    synthetic().save(folder / "predictions")
    return folder


@pytest.fixture(scope="module")
def surrogate(folder):
    arguments = ["learn", str(folder / "predictions"), "--metric", "sacrebleu", "--output", str(folder / "surrogate")]
    assert main([*arguments, "--surrogate-class", "NgramSurrogate", "--group-size", "4", "--quiet"]) == 0
    return folder / "surrogate"


@pytest.fixture(scope="module")
def diagnosed(folder, surrogate):
    """What `reloss diagnose` prints, to the terminal and beside it."""
    arguments = [str(folder / "predictions"), "--metric", "sacrebleu", "--surrogate", str(surrogate)]
    with redirect_stdout(StringIO()) as output, redirect_stderr(StringIO()) as errors:
        assert main(["diagnose", *arguments, "--output", str(folder / "report"), "--resamples", "200"]) == 0
    return output.getvalue(), errors.getvalue()


def test_a_learned_surrogate_is_saved_with_its_card(surrogate):
    assert isinstance(SurrogateLoss.from_pretrained(surrogate), NgramSurrogate)
    assert "| this surrogate |" in (surrogate / "README.md").read_text()


def test_classifiers_are_learned_from_and_diagnosed_on_candidates_of_the_same_examples(tmp_path, capsys):
    """In the folder that a run leaves: each learning saved the same examples, under a name of its own."""
    for number in range(2):
        predictions = synthetic_classes(models=2, several=False)
        predictions.select(predictions.candidates == number).save(tmp_path / "predictions", f"learning-{number}")
    metric = ["--metric", "f1", "--metric-options", '{"average": "macro"}', "--quiet", "--output"]
    assert main(["learn", str(tmp_path / "predictions"), *metric, str(tmp_path / "surrogate")]) == 0
    printed = capsys.readouterr().out
    assert "candidates of held-out examples" in printed and re.search(r"^ClassCosts +\d\.\d+$", printed, re.M)
    learned = SurrogateLoss.from_pretrained(tmp_path / "surrogate")
    assert isinstance(learned, ClassCosts) and learned.classes == 6
    assert learned.info["metric_options"]["labels"] == [0, 1, 2, 3, 4, 5]

    diagnose = ["diagnose", str(tmp_path / "predictions"), *metric, str(tmp_path / "report"), "--resamples", "20"]
    assert main([*diagnose, "--surrogate", str(tmp_path / "surrogate")]) == 0
    printed = capsys.readouterr().out
    assert "within 32 sets of 32 candidates of the same 256 examples" in printed
    assert re.search(r"^ClassCosts \(.*/surrogate\) +-?\d\.\d+ \[", printed, re.M)
    assert (tmp_path / "report" / "costs.png").exists()


def test_the_diagnosis_is_printed_with_a_verdict_and_progress(folder, diagnosed):
    output, errors = diagnosed
    for name in ("cross-entropy", "TokenErrorProbability", "NgramSurrogate (cli0/surrogate)"):
        assert re.search(rf"^{re.escape(name)} +\d\.\d+ \[", output, re.M)
    assert "It is worth training on" in " ".join(output.split())
    assert f"Report: {folder / 'report' / 'report.html'}" in output
    assert "reloss diagnose " in (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert "Measuring losses: 100%" in errors


MISTAKES = [
    (["diagnose", "{}/nowhere", "--metric", "sacrebleu"], "nowhere holds no predictions"),
    (["diagnose", "{}/predictions", "--metric", "/no/metric.py"], "metric='/no/metric.py' could not be loaded"),
    (["diagnose", "{}/predictions", "--metric", "sacrebleu", "--group-size", "99"], "no candidate has 297 predictions"),
    (["diagnose", "{}/predictions", "--metric", "sacrebleu", "--surrogate", "{}"], "holds no surrogate"),
    (
        ["learn", "{}/predictions", "--metric", "sacrebleu", "--output", "{}/x", "--surrogate-class", "No"],
        "no surrogate 'No'",
    ),
    (
        ["diagnose", "{}/predictions", "--metric", "chrf", "--metric-options", '{{"lower": 1}}'],
        "'chrf' has no option 'lower'; it accepts ['char_order', 'word_order'",
    ),
    (["card", "{}/nowhere"], "is no folder here"),
    (["push", "{}/nowhere", "me/x"], "is no folder here"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_users_mistake_is_one_line_and_exit_code_1(folder, capsys, arguments, message):
    assert (
        main([argument.format(folder) for argument in arguments] + ["--quiet"] * (arguments[0] in "learn diagnose"))
        == 1
    )
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def run_python(*arguments):
    """A process of its own, in which nothing is imported yet."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=100)


def test_the_command_is_run_by_python_m_too():
    done = run_python("-m", "reloss_hf", "--version")
    assert done.returncode == 0 and done.stdout.startswith("reloss_hf ")
    done = run_python("-m", "reloss_hf", "nonesuch")
    assert done.returncode == 2 and "usage: reloss" in done.stderr


HEAVY = ("torch", "transformers", "datasets", "evaluate")


@pytest.mark.parametrize("arguments", [["--help"], ["learn", "--help"], ["nonesuch"], ["diagnose", "x"]])
def test_help_and_wrong_arguments_are_answered_before_anything_heavy_is_imported(arguments):
    done = run_python(
        "-c",
        f"""
import sys
from reloss_hf.cli import main
try:
    main({arguments})
except SystemExit as end:
    print([name for name in {HEAVY} if name in sys.modules], end.code)
""",
    )
    assert done.stdout.splitlines()[-1] == f"[] {0 if '--help' in arguments else 2}"


def test_the_package_imports_nothing_heavy_until_a_name_of_it_is_asked_for():
    done = run_python(
        "-c",
        f"""
import sys
import reloss_hf
print([name for name in {HEAVY} if name in sys.modules], reloss_hf.__version__)
from reloss_hf import SurrogateLoss
from reloss_hf.surrogate import surrogate_class
print(surrogate_class("NgramSurrogate").task, surrogate_class("SpanSurrogateMLP").task)
print(sorted(reloss_hf.__all__) == sorted(set(dir(reloss_hf)) & set(reloss_hf.__all__)))
try:
    reloss_hf.Nonesuch
except AttributeError as error:
    print(error)
""",
    )
    assert done.stdout.splitlines() == [
        f"[] {reloss_hf.__version__}",
        "token_sequence question_answering",
        "True",
        "module 'reloss_hf' has no attribute 'Nonesuch'",
    ], done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonesuch"],
        ["diagnose"],
        ["diagnose", "x"],
        ["learn", "x", "--metric", "y"],
        *(["diagnose", "x", "--metric", "y", "--metric-options", text] for text in ("{lowercase: true}", "[1]")),
    ],
)
def test_wrong_arguments_are_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: reloss" in capsys.readouterr().err


def test_options_of_a_metric_are_json_and_its_direction_is_its_own(folder, tmp_path):
    learn = ["learn", str(folder / "predictions"), "--metric", "ter", "--quiet", "--output"]
    own, told = tmp_path / "own", tmp_path / "told"
    assert main([*learn, str(own), "--metric-options", '{"case_sensitive": true}']) == 0
    assert main([*learn, str(told), "--no-lower-is-better"]) == 0
    infos = [SurrogateLoss.from_pretrained(path).info for path in (own, told)]
    assert [info["lower_is_better"] for info in infos] == [True, False]
    assert [info["metric_options"] for info in infos] == [{"case_sensitive": True}, {}]
    assert infos[0]["spearman_cross_entropy"] > 0 > infos[1]["spearman_cross_entropy"]
    assert ["case:mixed" in info["metric_signature"] for info in infos] == [True, False]
    assert '| its options | {"case_sensitive": true} |' in (own / "README.md").read_text()


@pytest.mark.parametrize("command", [[], ["diagnose"], ["learn"], ["push"], ["card"]])
def test_help_teaches_by_example(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert re.search(r"examples?:\n +reloss " + (command[0] if command else "diagnose"), text)
    assert max(map(len, text.splitlines())) < 121


def test_a_damaged_shard_is_a_warning_and_the_rest_is_diagnosed(folder, tmp_path, capsys):
    predictions = synthetic()
    predictions.save(tmp_path / "predictions")
    Predictions.load(tmp_path / "predictions").select(range(10)).save(tmp_path / "predictions", "cut")
    path = tmp_path / "predictions" / "cut-00000.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    arguments = ["diagnose", str(tmp_path / "predictions"), "--metric", "sacrebleu", "--output", str(tmp_path / "r")]
    assert main([*arguments, "--resamples", "20", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert "cut-00000.safetensors is damaged and left out" in captured.err
    assert "all groups" in captured.out


def test_a_card_is_brought_up_to_date(surrogate, capsys):
    (surrogate / "README.md").write_text("My own words.\n" + (surrogate / "README.md").read_text().split("---\n", 2)[2])
    assert main(["card", str(surrogate), "--repo-id", "me/mine"]) == 0
    text = (surrogate / "README.md").read_text()
    assert "My own words." in text
    assert 'surrogate="me/mine"' in text
    assert "library_name: reloss_hf" in text
