"""Prints the section of CHANGELOG.md about a version: the text of its release.

    changes.py VERSION
"""

import re
import sys
from pathlib import Path

text = (Path(__file__).resolve().parents[2] / "CHANGELOG.md").read_text()
section = re.search(rf"^## \[{re.escape(sys.argv[1])}\].*\n+((?:(?!## ).*\n?)*)", text, re.MULTILINE)
if section is None:
    raise SystemExit(f"CHANGELOG.md has no section ## [{sys.argv[1]}]")
print(section.group(1).strip())
