"""What the real Hermes makes of things: a JSON line in, a JSON line out.

{"ask": "render", "template", "body", "event_type", "route"}  ->  {"prompt"} or {"error"}
{"ask": "extra", "extra", "body"}                             ->  {"extra"}
{"ask": "filter", "filters", "body", "event_type"}            ->  {"matches"} or {"error"}
{"ask": "float", "text"}                                      ->  {"repr"}
{"ask": "references", "prompt"}                               ->  {"references": [what would be expanded]}
{"ask": "search", "pattern", "text"}                          ->  {"matches"} or {"error"}
"""

import json
import re
import sys

from agent.context_references import parse_context_references
from gateway.config import PlatformConfig
from gateway.platforms.webhook import WebhookAdapter
from gateway.platforms.webhook_filters import WebhookRouteProcessor

adapter = WebhookAdapter(PlatformConfig(enabled=True, extra={}))
processor = WebhookRouteProcessor()


def answer(q):
    match q["ask"]:
        case "render":
            payload = json.loads(q["body"])
            return {"prompt": adapter._render_prompt(q["template"], payload, q["event_type"], q["route"])}
        case "extra":
            return {"extra": adapter._render_delivery_extra(q["extra"], json.loads(q["body"]))}
        case "filter":
            config = {"filters": q["filters"]}
            return {"matches": processor.route_filters_match(config, json.loads(q["body"]), q["event_type"], {})}
        case "float":
            return {"repr": repr(float(q["text"]))}
        case "references":
            return {"references": [reference.raw for reference in parse_context_references(q["prompt"])]}
        case "search":
            return {"matches": re.search(q["pattern"], q["text"]) is not None}


for line in sys.stdin:
    try:
        out = answer(json.loads(line))
    except Exception as error:  # noqa: BLE001 (whatever it is, it is the answer)
        out = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(out), flush=True)
