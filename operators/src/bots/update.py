#!/usr/bin/env python3
"""Updates `patterns.txt`, `samples.txt` and `LICENSE`.

    pip install crawler-user-agents==1.67.0
    python3 operators/src/bots/update.py

`patterns.txt` contains the pattern of every bot of the package, one per line.
`samples.txt` contains a user agent of every twentieth, for the tests. Both are
from https://github.com/monperrus/crawler-user-agents, under the MIT licence in
`LICENSE`.
"""

import importlib.metadata
import pathlib

import crawleruseragents

HERE = pathlib.Path(__file__).resolve().parent
EACH = 20


def main():
    bots = crawleruseragents.CRAWLER_USER_AGENTS_DATA
    patterns = [bot["pattern"] for bot in bots]
    samples = [bot["instances"][0] for bot in bots if bot["instances"]][::EACH]
    for name, lines in (("patterns.txt", patterns), ("samples.txt", samples)):
        assert not any("\n" in line for line in lines)
        (HERE / name).write_text("".join(f"{line}\n" for line in lines))
    files = importlib.metadata.files("crawler-user-agents")
    licence = next(file for file in files if file.name == "LICENSE")
    (HERE / "LICENSE").write_text(licence.read_text())


if __name__ == "__main__":
    main()
