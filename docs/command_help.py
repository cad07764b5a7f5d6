"""Write the help of each command as the reference prints it: python docs/command_help.py [FOLDER].

The texts are under version control, so that a change of an option is seen in review; tests/docs holds them to the commands.
"""

import os
import sys
from pathlib import Path

os.environ["TYPER_USE_RICH"] = "0"  # plain text; read when typer is imported

from typer.main import get_command
from typer.testing import CliRunner

from medseg_export.cli import app as export
from medseg_runtime.commands.compare import app as compare
from medseg_runtime.commands.doctor import app as doctor
from medseg_runtime.commands.infer import app as infer
from medseg_service.node.cli import app as node
from medseg_trainer.cli import app as train

APPS = {
    "medseg-infer": infer,
    "medseg-compare": compare,
    "medseg-doctor": doctor,
    "medseg-train": train,
    "medseg-export": export,
    "medseg-node": node,
}


def main() -> None:
    """Write one file a command, its subcommands one after the other."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "reference" / "cli")
    for name, app in APPS.items():
        subcommands = getattr(get_command(app), "commands", {})
        pages = []
        for arguments in ([], *([subcommand] for subcommand in subcommands)):
            shown = CliRunner().invoke(app, [*arguments, "--help"], prog_name=name, env={"COLUMNS": "80"})
            if shown.exit_code:
                sys.exit(f"{name} {' '.join(arguments)} --help failed: {shown.output}")
            pages.append(f"$ {' '.join([name, *arguments, '--help'])}\n{shown.output}")
        (folder / f"{name}.txt").write_text("\n\n".join(page.rstrip() for page in pages) + "\n")


if __name__ == "__main__":
    main()
