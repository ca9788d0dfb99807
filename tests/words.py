"""Holds comments and pages to plain words: name the client, the owner or the server instead of "whoever" or "nobody", and the
thing itself instead of "what is".

Counts words in Rust comments and in the Markdown pages, and fails where there are more than the bounds. A bound is for 1,000
lines. Run it with --show WORD to see the lines.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CRATES = ["bus", "cli", "console", "core", "ingress", "openrouter", "outbound", "proto", "relay", "telemetry", "tests"]

# Word: the most in 1,000 lines of comments, and in 1,000 lines of pages.
BOUNDS = {
    "whoever": (1, 1),
    "nobody": (1, 1),
    "somebody": (1, 1),
    "anybody": (1, 1),
    "made anew": (1, 1),
    # The thing itself: "the backlog" instead of "what is waiting"; a seq, a slot, a position instead of a place.
    "what is": (1, 1),
    "place": (1.6, 1.6),
}


def comments():
    for crate in CRATES:
        for file in sorted((ROOT / crate).rglob("*.rs")):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                if found := re.search(r"(?:^|\s)//[/!]?\s(.*)", line):
                    yield file, number, found.group(1)


def pages():
    for file in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            # What the program says is quoted as it is.
            if line.strip() and not line.startswith(">"):
                yield file, number, line


def main():
    shown = sys.argv[2] if sys.argv[1:2] == ["--show"] else None
    failed = False
    for kind, (name, lines) in enumerate([("comments", list(comments())), ("pages", list(pages()))]):
        for word, bounds in BOUNDS.items():
            found = [line for line in lines if re.search(rf"\b{word}\b", line[2], re.IGNORECASE)]
            for file, number, text in found if word == shown else []:
                print(f"{file.relative_to(ROOT)}:{number}: {text}")
            rate, most = 1000 * len(found) / max(len(lines), 1), bounds[kind]
            if rate > most:
                failed = True
                print(f'{name}: "{word}" stands {rate:.1f} times in 1,000 lines, at most {most} are allowed; '
                      f'see them with: python3 tests/words.py --show "{word}"')
            elif not shown:
                print(f'{name}: "{word}" {rate:.1f} of {most}')
    sys.exit(failed)


main()
