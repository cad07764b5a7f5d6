"""A study in the OHIF viewer, in the system's Chromium without a window: what it lists, and what it draws."""

import io
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from medseg_runtime.readers.patient_plane import PatientPlane

SOFTWARE_RENDERING = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SIZE = {"width": 1400, "height": 900}
SEGMENTATIONS = '[data-cy="study-browser-thumbnail-no-image"]'
VIEWPORT = '[data-cy="viewport-pane"]'
WITHOUT_TEXT = f"{VIEWPORT} :not(:has(canvas)):not(canvas) {{ visibility: hidden }}"
"""Hides what lies over the image: corner texts, orientation marks, buttons."""
ACTIVE = "cornerstone.getEnabledElementByViewportId(services.viewportGridService.getActiveViewportId())?.viewport"
"""The viewport that a user last chose, as JavaScript."""
COLORED = 16
"""Difference between the channels of a pixel from which it counts as colored. The image under it is grey."""
FRAME = 3
"""Screen pixels at the edge of the viewport, where its frame is."""
PATIENCE_S = 120


@dataclass(frozen=True, slots=True)
class Viewer:
    """An open study."""

    page: Any
    """Playwright's."""
    errors: list[str]
    """What the viewer wrote to the browser's console as errors so far."""

    def series(self) -> list[str]:
        """Return the descriptions of the series that can be laid over an image, such as SEG, in the order of the list."""
        return self.page.locator(SEGMENTATIONS).locator('[data-cy="series-description-label"]').all_inner_texts()

    def load(self, description: str) -> None:
        """Lay a series over its image, as a user does: a double click and, the Yes."""
        self.choose(description)
        self.page.locator('[data-cy="yes-hydrate-btn"]').click()
        self.page.locator('[data-cy="data-row"]').first.wait_for()
        self._settled()

    def choose(self, description: str) -> None:
        """Double-click a series."""
        self.page.locator(SEGMENTATIONS, has_text=description).dblclick()

    def labels(self) -> list[str]:
        """Return the labels of the loaded segments, in their order."""
        return [row.partition("\n")[2] for row in self.page.locator('[data-cy="data-row"]').all_inner_texts()]

    def show(self, sop_instance_uid: str) -> None:
        """Go to a slice of the image."""
        moved = self.page.evaluate(
            f"""uid => {{
                const viewport = {ACTIVE};
                const index = viewport.getImageIds().findIndex(id => id.includes(uid));
                if (index >= 0) viewport.setImageIdIndex(index);
                return index >= 0;
            }}""",
            sop_instance_uid,
        )
        assert moved, "the viewer does not hold this slice"
        self._settled()

    def picture(self) -> npt.NDArray[np.uint8]:
        """Return a screenshot of the viewport without texts, (h, w, 3)."""
        box = self.page.evaluate(f"{ACTIVE}.canvas.getBoundingClientRect().toJSON()")
        clip = {side: box[side] for side in ("x", "y", "width", "height")}
        content = self.page.screenshot(clip=clip, style=WITHOUT_TEXT)
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    def drawn(self) -> npt.NDArray[np.bool_]:
        """Return where a grey image has color over it, (h, w)."""
        return _within_frame(np.ptp(self.picture().astype(np.int16), axis=2) > COLORED)

    def expected(self, mask: npt.NDArray[np.bool_], plane: PatientPlane) -> npt.NDArray[np.bool_]:
        """Return where a mask of the image, (H, W), belongs on the screenshot, (h, w).

        plane: of the image. The viewer says where three points of the patient are; the rest is a linear map.
        """
        matrix = plane.affine(plane.normal)
        points = [(matrix @ [x, y, 0, 1])[:3].tolist() for x, y in ((0, 0), (1, 0), (0, 1))]
        zero, along_row, along_column = np.array(
            self.page.evaluate(f"points => points.map(point => {ACTIVE}.worldToCanvas(point))", points)
        )
        height, width = self.picture().shape[:2]
        places = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1) - zero
        pixels = places @ np.linalg.inv(np.stack([along_row - zero, along_column - zero]))
        columns, rows = np.moveaxis(np.rint(pixels).astype(int), -1, 0)
        inside = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
        found = np.zeros((height, width), np.bool_)
        found[inside] = mask[rows[inside], columns[inside]]
        return _within_frame(found)

    def save(self, path: Path) -> None:
        """Save a screenshot of the whole page."""
        self.page.screenshot(path=path)

    def _settled(self) -> None:
        """Wait until two pictures in a row are equal."""
        self.page.wait_for_load_state("networkidle")
        _wait_until(self._stands_still)

    def _stands_still(self) -> bool:
        before = self.picture()
        self.page.wait_for_timeout(1000)
        return np.array_equal(before, self.picture())


@contextmanager
def opened(url: str, study_instance_uid: str) -> Iterator[Viewer]:
    """Open a study and wait until its first image is drawn. url: of `ohif.served`."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("NOT JUDGED: chromium is absent; as root: apt-get install chromium")
    sync_playwright = pytest.importorskip("playwright.sync_api").sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=SOFTWARE_RENDERING)
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(1000 * PATIENCE_S)
        page.add_init_script("localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))")
        viewer = Viewer(page, [])
        page.on("console", lambda message: viewer.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: viewer.errors.append(str(error)))
        page.goto(f"{url}/segmentation?StudyInstanceUIDs={study_instance_uid}")
        page.locator(VIEWPORT).locator("canvas").first.wait_for()
        page.wait_for_function(f"{ACTIVE}?.getImageIds().length")
        viewer._settled()
        yield viewer
        browser.close()


def _within_frame(picture: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    inner = np.zeros_like(picture)
    inner[FRAME:-FRAME, FRAME:-FRAME] = picture[FRAME:-FRAME, FRAME:-FRAME]
    return inner


def _wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "the viewer did not come to rest"
