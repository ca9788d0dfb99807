"""Lets promtool hold the alert rules to alert_cases.yaml. `make test-alerts` runs it, with promtool's path.

Each case is a file of promtool's with the one rule that it is about, and of that rule the texts that the case names: promtool
compares all of an alert's annotations, and a case says those that matter to it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/observability/alerts.yaml"
CASES = Path(__file__).with_name("alert_cases.yaml")
TEXTS = ("summary", "description")


def main():
    promtool = sys.argv[1]
    rules = {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    # All values as they are written: 0x9 is no number here.
    cases = yaml.load(CASES.read_text(), yaml.BaseLoader)
    faults = [f"{alert} has no case" for alert in rules if alert not in cases]
    faults += [f"there is no alert {alert}" for alert in cases if alert not in rules]
    faults += [f"no case raises {alert}" for alert, its in cases.items() if not any(raised for case in its for raised in case["at"].values())]
    if faults:
        sys.exit("\n".join(faults))
    with tempfile.TemporaryDirectory() as directory:
        files = []
        for alert, its in cases.items():
            for number, case in enumerate(its):
                files.append(write(Path(directory), f"{alert}-{number}", rules[alert], case))
        checked = subprocess.run([promtool, "check", "rules", str(RULES)])
        tested = subprocess.run([promtool, "test", "rules", *map(str, files)])
    sys.exit(checked.returncode or tested.returncode)


def write(directory, name, rule, case):
    """One case, as promtool reads it."""
    raised = [alert for its in case["at"].values() for alert in its]
    texts = [text for text in TEXTS if any(text in alert for alert in raised)]
    rule = {**rule, "annotations": {text: rule["annotations"][text] for text in texts}}
    rules = directory / f"{name}.rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "talaria", "rules": [rule]}]}))
    tests = [
        {
            "eval_time": time,
            "alertname": rule["alert"],
            "exp_alerts": [
                {
                    "exp_labels": {**alert["labels"], **rule["labels"]},
                    "exp_annotations": {text: alert[text] for text in texts},
                }
                for alert in its
            ],
        }
        for time, its in case["at"].items()
    ]
    series = [{"series": series, "values": values} for series, values in case["series"].items()]
    test = {"interval": "1m", "name": f"{rule['alert']} {case['it']}", "input_series": series, "alert_rule_test": tests}
    file = directory / f"{name}.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [rules.name], "evaluation_interval": "1m", "tests": [test]}))
    return file


main()
