"""Singer taps of a few lines, put where installed ones live."""

import json
import sys
from pathlib import Path

_HEAD = """#!{python}
import json, os, sys
def say(type, **more): print(json.dumps({{"type": type, **more}}), flush=True)
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2] + [""]))
if "--discover" in sys.argv:
    print(json.dumps({{"streams": [{{"stream": "rows", "tap_stream_id": "rows", "schema": {{}}, "metadata": []}}]}}))
    sys.exit(0)
config = json.load(open(arguments["--config"]))
state = json.load(open(arguments["--state"])) if "--state" in arguments else None
"""


def fake_tap(data_dir: Path, name: str, body: str) -> str:
    """Install a tap whose program runs ``body`` (with ``say``, ``config`` and ``state``); return its requirement."""
    folder = data_dir / "plugins" / f"{name}-1.0"
    program = folder / "bin" / name
    program.parent.mkdir(parents=True)
    program.write_text(_HEAD.format(python=sys.executable) + body + "\n")
    program.chmod(0o755)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "installed.json").write_text(json.dumps({"requirement": f"{name}==1.0", "program": name}))
    return f"{name}==1.0"
