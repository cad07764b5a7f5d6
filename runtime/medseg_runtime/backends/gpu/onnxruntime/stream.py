"""The device buffers of one backend or clone, and ONNX Runtime's sessions bound to them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, get_args

import numpy as np

from medseg_runtime.backends.base import closed_error, finite
from medseg_runtime.backends.gpu.buffers import Buffer, StepBuffers, step_buffers
from medseg_runtime.backends.gpu.device_loop import Condition, DeviceStream, Latents
from medseg_runtime.backends.host_loop import one_line
from medseg_runtime.backends.telemetry import no_telemetry
from medseg_runtime.errors import BackendError

with no_telemetry():
    import onnxruntime as ort

if TYPE_CHECKING:
    from medseg_runtime.backends.base import Float32
    from medseg_runtime.backends.gpu.capture_policy import CapturePolicy
    from medseg_runtime.model.bundle import Manifest
    from medseg_runtime.model.sampler import Extra
    from medseg_runtime.model.signatures import GraphName

KEPT_PLANS = 8
MAX_GRAPHS = 256
"""Largest number of captured runs, which the sessions never free. Later runs are launched kernel by kernel."""
NO_GRAPH = -1
"""Tells ONNX Runtime neither to capture nor to replay."""

Work = tuple[int, int, "Extra"]
"""Samples, steps, and what the sampler adds to each."""


class Sessions(Protocol):
    """What the streams of a backend and its clones share."""

    sessions: dict[GraphName, ort.InferenceSession]
    lock: Lock
    graphs: int


@dataclass(frozen=True, slots=True)
class Bound:
    """A graph with all its inputs and outputs bound on the device."""

    graph: GraphName
    binding: Any
    options: Any


@dataclass(slots=True)
class Plan:
    """Buffers and bindings for one number of samples and steps."""

    buffers: dict[Buffer, ort.OrtValue]
    rows: list[ort.OrtValue]
    features: list[ort.OrtValue]
    logits: ort.OrtValue
    steps: list[Bound]
    decoder: Bound
    uploaded: tuple[bytes, bytes] | None = None


class OnnxRuntimeStream(DeviceStream):
    """Run one image after another. The addresses of a plan never change, because captured graphs hold them."""

    def __init__(self, shared: Sessions, manifest: Manifest, device: str, policy: CapturePolicy) -> None:
        self._shared, self._manifest, self._device, self._policy = shared, manifest, device, policy
        self._plans: OrderedDict[Work, Plan] = OrderedDict()
        self._encoded: Condition | None = None
        self._closed = False
        encoder = manifest.graphs["encoder"]
        self._image = self._allocated(encoder.inputs["image"])
        self._condition = self._allocated(encoder.outputs["condition"])
        with shared.lock:  # a clone may be made while another takes a graph number
            self._encoder = self._bound("encoder", {"image": self._image}, {"condition": self._condition})

    def sample(self, latents: Latents) -> Float32:
        with self._shared.lock:
            plan = self._upload(latents)
            for step in plan.steps:
                self._run(step)
            return self._decode(plan)

    def sample_with_fresh_noise(self, latents: Latents, fresh: Callable[[], Float32]) -> Float32:
        with self._shared.lock:
            plan = self._upload(latents)
            for step in plan.steps:
                plan.buffers["fresh"].update_inplace(np.ascontiguousarray(fresh()))
                self._run(step)
            return finite("cuda", "denoiser", plan.buffers["final"].numpy())

    def decode(self, latents: Float32) -> Float32:
        with self._shared.lock:
            self.check_open()
            plan = self._plan((len(latents), 0, "none"))
            plan.buffers["final"].update_inplace(np.ascontiguousarray(latents))
            return self._decode(plan)

    def close(self) -> None:
        """Drop the buffers. Wait for a running call, here or in a clone."""
        with self._shared.lock:
            self._plans.clear()
            self._encoded, self._closed = None, True

    def check_open(self) -> None:
        """Refuse a call to a closed backend.

        Raises:
            BackendError: this stream is closed, or the backend that its sessions belong to.
        """
        if self._closed or not self._shared.sessions:
            raise closed_error("cuda")

    def _upload(self, latents: Latents) -> Plan:
        """Copy to the device what is not there yet."""
        self.check_open()
        table = latents.table
        plan = self._plan((len(latents.noise), len(table), table.extra))
        if latents.condition is not self._encoded:
            self._encoded = None
            self._image.update_inplace(np.ascontiguousarray(latents.condition.image))
            self._run(self._encoder)
            self._encoded = latents.condition
        plan.buffers["noise"].update_inplace(latents.noise)
        rows = table.rows.astype(np.float32)
        content = rows.tobytes(), latents.features.tobytes()
        if plan.uploaded != content:
            for step in range(len(table)):
                plan.rows[step].update_inplace(rows[step])
                plan.features[step].update_inplace(latents.features[step : step + 1])
            plan.uploaded = content
        return plan

    def _decode(self, plan: Plan) -> Float32:
        self._run(plan.decoder)
        # a quantised decoder turns NaN into finite logits
        finite("cuda", "denoiser", plan.buffers["final"].numpy())
        return finite("cuda", "decoder", plan.logits.numpy())

    def _plan(self, work: Work) -> Plan:
        if work not in self._plans:
            self._plans[work] = self._new_plan(*work)
        self._plans.move_to_end(work)
        while len(self._plans) > KEPT_PLANS:
            self._plans.popitem(last=False)
        return self._plans[work]

    def _new_plan(self, samples: int, steps: int, extra: Extra) -> Plan:
        graphs = self._manifest.graphs
        inputs = graphs["denoiser"].inputs
        buffers: dict[Buffer, ort.OrtValue] = {
            name: self._allocated(inputs["latent"], samples) for name in get_args(Buffer)
        }
        rows = [self._allocated(inputs["row"]) for _ in range(steps)]
        features = [self._allocated(inputs["time_features"]) for _ in range(steps)]
        logits = self._allocated(graphs["decoder"].outputs["logits"], samples)
        return Plan(
            buffers=buffers,
            rows=rows,
            features=features,
            logits=logits,
            steps=[
                self._step(names, buffers, {"row": row, "time_features": feature})
                for names, row, feature in zip(step_buffers(steps, extra), rows, features, strict=True)
            ],
            decoder=self._bound("decoder", {"latent": buffers["final"]}, {"logits": logits}),
        )

    def _step(self, names: StepBuffers, buffers: dict[Buffer, ort.OrtValue], given: dict[str, ort.OrtValue]) -> Bound:
        latents = {"latent": buffers[names.latent], "extra": buffers[names.extra], "condition": self._condition}
        outputs = {"next_latent": buffers[names.next_latent], "denoised": buffers[names.denoised]}
        return self._bound("denoiser", latents | given, outputs)

    def _bound(self, graph: GraphName, inputs: dict[str, ort.OrtValue], outputs: dict[str, ort.OrtValue]) -> Bound:
        binding = self._session(graph).io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(self._graph_number()))
        return Bound(graph, binding, options)

    def _graph_number(self) -> int:
        """Return a number that no other binding has, because the graph holds the addresses. The caller holds the lock."""
        if not self._policy.active or self._shared.graphs >= MAX_GRAPHS:
            return NO_GRAPH
        self._shared.graphs += 1
        return self._shared.graphs

    def _run(self, bound: Bound) -> None:
        session = self._session(bound.graph)
        try:
            session.run_with_iobinding(bound.binding, bound.options)
        except Exception as error:
            raise BackendError(
                f"ONNX Runtime {ort.__version__} failed in {bound.graph}: {one_line(error)}",
                "Try fewer samples at once, or another --backend.",
            ) from error

    def _session(self, graph: GraphName) -> ort.InferenceSession:
        session = self._shared.sessions.get(graph)
        if session is None:
            raise closed_error("cuda")
        return session

    def _allocated(self, shape: tuple[Any, ...], samples: int = 1) -> ort.OrtValue:
        """Return zeros on the device."""
        sides = [samples if side == "N" else side for side in shape]
        try:
            return ort.OrtValue.ortvalue_from_numpy(np.zeros(sides, np.float32), self._device, 0)
        except Exception as error:
            raise BackendError(
                f"ONNX Runtime {ort.__version__} cannot allocate {sides} on {self._device}: {one_line(error)}",
                "Use fewer samples at once, or free GPU memory.",
            ) from error
