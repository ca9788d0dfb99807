"""How a run of a delivery ended, by the facts that Hermes gives.

The gateway calls the hook in its event loop, and agents call the plugin in their threads. Both come here. Nothing here waits, does
I/O or raises: a report is a dict that is put into the outbox.

| Hermes says | The run |
|---|---|
| `on_session_end`, then `agent:end` | finished, unless it says that it was interrupted or failed |
| `agent:end` alone | failed, with the last `api_request_error` |
| `command:NAME` | was none: the prompt was a command of the gateway |
"""

import base64
import contextvars
import json
import logging
import threading
import time
from collections import OrderedDict

LOG = logging.getLogger("talaria")

# Runs at once. The oldest is forgotten, and its end is not reported.
MAX_RUNS = 4000

# Characters of an answer or a message in a report.
MAX_TEXT = 500

# The chat of the message that the gateway handles in this task. Hermes 0.19 does not give it to hooks of commands.
CHAT = contextvars.ContextVar("talaria_chat", default="")


def delivery_of(chat_id):
    """The route at Hermes and the delivery that a chat is for; None for all others.

    Hermes 0.19 writes `webhook:ROUTE:DELIVERY`, newer ones `webhook:v2:` and [profile, route, delivery] as base64 of JSON.
    """
    kind, _, rest = str(chat_id or "").partition(":")
    if kind != "webhook":
        return None
    route, _, delivery = rest.partition(":")
    if route == "v2":
        try:
            raw = base64.urlsafe_b64decode(delivery + "=" * (-len(delivery) % 4))
            _, route, delivery = json.loads(raw)
        except (ValueError, TypeError):
            pass  # a route of that name, at Hermes 0.19
    if not (isinstance(route, str) and isinstance(delivery, str) and delivery.startswith("dlv_")):
        return None
    return route, delivery


def text(value):
    """A value's first characters, without halves of characters that JSON cannot have."""
    return str(value or "")[:MAX_TEXT].encode("utf-8", "replace").decode()


class Run:
    """The facts about one run."""

    def __init__(self, route, delivery, started):
        self.route, self.delivery, self.started = route, delivery, started
        self.end = None  # what on_session_end said
        self.answer = ""
        self.error = None
        self.is_empty = False  # whether the model's last answer was
        self.calls = self.input = self.output = 0

    def outcome(self):
        if self.end is None:
            return "failed"
        if self.end.get("interrupted"):
            return "interrupted"
        # Hermes 0.19 has no `failed`, and calls a run completed whose model answered nothing, also when asked again.
        if self.end.get("failed") or self.is_empty or not (self.end.get("completed") or self.answer):
            return "failed"
        return "finished"

    def failure(self):
        """The error of a failed run."""
        if self.error:
            return self.error
        reason = (self.end or {}).get("turn_exit_reason") or ("the model's answer was empty" if self.is_empty else "")
        return {"message": text(reason)} if reason else None


class Runs:
    """The runs that go on, by session."""

    def __init__(self, put, clock=time.time):
        self.put, self.clock = put, clock
        self.runs = OrderedDict()
        self.lock = threading.Lock()
        # Without the plugin an end cannot be told from a failure, so nothing is reported.
        self.has_plugin = self.has_warned = False

    # The gateway's hook.

    def hook(self, event, context):
        """An event of the gateway, whatever comes."""
        try:
            if event == "agent:start":
                self.start(context)
            elif event == "agent:end":
                self.finish(context)
            elif event.startswith("command:"):
                self.command(event[len("command:"):], context)
        except Exception:
            LOG.debug("an event of the gateway was not understood", exc_info=True)

    def start(self, context):
        found = delivery_of(context.get("chat_id"))
        session = context.get("session_id")
        if not found or not session:
            return
        with self.lock:
            self.runs.pop(session, None)
            self.runs[session] = Run(*found, self.clock())
            if len(self.runs) > MAX_RUNS:
                self.runs.popitem(last=False)

    def finish(self, context):
        with self.lock:
            run = self.runs.pop(context.get("session_id"), None)
        if run is None:
            return
        if not self.has_plugin:
            if not self.has_warned:
                self.has_warned = True
                LOG.warning("ends of runs are not reported to Talaria: config.yaml needs plugins: {enabled: [talaria]}")
            return
        outcome, now = run.outcome(), self.clock()
        report = {"outcome": outcome, "session": str(context["session_id"])[:200],
                  "duration_ms": max(0, round((now - run.started) * 1000))}
        # Of another end the gateway's text is about that end.
        answer = "" if outcome == "failed" else run.answer
        if outcome == "finished":
            answer = answer or text(context.get("response"))
        if answer:
            report["answer"] = answer
        failure = run.failure() if outcome == "failed" else None
        if failure:
            report["error"] = failure
        if run.calls:
            report |= {"calls": run.calls, "tokens": {"input": run.input, "output": run.output}}
        self.report(run.route, run.delivery, now, report)

    def command(self, name, context):
        found = delivery_of(context.get("chat_id") or CHAT.get())
        if found:
            self.report(*found, self.clock(), {"outcome": "command", "command": text(name)})

    def report(self, route, delivery, now, report):
        self.put({"route": route, "ended": now, "report": {"delivery": delivery, **report}})

    # The plugin's callbacks. Hermes gives each of them more than they read, and newer versions give more than older ones.

    def callbacks(self):
        self.has_plugin = True
        names = ("pre_gateway_dispatch", "post_api_request", "api_request_error", "post_llm_call", "on_session_end")
        return {name: self.guarded(getattr(self, name)) for name in names}

    def guarded(self, callback):
        def call(**facts):
            try:
                callback(facts)
            except Exception:
                LOG.debug("a fact about a run was not understood", exc_info=True)

        return call

    def run_of(self, facts):
        """The run that a fact is about. Its task keeps the session's first id when Hermes compresses the session into another."""
        with self.lock:
            return self.runs.get(facts.get("task_id")) or self.runs.get(facts.get("session_id"))

    def pre_gateway_dispatch(self, facts):
        CHAT.set(facts["event"].source.chat_id)

    def post_api_request(self, facts):
        if run := self.run_of(facts):
            usage = facts.get("usage") or {}
            run.calls += 1
            run.input += int(usage.get("prompt_tokens") or usage.get("input_tokens") or 0)
            run.output += int(usage.get("output_tokens") or usage.get("completion_tokens") or 0)
            run.error = None
            run.is_empty = (facts.get("assistant_content_chars"), facts.get("assistant_tool_call_count")) == (0, 0)

    def api_request_error(self, facts):
        if run := self.run_of(facts):
            error = facts.get("error")
            message = error.get("message") if isinstance(error, dict) else error
            run.error = {"message": text(message)}
            if isinstance(facts.get("status_code"), int):
                run.error["status"] = facts["status_code"]

    def post_llm_call(self, facts):
        if run := self.run_of(facts):
            run.answer = text(facts.get("assistant_response"))

    def on_session_end(self, facts):
        if run := self.run_of(facts):
            keys = ("completed", "interrupted", "failed", "turn_exit_reason")
            run.end = {key: facts.get(key) for key in keys}


def _runs():
    from talaria_outbox import OUTBOX

    return Runs(OUTBOX.put)


RUNS = _runs()
