"""Reports on their way to Talaria: a bounded queue in memory, a directory, and HTTP.

One thread writes each report into the directory at once, so that it outlives the gateway. Another sends what is there, oldest
first, and waits while Talaria is away. Nobody waits for either.
"""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import logging
import os
import queue
import re
import socket
import ssl
import threading
import time
import urllib.parse
import uuid
from collections import Counter, defaultdict
from datetime import datetime, timezone
from pathlib import Path

LOG = logging.getLogger("talaria")

MAX_IN_MEMORY = 1000

# A report has less than 16 KiB, so the directory has less than 16 MB.
MAX_FILES = 1000

# For a request and its answer together.
TIMEOUT_S = 10
FIRST_PAUSE_S = 1
# Unless `longest_pause_s` in talaria.json says otherwise.
LONGEST_PAUSE_S = 300
# The bounds of `longest_pause_s`: with less the sender would spin, with more a wait can be too long for the system.
LEAST_PAUSE_S, MOST_PAUSE_S = 0.1, 24 * 3600
# Of a Retry-After.
LONGEST_WAIT_S = 3600
# Refused reports of one route before its others wait, too: Talaria refuses all senders after too many of them.
MAX_REFUSED = 3
# The files of the directory that are reports: when each was written, and its id.
NAME = re.compile(r"[0-9]{19}-run_[0-9a-f]{32}\.json")
# A file that is being written. It is left half by a gateway that is killed.
HALF = re.compile(r"\.[0-9]{19}-run_[0-9a-f]{32}")
HALF_S = 60
# A secret may be in rotation, so a report that is refused for its signature is kept for a day.
KEEP_REFUSED_S = 24 * 3600


class Sent:
    """What came of sending a report."""

    DONE, NEVER, AWAY = "done", "never", "away"
    # Refused for its signature, or for now.
    REFUSED, LATER = "refused", "later"
    # No file of a report, or no route or secret for it. They may come back.
    UNSENT = "unsent"


def post(url, body, headers, ca):
    """The status of the answer and its Retry-After. Uses no proxy and follows no redirect: reports go to Talaria alone."""
    deadline = time.monotonic() + TIMEOUT_S
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("this is no http:// or https:// address")
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    connection = (http.client.HTTPSConnection if is_tls else http.client.HTTPConnection)(parts.hostname, port)
    connection.sock = socket.create_connection((parts.hostname, port), TIMEOUT_S)
    # A timeout of the socket is for each byte. The timer is for all of them.
    is_over = threading.Event()

    def give_up():
        is_over.set()
        # Of the TCP connection: a TLS one cannot be closed while it is read from.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(max(0, deadline - time.monotonic()), give_up)
    timer.daemon = True
    try:
        if is_tls:
            context = ssl.create_default_context(cafile=ca)
            connection.sock = context.wrap_socket(connection.sock, server_hostname=parts.hostname, do_handshake_on_connect=False)
        timer.start()
        if is_tls:
            connection.sock.do_handshake()
        connection.request("POST", parts.path, body, {**headers, "Connection": "close"})
        with connection.getresponse() as answer:
            found = answer.status, answer.headers.get("Retry-After", "")
    except Exception:
        if not is_over.is_set():
            raise
    finally:
        timer.cancel()
        connection.close()
    if is_over.is_set():
        raise TimeoutError(f"no answer within {TIMEOUT_S} s")
    return found


def signature(secret, report_id, timestamp, body):
    """A signature as Standard Webhooks say, with the secret as it is written for the key."""
    mac = hmac.new(secret.encode(), f"{report_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


class Files:
    """Files of settings, read again when they changed."""

    def __init__(self):
        self.read = {}

    def get(self, file, parse):
        """What the file says, as an object; empty where there is none or it cannot be read."""
        known, known_object, known_trouble = self.read.get(file, (None, {}, None))
        changed, found, trouble = None, {}, None
        try:
            changed = file.stat().st_mtime_ns
            if changed == known:
                return known_object
            found = parse(file.read_text(encoding="utf-8-sig"))
        except Exception as error:
            if isinstance(error, OSError):
                changed = None  # It may be readable the next time.
            if not isinstance(error, FileNotFoundError):
                trouble = type(error).__name__
        if trouble and trouble != known_trouble:
            LOG.warning("reports to Talaria: %s cannot be read: %s", file, trouble)
        found = found if isinstance(found, dict) else {}
        self.read[file] = (changed, found, trouble)
        return found


def yaml(text):
    try:
        import yaml
    except ImportError:
        # Newer versions of Hermes have this one, and read YAML 1.1 with it.
        from ruamel.yaml import YAML

        reader = YAML(typ="safe", pure=True)
        reader.version = (1, 1)
        return reader.load(text)
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def within(settings, *path):
    for key in path:
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings if isinstance(settings, dict) else {}


def secrets_of(config, subscriptions, route):
    """The secrets of a route at Hermes: of a route of config.yaml, which comes first there, and of its subscription."""
    found = []
    for top in ((), ("gateway",)):
        extra = within(config, *top, "platforms", "webhook", "extra")
        if route in within(extra, "routes"):
            found.append(within(extra, "routes", route).get("secret") or extra.get("secret"))
    found.append(within(subscriptions, route).get("secret"))
    return list(dict.fromkeys(expanded(secret) for secret in found if isinstance(secret, str) and secret))


def expanded(secret):
    """Hermes puts variables into its configuration."""
    return re.sub(r"\$\{(\w+)\}", lambda name: os.environ.get(name[1], name[0]), secret)


def longest_pause(settings):
    found = settings.get("longest_pause_s")
    # NaN is no number, and True is none here.
    if type(found) not in (int, float) or found != found:
        return LONGEST_PAUSE_S
    return max(LEAST_PAUSE_S, min(found, MOST_PAUSE_S))


class Outbox:
    def __init__(self, plugin):
        self.plugin, self.home, self.directory = plugin, plugin.parent.parent, plugin / "queue"
        self.queue = queue.Queue(MAX_IN_MEMORY)
        self.unwritten = None  # the report that is being written
        self.wake = threading.Event()
        self.never = threading.Event()  # never set, to wait by: time.sleep() can raise where the clock is set meanwhile
        self.pause = 0  # seconds, while Talaria is away
        self.later = {}  # when a report is tried again that was refused, or whose route was, by file
        self.tries = Counter()  # how often a report was tried and is kept, by file
        self.files = Files()
        self.last_settings = None
        self.has_warned = False  # that the settings are damaged
        self.has_started = False

    def put(self, item):
        """Takes a report. Never waits."""
        try:
            self.queue.put_nowait(item)
        except queue.Full:
            LOG.warning("a report to Talaria was dropped: %d wait to be written", MAX_IN_MEMORY)

    def start(self):
        if not self.has_started:
            self.has_started = True
            for name, work in (("write", self.write_one), ("send", self.send_due)):
                threading.Thread(target=self.forever, args=(work,), name=f"talaria-{name}", daemon=True).start()

    def forever(self, work):
        known = None
        while True:
            try:
                work()
                known = None
            except Exception as error:
                # A full disk is full at each try, and is named once.
                found = getattr(error, "strerror", None) or str(error)
                if found != known:
                    LOG.warning("reports to Talaria: %s", error)
                known = found
                self.never.wait(FIRST_PAUSE_S)

    def settings(self):
        """The settings as they were last whole; None before. Without `url` and `routes` they say nothing about a report."""
        found = self.files.get(self.plugin / "talaria.json", json.loads)
        if isinstance(found.get("url"), str) and isinstance(found.get("routes"), dict):
            self.last_settings, self.has_warned = found, False
        elif not self.has_warned:
            self.has_warned = True
            LOG.warning("reports to Talaria: talaria.json has no url and routes; its last ones hold, or reports wait for it")
        return self.last_settings

    def secrets(self, route):
        config = self.files.get(self.home / "config.yaml", yaml)
        return secrets_of(config, self.files.get(self.home / "webhook_subscriptions.json", json.loads), route)

    # To the disk.

    def write_one(self):
        """Writes a report. Where the disk does not take it, raises, and writes the same report the next time."""
        if self.unwritten is None:
            self.unwritten = self.queue.get()
        try:
            self.write(self.unwritten)
        except OSError:
            raise
        except Exception as error:
            LOG.warning("a report to Talaria was dropped: it cannot be written: %s", error)
        self.unwritten = None

    def write(self, item):
        settings = self.settings()
        # Another sender's delivery, or a route that is no longer Talaria's.
        if settings is not None and item["route"] not in settings["routes"]:
            return
        ended = datetime.fromtimestamp(item["ended"], timezone.utc).isoformat(timespec="milliseconds")
        report = {**item["report"], "ended_at": ended.replace("+00:00", "Z")}
        report_id = "run_" + uuid.uuid4().hex
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.make_room()
        name = f"{time.time_ns():019}-{report_id}"
        half = self.directory / f".{name}"
        try:
            with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump({"id": report_id, "route": item["route"], "report": report}, file, ensure_ascii=False)
            os.replace(half, self.directory / f"{name}.json")
        except BaseException:
            half.unlink(missing_ok=True)
            raise
        # Nothing after this may raise, or the report would be written twice.
        self.wake.set()

    def make_room(self):
        """Removes the oldest of too many files, before one more is written: it may be the disk that is full."""
        waiting = self.waiting()
        old = waiting[: max(0, len(waiting) + 1 - MAX_FILES)]
        for name in old:
            self.remove(name)
        if old:
            LOG.warning("%d reports to Talaria were dropped: more than %d wait to be sent", len(old), MAX_FILES)

    def remove_halves(self):
        for name in filter(HALF.fullmatch, self.entries()):
            # Another gateway may be writing it.
            if self.age(name[1:]) > HALF_S:
                self.remove(name)

    def waiting(self):
        """The files that wait, oldest first. Other files are left alone."""
        return sorted(filter(NAME.fullmatch, self.entries()))

    def entries(self):
        try:
            return os.listdir(self.directory)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove(self, name):
        (self.directory / name).unlink(missing_ok=True)

    # To Talaria.

    def send_due(self):
        """Sends what is due, and waits until something is, or comes."""
        wait = self.send_all(time.monotonic())
        if self.pause:
            # Away: a new report does not shorten the pause.
            self.never.wait(wait)
        else:
            self.wake.wait(wait)
        self.wake.clear()

    def send_all(self, now):
        """Sends each file that is due. Returns the seconds until the next is."""
        self.remove_halves()
        settings, names = self.settings(), self.waiting()
        if settings is None:
            return FIRST_PAUSE_S if names else LONGEST_PAUSE_S
        longest = longest_pause(settings)
        # Of files that are gone nothing is kept.
        self.later = {name: self.later[name] for name in names if name in self.later}
        self.tries = Counter({name: self.tries[name] for name in names if name in self.tries})
        refused = defaultdict(list)  # the pauses after refusals in this round, by route
        # The oldest first, but those that were refused after those that were not tried.
        for name in sorted(names, key=lambda name: self.tries[name]):
            if self.later.get(name, now) > now:
                continue
            item = self.item(name)
            pauses = refused[item.get("route")]
            if len(pauses) >= MAX_REFUSED:
                self.later[name] = now + max(pauses)
                continue
            sent, why, after = self.send(name, item, settings)
            after = min(after, LONGEST_WAIT_S)
            if sent == Sent.AWAY:
                if not self.pause:
                    LOG.warning("reports to Talaria wait, because it does not take them: %s", why)
                self.pause = min(self.pause * 2 or FIRST_PAUSE_S, longest)
                return max(self.pause, after)
            if self.pause and sent != Sent.UNSENT:
                self.pause = 0
                LOG.warning("Talaria takes reports again")
            pause = after or longest
            if sent in (Sent.REFUSED, Sent.LATER):
                pauses.append(pause)
            if sent == Sent.LATER or (sent in (Sent.REFUSED, Sent.UNSENT) and self.age(name) < KEEP_REFUSED_S):
                if not self.tries[name]:
                    LOG.warning("a report to Talaria waits: %s", why)
                self.tries[name] += 1
                self.later[name] = now + pause
            else:
                if sent != Sent.DONE:
                    LOG.warning("a report to Talaria was dropped: %s", why)
                self.remove(name)
                self.later.pop(name, None)
        due = [self.later[name] for name in names if name in self.later]
        return max(0, min(due, default=now + longest) - now)

    @staticmethod
    def age(name):
        return time.time() - int(name.partition("-")[0]) / 1e9

    def item(self, name):
        """What a file has; empty where it has no report."""
        try:
            item = json.loads((self.directory / name).read_text(encoding="utf-8"))
            return item if isinstance(item["route"], str) else {}
        except Exception:
            return {}

    def send(self, name, item, settings):
        """Sends one file. Returns what came of it, why, and Talaria's Retry-After in seconds."""
        if not item:
            return Sent.UNSENT, f"{name} has no report", 0
        try:
            report_id, body = item["id"], json.dumps(item["report"], ensure_ascii=False).encode()
            to = settings["routes"][item["route"]]
            path = "/runs/" + "/".join(urllib.parse.quote(to[key], safe="") for key in ("tenant", "route"))
            url = settings["url"].rstrip("/") + path
        except (ValueError, KeyError, TypeError) as error:
            return Sent.UNSENT, f"{name} cannot be sent: {error!r}", 0
        secrets = self.secrets(item["route"])
        if not secrets:
            return Sent.UNSENT, f"the route {item['route']} has no secret here", 0
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "talaria-hermes",
            "webhook-id": report_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signature(secret, report_id, timestamp, body) for secret in secrets),
        }
        try:
            status, after = post(url, body, headers, settings.get("ca"))
        except Exception as error:
            return Sent.AWAY, f"{url}: {error}", 0
        after = int(after) if re.fullmatch("[0-9]{1,9}", after) else 0
        return self.of_status(status), f"{url} answers {status}", after

    @staticmethod
    def of_status(status):
        if 200 <= status < 300:
            return Sent.DONE
        if status >= 500:
            return Sent.AWAY
        if status == 401:
            return Sent.REFUSED
        # A redirect is the answer of a proxy, and may be mended.
        if status < 400 or status in (408, 429):
            return Sent.LATER
        return Sent.NEVER


OUTBOX = Outbox(Path(__file__).absolute().parent)
