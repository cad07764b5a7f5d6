"""The table of backends, and the CPU backends on three tiny graphs, from the folder to the masks."""

import dataclasses
import sys
import threading
import weakref
from typing import get_args

import numpy as np
import onnx
import pytest

from medseg_runtime import Segmenter
from medseg_runtime.backends import registry
from medseg_runtime.backends.base import BackendName, PrecisionName
from medseg_runtime.backends.opening import open_backend
from medseg_runtime.backends.registry import BACKENDS, installed
from medseg_runtime.errors import BackendError, ParameterError
from medseg_runtime.model.bundle import Bundle, Precision
from medseg_runtime.model.sampler import sampler_table, time_features

IMAGE = np.random.default_rng(0).integers(0, 255, (11, 9), dtype=np.uint8)
CLEAR = 0.45
"""A threshold that no probability is near: two channels that cancel give 0.5 but for rounding."""
ENGINES = [name for name, engine in BACKENDS.items() if engine.device == "cpu"]


@pytest.fixture(params=ENGINES)
def engine(request):
    if installed(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.fixture
def backend(engine, tiny_bundle):
    return open_backend(engine, tiny_bundle, precision="float32")


@pytest.mark.parametrize(
    ("objective", "sampler"), [("flow", "euler"), ("flow", "dpmpp"), ("epsilon", "ddim"), ("epsilon", "ddpm")]
)
@pytest.mark.parametrize("samples", [4, 5])
def test_an_engine_draws_the_masks_that_numpy_does(tmp_path, tiny, engine, objective, sampler, samples):
    folder = tiny.write_bundle(tmp_path, objective)
    segmenter = Segmenter.load(folder, backend=engine, precision="float32")
    reference = Segmenter(segmenter.manifest, tiny.Numpy())
    for seed in (0, 1):  # the second image meets the arrays of the first
        found, expected = (
            s(IMAGE, samples=samples, steps=4, sampler=sampler, seed=seed, threshold=CLEAR)
            for s in (segmenter, reference)
        )
        assert 0.05 < expected.confidence.mean() < 0.95
        assert expected.mean_pairwise_iou < 0.9
        np.testing.assert_allclose(found.mean_probability, expected.mean_probability, atol=1e-5)
        assert (found.masks == expected.masks).all()


def test_a_real_engine_draws_a_sample_alike_in_every_batch(tiny_folder, engine):
    whole, split = (
        Segmenter.load(tiny_folder, backend=engine, precision="float32", max_batch=batch) for batch in (64, 3)
    )
    masks = whole(IMAGE, samples=64).masks
    assert (split(IMAGE, samples=64).masks == masks).all()
    assert (whole(IMAGE, samples=2).masks == masks[:2]).all()


def test_all_samplers_share_a_backend(tiny, backend, tiny_bundle):
    """Where `extra` is the last estimate, other arrays are bound than where it is noise or nothing."""
    manifest, noise = tiny_bundle.manifest, np.random.default_rng(1).standard_normal((3, 2, 4, 4)).astype(np.float32)
    condition = backend.encode(np.full((1, 1, 8, 8), 0.5, np.float32))
    for sampler in ("euler", "dpmpp", "euler", "dpmpp"):
        table = sampler_table(manifest.path, sampler, 5)
        given = (condition, noise, table, time_features(table.t, manifest.time_features), lambda: noise)
        np.testing.assert_allclose(backend.denoise(*given), tiny.Numpy().denoise(*given), rtol=1e-5, atol=1e-6)


def test_what_a_call_returned_is_not_touched_by_the_next(backend, tiny_bundle):
    manifest, table = tiny_bundle.manifest, sampler_table(tiny_bundle.manifest.path, "euler", 2)
    features = time_features(table.t, manifest.time_features)
    conditions = [backend.encode(np.full((1, 1, 8, 8), value, np.float32)) for value in (0.1, 0.9)]
    noise = np.ones((2, 2, 4, 4), np.float32)
    latents = [backend.denoise(condition, noise, table, features, lambda: noise) for condition in conditions]
    logits = [backend.decode(each) for each in latents]
    for first, second in (conditions, latents, logits):
        assert not np.array_equal(first, second)
    assert (noise == 1).all()


def test_an_image_after_one_that_became_nan_is_drawn_as_if_it_had_not_been(backend, tiny_bundle):
    manifest, table = tiny_bundle.manifest, sampler_table(tiny_bundle.manifest.path, "dpmpp", 2)
    features = time_features(table.t, manifest.time_features)
    noise = np.ones((2, 2, 4, 4), np.float32)

    def draw(value):
        condition = np.full((1, 2, 4, 4), value, np.float32)
        return backend.denoise(condition, noise, table, features, lambda: noise)

    before = draw(0.5)
    with pytest.raises(BackendError, match="NaN or infinite values from the denoiser"):
        draw(np.nan)
    np.testing.assert_array_equal(draw(0.5), before)


def test_clones_draw_side_by_side_what_one_draws_alone(tiny_folder, engine):
    first = Segmenter.load(tiny_folder, backend=engine, precision="float32")
    expected = [first(IMAGE, samples=8, steps=20, seed=seed).masks for seed in range(4)]
    segmenters = [Segmenter(first.manifest, first.backend.clone()) for _ in range(4)]
    found = {}

    def draw(seed):
        found[seed] = [segmenters[seed](IMAGE, samples=8, steps=20, seed=seed).masks for _ in range(5)]

    threads = [threading.Thread(target=draw, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not np.array_equal(expected[0], expected[1])
    assert all(np.array_equal(mask, expected[seed]) for seed in range(4) for mask in found[seed])


@pytest.mark.parametrize("threads", [None, 2, 3, 8])
@pytest.mark.parametrize("samples", [1, 2, 7])
def test_one_thread_draws_what_several_draw(tmp_path, tiny, engine, threads, samples):
    folder = tiny.write_bundle(tmp_path, "epsilon")
    one, several = (
        Segmenter.load(folder, backend=engine, precision="float32", threads=given) for given in (1, threads)
    )
    for sampler in ("ddim", "dpmpp", "ddpm"):
        expected, found = (
            s(IMAGE, samples=samples, steps=3, sampler=sampler, threshold=CLEAR).masks for s in (one, several)
        )
        assert (found == expected).all()


def test_auto_takes_an_installed_engine(tiny_folder):
    segmenter = Segmenter.load(tiny_folder)
    assert segmenter.backend.name in ENGINES
    assert segmenter.bundle_sha256 == Bundle.load(tiny_folder).sha256
    assert segmenter.backend.version
    assert segmenter.backend.why


def test_the_table_names_classes_that_know_their_precisions(engine):
    precisions = installed(engine).precisions()
    assert "float32" in precisions
    assert len(set(precisions)) == len(precisions)


def test_an_unknown_backend_is_refused(tiny_folder):
    with pytest.raises(ParameterError, match="Use one of: auto, onnxruntime, openvino"):
        Segmenter.load(tiny_folder, backend="tensorflow")


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
@pytest.mark.parametrize(
    ("precision", "problem"),
    [("half", "there is no precision 'half'. Use one of: auto, float32"), ("float16", r"multipl\w+ in float16")],
)
def test_a_precision_that_nothing_multiplies_in_is_refused(tiny_folder, backend, precision, problem):
    with pytest.raises(ParameterError, match=problem):
        Segmenter.load(tiny_folder, backend=backend, precision=precision)


@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "openvino"])
def test_a_cpu_backend_has_no_cuda_graphs_to_leave_out(tiny_bundle, backend):
    problem = rf"the {backend} backend runs on the CPU and has no CUDA graphs\. Leave out cuda_graphs=False \(--no-cuda-graphs\)"
    with pytest.raises(ParameterError, match=problem):
        open_backend(backend, tiny_bundle, cuda_graphs=False)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_a_gpu_backend_is_told_of_cuda_graphs(tiny_bundle, monkeypatch, cuda_graphs):
    told = []
    monkeypatch.setattr(registry, "installed", lambda _: lambda *_, **options: told.append(options))
    open_backend("cuda", tiny_bundle, cuda_graphs=cuda_graphs)
    assert told == [{"precision": "auto", "threads": None, "cuda_graphs": cuda_graphs}]


def test_the_names_of_backends_and_precisions_are_those_of_the_table():
    assert get_args(BackendName) == ("auto", *BACKENDS)
    assert set(get_args(PrecisionName)) == {"auto", *get_args(Precision)}


def test_no_threads_are_refused(tiny_folder):
    with pytest.raises(ParameterError, match="0 threads is out of range"):
        Segmenter.load(tiny_folder, threads=0)


@pytest.mark.parametrize(
    ("name", "problem", "extra"),
    [
        ("auto", "no backend is", "cpu"),
        ("onnxruntime", "onnxruntime is not", "cpu"),
        ("openvino", "openvino is not", "openvino"),
    ],
)
def test_a_missing_engine_comes_with_the_command_that_installs_it(monkeypatch, tiny_bundle, name, problem, extra):
    for missing in BACKENDS.values():
        monkeypatch.setitem(sys.modules, missing.module, None)  # its import fails
    with pytest.raises(BackendError, match=rf"{problem} installed\. Run `pip install 'medseglatdiff\[{extra}\]'`"):
        open_backend(name, tiny_bundle)


def test_a_graph_that_the_engine_cannot_load_is_our_error(tmp_path, tiny, engine):
    broken = onnx.load_from_string(tiny.model("encoder"))
    broken.graph.node[0].input[0] = "nothing"
    folder = tiny.write_bundle(tmp_path, encoder=broken.SerializeToString())
    with pytest.raises(BackendError, match=r"cannot load encoder\.onnx.*xport the bundle again"):
        Segmenter.load(folder, backend=engine)


def test_a_graph_with_other_names_than_the_manifest_is_refused(tmp_path, tiny, engine):
    renamed = onnx.load_from_string(tiny.model("encoder"))
    renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "picture"
    folder = tiny.write_bundle(tmp_path, encoder=renamed.SerializeToString())
    with pytest.raises(BackendError, match=r"encoder\.onnx has inputs and outputs .*picture"):
        Segmenter.load(folder, backend=engine)


def test_a_failure_inside_the_engine_is_our_error(backend):
    with pytest.raises(BackendError, match="failed in decoder"):
        backend.run("decoder", {"latent": np.zeros((1, 3, 4, 4), np.float32)})


def test_arrays_of_any_kind_are_kept_until_the_call_has_ended(backend, monkeypatch):
    """An engine knows no more than addresses: what was copied for it must not be gone when it reads."""
    image, bind, seen = np.random.default_rng(3).random((1, 1, 8, 8), np.float32), backend.bind, []

    def watched(graph, inputs, outputs):
        call, alive = bind(graph, inputs, outputs), weakref.ref(inputs["image"])
        return lambda: (seen.append(alive() is not None), call())

    monkeypatch.setattr(backend, "bind", watched)
    frozen = image.copy()
    frozen.flags.writeable = False
    expected = backend.encode(image)
    for same in (frozen, image.astype(np.float64), image.swapaxes(2, 3).copy().swapaxes(2, 3)):
        np.testing.assert_array_equal(backend.encode(same), expected)
    assert seen == [True] * 4


def test_outputs_come_in_the_order_of_the_manifest(tiny, engine, tiny_bundle):
    denoiser = tiny_bundle.manifest.graphs["denoiser"]
    swapped = dataclasses.replace(denoiser, outputs=dict(reversed(denoiser.outputs.items())))
    graphs = tiny_bundle.manifest.graphs | {"denoiser": swapped}
    feeds = {
        name: np.full([2 if side == "N" else side for side in shape], 0.5, np.float32)
        for name, shape in denoiser.inputs.items()
    }
    as_written = open_backend(engine, tiny_bundle, precision="float32").run("denoiser", feeds)
    other = dataclasses.replace(tiny_bundle, manifest=dataclasses.replace(tiny_bundle.manifest, graphs=graphs))
    reversed_outputs = open_backend(engine, other, precision="float32").run("denoiser", feeds)
    np.testing.assert_array_equal(as_written, reversed_outputs[::-1])
    np.testing.assert_allclose(as_written, tiny.Numpy().run("denoiser", feeds), rtol=1e-5)


def test_the_threads_of_onnx_runtime_sleep_between_calls(tiny_bundle):
    for session in open_backend("onnxruntime", tiny_bundle)._sessions.values():
        options = session.get_session_options()
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"
