"""Holds everything that names the version to the one in Cargo.toml. `make lint` runs it.

    versions.py [TAG]

With a tag such as v1.2.0 it also fails where that is not the version, or where CHANGELOG.md has no section of it.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NUMBER = r"(\d+\.\d+\.\d+(?:-[0-9A-Za-z.]+)?)"
# Files, and what names the version in them: at least once where a single file is named.
NAMED = {
    "deploy/helm/talaria/Chart.yaml": [rf"^version: {NUMBER}$", rf"^appVersion: {NUMBER}$"],
    "deploy/Dockerfile": [rf"^ARG VERSION={NUMBER}$"],
    "fuzz/Cargo.toml": [rf'^version = "{NUMBER}"$'],
}
# Wherever the image is named, in any file that git knows.
IMAGE = re.compile(rf"\b(?:talaria:|newTag: ){NUMBER}\b")
# A plugin of Hermes has the version of the Talaria that it came with.
PLUGIN = re.compile(rf'^version: "?{NUMBER}"?$', re.MULTILINE)


def main():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    faults, found = [], []
    for name, patterns in NAMED.items():
        text = (ROOT / name).read_text()
        for pattern in patterns:
            matches = re.findall(pattern, text, re.MULTILINE)
            found += [(name, match) for match in matches]
            faults += [] if matches else [f"{name}: nothing matches {pattern}"]
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        path = ROOT / name
        if not path.is_file() or name == "CHANGELOG.md":
            continue
        text = path.read_text(errors="ignore")
        found += [(name, match) for match in IMAGE.findall(text)]
        if path.name == "plugin.yaml":
            found += [(name, match) for match in PLUGIN.findall(text)]
    faults += [f"{name} says {said}, and Cargo.toml {version}" for name, said in found if said != version]
    if tag := sys.argv[1] if len(sys.argv) > 1 else None:
        if tag != f"v{version}":
            faults.append(f"the tag is {tag}, and Cargo.toml says {version}")
        if section(version) is None:
            faults.append(f"CHANGELOG.md has no section ## [{version}]")
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"version {version}, named {len(found)} times elsewhere, {len(faults)} faults")
    sys.exit(bool(faults))


def section(version):
    return re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


main()
