"""The plugin: how runs ended, what failed at the model, and tokens. The hook `talaria` has the rest."""

import sys
from pathlib import Path

PLUGIN = Path(__file__).absolute().parent
if str(PLUGIN) not in sys.path:
    sys.path.append(str(PLUGIN))


def register(ctx):
    from talaria_runs import RUNS

    for name, callback in RUNS.callbacks().items():
        ctx.register_hook(name, callback)
