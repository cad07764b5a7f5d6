"""medseg-export with graphs from an earlier export of the same run: torch takes half a minute to make them, and writes nothing meanwhile.

python -m benchmarks.robustness.kills.small_export EARLIER_BUNDLE --ckpt RUN
"""

from __future__ import annotations

import sys
from pathlib import Path

from medseg_export import bundle_writer, cli


def main() -> None:
    """Run the command."""
    earlier = Path(sys.argv.pop(1))
    vars(bundle_writer)["onnx_graph"] = lambda name, *_: (earlier / f"{name}.onnx").read_bytes()
    cli.main()


if __name__ == "__main__":
    main()
