"""What schemas do not say: that objects fit one another, and that pods ask for no more than they need."""

import re
from collections import Counter

import yaml

WORKLOADS = ("Deployment", "StatefulSet")


def faults(objects, outside=()):
    """The faults of objects that are installed together, a sentence each. Those outside are there already."""
    return [*names(objects), *selectors(objects), *pods(objects), *references(objects, outside), *configurations(objects)]


def name(one):
    return f"{one['kind']} {one['metadata']['name']}"


def of(objects, *kinds):
    return [one for one in objects if one["kind"] in kinds]


def pod(one):
    """An object's pod, with its metadata; None where it has none."""
    if one["kind"] == "CronJob":
        return one["spec"]["jobTemplate"]["spec"]["template"]
    if one["kind"] == "Pod":
        return one
    return one["spec"]["template"] if one["kind"] in (*WORKLOADS, "Job") else None


def containers(workload):
    return pod(workload)["spec"]["containers"]


def matches(selector, labels):
    if extra := set(selector) - {"matchLabels"}:
        raise SystemExit(f"selectors by {extra} are not understood here")
    return set(selector.get("matchLabels", {}).items()) <= set(labels.items())


def names(objects):
    for who, count in Counter((one["apiVersion"], name(one)) for one in objects).items():
        if count > 1:
            yield f"{who} is there {count} times"
    for one in objects:
        if one["kind"] != "Namespace" and one["metadata"].get("namespace") != "talaria":
            yield f"{name(one)} is in no namespace, or in another"


def configurations(objects):
    """A client behind a controller counts by its own address, and the callback URL is known."""
    for one in of(objects, "ConfigMap"):
        if "talaria.yaml" not in one.get("data", {}):
            continue
        ingress = yaml.safe_load(one["data"]["talaria.yaml"]).get("ingress", {})
        if "private" not in ingress.get("trusted_proxies", []):
            yield f"{name(one)} does not trust the controller in front: ingress.trusted_proxies"
        if not str(ingress.get("public_url", "")).startswith("https://"):
            yield f"{name(one)} does not say by which name OpenRouter calls: ingress.public_url"


def selectors(objects):
    """Everything that selects pods selects some."""
    labels = {name(one): pod(one)["metadata"]["labels"] for one in objects if pod(one)}

    def selects(selector):
        return [who for who, its in labels.items() if matches(selector, its)]

    for one in of(objects, *WORKLOADS):
        if selects(one["spec"]["selector"]) != [name(one)]:
            yield f"{name(one)} selects {selects(one['spec']['selector'])}"
        for spread in one["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            if selects(spread["labelSelector"]) != [name(one)]:
                yield f"{name(one)} is spread among {selects(spread['labelSelector'])}"
            # Else as many share a domain as find no other one.
            if spread["whenUnsatisfiable"] == "DoNotSchedule" and spread.get("minDomains") != one["spec"]["replicas"]:
                yield f"{name(one)} has to be spread, and {spread['topologyKey']} may have too few domains (minDomains)"
    for one in of(objects, "PodDisruptionBudget"):
        if len(selects(one["spec"]["selector"])) != 1:
            yield f"{name(one)} selects {selects(one['spec']['selector'])}"
    for one in of(objects, "Service"):
        led = selects({"matchLabels": one["spec"]["selector"]})
        if not led or not all(who.startswith(WORKLOADS) for who in led):
            yield f"{name(one)} leads to {led}"
    for one in of(objects, "NetworkPolicy"):
        rules = one["spec"].get("ingress", []) + one["spec"].get("egress", [])
        peers = [peer for rule in rules for peer in rule.get("from", []) + rule.get("to", [])]
        chosen = [one["spec"]["podSelector"]]
        chosen += [peer["podSelector"] for peer in peers if "podSelector" in peer and "namespaceSelector" not in peer]
        for selector in chosen:
            if not selects(selector):
                yield f"{name(one)} selects no pod by {selector}"
        kinds = {kind for kind in ("Ingress", "Egress") if kind.lower() in one["spec"]}
        if kinds and kinds != set(one["spec"]["policyTypes"]):
            yield f"{name(one)} has rules for {kinds}, and is for {one['spec']['policyTypes']}"
    closed = [one for one in of(objects, "NetworkPolicy") if not {"ingress", "egress"} & set(one["spec"])]
    for who, its in labels.items():
        if not any(matches(one["spec"]["podSelector"], its) for one in closed):
            yield f"{who} is closed by no NetworkPolicy"


def pods(objects):
    """The restricted Pod Security Standard, and what a service should have beside."""
    for one in objects:
        if not pod(one):
            continue
        its, who = pod(one)["spec"], name(one)
        security = its.get("securityContext", {})
        if security.get("runAsNonRoot") is not True or security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{who} may be root, or call what it likes of the kernel"
        if its.get("automountServiceAccountToken") is not False:
            yield f"{who} gets a token that it does not need"
        labels = pod(one)["metadata"]["labels"] if one["kind"] != "Pod" else {}
        if changing := {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels):
            yield f"{who}'s pods have labels that each version changes, so that it starts them again: {sorted(changing)}"
        if {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(its):
            yield f"{who} asks for its host"
        for volume in its.get("volumes", []):
            if not {"configMap", "secret", "persistentVolumeClaim", "emptyDir"} & set(volume):
                yield f"{who} has a volume that is not allowed: {volume}"
        for container in its["containers"]:
            mine = container.get("securityContext", {})
            wanted = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            if mine != wanted:
                yield f"{who}'s container {container['name']} is not restricted: {mine}"
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                # What runs beside the first container does not decide whether the pod is ready.
                if one["kind"] in WORKLOADS and container == its["containers"][0] and probe not in container:
                    yield f"{who}'s container {container['name']} has no {probe}"
            resources = container.get("resources", {})
            if not {"cpu", "memory"} <= set(resources.get("requests", {})) or "memory" not in resources.get("limits", {}):
                yield f"{who}'s container {container['name']} takes what it likes"
            if any("subPath" in mount for mount in container.get("volumeMounts", [])):
                yield f"{who}'s container {container['name']} mounts a file, which would never change"
            if ":" not in container["image"] or container["image"].endswith(":latest"):
                yield f"{who}'s container {container['name']} runs whatever {container['image']} is"


def asked_of_prometheus(scaled):
    """A ScaledObject asks Prometheus about its own namespace, and an unknown value is not zero."""
    for trigger in scaled["spec"]["triggers"]:
        asked = trigger["metadata"]
        if asked.get("ignoreNullValues") != "false":
            yield f"{name(scaled)} takes an unknown value for zero"
        namespaces = set(re.findall(r'namespace="([^"]*)"', asked["query"]))
        if namespaces != {scaled["metadata"]["namespace"]}:
            yield f"{name(scaled)} is in {scaled['metadata']['namespace']} and asks for {namespaces}"


def references(objects, outside):
    """Named objects and ports exist."""
    there = {name(one) for one in objects} | set(outside)
    ports = {port["name"] for one in of(objects, *WORKLOADS) for its in containers(one) for port in its.get("ports", [])}
    for one in objects:
        if not pod(one):
            continue
        spec, who = pod(one)["spec"], name(one)
        # Hooks run before the chart's own objects are there, and as the namespace's default.
        wanted = [f"ServiceAccount {spec['serviceAccountName']}"] if one["kind"] in (*WORKLOADS, "CronJob") else []
        if one["kind"] == "StatefulSet":
            wanted.append(f"Service {one['spec']['serviceName']}")
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                wanted.append(f"ConfigMap {volume['configMap']['name']}")
            if "persistentVolumeClaim" in volume:
                wanted.append(f"PersistentVolumeClaim {volume['persistentVolumeClaim']['claimName']}")
        for what in wanted:
            if what not in there:
                yield f"{who} wants {what}, which is not there"
        volumes = {its["name"] for its in spec.get("volumes", [])}
        volumes |= {its["metadata"]["name"] for its in one["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for container in spec["containers"] for mount in container.get("volumeMounts", [])}
        if mounted != volumes:
            yield f"{who} mounts {mounted} of {volumes}"
        for container in spec["containers"]:
            mine = {port["name"] for port in container.get("ports", [])}
            for probe in {"startupProbe", "livenessProbe", "readinessProbe"} & set(container):
                if (port := container[probe]["httpGet"]["port"]) not in mine:
                    yield f"{who} is probed at its port {port}, which it has not"
    for one in of(objects, "HorizontalPodAutoscaler", "ScaledObject"):
        target = one["spec"]["scaleTargetRef"]
        scaled = [other for other in objects if name(other) == f"{target['kind']} {target['name']}"]
        if not scaled:
            yield f"{name(one)} scales {target}, which is not there"
        elif "replicas" in scaled[0]["spec"]:
            yield f"{name(one)} and {name(scaled[0])} both say how many there are"
    for one in of(objects, "ScaledObject"):
        yield from asked_of_prometheus(one)
    for one in of(objects, "Service"):
        for port in one["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"{name(one)} leads to the port {port['targetPort']}, which no pod has"
    for one in of(objects, "NetworkPolicy"):
        for rule in one["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if isinstance(port["port"], str) and port["port"] not in ports:
                    yield f"{name(one)} is for the port {port['port']}, which no pod has"
    for one in of(objects, "ServiceMonitor"):
        services = [its for its in of(objects, "Service") if matches(one["spec"]["selector"], its["metadata"]["labels"])]
        if len(services) != 1:
            yield f"{name(one)} selects {[name(its) for its in services]}"
        for endpoint in one["spec"]["endpoints"]:
            if endpoint["port"] not in {port["name"] for its in services for port in its["spec"]["ports"]}:
                yield f"{name(one)} scrapes the port {endpoint['port']}, which its service has not"
    for one in of(objects, "HTTPRoute"):
        for backend in (backend for rule in one["spec"]["rules"] for backend in rule["backendRefs"]):
            led = [its for its in of(objects, "Service") if its["metadata"]["name"] == backend["name"]]
            if backend["port"] not in {port["port"] for its in led for port in its["spec"]["ports"]}:
                yield f"{name(one)} leads to {backend}, which is not there"
    for one in of(objects, "Ingress"):
        for rule in one["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                if f"Service {path['backend']['service']['name']}" not in there:
                    yield f"{name(one)} leads to {path['backend']}, which is not there"
