"""medseg-infer: images in, one folder of masks, maps and pictures each out.

    parse => jobs (image, folder), all folders checked => model loaded once => images side by side (batch.py, pipeline.py)

Results go to stdout, everything else to stderr. Exit 1 where an image failed; the others are finished.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from medseg_runtime._version import __version__
from medseg_runtime.commands.program import complain, exit_at_once, run_command
from medseg_runtime.errors import MedsegError

if TYPE_CHECKING:
    from medseg_runtime.commands.inputs import Job

PROGRAM = "medseg-infer"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def program() -> NoReturn:
    """Entry point; exits the process."""
    exit_at_once(main)


def main() -> NoReturn:
    """Run the command."""
    run_command(app, PROGRAM, extras="cpu")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.command()
def infer(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            help="PNG, JPEG, TIFF, BMP, DICOM or video files, and folders of them. With a point also studies (a folder or a zip) and volumes "
            "(NIfTI, NRRD, MHA, .npy).",
        ),
    ],
    samples: Annotated[
        str,
        typer.Option(help="Number of plausible masks to draw, or auto: until the confidence has settled.", metavar="N"),
    ] = "16",
    max_samples: Annotated[
        int | None, typer.Option(help="The most that --samples auto draws, an even number. Default: 64.", metavar="N")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoiser calls per sample. Default: the bundle's.")] = None,
    sampler: Annotated[
        str | None, typer.Option(help="ddim, ddpm, euler or dpmpp. Default: the bundle's.", metavar="NAME")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same masks.")] = 0,
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle folder. Default: the lung-nodule model that is included.")
    ] = None,
    backend: Annotated[
        str,
        typer.Option(help="auto (the fastest on this CPU), onnxruntime, openvino, cuda or tensorrt.", metavar="NAME"),
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="Arithmetic of the networks: auto, float32, bfloat16 or float16.", metavar="NAME")
    ] = "auto",
    cuda_graphs: Annotated[
        bool, typer.Option(" /--no-cuda-graphs", help="On a GPU, launch each step by itself: slower, for debugging.")
    ] = True,
    trust_graphs: Annotated[
        bool,
        typer.Option("--trust-graphs", help="Run a bundle whose graphs medseg-export could not have written."),
    ] = False,
    require_signature: Annotated[
        Path | None,
        typer.Option(help="Take only a bundle that is signed with this public key (a PEM file).", metavar="KEY"),
    ] = None,
    bundle_sha256: Annotated[
        str | None, typer.Option(help="Take only the bundle whose bundle.json has this SHA-256.", metavar="HEX")
    ] = None,
    representatives: Annotated[
        str | None,
        typer.Option(
            help="Choose K samples that represent all, with their shares, and show them; or all. DICOM SEG has 4 without it.",
            metavar="K",
        ),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Probability above which a pixel is marked, between 0 and 1.")] = 0.5,
    roi: Annotated[str | None, typer.Option(help="Region to look at, in image pixels.", metavar="X,Y,W,H")] = None,
    center: Annotated[
        str | None,
        typer.Option(
            help="Point to look at, in pixels; in a series also the slice, from 0; in a volume file the voxel I,J,K.",
            metavar="X,Y[,Z]",
        ),
    ] = None,
    center_mm: Annotated[
        str | None,
        typer.Option(
            help="Point to look at, in DICOM patient coordinates: mm to the left, back and head. (NIfTI's are to the right and front.)",
            metavar="X,Y,Z",
        ),
    ] = None,
    point_from: Annotated[
        Path | None,
        typer.Option(
            help="DICOM SR (TID 1500) that points at the finding in an image or in the patient.", metavar="SR"
        ),
    ] = None,
    finding: Annotated[
        str | None,
        typer.Option(
            help="Which finding of the SR: its number or tracking UID. Without it, they are listed.", metavar="N"
        ),
    ] = None,
    frame: Annotated[int | None, typer.Option(help="Frame of a multi-frame DICOM file, from 1.", metavar="K")] = None,
    series: Annotated[
        str | None,
        typer.Option(help="Which series of a study: its number or UID. Without it, they are listed.", metavar="N"),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(help="Frames of a clip: all, or A-B, from 1. A video is taken whole without it.", metavar="A-B"),
    ] = None,
    slices: Annotated[
        int,
        typer.Option(
            help="Number of slices around the point in a series: measured together, and in --html, --dicom-seg, --rtstruct, --sr and --nifti."
        ),
    ] = 1,
    dicom_seg: Annotated[
        bool,
        typer.Option(
            "--dicom-seg",
            help="Also write DICOM: consensus, representatives and confidence as SEG, the overlay as Secondary Capture.",
        ),
    ] = False,
    rtstruct: Annotated[
        bool,
        typer.Option(
            "--rtstruct", help="Also write a DICOM structure set: contours of the consensus and of the representatives."
        ),
    ] = False,
    sr: Annotated[
        bool,
        typer.Option(
            "--sr",
            help="Also write a DICOM Structured Report: measurements and their distribution. Implies --dicom-seg.",
        ),
    ] = False,
    nifti: Annotated[bool, typer.Option("--nifti", help="Also write NIfTI volumes.")] = False,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="Say which share of the samples is above a limit: area_mm2, long_axis_mm, short_axis_mm, mean_diameter_mm, with --slices "
            "volume_mm3 or equivalent_diameter_mm; without spacing area_px and so on. May be repeated.",
            metavar="NAME=NUMBER",
        ),
    ] = None,
    html: Annotated[
        bool,
        typer.Option("--html", help="Also write report.html, one page with all of it; of several images an index too."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Result folder; for several images, the folder of their result folders. Default: results/IMAGE."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace older results.")] = False,
    audit: Annotated[
        Path | None, typer.Option(help="Append one JSON line per image to this file: parameters, versions, hashes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each result.json as one line.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Draw many plausible segmentations of a medical image, and map where they agree.

    Research software, not a medical device.
    """
    del version  # its callback has printed it
    from medseg_runtime.commands import arguments
    from medseg_runtime.commands.audit import Audit
    from medseg_runtime.commands.batch import run_batch
    from medseg_runtime.commands.pipeline import Settings
    from medseg_runtime.commands.preparation import load_model, plan_jobs
    from medseg_runtime.result.limits import Limit
    from medseg_runtime.result.output_request import OutputRequest
    from medseg_runtime.result.request import SampleRequest
    from medseg_runtime.result.stopping import MAX_SAMPLES

    try:
        asked: dict[str, Any] = {
            "samples": arguments.parse_samples(samples),
            "max_samples": MAX_SAMPLES if max_samples is None else max_samples,
            "steps": steps,
            "sampler": sampler,
            "seed": seed,
            "threshold": threshold,
            "region": None if roi is None else arguments.parse_region(roi),
        }
        location = arguments.parse_location(center, center_mm, frame, slices, series, point_from, finding)
        chosen = None if frames is None else arguments.parse_frames(frames)
        outputs = OutputRequest(
            representatives=None if representatives is None else arguments.parse_representatives(representatives),
            dicom_seg=dicom_seg,
            rtstruct=rtstruct,
            sr=sr,
            nifti=nifti,
            html=html,
            limits=tuple(Limit.parse(text) for text in limit or ()),
        )
        arguments.check_together(asked, outputs, slices=slices, max_samples=max_samples)
        region = None if asked["region"] is None else asdict(asked["region"])
        drawn = {
            **asked,
            "region": region,
            "location": arguments.location_record(location, point_from),
            "frames": frames,
        }
        log = Audit(audit, {**drawn, **outputs.record()})
        log.check()
    except MedsegError as error:
        complain(PROGRAM, str(error))
        raise typer.Exit(1) from error
    jobs: list[Job] = []
    try:
        jobs = plan_jobs(PROGRAM, images, out, as_series=location.needs_series, force=force, html=html)
        trust = {
            "trust_graphs": trust_graphs,
            "require_signature": require_signature,
            "bundle_sha256": bundle_sha256,
        }
        segmenter = load_model(PROGRAM, bundle, backend, precision, cuda_graphs=cuda_graphs, images=len(jobs), **trust)
        log.provenance = segmenter.provenance
        settings = Settings(
            request=SampleRequest(**asked), location=location, frames=chosen, outputs=outputs, force=force
        )
        segmenter.check(settings.request)
    except MedsegError as error:
        failed_jobs: list[Path | None] = [job.image for job in jobs]
        for image in failed_jobs or [None]:
            with suppress(MedsegError), log.image(image):
                raise
        complain(PROGRAM, str(error))
        raise typer.Exit(1) from error
    if run_batch(PROGRAM, jobs, segmenter, settings, log, as_json=as_json):
        raise typer.Exit(1)
