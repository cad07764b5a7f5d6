"""All launches of one image, for one number of samples and steps.

A CUDA graph is valid as long as the contexts that it was captured from do not change. So each plan has its own three contexts, whose
shapes are set once; they share scratch memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from medseg_runtime.backends.gpu.buffers import step_buffers
from medseg_runtime.backends.gpu.capture_policy import CapturePolicy
from medseg_runtime.backends.gpu.cuda import Stream
from medseg_runtime.backends.gpu.graph_capture import Replay
from medseg_runtime.backends.gpu.tensorrt.engine import LoadedEngines
from medseg_runtime.backends.gpu.tensorrt.memory import StreamMemory
from medseg_runtime.model.sampler import Extra
from medseg_runtime.model.signatures import GraphName


@dataclass(frozen=True, slots=True)
class Work:
    """Images of the same work need the same launches."""

    samples: int
    steps: int
    """0: only decode."""
    extra: Extra
    encodes: bool
    """False if the image's condition is on the GPU already."""


class LaunchPlan:
    """The launches of one kind of work, with inputs and outputs at fixed addresses."""

    def __init__(
        self, work: Work, engines: LoadedEngines, memory: StreamMemory, stream: Stream, policy: CapturePolicy
    ) -> None:
        """Create the contexts.

        Raises:
            EngineError: no profile takes this number of samples, or TensorRT refuses.
        """
        self.work = work
        self._memory = memory
        self._buffers = step_buffers(work.steps, work.extra)
        profile = engines.record.profile_for(work.samples)
        needed: dict[GraphName, bool] = {"encoder": work.encodes, "denoiser": work.steps > 0, "decoder": True}
        self._contexts = {
            name: engines.context(name, profile if name != "encoder" else 0, stream)
            for name, used in needed.items()
            if used
        }
        for context in self._contexts.values():
            context.use_memory(memory["scratch"], memory.scratch_bytes)
        self._set_shapes()
        self.queue_all = Replay(self._queue_all, stream, policy)

    def queue_encoder(self) -> None:
        """Queue the encoder, if the work includes it."""
        if self.work.encodes:
            encoder = self._contexts["encoder"]
            encoder.bind(image=self._memory["image"], condition=self._memory["condition"])
            encoder.launch()

    def queue_step(self, step: int) -> None:
        """Queue one step of the denoiser."""
        memory, names, denoiser = self._memory, self._buffers[step], self._contexts["denoiser"]
        denoiser.bind(
            latent=memory[names.latent],
            extra=memory[names.extra],
            condition=memory["condition"],
            time_features=memory.time_features(step),
            row=memory.row(step),
            next_latent=memory[names.next_latent],
            denoised=memory[names.denoised],
        )
        denoiser.launch()

    def queue_decoder(self) -> None:
        """Queue the decoder on the final latents."""
        decoder = self._contexts["decoder"]
        decoder.bind(latent=self._memory["final"], logits=self._memory.logits(self.work.samples))
        decoder.launch()

    def close(self) -> None:
        """Destroy the graph, then its contexts. The stream must be idle."""
        self.queue_all.close()
        for context in self._contexts.values():
            context.close()
        self._contexts.clear()

    def _queue_all(self) -> None:
        """Queue everything from the upload to the download."""
        work, memory = self.work, self._memory
        if work.steps:
            memory.upload(work.samples, image=work.encodes)
        else:
            memory.upload_latents(work.samples, "final")
        self.queue_encoder()
        for step in range(work.steps):
            self.queue_step(step)
        self.queue_decoder()
        memory.download(work.samples, logits=True)

    def _set_shapes(self) -> None:
        sizes = self._memory.sizes
        latents = (self.work.samples, *sizes.latent)
        self._contexts["decoder"].shape("latent", latents)
        if encoder := self._contexts.get("encoder"):
            encoder.shape("image", (1, *sizes.image[1:]))
        if denoiser := self._contexts.get("denoiser"):
            for name in ("latent", "extra"):
                denoiser.shape(name, latents)
