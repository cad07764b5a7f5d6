"""The ablations: the distillation's target in closed form, resumed training, and the page."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.common.machine import Machine
from benchmarks.common.paired import paired
from benchmarks.training.ablations.distillation import Distillation, DistillationStage, consistency_target, pseudo_huber
from benchmarks.training.ablations.measure import evaluate
from benchmarks.training.ablations.page import page
from benchmarks.training.ablations.recipe import RECIPE, recipe_variants
from benchmarks.training.ablations.report import Report
from benchmarks.training.ablations.train import TrainingRecord, is_finished, train
from benchmarks.training.ablations.tuning import REFERENCE, TUNING, tuned_variants
from medseg_runtime.errors import CheckpointError
from medseg_runtime.model.noise import NoiseLaw
from medseg_runtime.model.sampler import NUM_TRAIN_TIMESTEPS, ProbabilityPath, sampler_table
from medseg_runtime.result.metrics import Calibration
from medseg_trainer.config.run import EnergyConfig, Optimisation
from medseg_trainer.evaluation.statistics import CaseFigures
from medseg_trainer.models.build import build_networks
from medseg_trainer.training import loop
from medseg_trainer.training.ema import Ema
from medseg_trainer.training.run_folder import RunFolder

FLOW = ProbabilityPath(objective="flow", shift=3.0)
SPREAD = 0.3  # standard deviation of the clean latents in the Gaussian case
SHORT = Optimisation(steps=4, batch_size=2, learning_rate=1e-3, warmup_steps=2, ema_decay=0.9)
MACHINE = Machine(
    processor="a test", features=(), cores=1, memory_gib=1.0, system="", python="", versions={}, commit="", load_average=(0.0, 0.0, 0.0), taken_by_others=0.0,
)  # fmt: skip


# --- the distillation's target


def level(table, row):
    return torch.from_numpy(table.t / NUM_TRAIN_TIMESTEPS)[row][:, None, None, None]


def mean_of_gaussian(table):
    """E[z_0 | z_u] for clean latents of N(0, SPREAD^2): the prediction of a perfect flow model."""

    def predict(noisy, row):
        u = level(table, row)
        return (1 - u) * SPREAD**2 / ((1 - u) ** 2 * SPREAD**2 + u**2) * noisy

    return predict


def end_of_path(table):
    """The end of the flow's path through z_u. A path keeps its quantile, so z_u is scaled to the spread of the clean latents."""

    def predict(noisy, row):
        u = level(table, row)
        return SPREAD / ((1 - u) ** 2 * SPREAD**2 + u**2).sqrt() * noisy

    return predict


def everywhere(table):
    """A noisy latent for each row of the table."""
    return torch.randn(len(table), 2, 3, 3, dtype=torch.float64), torch.arange(len(table))


def test_the_consistency_function_of_a_gaussian_is_its_own_target():
    table = sampler_table(FLOW, "euler", 1000)
    noisy, row = everywhere(table)
    target = consistency_target(table, noisy, row, mean_of_gaussian(table), end_of_path(table))
    torch.testing.assert_close(target, end_of_path(table)(noisy, row), rtol=2e-4, atol=0)


def test_the_flow_model_is_not_its_own_target():
    table = sampler_table(FLOW, "euler", 8)
    noisy, row = everywhere(table)
    teacher = mean_of_gaussian(table)
    assert not torch.allclose(consistency_target(table, noisy, row, teacher, teacher), teacher(noisy, row), rtol=0.1)


def test_learning_the_target_level_by_level_gives_the_teachers_samples_in_one_step():
    table = sampler_table(FLOW, "euler", 8)
    teacher = mean_of_gaussian(table)
    learned = torch.zeros(8, 1, 1, 1, dtype=torch.float64)
    everything = torch.ones_like(learned), torch.arange(8)
    for _ in range(8):
        learned = consistency_target(table, *everything, teacher, lambda noisy, row, now=learned: now[row] * noisy)
    z = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for step, (_, _, a, b, _) in enumerate(table.rows):
        z = a * z + b * teacher(z, torch.tensor([step]))
    assert learned[0].item() == pytest.approx(z.item())


def test_after_the_last_row_the_target_network_is_not_used():
    table = sampler_table(FLOW, "euler", 4)
    noisy, row = torch.randn(2, 1, 3, 3), torch.tensor([3, 3])
    clean = torch.randn(2, 1, 3, 3)
    target = consistency_target(table, noisy, row, lambda *_: clean, lambda *_: torch.full_like(clean, torch.nan))
    torch.testing.assert_close(target, clean)


def test_the_distance_is_a_norm_for_large_errors_and_flat_at_none():
    clean = torch.zeros(2, 4, 5, 5)
    far = clean.clone()
    far[0] = 3.0  # of norm 30; the other is right
    assert pseudo_huber(far, clean).item() == pytest.approx(15.0, rel=1e-2)
    right = clean.clone().requires_grad_()
    pseudo_huber(right, clean).backward()
    assert right.grad.abs().max() == 0.0


# --- training


@pytest.fixture(scope="module")
def config(micro):
    base = micro(energy=EnergyConfig(optimisation=SHORT, samples=4, noise=NoiseLaw(stratified=0.5)))
    return replace(base, validate_every=3, validation_images=1, validation_samples=2)


@pytest.fixture(scope="module")
def known(config):
    """The study of the tuning at micro size."""
    return replace(TUNING, variants=tuned_variants(config, SHORT))


@pytest.fixture(scope="module")
def start(config, tmp_path_factory):
    """A run folder with untrained weights."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    networks = build_networks(config)
    torch.nn.init.normal_(networks.denoiser.exit.weight, std=0.1)
    both = torch.nn.ModuleDict({"condition": networks.condition, "denoiser": networks.denoiser})
    RunFolder(folder).save_weights("mask_autoencoder", networks.mask_autoencoder.state_dict(), {})
    RunFolder(folder).save_weights("denoiser", both.state_dict(), {"step": "9"})
    return folder


@pytest.fixture(scope="module")
def runs(known, start, phantom_zips, tmp_path_factory):
    """The run folders of three variants."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("flow", REFERENCE, "distilled"):
        train(known.variants[name], start, phantom_zips, folder / name, command=f"train {name}")
    return folder


def test_the_target_network_averages_the_student_and_the_teacher_is_fixed(config):
    networks = build_networks(config)
    torch.nn.init.normal_(networks.denoiser.exit.weight, std=0.1)
    stage = DistillationStage(config, Distillation(optimisation=SHORT, target_decay=0.75), networks)
    before = stage.student.denoiser.exit.weight.detach().clone()
    with torch.no_grad():
        stage.student.denoiser.exit.weight += 1.0
    labels = torch.zeros(2, 4, 32, 32, dtype=torch.uint8)
    loss, _ = stage(torch.rand(2, 1, 32, 32), labels, torch.randn(2, 4, *config.latent), torch.zeros(2, 4).long())
    loss.backward()
    torch.testing.assert_close(stage.target.denoiser.exit.weight, before + 0.25)
    torch.testing.assert_close(stage._teacher[0].denoiser.exit.weight, before)
    assert stage.student.condition.stem.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in [*stage.target.parameters(), *networks.mask_autoencoder.parameters()])


@pytest.mark.parametrize("name", [REFERENCE, "distilled"])
def test_an_interrupted_variant_resumes_to_the_same_weights(
    name, known, start, runs, phantom_zips, tmp_path, monkeypatch
):
    original, run = Ema.update, tmp_path / name

    def interrupted(self, module, step):
        if step == 4:
            raise KeyboardInterrupt
        original(self, module, step)

    with monkeypatch.context() as patch:
        patch.setattr(Ema, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(known.variants[name], start, phantom_zips, run, command="")
    assert not is_finished(run)
    spent = TrainingRecord.read(run).cpu_seconds
    train(known.variants[name], start, phantom_zips, run, command="")
    assert is_finished(run)
    assert TrainingRecord.read(run).cpu_seconds > spent > 0
    ours, theirs = (
        load_file(folder / f"{known.variants[name].last_stage}.safetensors") for folder in (run, runs / name)
    )
    assert all(torch.equal(ours[tensor], theirs[tensor]) for tensor in theirs)


def test_tuning_changes_only_the_weights_of_its_own_stage(runs):
    flow = RunFolder(runs / "flow").networks("denoiser").denoiser.exit.weight
    kept = {name: (runs / name / "denoiser.safetensors").read_bytes() for name in ("flow", REFERENCE, "distilled")}
    assert len(set(kept.values())) == 1
    assert not torch.equal(RunFolder(runs / REFERENCE).networks("energy").denoiser.exit.weight, flow)


def test_other_starting_weights_are_refused(known, start, runs, phantom_zips, tmp_path):
    (tmp_path / "denoiser.safetensors").write_bytes((start / "denoiser.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"no mask_autoencoder\.safetensors.*--start"):
        train(known.variants["flow"], tmp_path, phantom_zips, tmp_path / "new", command="")
    assert not (tmp_path / "new").exists()
    (tmp_path / "mask_autoencoder.safetensors").write_bytes(b"another")
    with pytest.raises(CheckpointError, match="started from other weights"):
        train(known.variants["flow"], tmp_path, phantom_zips, runs / "flow", command="")


def test_each_variant_sees_as_many_masks_in_as_many_steps():
    trained = {name: v.tuning for name, v in TUNING.variants.items() if v.tuning is not None}
    assert {t.optimisation.batch_size * t.samples for t in trained.values()} == {128}
    assert len({t.optimisation.steps for t in trained.values()}) == 1
    assert TUNING.variants.keys() - trained.keys() == {"flow"}


# --- the whole recipe


@pytest.fixture(scope="module")
def recipe(config):
    """The study of the whole recipe at micro size."""
    return replace(RECIPE, variants=recipe_variants(config))


@pytest.fixture(scope="module")
def whole_runs(recipe, phantom_zips, tmp_path_factory):
    """The run folders of two variants."""
    folder = tmp_path_factory.mktemp("whole")
    for name in (RECIPE.reference, "latent-kl"):
        train(recipe.variants[name], None, phantom_zips, folder / name, command=f"train {name}")
    return {name: folder / name for name in (RECIPE.reference, "latent-kl")}


def test_each_variant_of_the_recipe_changes_the_preset_but_not_its_length():
    reference = RECIPE.variants[RECIPE.reference].config
    seen = [variant.config for variant in RECIPE.variants.values()]
    assert len({config.to_json() for config in seen}) == len(seen)
    for config in seen:
        assert config.denoiser.optimisation == reference.denoiser.optimisation
        assert config.mask_autoencoder.optimisation == reference.mask_autoencoder.optimisation
        assert config.energy == reference.energy


def test_a_training_from_scratch_is_measured_before_and_after_tuning(recipe, whole_runs, phantom_zips):
    found = evaluate(recipe, whole_runs, phantom_zips, MACHINE, images=4, samples=3, command="evaluate")
    assert page(found).stem == "recipe_micro_" + found.date
    assert [row.title for row in found.rows] == [
        "recipe, S = 4", "recipe, S = 1", "latent-kl, S = 4", "latent-kl, S = 1",
    ]  # fmt: skip
    for row, reference in zip(found.rows[2:], found.rows[:2], strict=True):
        assert reference.difference == {}
        assert row.difference["ged"].mean == pytest.approx(row.figures["ged"].mean - reference.figures["ged"].mean)
        assert row.noise == reference.noise
    assert "sha256" not in page(found).markdown()


def test_a_finished_training_from_scratch_is_not_repeated(recipe, whole_runs, phantom_zips, monkeypatch):
    run = whole_runs["latent-kl"]
    before = (run / "energy.safetensors").read_bytes(), RunFolder(run).networks().mask_autoencoder.latent_scale
    monkeypatch.setattr(loop, "take_step", lambda *_: pytest.fail("it trained"))
    train(recipe.variants["latent-kl"], None, phantom_zips, run, command="")
    assert is_finished(run)
    assert (
        (run / "energy.safetensors").read_bytes(),
        RunFolder(run).networks().mask_autoencoder.latent_scale,
    ) == before


def test_tuning_needs_weights_to_start_from(known, phantom_zips, tmp_path):
    with pytest.raises(CheckpointError, match=r"no weights to tune.*--start"):
        train(known.variants["flow"], None, phantom_zips, tmp_path / "new", command="")
    assert not (tmp_path / "new").exists()


# --- figures and page


@pytest.fixture(scope="module")
def report(known, runs, phantom_zips):
    trained = {name: runs / name for name in ("flow", REFERENCE, "distilled")}
    return evaluate(known, trained, phantom_zips, MACHINE, images=4, samples=3, command="evaluate")


def test_each_variant_is_measured_at_its_steps_and_against_the_reference(report):
    assert [row.title for row in report.rows] == [
        "flow, S = 1", "flow, S = 2", "flow, S = 4", "energy, S = 1", "distilled, S = 1", "distilled, S = 2",
    ]  # fmt: skip
    reference = next(row for row in report.rows if row.variant == REFERENCE)
    for row in report.rows:
        assert (row.difference == {}) == (row is reference)
        for name, figure in row.difference.items():
            assert figure.mean == pytest.approx(row.figures[name].mean - reference.figures[name].mean)


def test_the_interval_of_a_difference_is_of_the_pairs():
    none = Calibration.of(torch.zeros(2, 2).numpy(), torch.zeros(1, 2, 2, dtype=torch.bool).numpy())
    hard = [CaseFigures(str(k), str(k), {"ged": float(k)}, none) for k in range(9)]
    better = [replace(case, values={"ged": case.values["ged"] - 0.5}) for case in hard]
    found = paired(better, hard, ["ged"])
    assert found.keys() == {"ged"}
    assert (found["ged"].low, found["ged"].mean, found["ged"].high) == (-0.5, -0.5, -0.5)


def test_the_page_shows_figures_commands_and_verdicts(report, tmp_path):
    text = page(report).markdown()
    assert "`train distilled`" in text
    assert f"{report.rows[0].figures['ged'].mean:.4f}" in text
    for row in report.rows:
        assert row.verdict is None or f"| {row.title} | {row.verdict} |" in text
    written = page(report).write(tmp_path)
    assert written.read_text() == text
    assert written.with_suffix(".png").stat().st_size > 10_000
    assert Report.read(written.with_suffix(".json")) == report


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.2, "worse"), (-0.2, -0.1, "better"), (-0.1, 0.1, "no difference seen")]
)
def test_the_verdict_follows_the_interval_of_the_difference(report, low, high, verdict):
    row = report.rows[0]
    ged = replace(row.difference["ged"], low=low, high=high)
    assert replace(row, difference={"ged": ged}).verdict == verdict


def test_variants_of_different_starts_are_not_compared(known, runs, phantom_zips, tmp_path):
    replace(TrainingRecord.read(runs / "flow"), start_sha256="0").write(tmp_path)
    trained = {REFERENCE: runs / REFERENCE, "flow": tmp_path}
    with pytest.raises(CheckpointError, match="flow started from other weights"):
        evaluate(known, trained, phantom_zips, MACHINE, images=1, samples=2, command="")
    with pytest.raises(CheckpointError, match="'energy' is not trained"):
        evaluate(known, {}, phantom_zips, MACHINE, images=1, samples=2, command="")
