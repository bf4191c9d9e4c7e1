"""Processes that a batch forks: they are what processes of their own would be, and die with who asked for them."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import server

from hvae_core.files import ROOT, short_folder
from hvae_core.pipeline import warm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Modules lie here."""
    return tmp_path_factory.mktemp("modules")


@pytest.fixture(scope="module")
def cold(folder):
    """An environment in which modules are found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


@pytest.fixture(scope="module")
def warmed(cold):
    """And in which a server answers, which knows nothing of the modules."""
    return cold | server()


def begin(folder, code, environment, **options):
    (folder / "its_module.py").write_text(code)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "hvae_core.pipeline.warm", "its_module", "one", "two"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def gone(pid):
    """Wait for the end of a process."""
    while True:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return
        except OSError:
            return
        time.sleep(0.05)


SAYS = """
import multiprocessing.process as process, os, sys
print(process.ORIGINAL_DIR == os.getcwd(), __name__, sys.argv[1:], os.environ["WHAT"])
sys.stdout.reconfigure(errors="backslashreplace")  # as of a pipe
print(os.getcwd(), sys.stdin.read(), "torch" in sys.modules)
print("error", file=sys.stderr)
sys.exit(7)
"""


@pytest.mark.parametrize("served", [True, False])
def test_it_is_as_a_process_of_its_own(warmed, folder, tmp_path, served):
    environment = (
        {**warmed, "WHAT": "\udcff"} if served else {**warmed, "WHAT": "\udcff", warm.WARM: str(tmp_path / "x")}
    )
    process = begin(folder, SAYS.replace('os.environ["WHAT"]', 'ascii(os.environ["WHAT"])'), environment, cwd=tmp_path)
    out, err = process.communicate("given")
    assert out.split() == ["True", "__main__", "['one',", "'two']", "'\\udcff'", str(tmp_path), "given", str(served)]
    assert err == "error\n"
    assert process.returncode == 7


@pytest.mark.parametrize(
    ("code", "status"),
    [("", 0), ("1/0", 1), ("import sys; sys.exit('why')", 1), ("import os; os.kill(os.getpid(), 9)", warm.KILLED)],
)
def test_its_status_is_the_childs(warmed, folder, code, status):
    process = begin(folder, code, warmed)
    _, err = process.communicate()
    assert process.returncode == status
    assert ("ZeroDivisionError" in err, "why" in err) == (code == "1/0", "why" in code)


def test_each_sees_the_code_as_it_is_when_it_begins(warmed, folder):
    for text in ("first", "second"):
        (folder / "another.py").write_text(f"text = {text!r}\n")
        out, _ = begin(folder, "import another; print(another.text, flush=True)", warmed).communicate()
        assert out == f"{text}\n"


def test_nothing_of_this_package_is_there_before(warmed, folder):
    code = "import sys; print([name for name in sys.modules if name.startswith('hvae_core')])"
    out, _ = begin(folder, code, warmed).communicate()
    assert eval(out) == []


def test_what_was_to_be_done_at_the_end_is_done(warmed, folder):
    out, _ = begin(folder, "import atexit; atexit.register(print, 'end')", warmed).communicate()
    assert out == "end\n"


def test_random_numbers_without_a_seed_differ(warmed, folder):
    code = "import numpy, random; print(numpy.random.random(), random.random())"
    drawn = [begin(folder, code, warmed).communicate()[0].split() for _ in range(2)]
    assert not set(drawn[0]) & set(drawn[1])


WAITS = """
import os, time
try:
    print(os.getpid(), flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("stopped")
"""


def test_signals_are_passed_on(warmed, folder):
    process = begin(folder, WAITS, warmed)
    pid = int(process.stdout.readline())
    assert pid != process.pid
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert (out, process.returncode) == ("stopped\n", 0)


def test_a_signal_that_comes_early_waits_for_the_child(folder, cold):
    with short_folder() as place, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{place}/warm")
        listener.listen()
        process = begin(folder, "", cold | {warm.WARM: f"{place}/warm"})
        client, _ = listener.accept()
        process.terminate()
        with client, subprocess.Popen(["sleep", "60"]) as child:
            client.sendall(f"{child.pid}\n".encode())
            assert child.wait() == -signal.SIGTERM
            client.sendall(b"3\n")
            assert process.wait() == 3


def test_who_kills_it_kills_the_child(warmed, folder):
    busy = WAITS.replace("time.sleep(600)", "sum(iter(int, 1))")  # in C, with the interpreter's lock held
    process = begin(folder, busy, warmed)
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    gone(pid)


@pytest.mark.parametrize("early", [False, True], ids=["when it runs", "before it asks"])
def test_a_kernel_ends_with_its_parent(warmed, folder, early):
    (folder / "its_module.py").write_text(WAITS)
    parent = """
import os, subprocess, sys
os.environ["JPY_PARENT_PID"] = str(os.getpid())
kernel = subprocess.Popen([sys.executable, "-P", "-m", "hvae_core.pipeline.warm", "its_module"], stdout=subprocess.PIPE)
if not EARLY:
    print(kernel.stdout.readline().decode(), flush=True)
os._exit(0)
""".replace("EARLY", str(early)).replace("stdout=subprocess.PIPE", "" if early else "stdout=subprocess.PIPE")
    out = subprocess.run([sys.executable, "-c", parent], env=warmed, capture_output=True, text=True, check=True).stdout
    gone(int(out))


def test_the_server_ends_with_its_command(folder):
    code = """
import os, signal
from hvae_core.pipeline import warm
warm.LIBRARIES = ()
with warm.server(dict(os.environ)):
    print(open(f"/proc/self/task/{os.getpid()}/children").read(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    (server,) = process.stdout.split()
    gone(int(server))


def test_a_server_that_still_imports_is_not_waited_for(folder, cold, monkeypatch):
    (folder / "slow_to_import.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(warm, "LIBRARIES", ("slow_to_import",))
    start = time.monotonic()
    with warm.server(cold) as given:
        assert given[warm.WARM]
    assert time.monotonic() - start < 300


@pytest.fixture
def gone_server():
    """Where one listened that was killed."""
    with short_folder() as place:
        address = f"{place}/warm"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen()
        yield {warm.WARM: address}


def test_a_server_that_is_gone_is_done_without(folder, cold, gone_server):
    out, _ = begin(folder, "print('done')", cold | gone_server).communicate()
    assert out == "done\n"


def test_a_server_that_is_there_serves_the_next_batch_too(cold, warmed, gone_server, monkeypatch):
    monkeypatch.setattr(warm, "LIBRARIES", ())
    with warm.server(warmed) as given:
        assert given == {}
    for environment in (cold, cold | gone_server):
        with warm.server(environment) as given:
            assert given[warm.WARM] not in environment.values()
