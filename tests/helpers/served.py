"""A program `sde-bench` for shells that need not import torch: it asks the tests, which fork one that has."""

import contextlib
import functools
import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from forked import finished

#: What a shell starts: it prints what came back, and ends with its exit code.
_CLIENT = """#!{python} -SE
import json, os, socket, sys
with socket.create_connection(("127.0.0.1", {port})) as server, server.makefile("rw") as stream:
    print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]), file=stream, flush=True)
    code, out, error = json.loads(stream.readline())
sys.stdout.write(out)
sys.stderr.write(error)
raise SystemExit(code)
"""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[None]:
    """Put a program `sde-bench` into a folder, which works until the block is left."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = folder / "sde-bench"
        program.write_text(_CLIENT.format(python=sys.executable, port=server.getsockname()[1]))
        program.chmod(0o755)
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)  # ends the thread


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, connection.makefile("rw") as stream, tempfile.TemporaryDirectory() as place:
            arguments, cwd, variables = json.loads(stream.readline())
            there = functools.partial(_there, cwd, variables)
            ended = finished(*arguments, cwd=Path(place), before=there)
            print(json.dumps([ended.code, ended.stdout, ended.stderr]), file=stream, flush=True)


def _there(cwd: str, variables: dict[str, str]) -> None:
    """Go to where the shell is, with its variables."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
