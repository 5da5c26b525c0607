"""``nexus serve``: the service, in the foreground."""

from __future__ import annotations

import sys
from typing import Any

import click


@click.command(epilog="Example: nexus serve --algorithms ./algorithms --port 8080")
@click.option("--config", metavar="FILE", help="Settings file (TOML).")
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", help="Port of the scheduler (default 8080; 0 takes a free one).")
@click.option("--receiver-port", help="Port of the receiver (default: the scheduler's).")
@click.option("--data-dir", metavar="FOLDER", help="Folder that keeps everything (default: the platform's user data folder).")
@click.option("--algorithms", multiple=True, metavar="PATH", help="Manifest file or folder to register; repeatable.")
@click.option("--registry", metavar="ROOT", help="Registry to show under /algorithm/latest/registry.")
@click.option("--advisories", metavar="FOLDER", help="Advisory snapshot: build environments only from locks audited against it.")
@click.option("--roles", help="Which roles this process has (default all).")
@click.option("--require-token", is_flag=True, default=None, help="Ask loopback callers for a token too.")
@click.option("--tls-cert", metavar="FILE", help="Certificate chain (PEM).")
@click.option("--tls-key", metavar="FILE", help="Private key (PEM).")
@click.option("--behind-proxy", is_flag=True, default=None, help="A proxy in front terminates TLS.")
@click.option("--allowed-hosts", metavar="NAMES", help="Host names to answer to, separated by commas.")
@click.option("--max-runs", help="Runs executed at once (default: four per core).")
@click.option("--dispatch", type=click.Choice(["on", "paused"]), help="Whether waiting runs are started.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="How it is logged.")
def serve(config: str | None, **flags: Any) -> None:
    """Start the service: HTTP API, queue, execution, results, in one process on SQLite.

    Every setting can also come from the environment (NEXUS__PORT=9000) or a file; `nexus settings` lists them.
    """
    from nexus.app.settings import check_platform, resolve

    check_platform()
    from nexus.app.roles import serve as run
    from nexus.app.telemetry import start_logging

    settings, _ = resolve(flags, file=config)
    start_logging(settings.log_level, settings.log_format)

    def say(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    raise SystemExit(run(settings, on_ready=say))
