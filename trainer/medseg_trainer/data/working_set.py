"""A split in memory, at the network's resolution, and its batches.

A batch is a function of (seed, step) alone, so a resumed run sees the same batches without saving their order. Each process draws
the random numbers of the whole batch and takes its part, so the number of processes does not change the result.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from medseg_runtime.errors import DataError, ImageError
from medseg_runtime.model.preprocess import Box, InputRule, place, resample, to_network
from medseg_trainer.config.run import AugmentConfig
from medseg_trainer.data.augment import Draw, augmented
from medseg_trainer.data.layouts import Case, Split, read_cases
from medseg_trainer.data.masks import Labels
from medseg_trainer.data.notes import Notes

Float16 = npt.NDArray[np.float16]

LEAST_CONTRAST = 0.15
"""Smallest difference of the brightest and the darkest pixel of a data set, in [0, 1]."""
MOST_WORKERS = 4
"""Most processes that prepare batches for a GPU."""


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """All cases of a split at one size: that of the context for `native` geometry, of the field for `resize`."""

    images: Float16
    """(n, C, H, W) float16 in [0, 1]; finer than the 8 bits of most sources."""
    labels: Labels
    """(n, R, H, W) uint8, 0 for background."""
    num_groups: int
    """Patients, or video sequences."""
    names_sha256: str = ""
    """See `Cases`."""
    warnings: tuple[str, ...] = ()
    """How images and masks were read, one sentence each."""

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def read(
        cls,
        data: Path,
        split: Split,
        rule: InputRule,
        raters: int,
        num_classes: int,
        *,
        classes: Sequence[str] = (),
        quiet: bool,
    ) -> WorkingSet:
        """Read a split; classes: see `data.layouts.read_cases`.

        Raises:
            DataError: files are missing or do not pair, the number of raters is another, or the images have no contrast.
        """
        images, labels, notes = [], [], Notes()
        cases = read_cases(data, split, num_classes, classes)
        for case in track(cases, f"reading {split}", disable=quiet):
            if len(case.masks) != raters:
                raise DataError(
                    f"{case.name} has {len(case.masks)} raters' masks, the configuration says {raters}",
                    f"Run with --raters {len(case.masks)}.",
                )
            try:
                image, label = working_size(case, rule)
            except ImageError as error:
                raise DataError(f"{case.name}: {error.problem}", error.remedy) from error
            images.append(image.astype(np.float16))
            labels.append(label)
            notes.add(case)
        found = cls(np.stack(images), np.stack(labels), cases.num_groups, cases.names_sha256, notes.lines())
        found._check_brightness()
        return found

    def _check_brightness(self) -> None:
        """Refuse images with almost no contrast, such as 12-bit images in 16-bit files under the intensity rule `unit`."""
        darkest, brightest = float(self.images.min()), float(self.images.max())
        if brightest - darkest < LEAST_CONTRAST:
            raise DataError(
                f"all pixels are between {darkest:.0%} and {brightest:.0%} of the range of their files",
                "Stretch them to the whole range, or save them with 8 bits.",
            )

    def class_frequency(self, rule: InputRule, classes: Sequence[str]) -> Tensor:
        """Return the share of each class in the central field of all raters' masks: (classes + 1,), background first.

        Raises:
            DataError: a class is in no mask, so it cannot be learned.
        """
        top, left = (self.labels.shape[2] - rule.height) // 2, (self.labels.shape[3] - rule.width) // 2
        field = self.labels[:, :, top : top + rule.height, left : left + rule.width]
        counts = np.bincount(field.reshape(-1), minlength=len(classes) + 1)
        for name, count in zip(("background", *classes), counts, strict=True):
            if not count:
                where = "in the center of the images" if rule.geometry == "native" else "in the images"
                raise DataError(
                    f"no training mask marks any {name} in the {rule.width}x{rule.height} px that the network sees, {where}",
                    "Check the masks, or use a preset that sees whole images, such as photo.",
                )
        return torch.from_numpy(counts / counts.sum())


def working_size(case: Case, rule: InputRule) -> tuple[npt.NDArray[np.float32], Labels]:
    """Bring a case to the size of a working set: image (C, H, W) in [0, 1], labels (R, H, W)."""
    placement = place(case.image, rule, None)
    window = rule
    if rule.geometry == "native":
        window = replace(rule, height=rule.context, width=rule.context)
        placement = replace(placement, field=_context(placement.field, rule))
    image = to_network(case.image, window, placement, case.value_range)[0]
    return image, np.stack([_label_window(mask, placement.field, window) for mask in case.masks])


def _context(field: Box, rule: InputRule) -> Box:
    """Return the context with the field in its center."""
    down, right = (rule.context - rule.height) // 2, (rule.context - rule.width) // 2
    return Box(x=field.x - right, y=field.y - down, width=rule.context, height=rule.context)


def _label_window(labels: Labels, field: Box, window: InputRule) -> Labels:
    """Cut or resample one rater's labels. Outside the image they are 0."""
    if window.geometry == "native":
        padded = np.pad(labels, ((field.height, field.height), (field.width, field.width)))
        top, left = field.y + field.height, field.x + field.width
        return padded[top : top + field.height, left : left + field.width]
    out = np.zeros((window.height, window.width), np.uint8)
    for value in np.unique(labels[labels > 0]):
        share = resample((labels == value).astype(np.float32), window.height, window.width)
        out[share > 0.5] = value
    return out


@dataclass(frozen=True, slots=True)
class Batch:
    """The part of one step's batch that belongs to this process."""

    image: Tensor
    """(B, C, H, W) float32 in [0, 1]."""
    labels: Tensor
    """(B, R, H, W) uint8."""

    def to(self, device: torch.device) -> Batch:
        """Move it to a device."""
        return Batch(self.image.to(device, non_blocking=True), self.labels.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Move it to pinned memory, for asynchronous copies to a GPU. DataLoader calls this."""
        return Batch(self.image.pin_memory(), self.labels.pin_memory())


@dataclass(frozen=True, slots=True)
class BatchSource:
    """Batches of a working set, by step number."""

    data: WorkingSet
    rule: InputRule
    augment: AugmentConfig
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    def indices(self, step: int) -> npt.NDArray[np.int64]:
        """Return the indices of the cases in the whole batch of a step. Each epoch has its own order."""
        wanted = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = wanted // len(self.data)
        orders = {e: np.random.default_rng((self.seed, 0, e)).permutation(len(self.data)) for e in np.unique(epochs)}
        return np.array([orders[e][k % len(self.data)] for e, k in zip(epochs, wanted, strict=True)])

    def __getitem__(self, step: int) -> Batch:
        """Return this process's part of the batch of a step, augmented."""
        rng = np.random.default_rng((self.seed, 1, step))
        drawn = [(index, Draw.of(rng, self.augment)) for index in self.indices(step)]
        part = drawn[self.rank :: self.world_size]
        pairs = [augmented(self.data.images[k], self.data.labels[k], self.rule, draw) for k, draw in part]
        return Batch(
            torch.from_numpy(np.stack([image for image, _ in pairs])),
            torch.from_numpy(np.stack([labels for _, labels in pairs])),
        )

    def batches(self, steps: range, device: torch.device) -> Iterator[Batch]:
        """Yield the batches of steps on a device. Worker processes prepare them as `workers_for` says."""
        loader: DataLoader[Batch] = DataLoader(
            self,  # type: ignore[arg-type]  # it is indexed by step and has no length
            sampler=steps,
            batch_size=None,
            num_workers=workers_for(device),
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # keeps the loader off the global generator, which initial weights come from
            worker_init_fn=_ignore_interrupts,
        )
        return (batch.to(device) for batch in loader)


def workers_for(device: torch.device) -> int:
    """Return how many processes prepare batches ahead: up to 4 for a GPU; none for a CPU, whose cores are busy training."""
    return min(MOST_WORKERS, os.cpu_count() or 1) if device.type == "cuda" else 0


def _ignore_interrupts(_: int) -> None:
    """Ignore Ctrl-C, which reaches all processes of a terminal. The loop finishes its step, then ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
