"""A way round one slow copy in OpenVINO's CPU plugin.

In float32 its convolutions leave the channels last; a group normalisation, which reshapes what it is given, wants them first. Between
the two, 16 to 64 channels of at least 128 numbers are copied by a plain loop of the plugin instead of oneDNN's reorder
(`Reorder::prepareParams` in intel_cpu/src/nodes/reorder.cpp; 2026.4.1): 0.2 ms for 64 channels of 32 x 32 pixels, and a third of
the encoder's time on a photograph of 256 x 256. Written out as transposes the copy is four times faster.

For one image: in a batch the plain loop has all threads, and is the faster one.
"""

from __future__ import annotations

import numpy as np

from medseg_runtime.backends.telemetry import no_telemetry

with no_telemetry():
    import openvino as ov
    from openvino import opset13 as ops

CHANNELS = range(16, 64 + 1)
NUMBERS = 128
"""Of a channel."""


def write_out_transposes(model: ov.Model) -> int:
    """Put transposes before the reshapes, (1, C, H, W) => three axes, whose copies would be slow; returns how many."""
    slow = [op for op in model.get_ordered_ops() if op.get_type_name() == "Reshape" and _is_copied_slowly(op)]
    for reshape in slow:
        features = reshape.input_value(0)
        channels = features.get_shape()[1]
        channels_last = ops.transpose(features, np.array([0, 2, 3, 1]))  # as they lie in memory: nothing moves
        # a reshape between the two, or OpenVINO would see that they undo each other
        flat = ops.reshape(channels_last, np.array([1, -1, channels]), special_zero=False)
        channels_first = ops.transpose(flat, np.array([0, 2, 1]))
        instead = ops.reshape(channels_first, np.array(list(reshape.get_output_shape(0))), special_zero=False)
        for target in reshape.output(0).get_target_inputs():
            target.replace_source_output(instead.output(0))
    model.validate_nodes_and_infer_types()
    return len(slow)


def _is_copied_slowly(reshape: ov.Node) -> bool:
    given, made = reshape.get_input_partial_shape(0), reshape.get_output_partial_shape(0)
    if given.is_dynamic or made.is_dynamic or len(given) != 4 or len(made) != 3:
        return False
    batch, channels, height, width = given.to_shape()
    return batch == 1 and channels in CHANNELS and height * width >= NUMBERS
