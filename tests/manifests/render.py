"""Manifests as a cluster would get them, from kustomize and from Helm."""

import os
import subprocess
from pathlib import Path

import yaml
from helm_python import Chart

ROOT = Path(__file__).resolve().parents[2]
KUSTOMIZE = ROOT / "deploy/kubernetes"
CHART = ROOT / "deploy/helm/talaria"
# Who installs the chart as docs/kubernetes.md says has these.
RELEASE = NAMESPACE = "talaria"


def kustomize(directory):
    """The objects of an overlay, by the command that KUSTOMIZE names."""
    command = os.environ.get("KUSTOMIZE", "kubectl kustomize").split()
    rendered = subprocess.run([*command, str(directory)], capture_output=True, text=True)
    if rendered.returncode:
        raise SystemExit(f"{' '.join(command)} {directory}:\n{rendered.stderr}")
    return objects(rendered.stdout)


def overlays():
    return sorted(path.parent for path in (KUSTOMIZE / "overlays").glob("*/kustomization.yaml"))


def helm(values):
    """The objects of the chart with these values."""
    with Chart.load(CHART) as chart:
        rendered = chart.render(values=values, name=RELEASE, namespace=NAMESPACE)
    return [one for path, text in rendered.items() if path.endswith(".yaml") for one in objects(text)]


def examples():
    return sorted((CHART / "examples").glob("*.yaml"))


def values(path):
    return yaml.safe_load(path.read_text())


class NoRepeats(yaml.SafeLoader):
    """A key that is there twice is a mistake, which YAML's reader would pass over."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := {str(key) for key in keys if keys.count(key) > 1}:
            raise SystemExit(f"{twice} stand twice in one map{node.start_mark}")
        return super().construct_mapping(node, deep)


def objects(text):
    return [one for one in yaml.load_all(text, NoRepeats) if one]
