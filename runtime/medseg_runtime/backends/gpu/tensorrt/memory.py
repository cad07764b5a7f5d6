"""The memory of one stream: one allocation on the GPU and three of page-locked host memory, laid out once.

    GPU   image | noise | final, logits | spare even odd zeros fresh | condition | step table | scratch
    host  image | noise   (one upload)   final | logits   (one download)   step table

Every piece starts at a multiple of 256 bytes. For each N the logits follow `final` directly, so that one copy downloads both.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod

import numpy as np

from medseg_runtime.backends.base import Float32
from medseg_runtime.backends.gpu.cuda import ALIGNMENT, DeviceMemory, PinnedMemory, Stream
from medseg_runtime.model.bundle import Manifest
from medseg_runtime.model.sampler import NUM_TRAIN_TIMESTEPS
from medseg_runtime.model.signatures import ROW, Shape

LATENTS = ("spare", "even", "odd", "zeros", "fresh")


def aligned(size: int) -> int:
    """Round a size in bytes up to the start of the next piece."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass(frozen=True, slots=True)
class Sizes:
    """Shapes of a bundle's tensors, and their sizes in bytes as float32."""

    image: tuple[int, ...]
    condition: tuple[int, ...]
    latent: tuple[int, ...]
    """(Z, h, w) of one sample."""
    logits: tuple[int, ...]
    """(K, H, W) of one sample."""
    time_features: int

    @classmethod
    def of(cls, manifest: Manifest) -> Sizes:
        """Return the shapes of a bundle."""
        encoder, decoder = manifest.graphs["encoder"], manifest.graphs["decoder"]
        return cls(
            image=_fixed(encoder.inputs["image"]),
            condition=_fixed(encoder.outputs["condition"]),
            latent=manifest.latent,
            logits=_fixed(decoder.outputs["logits"]),
            time_features=manifest.time_features,
        )

    def latents(self, samples: int) -> int:
        """Bytes of N latents."""
        return 4 * samples * prod(self.latent)

    def all_logits(self, samples: int) -> int:
        """Bytes of the logits of N samples."""
        return 4 * samples * prod(self.logits)

    @property
    def step(self) -> int:
        """Bytes from one step's row to the next. Its time features start `ALIGNMENT` bytes after the row."""
        return ALIGNMENT + aligned(4 * self.time_features)


class StreamMemory:
    """The memory for up to N samples at once. Addresses never change, because captured graphs hold them."""

    def __init__(self, manifest: Manifest, max_samples: int, scratch: int, stream: Stream) -> None:
        """Allocate, and queue the zeros.

        scratch: bytes of scratch memory that the engines share.

        Raises:
            BackendError: the GPU has too little free memory.
        """
        self.sizes = sizes = Sizes.of(manifest)
        self.scratch_bytes = scratch
        self._stream = stream
        image, latents = aligned(4 * prod(sizes.image)), aligned(sizes.latents(max_samples))
        outbox = latents + aligned(sizes.all_logits(max_samples))
        table = NUM_TRAIN_TIMESTEPS * sizes.step
        pieces = {"image": image, "noise": latents, "final": outbox} | dict.fromkeys(LATENTS, latents)
        pieces |= {"condition": aligned(4 * prod(sizes.condition)), "table": table, "scratch": aligned(scratch)}
        device = DeviceMemory(sum(pieces.values()))
        self._allocated: list[DeviceMemory | PinnedMemory] = [device]
        self._noise_offset = image
        self._address = _starts(pieces, device.pointer)
        self._uploaded: tuple[bytes, bytes] | None = None
        try:
            self._inbox, self._outbox, self._table = map(self._pinned, (image + latents, outbox, table))
            stream.clear(self._address["zeros"], latents)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, piece: str) -> int:
        """Address of a piece on the GPU."""
        return self._address[piece]

    def logits(self, samples: int) -> int:
        """Address of the logits of N samples."""
        return self._address["final"] + aligned(self.sizes.latents(samples))

    def row(self, step: int) -> int:
        """Address of a step's row."""
        return self._address["table"] + step * self.sizes.step

    def time_features(self, step: int) -> int:
        """Address of a step's time features."""
        return self.row(step) + ALIGNMENT

    def put(self, image: Float32 | None, noise: Float32) -> None:
        """Write the source of `upload`. The stream must be idle."""
        if image is not None:
            self._inbox.floats(0, self.sizes.image)[:] = image
        self._inbox.floats(self._noise_offset, noise.shape)[:] = noise

    def upload(self, samples: int, *, image: bool) -> None:
        """Queue one copy of the noise, with the image before it if asked for."""
        start, size = self._noise_offset, self.sizes.latents(samples)
        if image:
            self._stream.upload(self["image"], self._inbox.pointer, start + size)
        else:
            self._stream.upload(self["noise"], self._inbox.pointer + start, size)

    def upload_latents(self, samples: int, piece: str) -> None:
        """Queue a copy to a piece of the latents that were `put` as noise."""
        self._stream.upload(self[piece], self._inbox.pointer + self._noise_offset, self.sizes.latents(samples))

    def upload_table(self, rows: Float32, features: Float32) -> None:
        """Queue a copy of all rows (S, 5) and time features (S, T), unless they are on the GPU. The stream must be idle."""
        content = rows.tobytes(), features.tobytes()
        if content == self._uploaded:
            return
        steps, stride = len(rows), self.sizes.step // 4
        table = self._table.floats(0, (steps, stride))
        table[:, :ROW] = rows
        table[:, ALIGNMENT // 4 :][:, : features.shape[1]] = features
        self._stream.upload(self["table"], self._table.pointer, 4 * table.size)
        self._uploaded = content

    def download(self, samples: int, *, logits: bool) -> None:
        """Queue one copy of the final latents, with the logits after them if asked for."""
        size = self.logits(samples) - self["final"] + self.sizes.all_logits(samples)
        self._stream.download(self._outbox.pointer, self["final"], size if logits else self.sizes.latents(samples))

    def latents_here(self, samples: int) -> Float32:
        """Return the downloaded latents (N, Z, h, w), valid until the next download."""
        return self._outbox.floats(0, (samples, *self.sizes.latent))

    def logits_here(self, samples: int) -> Float32:
        """Return the downloaded logits (N, K, H, W), valid until the next download."""
        return self._outbox.floats(aligned(self.sizes.latents(samples)), (samples, *self.sizes.logits))

    def close(self) -> None:
        """Free everything. The stream must be idle."""
        with ExitStack() as stack:
            for memory in self._allocated:
                stack.callback(memory.close)

    def _pinned(self, size: int) -> PinnedMemory:
        memory = PinnedMemory(size)
        self._allocated.append(memory)
        return memory


def _fixed(shape: Shape) -> tuple[int, ...]:
    """Return a shape without the batch."""
    return tuple(side for side in shape if side != "N")


def _starts(sizes: Mapping[str, int], start: int) -> dict[str, int]:
    """Return the start of each piece, one after another."""
    ends = np.cumsum([start, *sizes.values()])
    return dict(zip(sizes, map(int, ends), strict=False))
