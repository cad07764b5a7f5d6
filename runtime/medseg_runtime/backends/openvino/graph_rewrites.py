"""Rewrite graphs to avoid two slow loops of OpenVINO's CPU plugin (2026.4.1). Neither rewrite changes a number.

    convolution => (transposes) => (N, groups, ...) => normalized => (N, C, 1, h w) => affine, SiLU => (N, C, h, w) => convolution

Transposes. In float32, convolutions leave the channels last, and the reshape of a group normalization needs them first. The plugin
copies between the two with a plain loop instead of oneDNN's reorder for 16 to 64 channels of at least 128 values
(`Reorder::prepareParams` in intel_cpu/src/nodes/reorder.cpp): 0.2 ms for 64 channels of 32 x 32 pixels, and a third of the encoder's
time on a photograph of 256 x 256. Written as transposes the copy is four times faster, if the batch is fixed.

Planes. The arithmetic after a normalization runs over rows, and a row of a small plane does not fill a vector register. For a batch
of 16 with 160 channels of 4 x 4 pixels it took 0.26 ms, and takes 0.03 ms with each plane as one row of 16.
"""

from __future__ import annotations

import numpy as np

from medseg_runtime.backends.telemetry import no_telemetry

with no_telemetry():
    import openvino as ov
    from openvino import opset13 as ops

SLOW_CHANNELS = range(16, 64 + 1)
"""Numbers of channels that are copied slowly."""
MIN_CHANNEL_VALUES = 128
"""Smallest channel, in values, that is copied slowly."""


def write_out_transposes(model: ov.Model) -> int:
    """Insert transposes before each reshape (N, C, h, w) => three axes with a slow copy in float32; return how many."""
    slow = [op for op in _reshapes(model) if _is_copied_slowly(op)]
    for reshape in slow:
        features = reshape.input_value(0)
        batch, channels, _, _ = features.get_shape()
        channels_last = ops.transpose(features, np.array([0, 2, 3, 1]))  # the order in memory already: copies nothing
        # the reshape keeps OpenVINO from removing the two transposes, which undo each other
        flat = ops.reshape(channels_last, np.array([batch, -1, channels]), special_zero=False)
        channels_first = ops.transpose(flat, np.array([0, 2, 1]))
        replacement = ops.reshape(channels_first, np.array(list(reshape.get_output_shape(0))), special_zero=False)
        _move(_readers(reshape), replacement)
    model.validate_nodes_and_infer_types()
    return len(slow)


def flatten_planes(model: ov.Model) -> int:
    """Flatten planes to rows for the pixelwise arithmetic after each normalization; return after how many."""
    norms = [op for op in _reshapes(model) if _ends_a_normalization(op)]
    for reshape in norms:
        last = _last_pixelwise(reshape)
        readers = _readers(last)
        channels, height, width = (side.get_length() for side in list(reshape.get_output_partial_shape(0))[1:])
        rows = ops.reshape(reshape.input_value(0), np.array([0, channels, 1, height * width]), special_zero=True)
        _move(_readers(reshape), rows)
        _move(readers, ops.reshape(last.output(0), np.array([0, channels, height, width]), special_zero=True))
    model.validate_nodes_and_infer_types()
    return len(norms)


def _reshapes(model: ov.Model) -> list[ov.Node]:
    return [op for op in model.get_ordered_ops() if op.get_type_name() == "Reshape"]


def _is_copied_slowly(reshape: ov.Node) -> bool:
    given, made = reshape.get_input_partial_shape(0), reshape.get_output_partial_shape(0)
    if given.is_dynamic or made.is_dynamic or len(given) != 4 or len(made) != 3:
        return False
    _, channels, height, width = given.to_shape()
    return channels in SLOW_CHANNELS and height * width >= MIN_CHANNEL_VALUES


def _ends_a_normalization(reshape: ov.Node) -> bool:
    """Tell whether a reshape (N, groups, values) => (N, C, h, w) is followed by pixelwise arithmetic."""
    given, made = reshape.get_input_partial_shape(0), reshape.get_output_partial_shape(0)
    planes = len(given) == 3 and len(made) == 4 and not any(side.is_dynamic for side in list(made)[1:])
    return planes and _last_pixelwise(reshape) is not reshape


def _last_pixelwise(node: ov.Node) -> ov.Node:
    """Follow additions and multiplications by one value per channel, and SiLU, x sigmoid(x); return the last of them."""
    readers = [target.get_node() for target in _readers(node)]
    kinds = sorted(reader.get_type_name() for reader in readers)
    if kinds in (["Add"], ["Multiply"]) and _is_per_channel(readers[0], node):
        return _last_pixelwise(readers[0])
    if kinds == ["Multiply", "Sigmoid"]:
        return next(reader for reader in readers if reader.get_type_name() == "Multiply")
    return node


def _is_per_channel(reader: ov.Node, node: ov.Node) -> bool:
    others = [value for value in reader.input_values() if value.get_node() != node]
    return all(list(value.get_partial_shape())[-2:] in ([], [1, 1]) for value in others)


def _readers(node: ov.Node) -> list[ov.Input]:
    return list(node.output(0).get_target_inputs())


def _move(readers: list[ov.Input], source: ov.Node) -> None:
    for reader in readers:
        reader.replace_source_output(source.output(0))
