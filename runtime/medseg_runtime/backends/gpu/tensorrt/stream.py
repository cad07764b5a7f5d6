"""The GPU side of one backend or clone: a CUDA stream, its memory, and the launch plans that were used last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import ExitStack
from threading import Lock

import numpy as np

from medseg_runtime.backends.base import Float32, closed_error, finite
from medseg_runtime.backends.gpu.capture_policy import CapturePolicy
from medseg_runtime.backends.gpu.cuda import Stream, check_current_device
from medseg_runtime.backends.gpu.device_loop import Condition, DeviceStream, Latents
from medseg_runtime.backends.gpu.tensorrt.engine import LoadedEngines
from medseg_runtime.backends.gpu.tensorrt.launch_plan import LaunchPlan, Work
from medseg_runtime.backends.gpu.tensorrt.memory import StreamMemory
from medseg_runtime.model.bundle import Manifest

KEPT_PLANS = 8
"""Plans, with their contexts and graphs, that a stream keeps. The least recently used one is closed first."""


class TensorRtStream(DeviceStream):
    """Run one image after another. `close` waits for a running call, so no memory is freed while it is in use."""

    def __init__(self, engines: LoadedEngines, manifest: Manifest, policy: CapturePolicy) -> None:
        """Allocate for as many samples as the engines take at once.

        Raises:
            BackendError: the GPU has too little free memory, or another GPU is current in this thread.
        """
        check_current_device()
        self._engines, self._policy, self._lock = engines, policy, Lock()
        self._plans: OrderedDict[Work, LaunchPlan] = OrderedDict()
        self._encoded: Condition | None = None
        self._stream: Stream | None = Stream()
        self._memory: StreamMemory | None = None
        try:
            self._memory = StreamMemory(manifest, engines.record.max_samples, engines.activation_bytes, self._stream)
            self._stream.wait()
        except BaseException:
            self.close()
            raise

    def sample(self, latents: Latents) -> Float32:
        with self._lock:
            plan = self._prepared(latents)
            return self._run(plan, latents.condition)

    def decode(self, latents: Float32) -> Float32:
        with self._lock:
            _, memory = self._resources()
            plan = self._plan(Work(len(latents), 0, "none", encodes=False))
            memory.put(None, latents)
            return self._run(plan, self._encoded)

    def sample_with_fresh_noise(self, latents: Latents, fresh: Callable[[], Float32]) -> Float32:
        """Return the latents (N, Z, h, w) of a sampler that adds noise at each step, which a CUDA graph cannot draw."""
        with self._lock:
            stream, memory = self._resources()
            plan, samples = self._prepared(latents), len(latents.noise)
            self._encoded = None
            memory.upload(samples, image=plan.work.encodes)
            plan.queue_encoder()
            for step in range(plan.work.steps):
                noise = fresh()
                stream.wait()  # the copy of the last step reads the same memory
                memory.put(None, noise)
                memory.upload_latents(samples, "fresh")
                plan.queue_step(step)
            memory.download(samples, logits=False)
            stream.wait()
            self._encoded = latents.condition
            return finite("tensorrt", "denoiser", memory.latents_here(samples)).copy()

    def close(self) -> None:
        """Free plans, memory and CUDA stream, once. If freeing one fails, the others are freed all the same."""
        with self._lock, ExitStack() as stack:  # callbacks run in reverse
            for resource in (self._stream, self._memory, *self._plans.values()):
                if resource is not None:
                    stack.callback(resource.close)
            if self._stream is not None:
                stack.callback(self._stream.wait)
            self._plans.clear()
            self._memory = self._stream = None

    def check_open(self) -> None:
        self._resources()

    def _prepared(self, latents: Latents) -> LaunchPlan:
        """Return the plan, with its inputs written to page-locked memory."""
        _, memory = self._resources()
        encodes = latents.condition is not self._encoded
        table = latents.table
        plan = self._plan(Work(len(latents.noise), len(table), table.extra, encodes))
        memory.put(latents.condition.image if encodes else None, latents.noise)
        memory.upload_table(table.rows.astype(np.float32), latents.features)
        return plan

    def _run(self, plan: LaunchPlan, condition: Condition | None) -> Float32:
        """Queue a plan, wait for it, and return the logits. Afterwards the condition is on the GPU."""
        stream, memory = self._resources()
        self._encoded = None
        plan.queue_all()
        stream.wait()
        self._encoded = condition
        # a quantised decoder turns NaN into finite logits
        finite("tensorrt", "denoiser", memory.latents_here(plan.work.samples))
        return finite("tensorrt", "decoder", memory.logits_here(plan.work.samples)).copy()

    def _plan(self, work: Work) -> LaunchPlan:
        stream, memory = self._resources()
        if work not in self._plans:
            self._plans[work] = LaunchPlan(work, self._engines, memory, stream, self._policy)
        self._plans.move_to_end(work)
        while len(self._plans) > KEPT_PLANS:
            self._plans.popitem(last=False)[1].close()
        return self._plans[work]

    def _resources(self) -> tuple[Stream, StreamMemory]:
        stream, memory = self._stream, self._memory
        if stream is None or memory is None:
            raise closed_error("tensorrt")
        return stream, memory
