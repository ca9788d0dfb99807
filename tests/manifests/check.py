"""Holds the Helm chart, and the manifests that are rendered from it, to what they promise. `make lint` runs it.

1. Every object of the chart with each of its examples is valid: by the schemas of the oldest and the newest Kubernetes that is
   supported, unknown keys refused; operators' own kinds by the operators' definitions.
2. Objects fit one another, and pods ask for no more than they need (rules.py).
3. The chart passes `helm lint --strict`, and refuses values that it does not know or that cannot work, with a reason.
4. The files that `make manifests` writes are what the chart and its values.yaml make now.
5. Alert rules and dashboard are those of deploy/observability.
6. In another namespace relays are scaled by the work that is due there.
7. Ingresses reach OpenRouter where a tenant has an API key, or where the chart cannot see that, and nowhere else.
8. Pods start again for the keys of the configuration that need it, and for no others.
9. A cluster that chooses its pods' users can.
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
from mistakes import MISTAKES, NO_MISTAKES, TOKENS

VERSIONS = ("1.29", "1.37")
# Whose schemas are not Kubernetes' own.
OPERATORS = ("monitoring.coreos.com/", "keda.sh/", "gateway.networking.k8s.io/")

def main():
    modules = Path(sys.argv[1])
    installations, outside = {}, {}
    faults = [*outdated()]
    for path in render.examples():
        values = render.values(path)
        installations[path.stem] = render.helm({**values, "createNamespace": path.stem in render.RENDERED})
        outside[path.stem] = already_there(values)
        faults += linted(path.stem, values)
    faults += linted("the defaults", {})
    for where, objects in installations.items():
        faults += [f"{where}: {fault}" for one in objects for fault in invalid(one)]
        faults += [f"{where}: {fault}" for fault in rules.faults(objects, outside[where])]
    faults += custom(installations, modules)
    faults += mistakes()
    faults += copies(installations)
    faults += elsewhere()
    faults += to_openrouter()
    faults += restarts()
    faults += users(installations)
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


def already_there(values):
    """The objects that these values name and the chart does not make."""
    account = values.get("serviceAccount", {})
    claims = [values.get(part, {}).get("storage", {}).get("existingClaim") for part in ("single", "backup")]
    volumes = values.get("pods", {}).get("extraVolumes", [])
    named = {
        "ConfigMap": [values.get("existingConfigMap"), *(one["configMap"]["name"] for one in volumes if "configMap" in one)],
        "ServiceAccount": [] if account.get("create", True) else [account.get("name", "default")],
        "PersistentVolumeClaim": claims,
    }
    return {f"{kind} {name}" for kind, names in named.items() for name in names if name}


def mistakes():
    with Chart.load(render.CHART) as chart:
        for values, reason in MISTAKES:
            try:
                chart.render(values=values, name="talaria")
            except HelmError as error:
                if reason not in str(error):
                    yield f"the chart refuses the values {values} and says {error}"
            else:
                yield f"the chart takes the values {values}"
        for values in NO_MISTAKES:
            try:
                chart.render(values=values, name="talaria")
            except HelmError as error:
                yield f"the chart refuses the values {values}: {error}"


def outdated():
    for path, text in {**render.sources(), **render.manifests()}.items():
        if not path.exists() or path.read_text() != text:
            yield f"{path.relative_to(render.ROOT)} is not what it is made of: run `make manifests`, and commit the result"


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
        tenants = values.get("config", {}).get("tenants", {}).values()
        policies = {
            one["metadata"]["name"]: one["spec"] for one in rules.of(render.helm(values), "NetworkPolicy")
        }
        may_have = "existingConfigMap" in values or any("api_key" in tenant["openrouter"] for tenant in tenants)
        if may_have != any(name.endswith("-openrouter") for name in policies):
            faults.append(f"{path.stem}: the way to OpenRouter is open without jobs, or shut with them")
    jobs = {"config": {"tenants": {"acme": {"openrouter": {"api_key": {"file": "k"}}}, "other": None}}}
    own = [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]
    for wanted, policies in ((own, {"openrouter": own}), (None, {"openrouter": []}), (None, {"enabled": False})):
        found = rules.of(render.helm({**jobs, "networkPolicies": policies}), "NetworkPolicy")
        found = [one["spec"] for one in found if one["metadata"]["name"] == "talaria-openrouter"]
        if [one["egress"] for one in found] != ([wanted] if wanted else []):
            faults.append(f"with {policies} ingresses reach OpenRouter by {found}")
    return faults


def restarts():
    """The fingerprint of pods changes with the keys that need a restart there."""
    key = "talaria/restart-keys"

    def fingerprints(values):
        config = {"relay": TOKENS, **values.get("config", {})}
        pods = [rules.pod(one)["metadata"] for one in render.helm({"mode": "ha", **values, "config": config}) if rules.pod(one)]
        return {
            pod["labels"].get("app.kubernetes.io/component", "nats"): pod["annotations"][key]
            for pod in pods
            if key in pod.get("annotations", {})
        }

    before = fingerprints({})
    for values, wanted in (
        ({"config": {"retention": "3d", "tenants": {"acme": {"openrouter": {"api_key": {"file": "k"}}}}}}, set()),
        ({"ingress": {"linger": "1s"}}, set()),
        ({"config": {"telemetry": {"otlp": "http://collector:4317"}}}, {"ingress", "relay"}),
        ({"nats": {"maxBytes": "5GiB"}}, {"ingress", "relay"}),
        ({"nats": {"storage": {"size": "20Gi", "maxFileStore": "18GB"}}}, {"nats"}),
        ({"nats": {"users": {"enabled": False}}}, {"ingress", "relay", "nats"}),
        ({"nats": {"tls": {"secret": "nats-tls"}}}, {"ingress", "relay", "nats"}),
        ({"nats": {"reloader": {"enabled": True}, "exporter": {"enabled": True}}}, set()),
        ({"config": {"data_dir": "/other"}}, {"relay"}),
        ({"console": {"enabled": True}}, {"relay"}),
        ({"grpc": {"enabled": True}}, {"relay"}),
    ):
        after = fingerprints(values)
        if (changed := {one for one in before if before[one] != after[one]}) != wanted:
            yield f"with {values} the pods of {changed} start again, and those of {wanted} have to"


def users(installations):
    """What chooses its pods' users finds none chosen."""
    for one in installations["openshift"]:
        if pod := rules.pod(one):
            if chosen := {"runAsUser", "runAsGroup", "fsGroup"} & set(pod["spec"]["securityContext"]):
                yield f"openshift: {rules.name(one)} chooses {sorted(chosen)}"


def copies(installations):
    alerts = yaml.safe_load(render.ALERTS.read_text())
    dashboard = json.loads(render.DASHBOARD.read_text())
    dashboards = 0
    for where, objects in installations.items():
        for one in rules.of(objects, "PrometheusRule"):
            if one["spec"] != alerts:
                yield f"{where}: its alert rules are not those of deploy/observability: run `make manifests`"
        for one in rules.of(objects, "ConfigMap"):
            for text in (text for file, text in one["data"].items() if file.endswith(".json")):
                dashboards += 1
                if json.loads(text) != dashboard:
                    yield f"{where}: its dashboard is not that of deploy/observability: run `make manifests`"
    if dashboards != 3:
        yield f"{dashboards} of the examples have a dashboard"


main()
