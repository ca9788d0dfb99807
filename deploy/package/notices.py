"""Writes THIRD-PARTY-NOTICES: the licences of the crates in the binary, with their texts. `make notices` runs it.

The crates are those that Cargo.lock gives the platforms of a release, without tools of the build and of tests. With --check it
fails where the file is not current.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "THIRD-PARTY-NOTICES"
TARGETS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")
TEXT = re.compile(r"(un)?licen[cs]e|copying|copyright|notice", re.IGNORECASE)
CODE = re.compile(r"\.(rs|c|h|cc|py|go|toml|json|ya?ml|sh|pl|S)$")
HEAD = """\
Talaria is licensed under the Apache License 2.0 (LICENSE). Its binary contains the software below.

The Rust standard library: MIT OR Apache-2.0, by the Rust project's developers.
SQLite, in the crate libsqlite3-sys: in the public domain.
The binaries for Linux, and that of the image, contain parts of the GNU C Library: LGPL-2.1-or-later. They can be linked again
with another version of it: Talaria's source is all that this needs, with deploy/Dockerfile.
"""


def main():
    found = {}
    for target in TARGETS:
        found |= crates(target)
    text = render([found[key] for key in sorted(found)])
    if sys.argv[1:] != ["--check"]:
        FILE.write_text(text)
    elif not FILE.exists() or FILE.read_text() != text:
        raise SystemExit("THIRD-PARTY-NOTICES is not current: run `make notices`, and commit the result")
    print(f"{len(found)} crates")


def crates(target):
    """The packages of others that the binary needs on this platform, by name and version."""
    command = [os.environ.get("CARGO", "cargo"), "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    reached, left = set(), [one["id"] for one in metadata["packages"] if one["name"] == "talaria" and not one["source"]]
    while left:
        if (package := left.pop()) not in reached:
            reached.add(package)
            left += [
                dependency["pkg"]
                for dependency in nodes[package]["deps"]
                if any(kind["kind"] is None for kind in dependency["dep_kinds"])
                and not is_macro(packages[dependency["pkg"]])
            ]
    return {
        (one["name"], one["version"]): one for one in packages.values() if one["id"] in reached and one["source"]
    }


def is_macro(package):
    return any("proc-macro" in target["kind"] for target in package["targets"])


def texts(package):
    """Also of what a crate brings in its folders, such as a library in C."""
    directory = Path(package["manifest_path"]).parent
    for path in sorted(directory.rglob("*")):
        if path.is_file() and TEXT.match(path.name) and not CODE.search(path.name):
            text = path.read_text(errors="replace").replace("\r\n", "\n")
            yield "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def render(packages):
    listed, of_text = [], {}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        own = list(dict.fromkeys(texts(package)))
        for text in own:
            # Copies that are broken into lines differently are one text.
            of_text.setdefault(" ".join(text.split()).lower(), (text, []))[1].append(name)
        authors = "" if own else f", by {', '.join(package['authors']) or 'its authors'}; it brings no text of its licence"
        listed.append(f"{name}: {package['license'] or 'see its text below'}{authors}\n")
    parts = [HEAD, "".join(listed)]
    for text, names in of_text.values():
        parts.append(f"{'-' * 80}\n{', '.join(names)}\n\n{text}\n")
    return "\n".join(parts)


main()
