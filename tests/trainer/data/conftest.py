"""Published data sets in small."""

import pytest

from tests.trainer.data.photographs import write_pair


@pytest.fixture
def isic_folder(tmp_path):
    """build(Training=3, Test=1) writes so many images of each part, numbered from 1 across the parts."""

    def build(root=tmp_path, **parts):
        number = 0
        for part, count in parts.items():
            for _ in range(count):
                number += 1
                write_pair(
                    root / f"ISIC2018_Task1-2_{part}_Input" / f"ISIC_{number:07d}.jpg",
                    root / f"ISIC2018_Task1_{part}_GroundTruth" / f"ISIC_{number:07d}_segmentation.png",
                    seed=number,
                )
            (root / f"ISIC2018_Task1-2_{part}_Input" / "LICENSE.txt").write_text("CC BY-NC 4.0")
        return root

    return build


@pytest.fixture
def cvc_folder(tmp_path):
    """build(...) writes six frames of three sequences, two of each; frame 10 comes after 9."""

    def build(
        root=tmp_path, parts=(("CVC-ClinicDB/PNG", "png"),), table="CVC-ClinicDB/sequences.csv", frames=range(7, 13)
    ):
        for part, suffix in parts:
            for frame in frames:
                folder = root / part
                write_pair(
                    folder / "Original" / f"{frame}.{suffix}", folder / "Ground Truth" / f"{frame}.{suffix}", frame
                )
        if table:
            (root / table).write_text("frame,sequence\n" + "".join(f"{f},{(f - 7) // 2 + 1}\n" for f in frames))
        return root

    return build
