"""How the extension keeps and sends reports, with an HTTP server in Talaria's stead."""

import base64
import errno
import hashlib
import hmac
import json
import socket
import sys
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "plugin"))
sys.dont_write_bytecode = True

import talaria_outbox  # noqa: E402
from talaria_outbox import Outbox, longest_pause, secrets_of  # noqa: E402


class Talaria:
    """Answers with the codes that it is given, and checks signatures."""

    def __init__(self, *codes):
        self.codes, self.took = list(codes), []
        self.code_of = lambda path: self.codes.pop(0)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
                mac = base64.b64encode(hmac.new(b"top secret", signed, hashlib.sha256).digest()).decode()
                assert f"v1,{mac}" in self.headers["webhook-signature"].split(" ")
                outer.took.append((self.path, self.headers["webhook-id"], json.loads(body)))
                code = outer.code_of(self.path)
                self.send_response(code)
                if code in (503, 429):
                    self.send_header("Retry-After", "7")
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Drip:
    """Takes one connection, and sends a byte of an answer that has no end now and then."""

    def __init__(self, head):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.head, self.is_closed = head, threading.Event()
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self):
        client, _ = self.listener.accept()
        with client, self.listener:
            try:
                client.sendall(self.head)
                while not self.is_closed.wait(0.01):
                    client.sendall(b"x")
            except OSError:
                self.is_closed.set()


class Sending(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.home = Path(directory.name)
        self.plugin = self.home / "plugins" / "talaria"
        self.plugin.mkdir(parents=True)
        (self.home / "webhook_subscriptions.json").write_text('{"video": {"secret": "top secret"}}')

    def outbox(self, *codes, **settings):
        talaria = Talaria(*codes)
        self.addCleanup(talaria.close)
        settings = {"url": talaria.url, "routes": {"video": {"tenant": "acme", "route": "v/i"}}, **settings}
        (self.plugin / "talaria.json").write_text(json.dumps(settings))
        return talaria, Outbox(self.plugin)

    def write(self, outbox, number, route="video"):
        outbox.write({"route": route, "ended": 1002.5, "report": {"delivery": "dlv_x.1", "n": number, "answer": "\u2713"}})

    def test_reports_go_out_in_their_order_and_signed(self):
        talaria, outbox = self.outbox(204, 204)
        for number in (1, 2):
            self.write(outbox, number)
        self.write(outbox, 3, route="another")
        outbox.send_all(0)
        self.assertEqual([(path, report["n"]) for path, _, report in talaria.took], [("/runs/acme/v%2Fi", 1), ("/runs/acme/v%2Fi", 2)])
        _, report_id, report = talaria.took[0]
        self.assertEqual((report["answer"], report["ended_at"]), ("\u2713", "1970-01-01T00:16:42.500Z"))
        self.assertTrue(report_id.startswith("run_") and len(report_id) <= 64)
        self.assertEqual(outbox.waiting(), [])
        self.assertEqual((self.plugin / "queue").stat().st_mode & 0o777, 0o700)

    def test_while_it_is_away_pauses_grow_and_the_same_report_comes_again(self):
        talaria, outbox = self.outbox(503, 500, 502, 504, 204, longest_pause_s=3)
        self.write(outbox, 1)
        with self.assertLogs("talaria", "WARNING") as logs:
            self.assertEqual([outbox.send_all(0) for _ in range(5)][:4], [7, 2, 3, 3], "Retry-After, then pauses of its own")
        self.assertEqual(len({name for _, name, _ in talaria.took}), 1, "under the same id")
        self.assertEqual((len(talaria.took), len(logs.output), outbox.waiting()), (5, 2, []))

    def test_refused_for_good_is_dropped_and_for_its_signature_kept_for_a_day(self):
        talaria, outbox = self.outbox(404, 401, 204, 401, longest_pause_s=60)
        for number in (1, 2, 3):
            self.write(outbox, number)
        with self.assertLogs("talaria", "WARNING") as logs:
            self.assertEqual(outbox.send_all(0), 60)
            self.assertEqual(len(outbox.waiting()), 1, "another's refusal does not hold the third one up")
            outbox.send_all(30)
            self.assertEqual(len(talaria.took), 3, "not yet")
            outbox.age = lambda _: talaria_outbox.KEEP_REFUSED_S
            outbox.send_all(61)
        self.assertEqual((outbox.waiting(), len(logs.output)), ([], 3))

    def test_an_answer_that_may_change_holds_its_report_alone_and_is_awaited_for_as_long_as_it_takes(self):
        talaria, outbox = self.outbox(429, 302, 204, 204, 204, longest_pause_s=60)
        outbox.age = lambda _: talaria_outbox.KEEP_REFUSED_S
        for number in (1, 2, 3):
            self.write(outbox, number)
        with self.assertLogs("talaria", "WARNING") as logs:
            self.assertEqual([outbox.send_all(now) for now in (0, 7, 60)], [7, 53, 60], "by Retry-After, or the longest pause")
        self.assertEqual([report["n"] for *_, report in talaria.took], [1, 2, 3, 1, 2])
        self.assertEqual((len(logs.output), outbox.waiting(), outbox.pause), (2, [], 0))

    def test_refused_reports_of_one_route_do_not_hold_up_another(self):
        stale, good = ({"tenant": "acme", "route": name} for name in ("stale", "good"))
        routes = {"video": stale, "good": good}
        (self.home / "webhook_subscriptions.json").write_text(json.dumps({name: {"secret": "top secret"} for name in routes}))
        for code, wait in ((401, 300), (429, 7)):
            talaria, outbox = self.outbox(routes=routes)
            talaria.code_of = lambda path: 204 if path.endswith("good") else code
            for number in range(20):
                self.write(outbox, number)
            self.write(outbox, 20, route="good")
            numbers = lambda: [report["n"] for *_, report in talaria.took]
            self.assertEqual((outbox.send_all(0), numbers()), (wait, [0, 1, 2, 20]), code)
            self.write(outbox, 21, route="good")
            outbox.send_all(1)
            self.assertEqual(numbers()[4:], [21], "the stale ones wait")
            outbox.send_all(wait)
            self.assertEqual(numbers()[5:], [3, 4, 5], "each has its turn")
            for name in outbox.waiting():
                outbox.remove(name)
            self.assertEqual((outbox.send_all(2 * wait), outbox.later, len(outbox.tries)), (300, {}, 0), "gone")

    def test_an_answer_that_comes_byte_by_byte_has_a_deadline_as_a_whole(self):
        for head in (b"", b"HTTP/1.1 200 ", b"HTTP/1.1 200 OK\r\nX: "):
            drip = Drip(head)
            _, outbox = self.outbox(url=drip.url)
            self.write(outbox, 1)
            with mock.patch.object(talaria_outbox, "TIMEOUT_S", 0.2), self.assertLogs("talaria", "WARNING") as logs:
                self.assertEqual(outbox.send_all(0), 1)
            self.assertIn("no answer within 0.2 s", logs.output[0])
            self.assertTrue(drip.is_closed.wait(60), "the connection was closed")
            outbox.remove(*outbox.waiting())

    def test_files_without_a_report_do_not_hold_up_others(self):
        talaria, outbox = self.outbox(204)
        outbox.directory.mkdir()
        for number, content in enumerate(("", "[]", "5", '{"route": []}', '{"route": "video"}', "[" * 100_000, "\xff")):
            (outbox.directory / f"{number:019}-run_{0:032x}.json").write_bytes(content.encode("latin-1"))
        self.write(outbox, 1)
        outbox.send_all(0)
        self.assertEqual((len(talaria.took), outbox.waiting()), (1, []))

    def test_an_unreachable_talaria_is_away_and_what_cannot_be_read_is_dropped(self):
        talaria, outbox = self.outbox()
        (self.plugin / "talaria.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "routes": {"video": {"tenant": "a", "route": "b"}}}))
        self.write(outbox, 1)
        self.assertEqual((outbox.send_all(0), outbox.send_all(0)), (1, 2))
        (self.plugin / "queue" / f"{0:019}-run_{0:032x}.json").write_text("")
        outbox.send_all(0)
        self.assertEqual((len(outbox.waiting()), outbox.pause), (1, 4), "an old one goes, and says nothing about Talaria")
        (self.home / "webhook_subscriptions.json").unlink()
        self.assertEqual(outbox.send_all(0), talaria_outbox.LONGEST_PAUSE_S, "without a secret it waits")

    def test_files_of_others_in_the_queue_are_left_alone(self):
        talaria, outbox = self.outbox(204)
        self.write(outbox, 1)
        others = {".x.json", "x.json", "1-x.json", f"{0:019}-run_0.json"}
        for name in others:
            (outbox.directory / name).write_text("{}")
        outbox.send_all(0)
        self.assertEqual((len(talaria.took), set(talaria_outbox.os.listdir(outbox.directory))), (1, others))

    def test_the_longest_pause_is_a_number_that_the_sender_can_wait(self):
        pauses = lambda *said: [longest_pause({"longest_pause_s": it}) for it in said]
        self.assertEqual(pauses(0, -5, 0.2, 60, 10**400, float("inf")), [0.1, 0.1, 0.2, 60, 86400, 86400])
        self.assertEqual({*pauses("abc", "5", None, [], {}, True, float("nan")), longest_pause({})}, {300})
        for said, wait in ((0, 0.1), ("abc", 300), (None, 300), ([], 300)):
            talaria, outbox = self.outbox(204, longest_pause_s=said)
            self.write(outbox, 1)
            self.assertEqual((outbox.send_all(0), len(talaria.took)), (wait, 1), said)

    def test_the_oldest_of_too_many_go(self):
        _, outbox = self.outbox()
        talaria_outbox.MAX_FILES, before = 3, talaria_outbox.MAX_FILES
        try:
            for number in range(5):
                self.write(outbox, number)
        finally:
            talaria_outbox.MAX_FILES = before
        read = lambda name: json.loads((outbox.directory / name).read_text())["report"]["n"]
        self.assertEqual(list(map(read, outbox.waiting())), [2, 3, 4])

    def test_the_queue_in_memory_is_bounded_and_the_directory_survives_a_restart(self):
        talaria, outbox = self.outbox(204)
        for number in range(talaria_outbox.MAX_IN_MEMORY + 1):
            outbox.put({"route": "video", "ended": 1, "report": {}})
        outbox.write_one()
        Outbox(self.plugin).send_all(0)
        self.assertEqual(len(talaria.took), 1)

    def test_damaged_settings_lose_no_report(self):
        for damaged in ("{broken", "[]", "{}", "\udc80", '{"url": 5, "routes": {}}', '{"url": "http://a"}', None):
            talaria, outbox = self.outbox(204, 204, 204)
            settings = self.plugin / "talaria.json"
            whole = settings.read_bytes()
            damage = lambda: settings.unlink() if damaged is None else settings.write_bytes(damaged.encode(errors="surrogateescape"))
            damage()
            with self.assertLogs("talaria", "WARNING"):
                self.write(outbox, 1)
            self.assertEqual((outbox.send_all(0), len(outbox.waiting()), talaria.took), (1, 1, []), damaged)
            settings.write_bytes(whole)
            outbox.send_all(0)
            damage()
            with self.assertLogs("talaria", "WARNING"):
                self.write(outbox, 2)
            outbox.send_all(0)
            self.write(outbox, 3, route="another")
            self.assertEqual([report["n"] for *_, report in talaria.took], [1, 2], damaged)
            self.assertEqual(outbox.waiting(), [], "by the last settings, too, another route's is not sent")

    def test_settings_that_could_not_be_read_are_read_again(self):
        talaria, outbox = self.outbox(204)
        for _ in range(2):
            with mock.patch.object(Path, "read_text", side_effect=OSError(errno.EMFILE, "Too many open files")):
                self.assertIsNone(outbox.settings())
        self.assertEqual(outbox.settings()["url"], talaria.url)

    def test_a_report_that_the_disk_does_not_take_is_written_when_it_does(self):
        talaria, outbox = self.outbox(204)
        outbox.put({"route": "video", "ended": 1, "report": {"n": 1}})
        outbox.directory.write_text("a file")
        with self.assertRaises(FileExistsError):
            outbox.write_one()
        outbox.send_all(0)
        outbox.directory.unlink()
        full = OSError(errno.ENOSPC, "No space left on device")
        for fails in (mock.patch.object(json, "dump", side_effect=full), mock.patch.object(talaria_outbox.os, "replace", side_effect=full)):
            with fails, self.assertRaises(OSError):
                outbox.write_one()
            self.assertEqual(list(outbox.directory.iterdir()), [], "no half of a file")
        outbox.write_one()
        outbox.send_all(0)
        self.assertEqual([report["n"] for *_, report in talaria.took], [1])

    def test_a_report_that_cannot_be_written_at_all_does_not_hold_others_up(self):
        _, outbox = self.outbox()
        outbox.put({"route": "video", "ended": 1, "report": {"session": "\ud83d"}})
        outbox.put({"route": "video", "ended": 1, "report": {}})
        with self.assertLogs("talaria", "WARNING") as logs:
            outbox.write_one()
        outbox.write_one()
        self.assertEqual((len(logs.output), len(list(outbox.directory.iterdir()))), (1, 1))

    def test_old_halves_of_files_are_removed(self):
        _, outbox = self.outbox()
        outbox.directory.mkdir()
        now = talaria_outbox.time.time_ns()
        old, new = (f".{at:019}-run_{0:032x}" for at in (now - 61 * 10**9, now))
        for name in (old, new, ".other"):
            (outbox.directory / name).write_text("")
        outbox.send_all(0)
        self.assertEqual({file.name for file in outbox.directory.iterdir()}, {new, ".other"})

    def test_a_fault_that_lasts_is_named_once(self):
        _, outbox = self.outbox()
        full = [OSError(errno.ENOSPC, "No space left on device", name) for name in "ab"]
        work = mock.Mock(side_effect=[*full, None, full[0], SystemExit])
        with self.assertLogs("talaria", "WARNING") as logs, mock.patch.object(talaria_outbox.time, "sleep"):
            self.assertRaises(SystemExit, outbox.forever, work)
        self.assertEqual(len(logs.output), 2)

    def test_a_secret_is_that_of_the_subscription_and_of_the_configuration(self):
        config = {"platforms": {"webhook": {"extra": {"secret": "all", "routes": {"video": {}, "own": {"secret": "${OWN_S}"}}}}}}
        talaria_outbox.os.environ["OWN_S"] = "o"
        self.assertEqual(secrets_of(config, {"video": {"secret": "s"}}, "video"), ["all", "s"])
        self.assertEqual(secrets_of(config, {}, "own"), ["o"])
        self.assertEqual(secrets_of({"platforms": []}, {"video": []}, "video"), [])


if __name__ == "__main__":
    unittest.main()
