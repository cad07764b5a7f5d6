"""The report of a result as people see it: a browser opens it, moves its sliders, and its pixels are those of the masks."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from medseg_runtime.figures import overlay, photo, text
from medseg_runtime.readers.source import SourceImage
from medseg_runtime.result.output_request import OutputRequest
from medseg_runtime.result.provenance import Run
from medseg_runtime.testing import toy_manifest, toy_segmenter
from medseg_runtime.writers.folder import REPORT, write_result

SHAPE = 66, 70
BAR = 10
"""Rows of the image that the scale bar may cover."""
PIXELS = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
SOURCE = SourceImage(pixels=PIXELS, sha256="ab" * 32, kind="PNG", spacing_mm=(0.5, 0.5), warnings=("a word",))
SAMPLES = 6
HOSTILE = "</script><img src=x onerror=alert(1)>"
READY = """
const done = arguments[0], wait = () => (document.body.dataset.ready ? requestAnimationFrame(() => done()) : setTimeout(wait, 20));
wait();
"""
SCROLLED = """
() => new Promise((done) => {
  const wait = (tries) => (scrollY > 100 || tries === 0 ? done(scrollY) : setTimeout(wait, 20, tries - 1));
  wait(200);
})
"""
RUN = Run(id="0" * 32, time_utc="2026-01-01T00:00:00.000+00:00")


def segment(source=SOURCE, samples=SAMPLES, **manifest):
    where = {"center": (36, 32)} if manifest.get("geometry") != "resize" else {}
    return toy_segmenter(toy_manifest(**manifest))(source, samples=samples, **where)


def saved(folder, *results, index=0, force=False, **asked):
    write_result(folder / "out", results, OutputRequest(html=True, **asked), index=index, force=force, run=RUN)
    return folder / "out" / REPORT


def pixels_of(page):
    """Return what is on the canvas once it is drawn, (height, width, 3)."""
    data = page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {"
        "  done(document.getElementById('image').toDataURL('image/png'));"
        "})))"
    )
    content = base64.b64decode(data.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def at(canvas, x, y, shape):
    """Return the colors at places of an image of a shape (H, W) that the canvas shows whole: x and y in pixels of the image."""
    height, width = canvas.shape[:2]
    scale = min(width / shape[1], height / shape[0])
    columns = np.floor(width / 2 + (x - shape[1] / 2) * scale).astype(int)
    rows = np.floor(height / 2 + (y - shape[0] / 2) * scale).astype(int)
    return canvas[np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)].astype(int)


def set_slider(page, name, value):
    page.locator(f"#{name}").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


def show_only(page, *layers, map_="none"):
    """Show the whole image without its pixels, with some layers and a map."""
    page.click("#zoom-whole")
    for layer in ("image", "outlines", "consensus"):
        page.set_checked(f"#show-{layer}", layer in layers)
    page.check(f"[name=map][value={map_}]")


def assert_outline(canvas, mask):
    """Check that ink is on each pixel edge between inside and outside, and on no other above the scale bar."""
    height, width = mask.shape
    y, x = np.mgrid[: height - BAR, : width - 1]
    inked = (at(canvas, x + 1, y + 0.5, mask.shape) != text.PAPER).any(axis=-1)
    np.testing.assert_array_equal(inked, (mask[:, 1:] != mask[:, :-1])[:-BAR])
    y, x = np.mgrid[: height - BAR, :width]
    inked = (at(canvas, x + 0.5, y + 1, mask.shape) != text.PAPER).any(axis=-1)
    np.testing.assert_array_equal(inked, (mask[1:] != mask[:-1])[: height - BAR])


def assert_map(canvas, values):
    """Check the color of each pixel above the scale bar; return what was found."""
    height, width = values.shape
    y, x = np.mgrid[: height - BAR, :width]
    found = at(canvas, x + 0.5, y + 0.5, values.shape)
    assert np.abs(found - expected_map(values[:-BAR])).max() <= 2
    return found


def expected_map(values):
    """Return the colors of a map (H, W) over the empty page: the dimmed page, and the color with an opacity of 230 / 255."""
    under = np.array(text.PAPER) / 2
    colors = photo.inferno(values.astype(np.float32)) * (230 / 255) + under * (25 / 255)
    return np.where(values[..., None] > 0, colors, under)


def test_each_sample_has_its_outline(opened, tmp_path):
    result = segment()
    with opened(saved(tmp_path, result)) as page:
        show_only(page)
        for sample, mask in enumerate(result.masks):
            set_slider(page, "sample", sample + 1)
            assert_outline(pixels_of(page), mask)
            shown = page.locator("#sample-value").inner_text()
            assert shown.startswith(f"sample {sample:02d} · ")
            assert shown.endswith(" mm²")


def test_the_threshold_moves_the_consensus(opened, tmp_path):
    result = segment()
    counts = result.masks.sum(axis=0)
    with opened(saved(tmp_path, result)) as page:
        show_only(page, "consensus")
        assert_outline(pixels_of(page), result.consensus)
        for least in range(1, SAMPLES + 1):
            set_slider(page, "least", least)
            assert_outline(pixels_of(page), counts >= least)
            area = 0.25 * np.count_nonzero(counts >= least)
            shown = page.locator("#least-value").inner_text()
            assert shown.startswith(f"at least {least} of {SAMPLES} · ")
            assert abs(float(re.search(r"([\d.,]+) mm²", shown)[1].replace(",", "")) - area) <= 0.5


@pytest.mark.parametrize("map_", ["confidence", "entropy"])
def test_maps_have_the_colors_of_the_overlay(opened, tmp_path, map_):
    result = segment()
    with opened(saved(tmp_path, result)) as page:
        show_only(page, map_=map_)
        found = assert_map(pixels_of(page), getattr(result, map_))
    if map_ == "confidence":  # the number of samples in each pixel can be read from its color
        shades = expected_map(np.arange(SAMPLES + 1)[None] / SAMPLES)[0]
        counts = np.abs(found[:, :, None] - shades).sum(axis=-1).argmin(axis=-1)
        np.testing.assert_array_equal(counts, result.masks.sum(axis=0)[:-BAR])


def test_a_large_image_is_reduced_and_the_page_says_so(opened, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (1100, 2100, 3)).astype(np.uint8)
    result = segment(SourceImage.from_array(pixels), geometry="resize", channels=3)
    path = saved(tmp_path, result)
    assert path.stat().st_size < 1_000_000
    with opened(path) as page:
        assert "1/3 of their size" in page.locator("#picture-note").inner_text()
        show_only(page, map_="confidence")
        y, x = np.mgrid[1:900:30, 1:2100:30]
        found = at(pixels_of(page), x + 0.5, y + 0.5, pixels.shape[:2])
        area = page.locator("#least-value").inner_text().split(" · ")[1]
    assert np.abs(found - expected_map(result.confidence[1:900:30, 1::30])).max() <= 2
    assert area == f"{result.consensus.sum():,} px"  # not of the reduced masks


def test_several_classes(opened, tmp_path):
    result = segment(classes=("optic disc", HOSTILE))
    with opened(saved(tmp_path, result)) as page:
        assert page.title() == f"Optic disc, {HOSTILE}: {SAMPLES} plausible outlines"
        assert page.locator("img").count() == 0
        assert page.locator("#class option").all_inner_texts() == ["optic disc", HOSTILE]
        page.select_option("#class", index=1)
        show_only(page, map_="confidence")
        assert_map(pixels_of(page), result.confidence[1])


def test_slices_of_a_series(opened, tmp_path):
    results = [segment(replace(SOURCE, pixels=np.roll(PIXELS, k, axis=0)), samples=3) for k in range(4)]
    results[3] = replace(results[3], kept_masks=np.roll(results[3].masks, 5, axis=1))
    with opened(saved(tmp_path, *results, index=1)) as page:
        assert page.locator("#slice-value").inner_text() == "2 of 4"
        show_only(page)
        set_slider(page, "sample", 2)
        set_slider(page, "slice", 3)
        page.locator("#slice-value", has_text="4 of 4").wait_for()
        assert_outline(pixels_of(page), results[3].masks[1])
        page.focus("#image")
        page.keyboard.press("PageUp")
        page.locator("#slice-value", has_text="3 of 4").wait_for()
        page.hover("#image")
        page.mouse.wheel(0, -100)
        page.locator("#slice-value", has_text="2 of 4").wait_for()


def test_representatives_are_shown_when_clicked(opened, tmp_path):
    result = segment(samples=12)
    chosen = result.representatives(3)
    with opened(saved(tmp_path, result, representatives=3)) as page:
        buttons = page.locator("#representatives button")
        shares = [button.split("\n")[-1] for button in buttons.all_inner_texts()]
        assert shares == [f"{100 * share:.0f} %" for share in chosen.shares]
        show_only(page)
        buttons.first.click()
        assert buttons.first.get_attribute("aria-pressed") == "true"
        assert_outline(pixels_of(page), result.masks[chosen.samples[0]])
        buttons.first.click()
        assert page.locator("#sample-value").inner_text() == "all"


def test_measurements_and_their_histogram(opened, tmp_path):
    result = segment(samples=30)
    (measured,) = result.measurements
    with opened(saved(tmp_path, result)) as page:
        row = page.locator("#measurements tr").first.inner_text().split("\t")
        assert row[0] == "Area"
        assert abs(float(row[1].removesuffix(" mm²")) - measured.area.median) <= 0.5
        assert page.locator("#histogram .block").count() == 30
        page.get_by_role("button", name="Long axis").press("Enter")
        assert "Histogram of long axis" in page.locator("#histogram svg").get_attribute("aria-label")
        page.locator("#histogram .block").nth(7).click(force=True)
        assert page.locator("#histogram .block.selected").count() == 1


def test_empty_samples_and_one_sample(opened, tmp_path):
    result = segment()
    empty = replace(result, kept_masks=np.zeros_like(result.masks), areas=np.zeros_like(result.areas),
                    confidence=np.zeros_like(result.confidence), consensus=np.zeros_like(result.consensus))  # fmt: skip
    with opened(saved(tmp_path, empty)) as page:
        assert "All samples are empty" in page.locator("#note").inner_text()
        show_only(page, "outlines", "consensus", map_="confidence")
        set_slider(page, "sample", 1)
        pixels_of(page)
    with opened(saved(tmp_path, segment(samples=1), force=True)) as page:
        assert "at least 1 of 1" in page.locator("#least-value").inner_text()


def test_the_share_of_an_empty_sample_is_not_taken_for_how_many_are_empty(opened, tmp_path):
    result = segment(samples=16)
    masks = result.masks.copy()
    masks[:6] = False
    some_empty = replace(result, kept_masks=masks, areas=masks.sum(axis=(1, 2)),
                         confidence=masks.mean(axis=0, dtype=np.float32))  # fmt: skip
    with opened(saved(tmp_path, some_empty, some_empty)) as page:
        note = page.locator("#representatives-note").inner_text()
    assert "over all slices" in note
    assert note.endswith("6 of 16 samples are empty.")


def test_of_many_samples_the_page_says_which_are_drawn_together(opened, tmp_path):
    result = segment(samples=70)
    with opened(saved(tmp_path, result)) as page:
        assert "first 64 of 70 samples" in page.locator("#picture-note").inner_text()
        show_only(page)
        set_slider(page, "sample", 70)
        assert_outline(pixels_of(page), result.masks[69])


def test_a_slider_does_not_draw_all_outlines_again(opened, tmp_path):
    with opened(saved(tmp_path, segment())) as page:
        set_slider(page, "sample", 1)
        pixels_of(page)
        page.evaluate("const { stroke } = OffscreenCanvasRenderingContext2D.prototype; window.drawn = 0;"
                      "OffscreenCanvasRenderingContext2D.prototype.stroke = function (path) { drawn++; stroke.call(this, path); }; 0")  # fmt: skip
        set_slider(page, "sample", 3)
        set_slider(page, "least", 5)
        pixels_of(page)
        assert page.evaluate("drawn") == 0
        page.click("#zoom-in")
        pixels_of(page)
        assert page.evaluate("drawn") == SAMPLES


def test_the_wheel_scrolls_a_long_page_until_the_image_has_the_focus(opened, tmp_path):
    with opened(saved(tmp_path, segment())) as page:
        page.click("#zoom-in")
        before = pixels_of(page)
        page.hover("#image")
        page.mouse.wheel(0, 200)
        assert page.evaluate(SCROLLED) > 100
        np.testing.assert_array_equal(pixels_of(page), before)
        page.focus("#image")
        page.mouse.wheel(0, -200)
        assert (pixels_of(page) != before).any()


def test_pixels_have_their_true_proportions(opened, tmp_path):
    result = segment(replace(SOURCE, spacing_mm=(1.5, 0.5)))
    with opened(saved(tmp_path, result)) as page:
        show_only(page, "image")
        drawn = (pixels_of(page).astype(int) - text.PAPER != 0).any(axis=-1)
    height, width = (np.ptp(np.flatnonzero(drawn[:-60].any(axis=axis))) + 1 for axis in (1, 0))
    assert abs((height + 60) / width - 3 * SHAPE[0] / SHAPE[1]) < 0.05  # the scale bar is in the last 60 rows


def test_mouse_keyboard_and_fingers_move_the_image(opened, tmp_path):
    with opened(saved(tmp_path, segment()), has_touch=True) as page:
        views = [pixels_of(page)]

        def changed(action, *arguments):
            action(*arguments)
            views.append(pixels_of(page))
            return (views[-1] != views[-2]).any()

        page.focus("#image")
        for key in ("+", "ArrowLeft", "ArrowDown", "-"):
            assert changed(page.keyboard.press, key), key
        page.keyboard.press("0")
        np.testing.assert_array_equal(pixels_of(page), views[0])
        for button in ("zoom-in", "zoom-out", "zoom-whole", "zoom-fit"):
            page.click(f"#{button}")
        np.testing.assert_array_equal(pixels_of(page), views[0])
        page.focus("#image")
        page.hover("#image")
        assert changed(page.mouse.wheel, 0, -200)
        page.mouse.down()
        assert changed(page.mouse.move, 200, 200)
        page.mouse.up()
        page.dblclick("#image")
        np.testing.assert_array_equal(pixels_of(page), views[0])
        assert changed(pinch, page)


def pinch(page):
    """Spread two fingers on the image."""
    touch = page.context.new_cdp_session(page)
    for kind, apart in (("touchStart", 20), ("touchMove", 60), ("touchMove", 120)):
        points = [{"x": 240 - apart, "y": 300, "id": 0}, {"x": 240 + apart, "y": 300, "id": 1}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def test_what_the_pointer_is_at(opened, tmp_path):
    result = segment()
    with opened(saved(tmp_path, result)) as page:
        page.click("#zoom-whole")
        box = page.locator("#image").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        count = result.masks[:, 33, 35].sum()
        assert page.locator("#point").text_content().startswith(f"x 35, y 33 · {count} of {SAMPLES} samples")


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_inaccessible(opened, tmp_path, width, scheme):
    axe = pytest.importorskip("axe_core_python.sync_playwright").Axe()
    result = segment(classes=("a", "b"))
    path = saved(tmp_path, result, segment(classes=("a", "b")))
    with opened(path, viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce") as page:
        set_slider(page, "sample", 2)
        page.check("[name=map][value=entropy]")
        found = axe.run(page)
        assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.locator("#live", has_text="sample 01").wait_for(state="attached")


def test_everything_can_be_reached_by_the_tab_key(opened, tmp_path):
    with opened(saved(tmp_path, segment())) as page:
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        for wanted in ("image", "zoom-in", "sample", "least", "show-outlines", "Area"):
            assert wanted in reached
        page.focus("#sample")
        page.keyboard.press("ArrowRight")
        assert page.locator("#sample").get_attribute("aria-valuetext").startswith("sample 00")


def test_the_window_is_that_of_the_overlay(opened, tmp_path):
    ramp = np.tile(np.arange(70, dtype=np.int16) * 30 - 1000, (66, 1))
    result = segment(replace(SOURCE, pixels=ramp))
    low, high = photo.window_of(ramp, overlay.view_of(result))
    with opened(saved(tmp_path, result)) as page:
        show_only(page, "image")
        columns = np.arange(20, 60)
        found = at(pixels_of(page), columns + 0.5, np.full(40, 60.5), SHAPE)
    expected = np.clip(255 * (ramp[60, 20:60] - low) / (high - low), 0, 255)
    assert np.abs(found - expected[:, None]).max() <= 3


@pytest.mark.slow
def test_firefox_shows_it_too(firefox, tmp_path):
    result = segment()
    path = saved(tmp_path, result)
    with firefox(tmp_path / "profile") as page:
        page("WebDriver:Navigate", url=path.as_uri())
        page("WebDriver:SetTimeouts", script=60_000)
        page("WebDriver:ExecuteAsyncScript", script=READY, args=[])
        shown = np.asarray(page.screenshot()).reshape(-1, 3)
        assert np.count_nonzero((shown == overlay.CONSENSUS[0]).all(axis=1)) > 300
        page.run("document.getElementById('sample').value = 2;"
                 "document.getElementById('sample').dispatchEvent(new Event('input'))")  # fmt: skip
        assert page.run("return document.getElementById('sample-value').textContent").startswith("sample 01 · ")
