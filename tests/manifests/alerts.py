"""Puts the alert rules of deploy/observability where the overlays and the chart have them. `make alerts` runs it, and
`make manifests` says when it is needed. With RUNBOOKS=URL their `runbook_url` leads to where docs/operations.md is published."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/observability/alerts.yaml"
COPY = ROOT / "deploy/helm/talaria/files/alerts.yaml"
OBJECT = ROOT / "deploy/kubernetes/components/monitoring/prometheus-rule.yaml"
HEAD = """\
# The rules of deploy/observability/alerts.yaml, put here by `make alerts`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: talaria
  namespace: talaria
  labels: {app.kubernetes.io/name: talaria}
spec:
"""

rules = RULES.read_text()
if runbooks := os.environ.get("RUNBOOKS"):
    rules = re.sub(r"(?<=runbook_url: )[^#]*", lambda _: runbooks, rules)
    RULES.write_text(rules)
COPY.parent.mkdir(exist_ok=True)
COPY.write_text(rules)
OBJECT.write_text(HEAD + "".join(f"  {line}" if line.strip() else line for line in rules.splitlines(keepends=True)))
