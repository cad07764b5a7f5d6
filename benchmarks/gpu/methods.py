"""The compared methods of sampling. Each takes image and noise on the host, and returns logits on the host.

eager, sample by sample    torch float32, encoding again for each sample, as research code does
eager, batched             torch float16 (`medseg_export.graphs.low_precision`), all samples in one call, one encoding
CUDA graph                 the same, captured once per number of samples and steps
compile                    the same through torch.compile
ONNX Runtime, TensorRT     this project's own backends, on float16 graphs
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from benchmarks.gpu.subjects import Subject
from medseg_export.graphs.low_precision import to_low_precision
from medseg_runtime.backends.base import Backend, Float32
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.model.bundle import Bundle
from medseg_trainer.models.graphs import Networks

Sample = Callable[[Float32, Float32], Float32]
"""Image (1, C, H, W), noise (N, Z, h, w) => logits (N, K, H, W), all on the host."""


class Method(Protocol):
    """A method, opened on a subject."""

    name: str
    precision: str

    def prepare(self, samples: int, steps: int) -> Sample:
        """Return a function that draws `samples` samples in `steps` steps; compile and capture first."""
        ...


class Torch(Method):
    """The sampling loop in torch."""

    def __init__(self, name: str, subject: Subject, networks: Networks, device: torch.device, precision: str) -> None:
        self.name, self.precision = name, precision
        self._subject, self._device = subject, device
        self._graphs: dict[str, Any] = {
            key: module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            for key, module in networks.graphs().items()
        }

    @torch.inference_mode()
    def prepare(self, samples: int, steps: int) -> Sample:  # noqa: ARG002 - `Captured` needs it
        table, features = self._subject.table(steps)
        rows = torch.from_numpy(table.rows).to(self._device, torch.float32)
        times = torch.from_numpy(features).to(self._device)

        @torch.inference_mode()
        def sample(image: Float32, noise: Float32) -> Float32:
            logits = self.loop(self._up(image), self._up(noise), rows, times)
            found: Float32 = logits.float().cpu().numpy()
            return found

        return sample

    @abstractmethod
    def loop(self, image: Tensor, noise: Tensor, rows: Tensor, times: Tensor) -> Tensor:
        """Return logits; all tensors are on the device."""

    def _up(self, array: Float32) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)


class Eager(Torch):
    """All samples in one call."""

    def loop(self, image: Tensor, noise: Tensor, rows: Tensor, times: Tensor) -> Tensor:
        condition = self._graphs["encoder"](image)
        latent, denoised = noise, torch.zeros_like(noise)
        for row, features in zip(rows, times, strict=True):
            latent, denoised = self._graphs["denoiser"](latent, denoised, condition, features[None], row)
        logits: Tensor = self._graphs["decoder"](latent)
        return logits


class SampleBySample(Eager):
    """One sample after another, each with its own encoding."""

    def loop(self, image: Tensor, noise: Tensor, rows: Tensor, times: Tensor) -> Tensor:
        return torch.cat([super(SampleBySample, self).loop(image, one[None], rows, times) for one in noise])


class Compiled(Eager):
    """torch.compile of each network, for each number of samples."""

    def __init__(self, name: str, subject: Subject, networks: Networks, device: torch.device, precision: str) -> None:
        super().__init__(name, subject, networks, device, precision)
        self._graphs = {key: torch.compile(module, dynamic=False) for key, module in self._graphs.items()}


class Captured(Eager):
    """The whole loop as one CUDA graph."""

    @torch.inference_mode()
    def prepare(self, samples: int, steps: int) -> Sample:
        table, features = self._subject.table(steps)
        rows = torch.from_numpy(table.rows).to(self._device, torch.float32)
        times = torch.from_numpy(features).to(self._device)
        image, noise = map(self._up, self._subject.inputs(samples))
        side_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(side_stream):  # cuDNN selects kernels here; a capture does not allow it
            for _ in range(3):
                self.loop(image, noise, rows, times)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self.loop(image, noise, rows, times)

        @torch.inference_mode()
        def sample(new_image: Float32, new_noise: Float32) -> Float32:
            image.copy_(torch.from_numpy(new_image), non_blocking=True)
            noise.copy_(torch.from_numpy(new_noise), non_blocking=True)
            graph.replay()
            found: Float32 = logits.float().cpu().numpy()
            return found

        return sample


class Ours(Method):
    """A backend of this project."""

    def __init__(self, name: str, subject: Subject, backend: Backend) -> None:
        self.name, self.precision = name, backend.precision
        self._subject, self._backend = subject, backend

    def prepare(self, samples: int, steps: int) -> Sample:  # noqa: ARG002 - backends prepare when called
        table, features = self._subject.table(steps)

        def sample(image: Float32, noise: Float32) -> Float32:
            condition = self._backend.encode(image)
            return self._backend.decode(self._backend.denoise(condition, noise, table, features, lambda: noise))

        return sample


def reference(subject: Subject, device: torch.device) -> Method:
    """Return float32 torch, the reference of all methods."""
    return Eager("reference", subject, subject.networks, device, "float32")


def torch_methods(subject: Subject, device: torch.device) -> list[tuple[str, Callable[[], Method]]]:
    """Return name and opener of each; the slowest to prepare comes last."""
    half = to_low_precision(subject.networks, "float16")

    def opened(cls: type[Torch], name: str, networks: Networks, precision: str) -> Callable[[], Method]:
        return lambda: cls(name, subject, networks, device, precision)

    single = "torch eager, sample by sample"
    batched, captured, compiled = "torch eager, batched", "torch CUDA graph", "torch.compile"
    methods = [
        (single, opened(SampleBySample, single, subject.networks, "float32")),
        (batched, opened(Eager, batched, half, "float16")),
    ]
    if device.type == "cuda":
        methods.append((captured, opened(Captured, captured, half, "float16")))
        methods.append((compiled, opened(Compiled, compiled, half, "float16")))
    return methods


def project_methods(subject: Subject, bundle: Bundle, device: torch.device) -> list[tuple[str, Callable[[], Method]]]:
    """Return name and opener of this project's backends; TensorRT builds its engines when opened."""
    if device.type != "cuda":
        return [("ONNX Runtime, CPU", lambda: Ours("ONNX Runtime, CPU", subject, open_backend("onnxruntime", bundle)))]
    cuda, trt = "ONNX Runtime, CUDA", "TensorRT"
    return [
        (cuda, lambda: Ours(cuda, subject, open_backend("cuda", bundle))),
        (trt, lambda: Ours(trt, subject, _tensorrt(bundle))),
    ]


def _tensorrt(bundle: Bundle) -> Backend:
    from rich.progress import Progress

    from medseg_export.engines.target import target_here
    from medseg_export.engines.writer import build_engines
    from medseg_runtime.backends.gpu.tensorrt.engine_files import Flags, Profile

    flags = Flags(version_compatible=False, hardware="none", workspace_mib=None, optimization_level=3)
    target = target_here((Profile(min=1, opt=16, max=64),), flags)
    with Progress(disable=True) as progress:
        build_engines(bundle, target, progress)
    return open_backend("tensorrt", bundle)
