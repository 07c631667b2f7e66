#!/usr/bin/env python3
"""The user agents that `run.py` sends, and the check of their flags.

    python3 agents.py write FILE.ndjson
    python3 agents.py check LAKE
"""

import json
import sys

BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "",
)


def samples():
    from crawleruseragents import CRAWLER_USER_AGENTS_DATA
    return [agent for bot in CRAWLER_USER_AGENTS_DATA for agent in bot.get("instances", [])]


def agents():
    """The samples, their halves (some of which are no bots), and browsers."""
    whole = samples()
    halves = [half for agent in whole for half in (agent[:len(agent) // 2],
                                                   agent[len(agent) // 2:])]
    return [*whole, *halves, *BROWSERS, None]


def write(path):
    with open(path, "w") as file:
        for number, agent in enumerate(agents()):
            request = {"request_id": number, "user_agent": agent, "occurred_at": 1767571200000}
            print(json.dumps(request), file=file)


def check(lake):
    import duckdb
    from crawleruseragents import is_crawler

    rows = duckdb.execute("select request_id, is_bot from read_parquet(?)",
                          [f"{lake}/requests_flagged/**/*.parquet"]).fetchall()
    written = dict(rows)
    sent = agents()
    wrong = [agent for number, agent in enumerate(sent)
             if written.get(number) != (agent is not None and is_crawler(agent))]
    for agent in wrong[:20]:
        print("differs:", agent)
    flagged = sum(written[number] for number in range(len(samples())))
    print(f"{flagged:,} of {len(samples()):,} samples flagged, {sum(written.values()):,} of "
          f"{len(sent):,} user agents; {len(wrong)} flags differ from the package's own")
    whole = len(rows) == len(sent) == len(written) and flagged == len(samples()) == 2123
    return 0 if whole and not wrong else 1


if __name__ == "__main__":
    command, path = sys.argv[1:]
    sys.exit({"write": write, "check": check}[command](path))
