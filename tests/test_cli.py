import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch
from synthetic import synthetic
from torch.nn.functional import pad

from reloss_hf import (
    ExpectedF1Loss,
    GroupMetric,
    NgramSurrogate,
    Predictions,
    SpanCrossEntropy,
    SurrogateLoss,
    TokenErrorProbability,
    TokenSurrogate,
)
from reloss_hf.cli import main
from reloss_hf.diagnosis.diagnosis import diagnose, verdict
from reloss_hf.diagnosis.weights import weight_curve


class RewardsUnlikelyTargets(TokenSurrogate):
    """Rises with the probability of a target up to 1/4, and falls beyond."""

    def score(self, features):
        p = features["target_log_probs"].exp()
        return (p * (0.5 - p)).mean(1)


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
def report(folder, surrogate):
    arguments = [str(folder / "predictions"), "--metric", "sacrebleu", "--surrogate", str(surrogate)]
    command = [sys.executable, "-m", "reloss_hf", "diagnose", *arguments, "--output", str(folder / "report")]
    done = subprocess.run([*command, "--resamples", "200"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "report", done


def test_a_learned_surrogate_is_saved_with_its_card(surrogate):
    assert isinstance(SurrogateLoss.from_pretrained(surrogate), NgramSurrogate)
    assert "| this surrogate |" in (surrogate / "README.md").read_text()


def test_the_diagnosis_is_printed_with_a_verdict_and_progress(report):
    output, errors = report[1].stdout, report[1].stderr
    for name in ("cross-entropy", "TokenErrorProbability", "NgramSurrogate (cli0/surrogate)"):
        assert re.search(rf"^{re.escape(name)} +\d\.\d+ \[", output, re.M)
    assert "It is worth training on" in " ".join(output.split())
    assert "report.html" in output
    assert "Measuring losses: 100%" in errors


class References(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.references = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]


def test_the_report_is_one_file_that_refers_to_nothing(report):
    page = (report[0] / "report.html").read_text(encoding="utf-8")
    parser = References()
    parser.feed(page)
    assert parser.tags.count("img") == 2
    assert all(reference.startswith("data:image/png;base64,") for reference in parser.references)
    assert not {"script", "link", "iframe"} & set(parser.tags)
    assert not re.search(r"https?://|url\(|@import", page)
    numbers = json.loads((report[0] / "diagnosis.json").read_text())
    assert f"{numbers['losses']['cross-entropy']['within']['value']:.3f}" in page
    for picture in ("losses_against_metric.png", "weights.png"):
        assert (report[0] / picture).read_bytes().startswith(b"\x89PNG")


def test_the_report_opens_in_a_browser_without_a_network(report):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as browsers:
        try:
            browser = browsers.chromium.launch()
        except playwright.Error as error:
            pytest.skip(f"no browser: {error}")
        page = browser.new_page()
        problems, requests = [], []
        page.on("pageerror", problems.append)
        page.on("request", lambda request: requests.append(request.url))
        page.goto((report[0] / "report.html").as_uri())
        widths = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
        assert len(widths) == 2
        assert min(widths) > 300
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert not problems
        assert not [url for url in requests if not url.startswith(("file:", "data:"))]
        browser.close()


def test_intervals_hold_their_value_and_gains_are_measured_on_the_same_draws():
    losses = {"again": TokenErrorProbability()}
    found = diagnose(synthetic(), GroupMetric("sacrebleu"), losses, resamples=300, progress=False).losses
    for loss in found:
        for interval in (loss.overall, loss.last, loss.within):
            assert interval.low < interval.value < interval.high
    error, again = found[1:]
    assert error.gain == again.gain
    assert error.gain.low > 0
    assert error.gain.high - error.gain.low < found[0].within.high - found[0].within.low + 0.05
    assert error.gain.value == pytest.approx(error.within.value - found[0].within.value)


def test_no_prediction_is_in_two_groups_and_corruptions_are_left_out():
    seen = []

    def metric(predictions, references):
        seen.extend(zip(predictions, references, strict=True))
        return float(len(set(predictions)))

    predictions = synthetic(examples=50)
    predictions.predictions = [f"{i}" for i in range(len(predictions))]
    predictions.candidates[predictions.candidates == 3] = -1
    diagnose(predictions, GroupMetric(metric), resamples=2, progress=False)
    assert len(seen) == len(set(seen)) == 3 * 48
    assert all(int(prediction) < 150 for prediction, _ in seen)


def test_weights_of_hand_made_losses_are_those_of_their_formulas():
    cross_entropy, error = diagnose(synthetic(), GroupMetric("sacrebleu"), resamples=2, progress=False).losses
    assert cross_entropy.weights.median.allclose(torch.ones(24), atol=1e-4)
    assert cross_entropy.weights.rewards_lower == 0
    p = error.weights.probability
    expected = p / p.mean()  # every bin has as many targets
    torch.testing.assert_close(error.weights.median, expected, atol=0.05, rtol=0.1)


def test_weights_of_spans_are_measured_over_the_positions_of_the_window():
    draw = torch.Generator().manual_seed(0)
    scores = {name: torch.randn(60, 9, generator=draw).log_softmax(-1) for name in ("start_log_probs", "end_log_probs")}
    gold = torch.randint(0, 9, (60, 2), generator=draw).sort(1).values
    window = torch.ones(60, 9, dtype=torch.bool)
    spans = scores | {
        "position_mask": window, "context_mask": window, "null_mask": torch.zeros_like(window),
        "gold_spans": gold.unsqueeze(1),
    }  # fmt: skip
    padded = {name: value if name == "gold_spans" else pad(value, (0, 5)) for name, value in spans.items()}
    texts = [{"prediction_text": str(i)} for i in range(60)]
    found = [
        weight_curve(loss(), Predictions(features, texts, texts, torch.zeros(60, dtype=torch.long)))
        for features in (spans, padded)
        for loss in (SpanCrossEntropy, ExpectedF1Loss)
    ]
    assert found[2].median.allclose(torch.ones(24), atol=1e-4)
    assert found[3].median.allclose(found[1].median, atol=1e-4)
    assert found[3].probability.allclose(found[1].probability, atol=1e-5)
    assert found[3].rewards_lower == 0


def test_a_loss_that_rewards_a_lower_target_probability_is_flagged_and_not_recommended():
    found = diagnose(
        synthetic(), GroupMetric("sacrebleu"), {"bad": RewardsUnlikelyTargets()}, resamples=50, progress=False
    )
    assert found.losses[-1].weights.flagged
    sentences = verdict(found)
    assert any(s.startswith("Warning: bad rewards a lower probability of the target") for s in sentences)
    assert not sentences[0].startswith("bad ")


def test_a_metric_of_the_wrong_direction_and_a_constant_one_are_said_in_words():
    wrong = diagnose(synthetic(), GroupMetric("sacrebleu", lower_is_better=True), resamples=50, progress=False)
    assert "opposite to bleu" in verdict(wrong)[0]
    constant = diagnose(synthetic(), GroupMetric(lambda p, r: 1.0), resamples=50, progress=False)
    assert "nothing can be said" in verdict(constant)[0]


MISTAKES = [
    (["diagnose", "{}/nowhere", "--metric", "sacrebleu"], "nowhere holds no predictions"),
    (["diagnose", "{}/predictions", "--metric", "/no/metric.py"], "metric='/no/metric.py' could not be loaded"),
    (["diagnose", "{}/predictions", "--metric", "sacrebleu", "--group-size", "99"], "no candidate has 297 predictions"),
    (["diagnose", "{}/predictions", "--metric", "sacrebleu", "--surrogate", "{}"], "holds no surrogate"),
    (
        ["learn", "{}/predictions", "--metric", "sacrebleu", "--output", "{}/x", "--surrogate-class", "No"],
        "no surrogate 'No'",
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


@pytest.mark.parametrize(
    "arguments", [[], ["nonesuch"], ["diagnose"], ["diagnose", "x"], ["learn", "x", "--metric", "y"]]
)
def test_wrong_arguments_are_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: reloss" in capsys.readouterr().err


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
