"""The real Hermes webhook adapter, with a recorder where the agent would run and a switch where Telegram would be.

Reads {"routes": …, "rate_limit": …} from the file named by its first argument and listens on a free port. Everything
it has to say is a JSON line on standard output: {"port": …}, then {"prompt": …} for each agent run and
{"message": …} for each direct delivery. With the key "examine" it says of each prompt, too, whether Hermes takes it for a command
and which references it would expand. A line on standard input, "telegram ok" or "telegram fail", sets what the
target of direct deliveries does from then on, and is answered by {"telegram": …}.

Validation, limits, deduplication, filters, rendering and the answers are Hermes' own.
"""

import asyncio
import json
import sys
from types import SimpleNamespace

from gateway.config import Platform, PlatformConfig
from gateway.platforms.base import SendResult
from gateway.platforms.webhook import WebhookAdapter


def say(**what):
    # ASCII, so that a prompt with a lone surrogate can be said too.
    print(json.dumps(what), flush=True)


class Telegram:
    works = True

    async def send(self, chat_id, content, metadata=None):
        if not self.works:
            return SendResult(success=False, error="switched off")
        say(message=content, chat=chat_id, thread=(metadata or {}).get("thread_id"))
        return SendResult(success=True)


async def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        config = json.load(file)
    adapter = WebhookAdapter(PlatformConfig(enabled=True, extra={"host": "127.0.0.1", "port": 0, **config}))
    telegram = Telegram()
    adapters = {Platform("telegram"): telegram}
    # 0.19.0 looks adapters up, newer versions ask for the one of a profile.
    adapter.gateway_runner = SimpleNamespace(
        adapters=adapters, config=None, _authorization_adapter=lambda platform, profile=None: adapters.get(platform))

    async def record(event):
        live = {}
        if config.get("examine"):
            # It takes a while, which most tests do not need.
            from agent.context_references import parse_context_references

            references = [reference.raw for reference in parse_context_references(event.text)]
            live = {"command": event.is_command(), "references": references}
        say(prompt=event.text, id=event.message_id, route=event.source.user_name, payload=event.raw_message, **live)

    adapter.handle_message = record
    if not await adapter.connect():
        sys.exit("the adapter did not start")
    say(port=adapter._runner.addresses[0][1])

    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    # Ends with whoever started it.
    while line := (await commands.readline()).decode().strip():
        telegram.works = line == "telegram ok"
        say(telegram=line)
    await adapter.disconnect()


asyncio.run(main())
