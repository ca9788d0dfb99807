"""Holds .github/workflows to what can be known without running them. `make lint` runs it.

    check.py TOOLS

1. actionlint finds nothing: keys, expressions, names of jobs, steps and outputs, labels of runners.
2. shellcheck finds nothing in the scripts of the steps, which that build of actionlint cannot ask.
3. Every action has a whole version or a commit, and every image a tag: a name that moves would change a release.
"""

import re
import subprocess
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PINNED = re.compile(r"@(v?\d+\.\d+\.\d+|[0-9a-f]{40})$")
EXPRESSION = re.compile(r"\$\{\{.*?\}\}", re.DOTALL)


def main():
    tools = Path(sys.argv[1])
    files = sorted((ROOT / ".github/workflows").glob("*.yml"))
    linted = subprocess.run(["node", HERE / "actionlint.mjs", tools, *files], stdout=subprocess.PIPE, text=True)
    faults = linted.stdout.splitlines()
    if linted.returncode and not faults:
        faults.append(f"actionlint ended with {linted.returncode}")
    count = 0
    for file in files:
        for name, job in yaml.safe_load(file.read_text())["jobs"].items():
            where = f"{file.relative_to(ROOT)}, {name}"
            container = job.get("container") or {}
            image = container.get("image", "") if isinstance(container, dict) else container
            if image and ":" not in EXPRESSION.sub("", image):
                faults.append(f"{where}: {image} has no tag")
            for step in job.get("steps", []):
                count += 1
                used = step.get("uses", "")
                if used and not used.startswith("./") and not PINNED.search(used):
                    faults.append(f"{where}: {used} is not pinned to a version")
                if "run" in step:
                    faults += shell(tools, f"{where}: {step.get('name', 'a step')}", step["run"])
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{count} steps in {len(files)} workflows, {len(faults)} faults")
    sys.exit(bool(faults))


def shell(tools, where, script):
    """What a runner runs it with: bash -e -o pipefail."""
    script = f"set -e -o pipefail\n{EXPRESSION.sub('expression', script)}"
    command = [tools / "bin/shellcheck", "--shell=bash", "--format=gcc", "-"]
    said = subprocess.run(command, input=script, stdout=subprocess.PIPE, text=True).stdout
    return [f"{where}: {line}" for line in said.splitlines()]


main()
