"""The extension without Hermes: `python3 -m unittest discover hermes/talaria/tests`."""

import base64
import json
import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1] / "plugin"))
sys.dont_write_bytecode = True

from talaria_runs import CHAT, MAX_RUNS, Runs, delivery_of  # noqa: E402

CHAT_ID = "webhook:video:dlv_x.1"


def newer(*parts):
    return "webhook:v2:" + base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


class Delivery(unittest.TestCase):
    def test_both_spellings_are_read_and_all_else_is_not_ours(self):
        for chat in (CHAT_ID, newer("default", "video", "dlv_x.1")):
            self.assertEqual(delivery_of(chat), ("video", "dlv_x.1"))
        self.assertEqual(delivery_of("webhook:v2:dlv_x.1"), ("v2", "dlv_x.1"), "a route of that name")
        others = (None, "", 5, "-100123", "webhook", "webhook:video", "webhook:video:4711", "webhook:v2:", "webhook:v2:!!",
                  newer("dlv_x"), newer("default", "video", 5), newer("default", None, "dlv_x.1"), newer("default", "video", "x"))
        for chat in others:
            self.assertIsNone(delivery_of(chat), chat)


class Facts(unittest.TestCase):
    def setUp(self):
        self.sent, self.now = [], 1_000.0
        self.runs = Runs(self.sent.append, lambda: self.now)
        self.plugin = self.runs.callbacks()

    def run_with(self, *facts, response="Answer", task="s1"):
        self.runs.hook("agent:start", {"chat_id": CHAT_ID, "session_id": "s1"})
        for name, fact in facts:
            self.plugin[name](session_id="s1", task_id=task, **fact)
        self.now += 2.5
        self.runs.hook("agent:end", {"chat_id": CHAT_ID, "session_id": "s1", "response": response})
        return self.sent.pop()["report"]

    def test_a_run_that_ended_is_finished_with_its_tokens(self):
        usage = {"prompt_tokens": 10, "output_tokens": 3}
        report = self.run_with(("post_api_request", {"usage": usage}), ("post_api_request", {"usage": usage}),
                               ("post_llm_call", {"assistant_response": "x" * 600}),
                               ("on_session_end", {"completed": True, "interrupted": False}))
        self.assertEqual(report, {
            "delivery": "dlv_x.1", "outcome": "finished", "session": "s1", "duration_ms": 2500, "answer": "x" * 500,
            "calls": 2, "tokens": {"input": 20, "output": 6}})

    def test_a_run_without_an_end_failed_with_its_last_error(self):
        errors = [("api_request_error", {"status_code": code, "error": {"message": f"no {code}"}}) for code in (500, 401)]
        report = self.run_with(*errors, response="Sorry, …")
        self.assertEqual((report["outcome"], report["error"]), ("failed", {"status": 401, "message": "no 401"}))
        self.assertNotIn("answer", report, "that is the gateway's text about the failure")
        self.assertNotIn("error", self.run_with())
        report = self.run_with(("api_request_error", {"error": "no connection", "status_code": None}))
        self.assertEqual(report["error"], {"message": "no connection"})

    def test_the_end_says_whether_it_was_interrupted_or_failed(self):
        end = lambda **facts: self.run_with(("on_session_end", facts), response="")
        report = self.run_with(("on_session_end", {"completed": False, "interrupted": True}), response="Interrupted")
        self.assertEqual((report["outcome"], report.get("answer")), ("interrupted", None))
        self.assertEqual(end(completed=False, interrupted=False)["outcome"], "failed", "an end without an answer")
        failed = end(completed=True, interrupted=False, failed=True, turn_exit_reason="max_retries")
        self.assertEqual((failed["outcome"], failed["error"]), ("failed", {"message": "max_retries"}))
        # A limit of turns, with a summary for an answer.
        report = self.run_with(("post_llm_call", {"assistant_response": "So far"}),
                               ("on_session_end", {"completed": False, "interrupted": False}))
        self.assertEqual(report["outcome"], "finished")

    def test_an_empty_answer_is_none(self):
        empty = {"assistant_content_chars": 0, "assistant_tool_call_count": 0}
        end = [("post_llm_call", {"assistant_response": "No reply"}), ("on_session_end", {"completed": True})]
        report = self.run_with(("post_api_request", empty), *end)
        self.assertEqual((report["outcome"], report["error"]), ("failed", {"message": "the model's answer was empty"}))
        self.assertNotIn("answer", report)
        report = self.run_with(("post_api_request", empty), ("post_api_request", {**empty, "assistant_tool_call_count": 1}), *end)
        self.assertEqual((report["outcome"], report["answer"]), ("finished", "No reply"))

    def test_an_error_that_a_retry_mended_is_no_error(self):
        report = self.run_with(("api_request_error", {"status_code": 500, "error": {"message": "x"}}),
                               ("post_api_request", {}), ("on_session_end", {"completed": False, "failed": True}))
        self.assertNotIn("error", report)

    def test_a_session_that_was_compressed_into_another_is_known_by_its_task(self):
        self.runs.hook("agent:start", {"chat_id": CHAT_ID, "session_id": "s1"})
        self.plugin["on_session_end"](session_id="s2", task_id="s1", completed=True)
        self.runs.hook("agent:end", {"session_id": "s1", "response": "A"})
        self.assertEqual(self.sent[0]["report"]["outcome"], "finished")

    def test_a_command_is_known_by_the_message_that_is_handled(self):
        source = SimpleNamespace(chat_id=newer("default", "video", "dlv_y.2"))
        self.plugin["pre_gateway_dispatch"](event=SimpleNamespace(source=source), gateway=None)
        self.runs.hook("command:help", {"platform": "webhook", "command": "help"})
        report = self.sent.pop()["report"]
        self.assertEqual((report["outcome"], report["command"], report["delivery"]), ("command", "help", "dlv_y.2"))
        CHAT.set("-100")
        self.runs.hook("command:help", {})
        self.assertEqual(self.sent, [], "a user's own")

    def test_texts_can_be_sent_as_json(self):
        report = self.run_with(("post_llm_call", {"assistant_response": "a\ud83db"}), ("on_session_end", {"completed": True}))
        self.assertEqual(report["answer"], "a?b")
        json.dumps(report, ensure_ascii=False).encode()

    def test_nothing_raises_and_what_is_remembered_is_bounded(self):
        for context in ({}, None, 5, {"chat_id": []}, {"session_id": [], "chat_id": "webhook:video:4711"}):
            for event in ("agent:start", "agent:end", "command:x", "else", None):
                self.runs.hook(event, context)
        self.runs.hook("agent:start", {"chat_id": CHAT_ID, "session_id": []})
        for callback in self.plugin.values():
            callback()
            callback(event=None, error=5, usage=5, session_id=[])
        self.assertEqual(self.sent, [])
        for number in range(MAX_RUNS + 5):
            self.runs.hook("agent:start", {"chat_id": CHAT_ID, "session_id": f"s{number}"})
        self.assertEqual(len(self.runs.runs), MAX_RUNS)
        self.runs.hook("agent:end", {"session_id": "s1"})
        self.assertEqual(self.sent, [], "forgotten")

    def test_without_the_plugin_nothing_is_guessed(self):
        runs = Runs(self.sent.append)
        with self.assertLogs("talaria", "WARNING") as logs:
            for _ in range(2):
                runs.hook("agent:start", {"chat_id": CHAT_ID, "session_id": "s1"})
                runs.hook("agent:end", {"session_id": "s1"})
        self.assertEqual((len(logs.output), self.sent), (1, []))


if __name__ == "__main__":
    unittest.main()
