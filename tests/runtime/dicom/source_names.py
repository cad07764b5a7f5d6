"""The sources whose DICOM objects are judged."""

NAMES = (
    "CT, big endian rescale", "CT, JPEG 2000", "CT, tiny", "MR", "MR, JPEG-LS", "MR, RLE", "MR, overlays",
    "enhanced CT, frame 1", "enhanced CT, frame 2", "US, RGB", "US, palette", "US, JPEG 2000", "US multi-frame, frame 7",
    "CR 1", "CR 2", "CR, large", "SC, RGB", "SC, NM", "SC, deflated",
)  # fmt: skip
