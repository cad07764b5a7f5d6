"""Segment a finding in a chest CT series, write a DICOM SEG, and read it back with highdicom and dcmqi.

    python examples/chest_ct.py SERIES --box BOX.xml --out results/chest

SERIES is a folder of DICOM slices. BOX.xml is a Pascal-VOC file with the box of a finding; its name is the SOP Instance UID of the
slice. The TCIA collection Lung-PET-CT-Dx has such files (CC BY 4.0, doi 10.7937/TCIA.2020.NNC2-0461). The model segments at the center
of the box. A picture beside the result shows the masks as highdicom and dcmqi read them. It shows a patient: do not publish it.
Needs the extras `cpu`, `dicom` and `dev`.
"""

from __future__ import annotations

import argparse
import subprocess
import sysconfig
import tempfile
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import SimpleITK
from PIL import Image

from medseg_runtime import Box, Segmenter
from medseg_runtime.figures.contours import outline_on_screen, paint_outline
from medseg_runtime.figures.overlay import key_figures
from medseg_runtime.figures.photo import photograph
from medseg_runtime.figures.viewport import Viewport
from medseg_runtime.readers.dicom.series import read_series

Bool = npt.NDArray[np.bool_]


def box_of(voc: Path) -> Box:
    """Return the box of a Pascal-VOC file."""
    box = ET.parse(voc).getroot().find("object/bndbox")  # noqa: S314 - the user's own file
    if box is None:
        raise SystemExit(f"{voc.name} holds no box. Give another annotation.")
    x, y, right, bottom = (int(box.findtext(name, "0")) for name in ("xmin", "ymin", "xmax", "ymax"))
    return Box(x=x, y=y, width=right - x, height=bottom - y)


def read_with_highdicom(seg: Path) -> Bool:
    """Return the segments, (segments, H, W)."""
    read = highdicom.seg.segread(seg)
    frames = read.get_pixels_by_source_instance([uids[2] for uids in read.get_source_image_uids()])
    return np.moveaxis(np.asarray(frames[0], np.bool_), -1, 0)


def read_with_dcmqi(seg: Path) -> Bool:
    """Return the segments, (segments, H, W)."""
    with tempfile.TemporaryDirectory() as folder:
        tool = Path(sysconfig.get_path("scripts")) / "segimage2itkimage"
        arguments = ["--inputDICOM", str(seg), "--outputDirectory", folder, "--outputType", "nrrd", "--prefix", "s"]
        subprocess.run([tool, *arguments], check=True, capture_output=True)  # noqa: S603
        files = sorted(Path(folder).glob("s-*.nrrd"), key=lambda path: int(path.stem[2:]))
        volumes = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) for path in files]
        return np.stack([volume[0] > 0 for volume in volumes])


def paint(pixels: npt.NDArray[Any], segments: list[Bool], box: Box) -> Image.Image:
    """Paint one panel per library: the box of the finding in blue, the samples in orange, the consensus in white."""
    height, width = pixels.shape
    view = Viewport.fitting(Box.around(*box.center, 160, 160).clipped(height, width), 640)
    frame = np.zeros((height, width), np.bool_)
    frame[box.y : box.y + box.height, box.x : box.x + box.width] = True
    panels = []
    for consensus, *samples in segments:
        panel = photograph(pixels, view)
        paint_outline(panel, outline_on_screen(frame, view), (90, 160, 255), width=1.0)
        for sample in samples:
            paint_outline(panel, outline_on_screen(sample, view), (255, 150, 0), width=1.0)
        paint_outline(panel, outline_on_screen(consensus, view), (255, 255, 255), width=2.0)
        panels.append(panel)
    return Image.fromarray(np.concatenate(panels, axis=1))


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("series", type=Path)
    parser.add_argument("--box", type=Path, required=True)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("results/chest"))
    arguments = parser.parse_args()

    series, box = read_series(arguments.series), box_of(arguments.box)
    index = [s.uid for s in series.slices].index(arguments.box.stem)
    segmenter = Segmenter.load(arguments.bundle)
    source = series.read(index)
    result = segmenter(source, samples=arguments.samples, center=box.center)

    result.save(arguments.out, force=True, dicom_seg=True, representatives="all")
    objects = [arguments.out / "dicom" / name for name in ("consensus.dcm", "representatives.dcm")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = [np.concatenate([reader(seg) for seg in objects]) for reader in (read_with_highdicom, read_with_dcmqi)]
    picture = arguments.out.with_name(f"{arguments.out.name}-readers.png")
    paint(source.pixels, read, box).save(picture)
    equal = all(np.array_equal(segments, [result.consensus, *result.masks]) for segments in read)
    print(f"slice {index} of {len(series)}: {', '.join(key_figures(result))}")  # noqa: T201
    print(f"highdicom and dcmqi read {'the same masks' if equal else 'OTHER MASKS'} -> {picture}")  # noqa: T201


if __name__ == "__main__":
    main()
