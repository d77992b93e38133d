"""Builds the compiled part of the reader with the wheel, where there is a C compiler; see `netgen.capture.native`."""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "netgen/capture/native/reader.so"

ELSE = "captures will be read by NumPy alone, which takes half as long again"


class CompiledReader(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles `capture/native/*.c`; without a compiler the wheel has none of it, and is for any machine."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say what the wheel is for."""
        library = Path(self.root, LIBRARY)
        library.unlink(missing_ok=True)
        compiler = shlex.split(os.environ.get("CC", "")) or [
            next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "")
        ]
        compiled = runpy.run_path(str(Path(self.root, "capture/native/compiled.py")))
        command = [*compiler, "-O2", "-shared", "-fPIC", f"-DSOURCES={compiled['fingerprint']()}u", "-o", str(library)]
        command += map(str, compiled["SOURCES"])
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            self.app.display_warning(f"no C compiler ({error}): {ELSE}")
            return
        if said.returncode:
            self.app.display_warning(f"{shlex.join(command)} failed: {ELSE}\n{said.stderr}")
            return
        if sys.platform == "darwin":  # whose versions in tags are a matter of their own
            build_data.update(pure_python=False, infer_tag=True)
        else:
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data.update(pure_python=False, tag=f"py3-none-{platform}")
        build_data["artifacts"].append(LIBRARY)
