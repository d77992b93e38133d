"""Compile the reader's C code into the wheel, if there is a C compiler; see `netgen.capture.native`."""

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

WITHOUT = "netgen will read captures in plain Python, many times slower"


class CompiledReader(BuildHookInterface):
    """Compile `capture/native/*.c`. Without a compiler the wheel has no compiled code, and is for any platform."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  (of the interface)
        """Compile, and set the wheel's platform."""
        library = Path(self.root, LIBRARY)
        library.unlink(missing_ok=True)
        compiler = shlex.split(os.environ.get("CC", "")) or [
            next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "")
        ]
        compiled = runpy.run_path(str(Path(self.root, "netgen/capture/native/compiled.py")))
        command = [*compiler, "-O2", "-shared", "-fPIC", f"-DSOURCES={compiled['fingerprint']()}u", "-o", str(library)]
        command += map(str, compiled["SOURCES"])
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            self.app.display_warning(f"no C compiler ({error}): {WITHOUT}")
            return
        if done.returncode:
            self.app.display_warning(f"{shlex.join(command)} failed: {WITHOUT}\n{done.stderr}")
            return
        if sys.platform == "darwin":  # its tags need a version
            build_data.update(pure_python=False, infer_tag=True)
        else:
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data.update(pure_python=False, tag=f"py3-none-{platform}")
        build_data["artifacts"].append(LIBRARY)
