"""The hook: how runs begin and end, as the gateway says it. The plugin `talaria` has the rest."""

import sys
from pathlib import Path

PLUGIN = Path(__file__).absolute().parents[2] / "plugins" / "talaria"
if str(PLUGIN) not in sys.path:
    sys.path.append(str(PLUGIN))

from talaria_outbox import OUTBOX  # noqa: E402
from talaria_runs import RUNS  # noqa: E402

# Only the gateway loads hooks, so only the gateway's process sends.
OUTBOX.start()


async def handle(event_type, context):
    RUNS.hook(event_type, context)
