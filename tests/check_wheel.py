"""Check that a wheel holds the four packages and the shipped model, and nothing else.

python tests/check_wheel.py dist/medseglatdiff-0.1.0-py3-none-any.whl
"""

import email
import json
import sys
import zipfile
from pathlib import Path

PACKAGES = {"medseg_runtime", "medseg_trainer", "medseg_export", "medseg_service"}
BUNDLE = "medseg_runtime/bundles/lidc-nodule"
NEVER_IN_BASE = ("torch", "onnx", "lightning", "safetensors", "openvino", "tensorrt")


def faults(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(metadata_name))
        graphs = json.loads(archive.read(f"{BUNDLE}/bundle.json"))["graphs"] if f"{BUNDLE}/bundle.json" in names else {}

    found = []
    dist_info = metadata_name.split("/")[0]
    tops = {name.split("/")[0] for name in names} - {dist_info}
    if tops != PACKAGES:
        found.append(f"top level is {sorted(tops)}, not {sorted(PACKAGES)}")
    wanted = {f"{BUNDLE}/{name}" for name in ("bundle.json", "encoder.onnx", "denoiser.onnx", "decoder.onnx")}
    wanted |= {f"{package}/py.typed" for package in PACKAGES} | {f"{package}/__init__.py" for package in PACKAGES}
    found += [f"{name} is missing" for name in sorted(wanted - names)]
    if f"{BUNDLE}/bundle.json" in names and len(graphs) != 3:
        found.append(f"{BUNDLE}/bundle.json lists {len(graphs)} graphs, not 3")
    code_or_model = (".py", ".typed", ".json", ".onnx", ".md", ".html", ".css", ".js")
    found += [
        f"{name} does not belong in a wheel"
        for name in sorted(names)
        if not name.startswith((dist_info, BUNDLE)) and not name.endswith(code_or_model)
    ]
    base = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    found += [f"the base install requires {need}" for need in base if need.startswith(NEVER_IN_BASE)]
    return found


def main() -> None:
    wheel = Path(sys.argv[1])
    if found := faults(wheel):
        sys.exit("\n".join(f"{wheel.name}: {fault}" for fault in found))
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, four packages, one bundle")  # noqa: T201 - a script


if __name__ == "__main__":
    main()
