"""Another user of the machine gets nothing from a sweep's scheduler: no work done, no connection, no page."""

import os
import socket
import subprocess
import sys

import pytest

from rnnvg import InputError
from rnnvg.bench.cluster import exposure, local_workers, workers_of

NOBODY = 65534
# Tries to have code run, as another user would: without a certificate, without TLS, or with a certificate of their own.
INTRUDER = """
import os, sys
from distributed import Client, Security

address, user, how = sys.argv[1:]
security = Security.temporary() if how == "own certificate" else None
if user != "same":
    os.setgroups([]), os.setgid(int(user)), os.setuid(int(user))
try:
    client = Client(address.replace("tls", "tcp") if how == "no TLS" else address, security=security, timeout=3)
    print("ran as uid", client.submit(os.getuid).result(timeout=5), flush=True)
except BaseException as error:
    print("refused", type(error).__name__, flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def cluster():
    with local_workers(1) as client:
        yield client


def intrude(address, user, how):
    command = [sys.executable, "-W", "ignore", "-c", INTRUDER, address, user, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd="/")
    return done.stdout.split()[0]


def test_the_owner_has_work_done(cluster):
    assert cluster.submit(os.getpid).result(timeout=60) != os.getpid()


@pytest.mark.parametrize("how", ["no certificate", "no TLS", "own certificate"])
def test_another_user_is_refused(cluster, how):
    # Only root can become another user; without that, the same user has no certificate of this sweep either.
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    assert intrude(cluster.scheduler.address, str(NOBODY) if root else "same", how) == "refused"


def test_workers_are_behind_certificates_too(cluster):
    for address, worker in cluster.scheduler_info()["workers"].items():
        assert address.startswith("tls://127.0.0.1:")
        assert worker["nanny"].startswith("tls://127.0.0.1:")


def test_no_page_is_served(cluster):
    port = cluster.run_on_scheduler(lambda dask_scheduler: dask_scheduler.http_server.port)
    for page in (
        "/info/main/workers.html",
        "/json/counts.json",
        "/health",
        "/metrics",
        "/api/v1/retire_workers",
        "/status",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(f"GET {page} HTTP/1.0\r\n\r\n".encode())
            assert connection.recv(100).split()[1] == b"404"


def test_a_scheduler_without_tls_is_said_to_be_open():
    assert exposure("tls://10.0.0.1:8786") == ""
    assert exposure("tcp://10.0.0.1:8786").startswith(
        "tcp://10.0.0.1:8786 is without TLS: whoever reaches it can run code as you"
    )


@pytest.mark.parametrize(
    "address", ["junk", "tcp://", "tcp://host", "tcp://host:0", "tcp://host:99999", "http://host:80", "x" * 9999]
)
def test_junk_is_no_address(address):
    with pytest.raises(InputError, match="is not an address") as caught, workers_of(address):
        pass
    assert len(str(caught.value)) < 250


def test_a_port_where_nobody_listens_is_said_at_once():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    sentence = "cannot be reached \\(ConnectionRefusedError\\)"
    with pytest.raises(InputError, match=sentence), workers_of(f"tcp://127.0.0.1:{port}"):
        pass
