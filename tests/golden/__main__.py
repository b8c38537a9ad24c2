"""Write the golden projects anew (`make golden`)."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests import golden, rendering

with tempfile.TemporaryDirectory() as folder:
    template = rendering.copy_template(Path(folder) / "template")
    for project in golden.NAMES:
        rendered = golden.render(template, project, Path(folder) / project)
        shutil.rmtree(golden.FOLDER / project, ignore_errors=True)
        shutil.copytree(rendered, golden.FOLDER / project)
        print(f"tests/golden/{project} written")
