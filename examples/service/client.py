"""A client of the service: send inputs, ask, follow the stream. It needs nothing but Python."""

import json
import sys
import urllib.request

url, token = sys.argv[1], sys.argv[2]


def ask(path: str, body: bytes | None = None) -> dict:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-ndjson"}
    with urllib.request.urlopen(urllib.request.Request(url + path, body, headers)) as answer:
        return json.load(answer)


with open("day.ndjson", "rb") as day:
    while lines := day.readlines(1 << 20):
        sent = ask("/v1/inputs", b"".join(lines))
print(sent["last"], "inputs are durable")
for row in ask("/v1/calls?open=true&limit=3")["items"]:
    print(row["call"], row["unpaid"], row["currency"], "due", row["due_at"])
