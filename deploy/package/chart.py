"""Packages the Helm chart, with SOURCE_DATE_EPOCH as the time of its files: the same commit gives the same bytes.

    chart.py OUTPUT
"""

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from helm_python import package

CHART = Path(__file__).resolve().parents[1] / "helm/talaria"
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])


def main():
    output = Path(sys.argv[1])
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, CHART.name)
        shutil.copytree(CHART, copy)
        for path in [copy, *copy.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (EPOCH, EPOCH))
        file = Path(package(copy, destination=output))
    print(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}")


main()
