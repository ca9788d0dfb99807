"""What is made of the chart's values.yaml: its schema, and README.md with a table of the values.

The comment right above a key describes it. A line `@type TYPE` of it says what the key takes; without one that is told by the
default: a map has the keys that it has here and no others, and an integer is at least 1. TYPE is

    a word                  one of WORDS
    /PATTERN/               a text that is, as a whole, of this pattern
    A | B                   one of these
    1 to 1000               an integer
    list of T, some of T    a list; one that is not empty
    map of T                any keys
    {one: T, two?: T}       a map with these keys; `?` is for those that may be left out
    open                    a map with the keys that it has here, and others
    T or empty, T or null
"""

import json
import re
from pathlib import Path

import yaml

# Kubernetes itself bounds the length.
NAME = "[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
AMOUNTS = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
WORDS = {
    "string": {"type": "string"},
    "text": {"type": "string", "minLength": 1},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "name": {"type": "string", "pattern": f"^{NAME}$"},
    # Part of other names, so that it is shorter.
    "label": {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 40},
    "host": {"type": "string", "pattern": f"^{NAME}$"},
    "quantity": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"},
    "duration": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
    "resources": {
        "type": "object",
        "additionalProperties": False,
        "properties": {"requests": AMOUNTS, "limits": AMOUNTS},
    },
}
HEAD = """\
# The chart talaria

[docs/kubernetes.md](../../../docs/kubernetes.md) explains it. `make manifests` makes this table of [values.yaml](values.yaml).

| Value | Default | Meaning |
|---|---|---|
"""
# A longer default is not shown.
LONGEST = 60


def read(text):
    """The keys of values.yaml in their order, each with its path, its node, its comment and its type."""
    lines = text.splitlines()

    def described(node):
        comment, number = [], node.start_mark.line - 1
        while number >= 0 and lines[number].lstrip().startswith("#"):
            comment.insert(0, lines[number].lstrip()[1:].strip())
            number -= 1
        types = [line.removeprefix("@type ") for line in comment if line.startswith("@type ")]
        return " ".join(line for line in comment if not line.startswith("@")), types[0] if types else None

    def keys(path, mapping):
        for key, value in mapping.value:
            # Of two keys in one line the comment is the map's.
            is_first_in_line = not lines[key.start_mark.line][: key.start_mark.column].strip()
            comment, kind = described(key) if is_first_in_line else ("", None)
            yield (*path, key.value), value, comment, kind
            if isinstance(value, yaml.MappingNode) and value.value and kind in (None, "open"):
                yield from keys((*path, key.value), value)

    return list(keys((), yaml.compose(text)))


def schema(text):
    """values.schema.json."""
    # What Helm gives to charts within charts; nothing of it is used.
    top = closed({"global": {"type": "object"}})
    objects = {(): top}
    for path, node, comment, kind in read(text):
        made = of(kind) if kind and kind != "open" else inferred(path, node)
        if kind == "open":
            del made["additionalProperties"]
        if comment:
            made = {"description": comment, **made}
        objects[path] = objects[path[:-1]]["properties"][path[-1]] = made
    top = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart talaria", **top}
    return json.dumps(top, indent=2, ensure_ascii=False) + "\n"


def closed(properties, required=()):
    made = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**made, "required": list(required)} if required else made


def inferred(path, node):
    value = plain(node)
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, int):
        return {"type": "integer", "minimum": 1}
    if isinstance(value, str):
        return {"type": "string"}
    if isinstance(value, dict) and value:
        return closed({})
    raise SystemExit(f"values.yaml: {'.'.join(path)} needs an @type")


def of(kind):
    """The schema of a type."""
    if kind.startswith("list of "):
        return {"type": "array", "items": of(kind.removeprefix("list of "))}
    if kind.startswith("some of "):
        return {"type": "array", "items": of(kind.removeprefix("some of ")), "minItems": 1}
    if kind.startswith("map of "):
        return {"type": "object", "additionalProperties": of(kind.removeprefix("map of "))}
    if kind.startswith("{"):
        members = dict(member.split(": ", 1) for member in kind[1:-1].split(", "))
        names = {name.removesuffix("?"): of(its) for name, its in members.items()}
        return closed(names, [name for name in members if not name.endswith("?")])
    if kind.endswith(" or null"):
        made = of(kind.removesuffix(" or null"))
        return {**made, "type": [made["type"], "null"]}
    if kind.endswith(" or empty"):
        made = of(kind.removesuffix(" or empty"))
        return {**made, "pattern": f"^({made['pattern'][1:-1]})?$"}
    if kind.startswith("/") and kind.endswith("/"):
        return {"type": "string", "pattern": f"^{kind[1:-1]}$"}
    if " | " in kind:
        return {"enum": [yaml.safe_load(one) for one in kind.split(" | ")]}
    if bounds := re.fullmatch(r"([0-9]+) to ([0-9]+)", kind):
        return {"type": "integer", "minimum": int(bounds[1]), "maximum": int(bounds[2])}
    if kind not in WORDS:
        raise SystemExit(f"values.yaml: no type {kind}")
    return WORDS[kind]


def readme(text):
    """README.md of the chart."""
    rows = []
    shown_whole = set()
    for path, node, comment, kind in read(text):
        if path[:-1] in shown_whole:
            continue
        is_map = isinstance(node, yaml.MappingNode) and node.value and kind is None
        if kind == "open":
            shown_whole.add(path)
        default = json.dumps(plain(node), ensure_ascii=False)
        default = "" if is_map else f"`{default}`" if len(default) <= LONGEST else "see values.yaml"
        if comment or not is_map:
            rows.append("| " + " | ".join([f"`{'.'.join(path)}`", default, comment.replace("|", r"\|")]) + " |\n")
    return HEAD + "".join(rows)


def plain(node):
    return yaml.safe_load(yaml.serialize(node))


def files(chart: Path):
    text = (chart / "values.yaml").read_text()
    return {chart / "values.schema.json": schema(text), chart / "README.md": readme(text)}
