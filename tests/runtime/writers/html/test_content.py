"""What a report carries, and what it never does: no name that breaks it, no patient, no request, few bytes, the same each time."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from medseg_runtime.figures import overlay, photo, text
from medseg_runtime.readers.image import read_image
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.output_request import OutputRequest
from medseg_runtime.result.provenance import Run
from medseg_runtime.testing import toy_segmenter
from medseg_runtime.writers.folder import REPORT, write_result

PIXELS = np.random.default_rng(0).integers(0, 255, (66, 70)).astype(np.uint8)
SOURCE = SourceImage(pixels=PIXELS, sha256="ab" * 32, kind="PNG", spacing_mm=(0.5, 0.5), warnings=("a word",))
HOSTILE = "</script><img src=x onerror=alert(1)>"
RUN = Run(id="0" * 32, time_utc="2026-01-01T00:00:00.000+00:00")


def segment(source=SOURCE, samples=6):
    return toy_segmenter()(source, samples=samples, center=(36, 32))


def saved(folder, result):
    write_result(folder / "out", [result], OutputRequest(html=True), run=RUN)
    return folder / "out" / REPORT


@pytest.mark.parametrize("name", ["a\ud800b", "a\u2028b", "<!--<script>", "x" * 1000])
def test_no_name_of_a_class_breaks_the_page(opened, tmp_path, name):
    with opened(saved(tmp_path, replace(segment(), classes=(name,)))) as page:
        assert "6 plausible outlines" in page.title()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_nothing_can_be_loaded_into_the_page(browser, tmp_path):
    with browser.new_page() as page:
        page.goto(saved(tmp_path, segment()).as_uri())
        page.evaluate("window.violations = [];"
                      "addEventListener('securitypolicyviolation', (event) => violations.push(event.blockedURI)); 0")  # fmt: skip
        assert page.evaluate("fetch('https://example.org').then(() => 'loaded', () => 'refused')") == "refused"
        assert page.evaluate("new Promise((done) => { const image = new Image();"
                             "image.onload = () => done('loaded'); image.onerror = () => done('refused');"
                             "image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACw='; })") == "refused"  # fmt: skip
        assert page.evaluate("violations") == ["https://example.org/", "data"]


def test_warnings_and_provenance(opened, tmp_path):
    result = replace(segment(), warnings=(f"{HOSTILE} {{{{script}}}}",))
    with opened(saved(tmp_path, result)) as page:
        assert page.locator("#warnings li").all_text_contents() == ["a word", f"{HOSTILE} {{{{script}}}}"]
        provenance = page.locator("#provenance").inner_text()
        for text_ in ("toy", "0" * 64, "ab" * 32, "seed 0", "2026-01-01T00:00:00", "medseglatdiff"):
            assert text_ in provenance
        assert "not a medical device" in page.locator("header").inner_text()


def test_it_prints(opened, tmp_path):
    with opened(saved(tmp_path, segment())) as page:
        assert page.pdf(format="A4").startswith(b"%PDF")
        page.emulate_media(media="print")
        assert not page.locator("#zoom").is_visible()
        assert page.locator("#provenance").is_visible()


@pytest.mark.parametrize("samples", [16, 64])
def test_a_field_of_64_pixels_takes_less_than_100_kb(tmp_path, samples):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 4000, (96, 96)).astype(np.float32))
    pixels = np.asarray(noise.resize((512, 512), Image.Resampling.BICUBIC)).astype(np.int16)
    result = segment(SourceImage.from_array(pixels), samples=samples)
    assert saved(tmp_path, result).stat().st_size < 100_000


def test_the_same_result_gives_the_same_bytes(tmp_path):
    first = saved(tmp_path / "one", segment()).read_bytes()
    assert saved(tmp_path / "two", segment()).read_bytes() == first


def test_the_policy_allows_nothing_but_the_page_itself(tmp_path):
    content = saved(tmp_path, segment()).read_text()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', content)
    directives = dict(each.split(" ", 1) for each in policy.split("; "))
    assert directives.pop("default-src") == "'none'"
    assert directives.pop("base-uri") == directives.pop("form-action") == "'none'"
    assert directives.keys() == {"style-src", "script-src"}
    assert all(re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", value) for value in directives.values())
    assert content.isascii() or "http" not in content.replace("http-equiv", "").replace(
        "http://www.w3.org/2000/svg", ""
    )


def test_a_report_names_no_patient(tmp_path):
    source = read_image(get_testdata_file("CT_small.dcm", download=False))
    content = saved(tmp_path, segment(source)).read_text()
    header = source.dicom.header
    values = {
        str(element.value) for element in header if element.VR in {"PN", "LO", "SH", "UI", "DA", "TM", "ST", "LT"}
    }
    assert str(header.PatientName) in values
    assert [value for value in values if len(value) > 3 and value in content] == []


def test_the_scripts_have_the_colors_of_the_figures(opened, tmp_path):
    with opened(saved(tmp_path, segment())) as page:
        of_page = page.evaluate("[INFERNO, INFERNO_FROM, SHADES, BY_SIZE, CONSENSUS, PAPER, INK]")
        ramp = page.evaluate("Array.from({length: 201}, (_, k) => inferno(k / 200))")
    of_figures = [
        photo.INFERNO,
        photo.INFERNO_FROM,
        photo.SHADES,
        overlay.BY_SIZE,
        overlay.CONSENSUS,
        text.PAPER,
        text.INK,
    ]
    for one, other in zip(of_page, of_figures, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(np.array(ramp) - photo.inferno(np.linspace(0, 1, 201, dtype=np.float32))).max() <= 3
