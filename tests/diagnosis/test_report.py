import json
import re
from html.parser import HTMLParser

import pytest
from synthetic import synthetic

from reloss_hf import GroupMetric
from reloss_hf.diagnosis.diagnosis import diagnose
from reloss_hf.diagnosis.report import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    diagnosis = diagnose(synthetic(), GroupMetric("sacrebleu"), resamples=50, progress=False)
    write_report(diagnosis, folder, "out/predictions", "reloss diagnose out/predictions --metric sacrebleu")
    return folder


class References(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.references = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]


def test_the_report_is_one_file_that_refers_to_nothing(report):
    page = (report / "report.html").read_text(encoding="utf-8")
    parser = References()
    parser.feed(page)
    assert parser.tags.count("img") == 2
    assert all(reference.startswith("data:image/png;base64,") for reference in parser.references)
    assert not {"script", "link", "iframe"} & set(parser.tags)
    assert not re.search(r"https?://|url\(|@import", page)
    numbers = json.loads((report / "diagnosis.json").read_text())
    assert f"{numbers['losses']['cross-entropy']['within']['value']:.3f}" in page
    for picture in ("losses_against_metric.png", "weights.png"):
        assert (report / picture).read_bytes().startswith(b"\x89PNG")


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
        page.goto((report / "report.html").as_uri())
        widths = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
        assert len(widths) == 2
        assert min(widths) > 300
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert not problems
        assert not [url for url in requests if not url.startswith(("file:", "data:"))]
        browser.close()
