"""A conda channel of tiny packages, made from the pins of envs/*.yaml.

A package holds a link to the modules that pip installed, and its dependencies as pip knows them. So
an environment made of them has a real Python that sees what it asked for, with all dependencies,
and nothing else; each of its Python processes writes down which modules came from elsewhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYPI_NAMES = {"pytorch": "torch"}  # conda-forge -> PyPI, where they differ
CONDA_NAMES = {pypi: conda for conda, pypi in PYPI_NAMES.items()}
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
CHANNEL = "conda-forge"
STANDIN = Path(__file__).resolve().parent / "conda" / "bin"  # to be put on PATH
USES = "uses.jsonl"  # in an environment: a line for each of its Python processes

RECORDER = f"""
import atexit, json, os, sys

def write():
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    foreign = [f for f in files if "site-packages" in f and not f.startswith(sys.prefix)]
    with open(os.path.join(sys.prefix, {USES!r}), "a") as uses:
        uses.write(json.dumps(dict(script=os.path.basename(sys.argv[0]), foreign=foreign)) + "\\n")

atexit.register(write)
"""


def make_channel(root: Path, environments: Iterable[Path]) -> str:
    """Write a channel with all that the environments pin; returns its alias, a URL."""
    pins: dict[str, str] = {}
    for path in environments:
        pins |= dict(e.split("=") for e in yaml.safe_load(path.read_text())["dependencies"])
    todo = [name for name in pins if name != "python"]
    add_package(root, "python", f"{pins['python']}.0", [], python_files())
    done = set()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        found = distribution(PYPI_NAMES.get(name, name))
        needs = requirements(found)
        todo += needs
        version = pins.get(name, found.version.split("+")[0])
        add_package(root, name, version, needs, {f"{SITE}/{name}.pth": link_modules(root, found)})
    return index(root)


def index(root: Path) -> str:
    """Index the channel, as after adding a package; returns the channel's alias."""
    subprocess.run([sys.executable, str(STANDIN / "conda"), "index", root / CHANNEL], check=True)
    return root.as_uri()


def requirements(found: Distribution) -> list[str]:
    """conda names of what a package needs here; an optional or uninstalled one is left out."""
    names = []
    for text in found.requires or []:
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            name = canonicalize_name(needed.name)
            try:
                distribution(name)
            except PackageNotFoundError:  # a CUDA library beside a CPU build
                continue
            names.append(CONDA_NAMES.get(name, name))
    return sorted(set(names))


def link_modules(root: Path, found: Distribution) -> str:
    """A folder with links to a distribution's modules; returns its path."""
    folder = root / "modules" / canonicalize_name(found.name)
    folder.mkdir(parents=True)
    for top in {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}:
        (folder / top).symlink_to(Path(found.locate_file(top)))  # type: ignore[arg-type]
    return str(folder)


def python_files() -> dict[str, str]:
    """The real interpreter, made to look into its own environment only."""
    base = Path(sys._base_executable)  # type: ignore[attr-defined]
    return {
        "bin/python": f"-> {base}",
        "pyvenv.cfg": f"home = {base.parent}\ninclude-system-site-packages = false\n",
        f"{SITE}/record_uses.py": RECORDER,
        f"{SITE}/record_uses.pth": "import record_uses",
    }


def add_package(
    root: Path, name: str, version: str, depends: list[str], files: dict[str, str]
) -> None:
    """Write one package; a file's text may be a link: "-> target"."""
    record = {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": depends,
        "subdir": "noarch",
        "noarch": "generic",
        "timestamp": 0,
    }
    entries = []
    for path, text in files.items():
        link = text.startswith("-> ")
        body = text.encode()
        entry = {"_path": path, "path_type": "softlink" if link else "hardlink"}
        if not link:
            entry |= {
                "sha256": hashlib.sha256(body).hexdigest(),
                "size_in_bytes": len(body),
            }
        entries.append(entry)
    texts = files | {
        "info/index.json": json.dumps(record),
        "info/paths.json": json.dumps({"paths": entries, "paths_version": 1}),
        "info/files": "\n".join(files) + "\n",
    }
    folder = root / CHANNEL / "noarch"
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / f"{name}-{version}-0.tar.bz2", "w:bz2") as archive:
        for path, text in texts.items():
            member = tarfile.TarInfo(path)
            if text.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, text[3:]
                archive.addfile(member)
            else:
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
