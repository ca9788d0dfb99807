"""Makes the archive of a binary and, on Linux with nfpm, the .deb and the .rpm. `make packages` runs it.

The same binary and commit give the same bytes: times are SOURCE_DATE_EPOCH's, owners are root, files are sorted.

    build.py BINARY OUTPUT [NFPM]

RUNNER is a command that runs a binary of another architecture, such as qemu-aarch64-static.
"""

import gzip
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
RUNNER = shlex.split(os.environ.get("RUNNER", ""))
# A binary of Linux says for which architecture it is, by numbers of the ELF format; one of macOS is the machine's own.
ELF = {62: "amd64", 183: "arm64"}
MACOS = {"x86_64": "amd64", "arm64": "arm64"}
# How `talaria completions` calls a shell, and how that shell calls the file.
COMPLETIONS = {"bash": "talaria.bash", "zsh": "_talaria", "fish": "talaria.fish"}
DOCUMENTS = ["LICENSE", "THIRD-PARTY-NOTICES", "README.md", "CHANGELOG.md", "deploy/talaria.example.yaml"]


def main():
    binary, output = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    said = run(*RUNNER, binary, "--version").decode()
    if said.split()[:2] != ["talaria", VERSION]:
        raise SystemExit(f"{binary} is {said.strip()}; the workspace is version {VERSION}")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    system, architecture = platform_of(binary)
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory, f"talaria-{VERSION}-{system}-{architecture}")
        stage(binary, top)
        archive(top, output / f"{top.name}.tar.gz")
        if len(sys.argv) > 3:
            packages(top, architecture, output, Path(sys.argv[3]).resolve())
    sums(output)


def platform_of(binary):
    with open(binary, "rb") as file:
        head = file.read(20)
    if head.startswith(b"\x7fELF"):
        return "linux", ELF[int.from_bytes(head[18:20], "little")]
    return "macos", MACOS[platform.machine()]


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, **options).stdout


def stage(binary, top):
    """The files of the archive."""
    (top / "completions").mkdir(parents=True)
    shutil.copy(binary, top / "talaria")
    (top / "talaria").chmod(0o755)
    for shell, name in COMPLETIONS.items():
        (top / "completions" / name).write_bytes(run(*RUNNER, binary, "completions", shell))
    run(*RUNNER, binary, "man", top / "man")
    for document in DOCUMENTS:
        shutil.copy(ROOT / document, top)


def archive(top, file):
    def entry(info):
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        info.mtime = EPOCH
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    with open(file, "wb") as raw, gzip.GzipFile("", "wb", mtime=EPOCH, fileobj=raw) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
            tar.add(top, top.name, filter=entry)  # sorted by name


def packages(top, architecture, output, nfpm):
    """Adds to the archive's files those of a service."""
    for name in ("talaria.service", "talaria.yaml", "sysusers.conf", "tmpfiles.conf"):
        shutil.copy(HERE / name, top)
    (top / "scripts").mkdir()
    for script in HERE.glob("*.sh"):
        shutil.copy(script, top / "scripts")
    (top / "man.gz").mkdir()
    for page in (top / "man").iterdir():
        (top / "man.gz" / f"{page.name}.gz").write_bytes(gzip.compress(page.read_bytes(), mtime=0))
    for path in [top, *top.rglob("*")]:
        os.utime(path, (EPOCH, EPOCH))
    environment = {**os.environ, "VERSION": VERSION, "ARCH": architecture}
    for kind in ("deb", "rpm"):
        run(nfpm, "package", "--config", HERE / "nfpm.yaml", "--packager", kind, "--target", output, cwd=top, env=environment)


def sums(output):
    files = sorted(path for path in output.iterdir())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (output / "SHA256SUMS").write_text("".join(lines))
    print("".join(lines), end="")


main()
