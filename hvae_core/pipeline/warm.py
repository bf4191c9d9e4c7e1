"""Processes that begin with PyTorch loaded: a batch starts a dozen, each of which would take seconds to import it.

One process, `server`, imports what all need, and nothing of this package, so that what it starts later sees the code as
it is by then. ``python -m hvae_core.pipeline.warm MODULE ...`` is ``python -m MODULE ...``: it asks the server of its
batch to fork, hands over environment, folder and open files, passes signals on, and ends as the child ends. Whoever
kills it kills the child. Where no server answers, it runs the module itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

WARM = "HVAE_WARM"  # where the server of a batch listens
LIBRARIES = (
    "torch",
    "torch.fx.experimental.symbolic_shapes",
    "pandas",
    "scipy.special",
    "sklearn.datasets",
    "sklearn.linear_model",
    "sklearn.neighbors",
    "sklearn.svm",
    "matplotlib.backends.backend_pdf",
    "seaborn",
    "ipykernel.debugger",
    "ipykernel.kernelapp",
    "papermill",
    "pydantic.root_model",  # the first model, which imports the rest
    "yaml",
    "safetensors.torch",
)
"""What is imported once. None of them touches a GPU, or starts a thread that a child would miss."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KILLED = 128 + signal.SIGKILL
SET_SIGNAL = 10  # F_SETSIG of Linux, which the module fcntl does not name


@contextlib.contextmanager
def server(environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Start a server for as long as the context is open; yields what its clients need in their environment.

    It ends with this process, too, however that ends. Where one is there already, as in the notebooks of a batch, that
    one serves. Elsewhere than on Linux there is none: libraries of macOS may not be forked.
    """
    if sys.platform != "linux" or _listens(environment.get(WARM)):
        yield {}
        return
    from hvae_core.files import short_folder  # not in the server, which imports nothing of this package

    with short_folder() as folder:
        address = f"{folder}/warm"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(64)  # who asks before all is imported waits
            process = subprocess.Popen(
                # By its file: nothing of this package is loaded, so that children take it from where their clients do.
                [sys.executable, "-P", __file__, "--serve", str(listener.fileno()), *LIBRARIES],
                env={**environment, "OMP_NUM_THREADS": "1", "MPLBACKEND": "module://matplotlib_inline.backend_inline"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[listener.fileno()],
            )
        assert process.stdin is not None
        try:
            yield {WARM: address}
        finally:
            process.stdin.close()
            process.kill()  # it may still import
            process.wait()


def _listens(address: str | None) -> bool:
    """Whether a server is there."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        return address is not None and connection.connect_ex(address) == 0
    return False


def run(module: str, arguments: Sequence[str]) -> None:
    """``python -m MODULE ARGUMENTS``, in this process."""
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def ask(address: str, module: str, arguments: Sequence[str]) -> int | None:
    """Let the server run a module, and wait for its end; returns its exit status, or None if no server answers."""
    connection = socket.socket(socket.AF_UNIX)
    environment = dict(os.environ)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until there is a child to pass them on to
    parent = int(environment.get("JPY_PARENT_PID") or 0)  # whose kernel this is: with it the kernel ends
    child = parent == os.getppid()  # it may have gone already
    if parent:
        environment["JPY_PARENT_PID"] = "1"  # there is one, which the kernel need not watch
    try:
        request = json.dumps([module, list(arguments), environment, str(Path.cwd())]).encode()
        connection.connect(address)
        socket.send_fds(connection, [struct.pack("!Q", len(request))], [0, 1, 2])
        connection.sendall(request)
        answer = connection.makefile("rb")
        pid = int(answer.readline())
    except (OSError, ValueError):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return None

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(pid, number)

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return _status(connection, answer, parent, child)


def _status(connection: socket.socket, answer: IO[bytes], parent: int, child: bool) -> int:
    """What the child says in the end, or what stands for its being killed, as it is when the parent is gone."""
    import select

    while not select.select([connection], [], [], 1.0 if parent else None)[0]:
        if parent and (os.getppid() != parent if child else not _is_there(parent)):
            return KILLED
    try:
        return int(answer.readline())
    except (OSError, ValueError):
        return KILLED


def _is_there(pid: int) -> bool:
    """Whether a process goes on; one that has ended, but was not asked how, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def serve(listener: socket.socket, libraries: Sequence[str]) -> socket.socket | None:
    """Fork a child for each that asks, until the standard input is closed; returns in each child, with its client."""
    import gc
    import importlib
    import select

    for library in libraries:
        importlib.import_module(library)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children that have ended leave nothing behind
    while True:
        ready = select.select([listener, sys.stdin], [], [])[0]
        if sys.stdin in ready:
            return None
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return client
        client.close()


def become(client: socket.socket) -> None:
    """Run what a client asks for, in its place: with its environment, folder and open files."""
    import atexit
    import fcntl
    import multiprocessing.process

    import numpy as np

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    length, files, _, _ = socket.recv_fds(client, 8, 3)
    if not length:  # it only asked whether a server is there
        return
    with client.makefile("rb") as request:
        module, arguments, environment, folder = json.loads(request.read(struct.unpack("!Q", length)[0]))
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    _open_streams(at_once=bool(environment.get("PYTHONUNBUFFERED")))
    sys.path[:] = _given_paths(environment) + [path for path in sys.path if path not in _given_paths(os.environ)]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    vars(multiprocessing.process)["ORIGINAL_DIR"] = folder  # where processes look for what this one imports
    np.random.seed()  # noqa: NPY002  # of all children the same otherwise, should a cell use it
    # The end of the client is that of this process, whatever it is doing.
    flags = fcntl.fcntl(client, fcntl.F_GETFL)
    fcntl.fcntl(client, SET_SIGNAL, signal.SIGKILL)
    fcntl.fcntl(client, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(client, fcntl.F_SETFL, flags | os.O_ASYNC)
    client.sendall(f"{os.getpid()}\n".encode())
    status = 1

    def tell() -> None:
        fcntl.fcntl(client, fcntl.F_SETFL, flags)
        with contextlib.suppress(OSError):
            client.sendall(f"{status}\n".encode())

    atexit.register(tell)  # it comes after what the module registers
    try:
        run(module, arguments)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise


def _open_streams(at_once: bool) -> None:
    """Open what a program reads and writes anew: the server's are of other kinds of files."""
    import io

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        raw = io.FileIO(number, "w" if number else "r", closefd=False)
        binary = raw if at_once and number else io.BufferedWriter(raw) if number else io.BufferedReader(raw)
        errors = "backslashreplace" if name == "stderr" else None
        lines = name == "stderr" or raw.isatty()
        stream = io.TextIOWrapper(binary, errors=errors, line_buffering=lines, write_through=at_once)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _given_paths(environment: Mapping[str, str]) -> list[str]:
    """The folders in which Python looks for modules first."""
    return [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]


def main(argv: Sequence[str]) -> None:
    if argv[0] == "--serve":
        if (client := serve(socket.socket(fileno=int(argv[1])), argv[2:])) is not None:
            become(client)
        return
    module, *arguments = argv
    address = os.environ.get(WARM)
    status = ask(address, module, arguments) if address else None
    if status is None:
        run(module, arguments)
    else:
        sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
