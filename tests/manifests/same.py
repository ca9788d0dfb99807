"""The chart and the overlays install the same, apart from labels that say who installed it."""

import yaml

# Only in one of them, and why.
ONLY = {
    # Helm is told the namespace, and does not own it.
    "Namespace talaria",
}
LABELS = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "app.kubernetes.io/part-of",
    "helm.sh/chart",
}
# What one of them says though it is the default.
DEFAULTS = {"optional": False, "imagePullPolicy": "IfNotPresent", "fsGroupChangePolicy": "OnRootMismatch"}


def differences(overlay, chart):
    """What they do not have in common, a sentence each."""
    ours, theirs = by_name(overlay), by_name(chart)
    for who in sorted((ours.keys() ^ theirs.keys()) - ONLY):
        yield f"{who} is only {'in the overlay' if who in ours else 'in the chart'}"
    for who in sorted(ours.keys() & theirs.keys()):
        yield from unequal(who, ours[who], theirs[who])


def by_name(objects):
    return {f"{one['kind']} {one['metadata']['name']}": plain(one) for one in objects}


def plain(value, key=""):
    if isinstance(value, dict):
        kept = {}
        for inner, its in value.items():
            if inner in LABELS or inner in DEFAULTS and its == DEFAULTS[inner] or inner == "annotations":
                continue
            kept[inner] = plain(its, inner)
        return kept
    if isinstance(value, list):
        values = [plain(one) for one in value]
        # Constraints are in no order.
        return sorted(values, key=str) if key == "topologySpreadConstraints" else values
    if key == "talaria.yaml":
        return yaml.safe_load(value)
    if key == "nats.conf":
        return value.split()
    return value


def unequal(where, ours, theirs):
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            yield from unequal(f"{where}.{key}", ours.get(key), theirs.get(key))
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs)):
            yield from unequal(f"{where}[{number}]", *pair)
    elif ours != theirs:
        yield f"{where}: the overlay has {ours}, the chart {theirs}"
