#!/usr/bin/env python3
"""Follows the README like a newcomer and checks what the terminal shows.

    python3 examples/newcomer.py [--keep FOLDER] [--cache FOLDER]

Runs the commands under "With your own Kafka" as they stand, against a broker on
loopback, on a terminal of 80 x 24. Exits with 0 if the first query has rows, lines
fit, no generated event is late, and pipes and NO_COLOR get no escape codes.

`TAGFLOW` names the command that runs Tagflow, as in the other examples.
"""

import codecs
import fcntl
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import example  # noqa: E402
from example import say, tansu  # noqa: E402

COLUMNS, ROWS = 80, 24
# The table has rows about ten seconds after the start; a slow machine needs longer.
PATIENCE_S = 90
ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])")
COLOR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A command on a terminal of 80 x 24."""

    def __init__(self, command, cwd, env):
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.output = ""
        pid, self.fd = pty.fork()
        if pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
            os.chdir(cwd)
            os.execvpe("sh", ["sh", "-c", command], env)
        self.pid = pid

    def read(self, seconds):
        """Reads until the end of the output, or until the time is over. True at the end."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.fd], [], [], min(left, 0.2))[0]:
                continue
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return True
            if not data:
                return True
            self.output += self.decoder.decode(data)
        return False

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait(self, seconds=60):
        """The exit code."""
        if not self.read(seconds):
            os.kill(self.pid, signal.SIGKILL)
            raise RuntimeError(f"no end after {seconds} s:\n{self.output[-2000:]}")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def lines(self):
        """The visible lines. A carriage return overwrites its line."""
        text = ESCAPE.sub("", self.output).replace("\r\n", "\n")
        return [part for line in text.split("\n") for part in line.split("\r")]


class Checks:
    def __init__(self):
        self.failed = 0

    def check(self, name, holds, shown=""):
        print(f"{'ok   ' if holds else 'WRONG'} {name}", flush=True)
        if not holds:
            self.failed += 1
            print(shown[-2000:], flush=True)

    def fits(self, name, lines):
        wide = [line for line in lines if len(line) > COLUMNS]
        self.check(f"{name} fits {COLUMNS} columns", not wide, "\n".join(wide))


def readme_commands():
    """The commands of the README, without their comments."""
    text = (HERE.parent / "README.md").read_text()
    block = text.split("## With your own Kafka", 1)[1].split("```", 2)[1]
    lines = [re.sub(r"\s{2,}#.*$", "", line).strip() for line in block.splitlines()]
    return [line for line in lines if line]


def folder_with_tagflow(folder):
    """A folder with `tagflow` and `examples`, as a newcomer has them."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    script = bin_folder / "tagflow"
    command = " ".join(f"'{part}'" for part in example.command())
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
    (folder / "examples").symlink_to(HERE)
    (folder / "schemas").symlink_to(HERE.parent / "schemas")
    return bin_folder


def run_all(folder, cache):
    bin_folder = folder_with_tagflow(folder)
    env = {name: value for name, value in os.environ.items()
           if name not in ("NO_COLOR", "CLICOLOR_FORCE", "LAKE_URL", "TAGFLOW_STATE")}
    env |= {"PATH": f"{bin_folder}:{os.environ['PATH']}", "TERM": "xterm-256color",
            "XDG_STATE_HOME": str(folder / "xdg")}
    checks = Checks()
    with tansu.broker(cache=cache) as brokers:
        follow(checks, folder, env | {"KAFKA_BROKERS": brokers})
    return 1 if checks.failed else 0


def follow(checks, folder, env):
    run = None
    produce = None
    for command in readme_commands():
        if command.startswith("export "):
            continue  # The broker of this script listens elsewhere.
        say(command)
        if command.startswith("tagflow run "):
            run = Terminal(f"exec {command}", folder, env)
            wait_for_rows(run, folder)
            continue
        if command == "tagflow query":
            prompt(checks, folder, env)
            continue
        if command.startswith("tagflow produce"):
            produce = command
        terminal = Terminal(command, folder, env)
        code = terminal.wait(120)
        run and run.read(0.1)
        checks.check(f"`{command.split()[1]}` ends with 0", code == 0, terminal.output)
        if command.split()[1] in ("status", "query", "audit", "validate", "preview"):
            checks.fits(command.split()[1], terminal.lines())
        if command.startswith("tagflow query "):
            rows = [line for line in terminal.lines() if re.match(r"\| c\d+", line)]
            checks.check("the first query has rows", len(rows) == 5, terminal.output)
    second_produce(checks, folder, env, produce, run)
    pipes(checks, folder, env)
    run.type("\x03")
    code = run.wait()
    checks.check("Ctrl-C ends the run with 0", code == 0, run.output)
    lines = run.lines()
    stopping = "stopping after a last commit; once more stops at once, without it"
    checks.check("the answer to Ctrl-C has a line of its own", stopping in lines, run.output)
    greeting = "\n".join(lines)
    for part in ("http://127.0.0.1:", "./lake/campaign_metrics", "rows show within"):
        checks.check(f"the run greets with `{part}`", part in greeting, greeting)
    # The terminal itself echoes `^C` after the line.
    live = [line.removesuffix("^C") for line in lines if " running " in line and " rows" in line]
    for part in ("late ", "dead ", "commit"):
        checks.check(f"the live line shows `{part}`", any(part in line for line in live),
                     "\n".join(live[:3]))
    checks.fits("the live line", live)


def wait_for_rows(run, folder):
    """Waits as a newcomer would, until there is a file."""
    for _ in range(PATIENCE_S):
        ended = run.read(1)
        if ended:
            raise RuntimeError(f"the run has ended:\n{run.output[-2000:]}")
        if any((folder / "lake" / "campaign_metrics").rglob("*.parquet")):
            return


def prompt(checks, folder, env):
    terminal = Terminal("tagflow query", folder, env)
    terminal.read(2)
    for line in ("\\d\r", "select count(*) as n\r", "from campaign_metrics;\r", "selec 1;\r",
                 "select 41 + 1 as answer;\r"):
        terminal.type(line)
        terminal.read(3)
    terminal.type("\x04")
    code = terminal.wait()
    text = "\n".join(terminal.lines())
    checks.check("the prompt ends with Ctrl-D", code == 0, text)
    for part in ("| campaign_metrics", "error: ", "| 42 "):
        checks.check(f"the prompt answers with `{part}`", part in text, text)


def second_produce(checks, folder, env, produce, run):
    say(f"{produce} (again)")
    code = Terminal(produce, folder, env).wait(120)
    checks.check("a second `produce` ends with 0", code == 0)
    run.read(12)
    status = subprocess.run(["tagflow", "status", "--json"], cwd=folder, env=env, check=True,
                            capture_output=True, text=True).stdout
    checks.check("no generated event is late", '"late": 0' in status, status)
    checks.check("all events are read", '"in": 200000' in status, status)


def pipes(checks, folder, env):
    commands = ["tagflow status", "timeout -s INT 3 tagflow status --watch",
                "tagflow validate examples/campaign_metrics.yaml",
                "tagflow test examples/campaign_metrics.yaml", "tagflow audit campaign-metrics",
                "tagflow query 'select * from campaign_metrics limit 3'",
                "tagflow query 'selec 1'", "tagflow run nothing.yaml", "tagflow --help"]
    for command in commands:
        piped = subprocess.run(["sh", "-c", command], cwd=folder, env=env, capture_output=True)
        text = (piped.stdout + piped.stderr).decode(errors="replace")
        checks.check(f"no escape codes in a pipe: {command}", "\x1b" not in text, repr(text))
    bad = "RUST_LOG=info tagflow run examples/nothing.yaml; tagflow test examples/campaign_metrics.yaml"
    colored = Terminal(bad, folder, env)
    colored.wait()
    checks.check("a terminal has colours", COLOR.search(colored.output), repr(colored.output))
    plain = Terminal(bad, folder, env | {"NO_COLOR": "1"})
    plain.wait()
    checks.check("NO_COLOR holds", not COLOR.search(plain.output), repr(plain.output))
    help_text = Terminal("tagflow run --help", folder, env)
    help_text.wait()
    checks.fits("help", help_text.lines())


if __name__ == "__main__":
    sys.exit(example.main("newcomer", __doc__, run_all))
