# SPDX-License-Identifier: Apache-2.0
"""Packages of npm that tests need, installed once for all runs."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest

SDK = "@aws-sdk/client-kms@3.899.0"


def installed(package):
    """The folder node_modules that has NAME@VERSION; skips the test where it can't be had."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node or npm is not installed")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = cache / "kms-vsock-proxy-tests" / package.rpartition("/")[2]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            try:
                found = subprocess.run(
                    ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock",
                     "--prefix", made, package], timeout=240, capture_output=True, text=True, check=False)
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm could not install {package} in time")
            if found.returncode != 0:
                pytest.skip(f"npm could not install {package}: {found.stderr[-300:]}")
            os.mkdir(folder.with_suffix(".new"))
            os.rename(pathlib.Path(made) / "node_modules", folder.with_suffix(".new") / "node_modules")
            os.rename(folder.with_suffix(".new"), folder)
    return folder / "node_modules"
