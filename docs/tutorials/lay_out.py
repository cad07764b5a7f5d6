"""Lay the synthetic nodules out as a data set: images, four raters' masks, and a split by patient."""

import csv
import shutil
from pathlib import Path

source, target = Path("phantoms/LIDC-IDRI-slices"), Path("my-data")
rows = []
for number, patient in enumerate(sorted(source.iterdir())):
    for image in sorted(patient.glob("nodule-*/images/*.png")):
        nodule = image.parents[1]
        name = f"{patient.name}_{nodule.name}_{image.name}"
        copies = {image: target / "images" / name}
        copies |= {nodule / f"mask-{k}" / image.name: target / "masks" / f"rater-{k}" / name for k in range(4)}
        for old, new in copies.items():
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(old, new)
        rows.append({"image": name, "split": "val" if number % 4 == 0 else "train", "group": patient.name})

with (target / "splits.csv").open("w", newline="") as file:
    writer = csv.DictWriter(file, ["image", "split", "group"])
    writer.writeheader()
    writer.writerows(rows)
