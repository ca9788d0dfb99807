"""Holds the Helm chart, and the manifests that are rendered from it, to what they promise. `make lint` runs it.

1. Every object of the chart with each of its examples is valid: by the schemas of the oldest and the newest Kubernetes that is
   supported, unknown keys refused; operators' own kinds by the operators' definitions.
2. Objects fit one another, and pods ask for no more than they need (rules.py).
3. The chart passes `helm lint --strict`, and its values schema refuses what it does not know.
4. The files that `make manifests` writes are what the chart renders now.
5. The alert rules are those of deploy/observability.
6. In another namespace relays are scaled by the work that is due there.
7. Ingresses reach OpenRouter where a tenant has an API key, and nowhere else.
"""

import json
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import yaml
from helm_python import Chart, HelmError
from helm_python.chart import lint

import render
import rules

VERSIONS = ("1.29", "1.37")
# Whose schemas are not Kubernetes' own.
OPERATORS = ("monitoring.coreos.com/", "keda.sh/")
# Values that are mistakes, each for another reason.
MISTAKES = [
    {"mode": "cluster"},
    {"replicas": 2},
    {"relay": {"keda": {"enable": True}}},
    {"config": {"tenants": []}},
    {"secrets": {"openrouter": ""}},
    {"publicName": {"enabled": True}},
    {"nats": {"credentials": {"ingress": "one"}}},
    {"nats": {"servers": ["nats://user:secret@nats:4222"]}},
    {"mode": "ha", "nats": {"bundled": False}},
    {"single": {"storage": {"size": 10}}},
]


def main():
    modules = Path(sys.argv[1])
    installations = {}
    faults = [*outdated()]
    for path in render.examples():
        values = render.values(path)
        installations[path.stem] = render.helm({**values, "createNamespace": path.stem in render.RENDERED})
        faults += linted(path.stem, values)
    faults += linted("the defaults", {})
    for where, objects in installations.items():
        faults += [f"{where}: {fault}" for one in objects for fault in invalid(one)]
        faults += [f"{where}: {fault}" for fault in rules.faults(objects)]
    faults += custom(installations, modules)
    faults += accepted_mistakes()
    faults += alerts(installations)
    faults += elsewhere()
    faults += to_openrouter()
    for fault in faults:
        print(fault, file=sys.stderr)
    count = sum(map(len, installations.values()))
    print(f"{count} objects in {len(installations)} installations, {len(faults)} faults")
    sys.exit(bool(faults))


def invalid(one):
    if one["apiVersion"].startswith(OPERATORS):
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            path = ".".join(str(step) for step in getattr(error, "absolute_path", []))
            yield f"{rules.name(one)} in Kubernetes {version}: {path}: {error.message}"


def custom(installations, modules):
    objects = [
        (where, one)
        for where, all_of_them in installations.items()
        for one in all_of_them
        if one["apiVersion"].startswith(OPERATORS)
    ]
    script = Path(__file__).with_name("custom.mjs")
    answer = subprocess.run(
        ["node", str(script), str(modules)], input=json.dumps(objects), capture_output=True, text=True
    )
    if answer.returncode:
        raise SystemExit(answer.stderr)
    return json.loads(answer.stdout)


def linted(who, values):
    report = lint(render.CHART, values, strict=True)
    messages = [f"{one['path']}: {one['error']}" for one in report["messages"] if one["severity"] > 1]
    return [f"lint with {who}: {message}" for message in [*messages, *report["errors"]]]


def accepted_mistakes():
    with Chart.load(render.CHART) as chart:
        for values in MISTAKES:
            try:
                chart.render(values=values, name="talaria")
            except HelmError:
                continue
            yield f"the chart takes the values {values}"


def outdated():
    for path, text in render.files().items():
        if not path.exists() or path.read_text() != text:
            yield f"{path.relative_to(render.ROOT)} is not what the chart renders: run `make manifests`, and commit the result"


def elsewhere():
    """The chart with the operators in another namespace."""
    objects = render.helm(render.values(render.CHART / "examples/ha-operators.yaml"), "elsewhere")
    scaled = rules.of(objects, "ScaledObject")
    faults = [fault for one in scaled for fault in rules.asked_of_prometheus(one)]
    if {one["metadata"]["namespace"] for one in objects} != {"elsewhere"} or not scaled:
        faults.append("objects are not all there, or nothing is scaled")
    return [f"in another namespace: {fault}" for fault in faults]


def to_openrouter():
    """The policy of ingresses is there with jobs alone, as it is written."""
    faults = []
    for path in render.examples():
        values = render.values(path)
        tenants = values["config"]["tenants"].values()
        policies = {
            one["metadata"]["name"]: one["spec"] for one in rules.of(render.helm(values), "NetworkPolicy")
        }
        if any("api_key" in tenant["openrouter"] for tenant in tenants) != ("talaria-openrouter" in policies):
            faults.append(f"{path.stem}: the way to OpenRouter is open without jobs, or shut with them")
    jobs = {"config": {"tenants": {"acme": {"openrouter": {"api_key": {"file": "k"}}}, "other": None}}}
    own = [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
    for wanted, policies in ((own, {"openrouter": own}), (None, {"openrouter": []}), (None, {"enabled": False})):
        found = rules.of(render.helm({**jobs, "networkPolicies": policies}), "NetworkPolicy")
        found = [one["spec"] for one in found if one["metadata"]["name"] == "talaria-openrouter"]
        if [one["egress"] for one in found] != ([wanted] if wanted else []):
            faults.append(f"with {policies} ingresses reach OpenRouter by {found}")
    return faults


def alerts(installations):
    written = yaml.safe_load(render.ALERTS.read_text())
    for where, objects in installations.items():
        for one in rules.of(objects, "PrometheusRule"):
            if one["spec"] != written:
                yield f"{where}: its alert rules are not those of deploy/observability: run `make manifests`"


main()
