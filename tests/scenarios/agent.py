"""An algorithm that does what its payload says: the actor of the scenarios. Standard library only, no package is imported.

The payload is ``{"do": [[verb, argument…], …]}``; each verb is a function of this module. Paths in arguments are gates: files
by which a test and a process tell each other where they are.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

NAME, RUN_ID = os.environ["NEXUS__ALGORITHM_NAME"], os.environ["NEXUS__RUN_ID"]
FILE_LIMIT_S = 600.0


def call(method, url, body=None, **headers):
    """Status and body of a request with the run's own token."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['NEXUS__RUN_TOKEN']}", **headers}
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


def report(uri="", cause="", api="v1"):
    """Reports; prints the status it got."""
    url = f"{os.environ['NEXUS__CLIENT__RECEIVER']}/algorithm/{api}/complete/{NAME}/requests/{RUN_ID}"
    status, _ = call("POST", url, {"resultUri": uri, "errorCause": cause, "errorDetails": ""})
    print(f"report {status}", flush=True)


def report_own_file(text):
    """Leaves a file in the run's own folder and reports its path."""
    path = Path(os.environ["NEXUS__RESULT_FOLDER"], "own.txt")
    path.write_text(text)
    report(str(path))


def report_link(target):
    """Reports a symbolic link in the run's own folder that leads elsewhere."""
    path = Path(os.environ["NEXUS__RESULT_FOLDER"], "link.txt")
    path.symlink_to(target)
    report(str(path))


def upload(text):
    """Stores a result through the signed upload URL, without a token, and prints its URI."""
    print("uploaded", put(text), flush=True)


def put(text):
    """The URI of a result stored through the signed upload URL."""
    data = text.encode()
    request = urllib.request.Request(os.environ["NEXUS__RESULT_UPLOAD_URL"], data, {"Content-Type": "text/plain"}, method="PUT")
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["resultUri"]


def report_upload(text):
    """Uploads a result and reports it, as the SDK does."""
    report(put(text))


def read_again():
    """Fetches the payload by the address it was started with once more; prints the status it got."""
    print("payload", call("GET", address())[0], flush=True)


def spawn(payload, policy="child"):
    """Submits a child of this run; prints its id or the refusal."""
    body = {"algorithmParameters": payload, "parentRequest": {"algorithmName": NAME, "requestId": RUN_ID}, "tag": policy}
    status, answer = call("POST", f"{os.environ['NEXUS__CLIENT__SCHEDULER']}/algorithm/v1/run/{NAME}", body)
    print("spawned", status, answer.decode(), flush=True)
    return json.loads(answer)["requestId"] if status == 202 else None


def fan_out(payloads):
    """Submits children, waits until each has ended, and reports how many completed."""
    children = [spawn(payload) for payload in payloads]
    done = 0
    for child in children:
        url = f"{os.environ['NEXUS__CLIENT__SCHEDULER']}/algorithm/latest/results/{NAME}/requests/{child}?wait=60"
        until = time.monotonic() + FILE_LIMIT_S
        while time.monotonic() < until:
            stage = json.loads(call("GET", url)[1])["status"]
            if stage not in ("NEW", "BUFFERED", "RUNNING"):
                done += stage == "COMPLETED"
                break
    report(f"done:{done}")


def mark(path):
    """Adds this process to a gate file: it has come this far."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")


def wait_for(path):
    """Goes on when the file is there."""
    until = time.monotonic() + FILE_LIMIT_S
    while not Path(path).exists() and time.monotonic() < until:
        time.sleep(0.02)


def say(text):
    print(text, flush=True)


def environment(*names):
    """Prints variables."""
    print(json.dumps({name: os.environ.get(name) for name in names}), flush=True)


def arguments():
    print(json.dumps(sys.argv[1:]), flush=True)


def binary(size):
    """Prints every byte value, over and over."""
    sys.stdout.buffer.write(bytes(range(256)) * (size // 256))
    sys.stdout.buffer.flush()


def flood(size):
    """Prints that many bytes, a million a write."""
    for _ in range(size // 1_000_000):
        os.write(1, b"x" * 999_999 + b"\n")


def daemon(path):
    """Leaves a process in a session of its own behind, the classic way: forked twice."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            mark(path)
            time.sleep(FILE_LIMIT_S)
        os._exit(0)
    os.wait()
    wait_for(path)


def deaf():
    """Ignores what asks it to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def eat(size):
    """Takes memory and keeps it."""
    kept = bytearray(size)
    kept[:: os.sysconf("SC_PAGE_SIZE")] = b"x" * len(kept[:: os.sysconf("SC_PAGE_SIZE")])
    time.sleep(FILE_LIMIT_S)


def crash():
    """Ends as a segmentation fault does."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(code):
    sys.stdout.flush()
    os._exit(code)


def only(attempt, step):
    """Does *step* in that attempt alone."""
    if os.environ["NEXUS__ATTEMPT"] == str(attempt):
        do(step)


def do(step):
    globals()[step[0]](*step[1:])


def address():
    """Where the payload is."""
    return next(argument for argument in sys.argv if argument.startswith("--sas-uri=")).removeprefix("--sas-uri=")


def main():
    with urllib.request.urlopen(address(), timeout=120) as answer:
        payload = json.load(answer)
    for step in payload.get("do", []):
        do(step)


if __name__ == "__main__":
    main()
