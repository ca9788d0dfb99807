"""The chart as a cluster would get it, and the files that are made of it.

`make manifests` runs this file and writes them; check.py fails where they differ.
"""

import re
from pathlib import Path

import yaml
from helm_python import Chart

import values as described

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/talaria"
ALERTS = ROOT / "deploy/observability/alerts.yaml"
DASHBOARD = ROOT / "deploy/observability/dashboard.json"
# The example installations that are also kept rendered, for kubectl and kustomize.
RENDERED = ("single", "ha")
RELEASE = NAMESPACE = "talaria"
HEAD = """\
# The chart deploy/helm/talaria with examples/{example}.yaml, rendered by `make manifests`. docs/kubernetes.md says which Secrets
# it needs, and how your own configuration replaces the one in the ConfigMap talaria.
"""
# Labels that are true of what Helm installs, and not of a file, and the fingerprint of a configuration that others replace.
OF_HELM = re.compile(
    r"^ *(app\.kubernetes\.io/managed-by|helm\.sh/chart): .*\n|^ *annotations:\n *talaria/restart-keys: .*\n", re.MULTILINE
)


def texts(values, namespace=NAMESPACE):
    """The chart's templates with these values, by path, the namespace first."""
    with Chart.load(CHART) as chart:
        rendered = chart.render(values=values, name=RELEASE, namespace=namespace)
    files = sorted((not path.endswith("/namespace.yaml"), path) for path in rendered if path.endswith(".yaml"))
    return {path: rendered[path] for _, path in files}


def helm(values, namespace=NAMESPACE):
    """The objects of the chart with these values."""
    return [one for text in texts(values, namespace).values() for one in objects(text)]


def examples():
    return sorted((CHART / "examples").glob("*.yaml"))


def values(path):
    return yaml.safe_load(path.read_text())


def sources():
    """The generated files of the chart itself, by path: what is made of values.yaml, and copies of deploy/observability."""
    copies = {CHART / "files/alerts.yaml": ALERTS, CHART / "files/dashboard.json": DASHBOARD}
    return {**described.files(CHART), **{path: source.read_text() for path, source in copies.items()}}


def manifests():
    """The examples as manifests, by path. Without tests, which are Helm's to start."""
    made = {}
    for example in RENDERED:
        rendered = texts({**values(CHART / f"examples/{example}.yaml"), "createNamespace": True})
        parts = [text.strip() for path, text in rendered.items() if "/templates/tests/" not in path]
        text = "\n---\n".join(part for part in parts if part)
        made[ROOT / f"deploy/kubernetes/{example}.yaml"] = HEAD.format(example=example) + OF_HELM.sub("", text + "\n")
    return made


class NoRepeats(yaml.SafeLoader):
    """A key that is there twice is a mistake, which YAML's reader would pass over."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := {str(key) for key in keys if keys.count(key) > 1}:
            raise SystemExit(f"{twice} stand twice in one map{node.start_mark}")
        return super().construct_mapping(node, deep)


def objects(text):
    return [one for one in yaml.load_all(text, NoRepeats) if one]


if __name__ == "__main__":
    # Manifests are rendered with what was written first.
    for files in (sources, manifests):
        for path, text in files().items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
