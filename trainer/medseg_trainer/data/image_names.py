"""Find an image by the name that a table or an annotation file gives it."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from medseg_trainer.data.names import stem_of


class ImageNames:
    """The images of a folder, by their path without suffix or by its last parts."""

    def __init__(self, images: Iterable[str]) -> None:
        self._images = frozenset(images)
        self._by_last_part: dict[str, list[str]] = defaultdict(list)
        for image in sorted(self._images):
            self._by_last_part[image.rpartition("/")[2]].append(image)

    def find(self, given: str) -> list[str]:
        """Return the images that a name may mean: with or without suffix, folders, or `images/`; Windows' slashes too."""
        path = unicodedata.normalize("NFC", given.strip()).replace("\\", "/").removeprefix("./").removeprefix("images/")
        for name in (path, stem_of(path)):
            if name in self._images:
                return [name]
        name = stem_of(path)
        candidates = self._by_last_part.get(name.rpartition("/")[2], [])
        return [image for image in candidates if f"/{image}".endswith(f"/{name}") or f"/{name}".endswith(f"/{image}")]
