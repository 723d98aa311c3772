"""The wheel of this checkout, installed where the checkout is not to be seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("neurosim", "scenarios", "networks", "setup.py", "pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True)
class Newcomer:
    """Works in a ``folder`` with the programs in ``bin``."""

    folder: Path
    bin: Path

    @property
    def python(self) -> str:
        return str(self.bin / "python")

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that finds these programs, and no module but theirs."""
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        path = os.pathsep.join([str(self.bin), kept["PATH"]])
        return kept | {"PATH": path, "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}

    def run(self, *command: str | Path, code: int = 0) -> str:
        """Runs a command in the folder and returns what it prints."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def neurosim(self, *arguments: str, code: int = 0) -> str:
        return self.run(self.bin / "neurosim", *arguments, code=code)


def programs(folder: Path) -> Path:
    """Where the environment that `install` makes in a folder has its programs."""
    return folder / "environment" / ("Scripts" if os.name == "nt" else "bin")


def install(folder: Path) -> None:
    """Builds the wheel and installs it in an environment that has the other packages that are
    here, but not the checkout."""
    source = folder / "source"
    source.mkdir()
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "-q"]
    build = [*pip, "wheel", *offline, "--no-build-isolation", "-w", folder, source]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "environment", symlinks=os.name != "nt")
    there = ["--python", programs(folder) / "python"]
    subprocess.run([*pip, *there, "install", *offline, wheel], check=True, timeout=300)
    # Python adds the folders that a .pth file names, but reads no .pth files in them: one of those
    # leads to the checkout.
    (packages,) = folder.glob("environment/**/site-packages")
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages / "others.pth").write_text("\n".join(others))
