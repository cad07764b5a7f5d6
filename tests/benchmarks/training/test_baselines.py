"""The baselines: networks, resumed training, figures and page."""

import dataclasses
import math
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("monai", reason="the baselines need `pip install 'medseglatdiff[bench]'`")

from benchmarks.common.machine import Machine
from benchmarks.common.networks import parameters
from benchmarks.common.paired import paired
from benchmarks.training.baselines import budget, masks, presets, training
from benchmarks.training.baselines.baseline import segmenter_of
from benchmarks.training.baselines.budget import Plan, affordable_steps, cpu_seconds, recorded_cpu_seconds
from benchmarks.training.baselines.contenders import CONTENDERS, model_size
from benchmarks.training.baselines.contest import MASKS_NAME, ContestSettings, run_contest
from benchmarks.training.baselines.figures import COMPARED, of_the_map
from benchmarks.training.baselines.page import page
from benchmarks.training.baselines.presets import OWN_PRESETS
from benchmarks.training.baselines.probabilistic import LATENT, Combination, Gaussian, GaussianNet
from benchmarks.training.baselines.reconstruction import FIRST, SECOND, Reconstructed, mask_rows
from benchmarks.training.baselines.report import Report
from benchmarks.training.baselines.unet import DeterministicUNet
from medseg_runtime.errors import CheckpointError
from medseg_runtime.result.metrics import Calibration
from medseg_trainer.config.presets import fast
from medseg_trainer.data.layouts import Case
from medseg_trainer.data.working_set import Batch, BatchSource, WorkingSet
from medseg_trainer.evaluation.statistics import CaseFigures, Figure
from medseg_trainer.models.build import build_networks
from medseg_trainer.training.ema import Ema
from medseg_trainer.training.loop import start_fabric
from medseg_trainer.training.run_files import save_safetensors
from medseg_trainer.training.run_folder import RunFolder
from medseg_trainer.training.stages import Draws

MACHINE = Machine(
    processor="A processor", features=("avx2",), cores=2, memory_gib=1.0, system="", python="3.11", commit="abc",
    versions=dict.fromkeys(("medseglatdiff", "torch", "monai", "onnxruntime"), "1.0"), load_average=(0.0, 0.0, 0.0), taken_by_others=0.0,
)  # fmt: skip
UNET, PROBABILISTIC = CONTENDERS["unet"], CONTENDERS["probabilistic-unet"]


@pytest.fixture(scope="module")
def networks(micro):
    """Each baseline, built once; weights that training starts at zero are random."""
    torch.manual_seed(0)
    built = {key: contender.build(micro()) for key, contender in CONTENDERS.items()}
    for network in built.values():
        for parameter in network.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)
    return built


# --- networks


@pytest.mark.parametrize("key", CONTENDERS)
def test_every_weight_of_a_baseline_gets_a_gradient(key, networks):
    network = networks[key].train()
    batch = Batch(torch.rand(2, 1, 32, 32), (torch.rand(2, 4, 32, 32) > 0.7).to(torch.uint8))
    draws = Draws(torch.Generator().manual_seed(0), 2, 0, 1)
    loss, parts = CONTENDERS[key].losses(network, batch, draws)
    loss.backward()
    assert loss.ndim == 0
    assert all(part.ndim == 0 for part in parts.values())
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all()] == []
    network.zero_grad()


def test_a_probabilistic_u_net_draws_different_masks_and_a_u_net_one(networks):
    image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(3, LATENT, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        drawn = {key: network.eval().draw(network.encode(image), noise) for key, network in networks.items()}
    assert all(logits.shape == (3, 1, 32, 32) for logits in drawn.values())
    assert float((drawn["probabilistic-unet"][0] - drawn["probabilistic-unet"][1]).abs().max()) > 1e-3
    assert torch.equal(drawn["unet"][0], drawn["unet"][1])


@pytest.mark.parametrize("key", CONTENDERS)
def test_the_segmenter_samples_from_a_baseline(key, networks, micro):
    image = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    results = [segmenter_of(networks[key], micro())(image, samples=4, seed=1) for _ in range(2)]
    assert results[0].masks.shape == (4, 64, 64)
    np.testing.assert_array_equal(results[0].mean_probability, results[1].mean_probability)
    # masks stay inside the field, the central 32 px
    assert (results[0].mean_probability[16:48, 16:48] > 0.0).all()
    assert np.count_nonzero(results[0].mean_probability) == 32 * 32


def test_baselines_are_as_large_as_our_model():
    size = model_size(fast())
    with torch.device("meta"):
        unet, probabilistic = (parameters(contender.build(fast())) for contender in (UNET, PROBABILISTIC))
    assert size <= unet < 1.15 * size
    assert size <= probabilistic < 1.15 * size


def test_the_divergence_equals_torchs():
    torch.manual_seed(0)
    first, second = (Gaussian(torch.randn(5, LATENT), 0.7 * torch.randn(5, LATENT)) for _ in range(2))
    normal = [torch.distributions.Normal(g.mean, g.log_deviation.exp()) for g in (first, second)]
    expected = torch.distributions.kl_divergence(*normal).sum(dim=1)
    torch.testing.assert_close(first.divergence(second), expected)
    torch.testing.assert_close(first.divergence(first), torch.zeros(5))


def test_a_gaussian_draws_with_its_mean_and_deviation():
    gaussian = GaussianNet(1, (8, 16))(torch.rand(1, 1, 32, 32))
    drawn = gaussian.at(torch.randn(100_000, LATENT, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(drawn.mean(dim=0), gaussian.mean[0], atol=0.02, rtol=0.0)
    torch.testing.assert_close(drawn.std(dim=0), gaussian.log_deviation.exp()[0], atol=0.02, rtol=0.0)


def test_the_split_convolution_equals_one_on_features_and_latent_concatenated():
    torch.manual_seed(0)
    combination = Combination(8)
    features, z = torch.randn(1, 8, 4, 4), torch.randn(3, LATENT)
    beside = torch.cat([features.expand(3, -1, -1, -1), z[:, :, None, None].expand(-1, -1, 4, 4)], dim=1)
    weight = torch.cat([combination.features_in.weight, combination.latent_in.weight[:, :, None, None]], dim=1)
    expected = combination.rest(torch.nn.functional.conv2d(beside, weight, combination.features_in.bias))
    torch.testing.assert_close(combination(features, z), expected)


def test_the_u_net_learns_the_share_of_raters():
    torch.manual_seed(0)
    network = DeterministicUNet(1, 8)
    image = torch.rand(1, 1, 32, 32)
    labels = torch.zeros(1, 4, 32, 32, dtype=torch.uint8)
    labels[:, 0] = 1  # a quarter of the raters, everywhere
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        network(image, labels)[0].backward()
        optimizer.step()
    assert float(network.encode(image).detach().sigmoid().mean()) == pytest.approx(0.25, abs=0.02)


# --- training


def plan_of(contender, out, steps, config):
    """Write the plan that a trial would give, so that nothing depends on the clock."""
    out.mkdir()
    Plan(
        contender=contender.key, cpu_minutes=1.0, steps=steps, batch_size=contender.batch_size,
        learning_rate=contender.learning_rate, seed=config.seed,
    ).write(out / budget.PLAN_NAME)  # fmt: skip


def test_an_interrupted_run_resumes_to_the_same_weights(micro, phantom_zips, tmp_path, monkeypatch):
    contender, config = replace(UNET, batch_size=4), micro()
    for name in ("whole", "interrupted"):
        plan_of(contender, tmp_path / name, 4, config)
    training.train(contender, config, phantom_zips, tmp_path / "whole", 1.0)
    with monkeypatch.context() as patch:
        update, calls = Ema.update, []

        def interrupted(*arguments):
            calls.append(1)
            if len(calls) == 2:
                signal.raise_signal(signal.SIGINT)
            update(*arguments)

        patch.setattr(Ema, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.train(contender, config, phantom_zips, tmp_path / "interrupted", 1.0)
    with pytest.raises(
        CheckpointError, match=r"unet is at step 2 of 4\. Run `python -m benchmarks.training.baselines train unet`"
    ):
        training.trained(contender, tmp_path / "interrupted")
    first = cpu_seconds(tmp_path / "interrupted")
    training.train(contender, config, phantom_zips, tmp_path / "interrupted", 1.0)
    for file in ("unet.safetensors", "state/unet.safetensors"):
        expected, found = (load_file(tmp_path / name / file) for name in ("whole", "interrupted"))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert cpu_seconds(tmp_path / "interrupted") > first
    lines = (tmp_path / "interrupted" / "metrics.jsonl").read_text()
    assert lines == (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert '"validation"' in lines


def test_a_run_is_not_continued_with_another_budget(micro, phantom_zips, tmp_path):
    plan_of(UNET, tmp_path / "run", 4, micro())
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match="1 CPU minutes"):
        training.train(UNET, micro(), phantom_zips, tmp_path / "run", 2.0)
    with pytest.raises(CheckpointError, match="started as unet"):
        training.train(PROBABILISTIC, micro(), phantom_zips, tmp_path / "run", 1.0)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_steps_of_a_budget_follow_from_a_trial(micro, monkeypatch):
    config, contender = micro(), replace(UNET, batch_size=2)
    noise = np.random.default_rng(0)
    data = WorkingSet(
        noise.random((4, 1, 64, 64)).astype(np.float16), noise.integers(0, 2, (4, 4, 64, 64), np.uint8), 2
    )
    source = BatchSource(data, config.input, config.augment, 2, 0)
    steps, update = [], Ema.update
    monkeypatch.setattr(Ema, "update", lambda *arguments: (steps.append(1), update(*arguments)))
    monkeypatch.setattr(budget.time, "process_time", lambda: 0.5 * len(steps))  # half a second a step
    stage = training._stage(contender, config, 1, None)
    before = {name: tensor.clone() for name, tensor in stage.module.state_dict().items()}
    assert affordable_steps(start_fabric(config), stage, source, cpu_minutes=2.0) == 240
    assert all(torch.equal(before[name], tensor) for name, tensor in stage.module.state_dict().items())


def test_processor_time_adds_up_over_interruptions(tmp_path, monkeypatch):
    now = iter([10.0, 13.0, 20.0, 24.5])
    monkeypatch.setattr(budget.time, "process_time", lambda: next(now))
    with pytest.raises(KeyboardInterrupt), recorded_cpu_seconds(tmp_path):
        raise KeyboardInterrupt
    with recorded_cpu_seconds(tmp_path):
        pass
    assert cpu_seconds(tmp_path) == 7.5


# --- figures


def figures_of(name, group, **values):
    return CaseFigures(name, group, values, Calibration.of(np.zeros((2, 2), np.float32), np.zeros((1, 2, 2), bool)))


def test_a_paired_difference_is_of_the_images_that_both_have():
    ours = [figures_of(str(k), f"patient {k % 3}", ged=0.1 * k, small_dice=math.nan, own=1.0) for k in range(6)]
    theirs = [figures_of(str(k), f"patient {k % 3}", ged=0.1 * k + 0.2, small_dice=0.5) for k in range(6)]
    theirs[5].values["ged"] = math.nan
    difference = paired(ours, theirs, COMPARED)
    assert difference.keys() == {"ged"}
    assert difference["ged"] == Figure(*[pytest.approx(-0.2)] * 3)
    with pytest.raises(AssertionError):
        paired(ours, theirs[::-1], COMPARED)


def test_a_faint_background_does_not_improve_the_brier_score_of_a_map(networks, micro):
    rng = np.random.default_rng(0)
    image, raters = rng.integers(0, 255, (64, 64)).astype(np.uint8), np.zeros((4, 64, 64), np.uint8)
    raters[:2, 30:34, 30:34] = 1
    result = segmenter_of(networks["unet"], micro())(image, samples=1)
    probability = np.full((64, 64), 0.01, np.float32)
    probability[30:34, 30:34] = 0.5
    case = Case(name="case", group="patient", image=image, masks=raters)
    values = dict.fromkeys(("consensus_dice", "consensus_iou", "small_dice", "small_iou", "hd95_px", "one_empty"), 0.25)
    wrong = replace(result, mean_probability=np.where(probability > 0.1, 0.25, 0.01).astype(np.float32))
    found = of_the_map(case, replace(result, mean_probability=probability), figures_of("case", "patient", **values))
    assert found.values["brier"] == 0.0
    assert found.values["squared_error"] == pytest.approx((64 * 64 - 16) * 1e-4, rel=1e-5)
    assert found.values["consensus_dice"] == 0.25
    assert of_the_map(case, wrong, figures_of("case", "patient", **values)).values["brier"] == 0.0625


# --- page


@pytest.fixture(scope="module")
def settings(micro, phantom_zips, tmp_path_factory) -> ContestSettings:
    """The shipped bundle beside untrained networks, on two phantoms."""
    runs, config = tmp_path_factory.mktemp("runs"), fast()
    for key in OWN_PRESETS:
        run = RunFolder(runs / key)
        run.start(micro())
        presets.Share(preset=key, cpu_minutes=1.0, share=0.01).write(run.path / presets.SHARE_NAME)
        networks = build_networks(micro())
        run.save_weights("mask_autoencoder", networks.mask_autoencoder.state_dict(), {})
        rest = torch.nn.ModuleDict({"condition": networks.condition, "denoiser": networks.denoiser})
        run.save_weights("denoiser", rest.state_dict(), {"step": "6"})
    for key, contender in CONTENDERS.items():
        plan_of(contender, runs / key, 7, config)
        RunFolder(runs / key).start(config)
        torch.manual_seed(0)
        save_safetensors(runs / key / f"{key}.safetensors", contender.build(config).state_dict(), {"step": "5"})
    row = next(mask_rows([Reconstructed("a", 5, {(w, n): (0.9, 0.8) for w in (FIRST, SECOND) for n in (0.0, 0.3)})]))
    masks.MaskComparison(
        command="a command", split="val", images=2, steps=3, batch_size=4, seed=0, mse_cpu_minutes=1.0, rows=(row,)
    ).write(runs / MASKS_NAME)
    return ContestSettings(bundle=None, data=phantom_zips, runs=runs, images=2, seed=0, command="a command")


@pytest.fixture(scope="module")
def report(settings) -> Report:
    return run_contest(settings, MACHINE)


def test_all_are_measured_on_the_same_images(report):
    rows = {row.key: row for row in report.rows}
    assert list(rows) == ["shipped", "fast", "paper", "unet", "unet-map", "probabilistic-unet"]
    assert rows["shipped"].ours_less == rows["fast"].ours_less == {}
    assert "sample_diversity" not in rows["unet"].figures
    assert "ged" not in rows["unet-map"].figures
    for key in ("paper", "unet", "probabilistic-unet"):
        for name in ("ged", "consensus_dice", "squared_error"):
            means = [rows[one].figures[name].mean for one in ("fast", key)]
            assert rows[key].ours_less[name].mean == pytest.approx(means[0] - means[1])
    assert rows["unet"].figures["rater_diversity"] == rows["shipped"].figures["rater_diversity"]


def test_untrained_models_are_left_out_except_for_fast(settings, tmp_path):
    shutil.copytree(settings.runs / "fast", tmp_path / "fast")
    shutil.copytree(settings.runs / "unet", tmp_path / "unet")
    rows = run_contest(replace(settings, runs=tmp_path), MACHINE).rows
    assert [row.key for row in rows] == ["shipped", "fast", "unet", "unet-map"]
    shutil.rmtree(tmp_path / "fast")
    with pytest.raises(CheckpointError, match="holds no training run"):
        run_contest(replace(settings, runs=tmp_path), MACHINE)


def test_page_and_plot_are_rendered_from_the_record(report, tmp_path):
    path = page(report).write(tmp_path)
    again = Report.read(path.with_suffix(".json"))
    assert path.read_text() == page(again).markdown()
    assert path.with_suffix(".png").stat().st_size > 10_000
    text = page(again).markdown()
    assert f"| GED (lower is better) | {report.rows[0].figures['ged'].mean:.4f} (" in text
    assert "weights of step 5" in text
    assert "weights of step 6 of the last stage" in text
    assert "shifted by up to 8 px" in text
    assert "not recorded" in text
    assert "## (c) The mask autoencoder" in text
    assert "(c) The mask autoencoder" not in page(dataclasses.replace(report, masks=None)).markdown()


def test_a_difference_is_bold_where_its_interval_excludes_zero(report):
    ours, *_, unet = report.rows
    for figure, text in (
        (Figure(-0.2, -0.3, -0.1), "**-0.2000 (-0.300 to -0.100)**"),
        (Figure(0.1, -0.1, 0.3), "| +0.1000 (-0.100 to +0.300) |"),
    ):
        row = dataclasses.replace(unet, ours_less={"ged": figure})
        assert text in page(dataclasses.replace(report, rows=(ours, row))).markdown()
