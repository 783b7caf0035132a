"""Gangs: states reach every host, strangers reach nobody, and whoever is lost ends the waiting with a reason."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sagesmith.container.distributed import Circle, GangError, Meeting, join
from sagesmith.contract import JobFolder
from tests.container.jobs import Job

HOSTS = ["algo-1", "algo-2", "algo-3"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def meeting(port: int, token: bytes = b"secret", timeout: float = 20) -> Meeting:
    return Meeting("127.0.0.1", port, "127.0.0.1", token, timeout)


def together(work: Callable[[Circle], Any], hosts: list[str] = HOSTS) -> list[Any]:
    """`work` on every host at once; its result or the error that it raised."""
    port = free_port()

    def one(host: str) -> Any:
        try:
            circle = join(host, hosts, meeting(port))
            try:
                return work(circle)
            finally:
                circle.close()
        except GangError as error:
            return error

    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(one, hosts))


def test_every_host_gets_every_state_in_the_order_of_hosts() -> None:
    big = bytes(3_000_000)

    def work(circle: Circle) -> Any:
        first = circle.gather(circle.host.encode())
        second = circle.gather(big if circle.host == "algo-2" else b"")
        return first, second, circle.port, circle.address

    results = together(work)
    assert results[0][:2] == ([b"algo-1", b"algo-2", b"algo-3"], [b"", big, b""])
    assert results[1] == results[2] == results[0]
    assert results[0][3] == "127.0.0.1"
    assert 0 < results[0][2] < 65536


@pytest.mark.parametrize("lost", HOSTS)
def test_a_lost_host_ends_the_waiting_of_all(lost: str) -> None:
    def work(circle: Circle) -> Any:
        if circle.host == lost:
            return "gone"
        return circle.gather(b"x")

    for host, result in zip(HOSTS, together(work), strict=True):
        if host != lost:
            assert isinstance(result, GangError)
            assert lost in str(result)


def test_a_failed_host_tells_the_others_why() -> None:
    def work(circle: Circle) -> Any:
        if circle.host == "algo-3":
            circle.abandon("no data")
            return None
        return circle.gather(b"x")

    results = together(work)
    assert "algo-3 gave up: algo-3: no data" in str(results[0])
    assert "no data" in str(results[1])


def test_hosts_in_different_rounds_are_found_out() -> None:
    def work(circle: Circle) -> Any:
        if circle.host == "algo-2":
            circle._round = 7
        return circle.gather(b"x")

    assert "expected round 1" in str(together(work)[0])


def test_a_wrong_token_is_refused_on_either_side() -> None:
    port = free_port()
    with ThreadPoolExecutor(2) as pool:
        master = pool.submit(join, "algo-1", HOSTS[:2], meeting(port, b"right", timeout=1))
        other = pool.submit(join, "algo-2", HOSTS[:2], meeting(port, b"wrong", timeout=1))
        with pytest.raises(GangError, match="its token is not this gang's"):
            other.result()
        with pytest.raises(GangError, match="algo-2 did not join within 1 seconds"):
            master.result()


def test_an_impostor_of_the_master_is_found_out() -> None:
    header = struct.Struct(">4sBIQ")

    def pretend(server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.sendall(header.pack(b"SMG1", 1, 0, 32) + bytes(32))
            _, _, _, length = header.unpack(peer.recv(header.size, socket.MSG_WAITALL))
            peer.recv(length, socket.MSG_WAITALL)
            peer.sendall(header.pack(b"SMG1", 3, 0, 34) + bytes(34))
            peer.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        impostor = threading.Thread(target=pretend, args=(server,))
        impostor.start()
        with pytest.raises(GangError, match="does not know this gang's token"):
            join("algo-2", HOSTS[:2], meeting(server.getsockname()[1]))
        impostor.join()


@pytest.mark.parametrize(
    "noise",
    [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", struct.pack(">4sBIQ", b"SMG1", 2, 0, 1 << 60), b"SMG1\x02\0\0\0\0\0"],
)
def test_strangers_do_not_disturb_a_meeting(noise: bytes) -> None:
    port = free_port()
    with ThreadPoolExecutor(2) as pool:
        master = pool.submit(join, "algo-1", HOSTS[:2], meeting(port))
        for _ in range(200):
            try:
                stranger = socket.create_connection(("127.0.0.1", port), timeout=1)
                break
            except ConnectionRefusedError:
                threading.Event().wait(0.01)
        stranger.sendall(noise)
        stranger.close()
        other = pool.submit(join, "algo-2", HOSTS[:2], meeting(port))
        circles = [master.result(), other.result()]
    for circle in circles:
        circle.close()


def test_a_name_that_is_not_awaited_is_refused() -> None:
    port = free_port()
    with ThreadPoolExecutor(2) as pool:
        master = pool.submit(join, "algo-1", HOSTS[:2], meeting(port, timeout=1))
        with pytest.raises(GangError, match="'algo-9' is not awaited here"):
            join("algo-9", ["algo-1", "algo-9"], meeting(port, timeout=1))
        with pytest.raises(GangError, match="algo-2 did not join"):
            master.result()


def test_a_master_that_never_comes_is_named() -> None:
    with pytest.raises(GangError, match=r"algo-2 could not reach the master at 127.0.0.1:\d+ within 0.2 seconds"):
        join("algo-2", HOSTS[:2], meeting(free_port(), timeout=0.2))


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"SAGESMITH_RENDEZVOUS": "here"}, "must be address:port, found 'here'"),
        ({"SAGESMITH_RENDEZVOUS": "h:99999"}, "must be address:port"),
        ({"SAGESMITH_HOSTS": "[1]"}, "must be a JSON object of host to address"),
        ({"SAGESMITH_RENDEZVOUS_TIMEOUT": "-1"}, "must be a number of seconds above 0, found '-1'"),
    ],
)
def test_settings_that_cannot_be_understood_are_named(environment: dict[str, str], text: str) -> None:
    with pytest.raises(GangError, match=text.replace("[", r"\[")):
        Meeting.of(HOSTS, environment)


def test_on_sagemaker_the_master_is_found_by_name_on_the_fixed_port() -> None:
    found = Meeting.of(HOSTS, {})
    assert (found.address, found.port, found.listen) == ("algo-1", 9099, "")
    assert Meeting.of(HOSTS, {"SAGESMITH_HOSTS": '{"algo-1": "127.0.0.7"}'}).address == "127.0.0.7"


class TwoHosts:
    """Two processes with a folder each, as two agents would start them."""

    def __init__(self, folder: Path, environment: dict[str, str], fault: str = "") -> None:
        rendezvous = {
            "SAGESMITH_HOSTS": json.dumps({"algo-1": "127.0.0.1", "algo-2": "127.0.0.1"}),
            "SAGESMITH_RENDEZVOUS": f"127.0.0.1:{free_port()}",
            "SAGESMITH_GANG_TOKEN": "secret",
        }
        self.jobs = []
        for host, rows in (("algo-1", "1,0\n2,0\n"), ("algo-2", "9,0\n")):
            job = Job(JobFolder(folder / host).create(), environment | rendezvous)
            job.configure("resources", {"current_host": host, "hosts": ["algo-1", "algo-2"]})
            job.configure("hyperparameters", {"fault": fault})
            self.jobs.append(job.channel("train", rows, S3DistributionType="ShardedByS3Key"))

    def run(self) -> list[Any]:
        processes = [job.start() for job in self.jobs]
        return [job.wait(process) for job, process in zip(self.jobs, processes, strict=True)]


def test_two_hosts_train_one_model_and_only_the_master_saves_it(
    tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    hosts = TwoHosts(tmp_path, clean_environment)
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert hosts.jobs[0].model() == {"mean": 4.0, "count": 3}
    assert not list(hosts.jobs[1].folder.model.iterdir())


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_host_fails_the_other_with_its_name(
    tmp_path: Path, clean_environment: dict[str, str], victim: int
) -> None:
    ended = TwoHosts(tmp_path, clean_environment, fault=f"die:algo-{victim + 1}").run()
    assert ended[victim].status == -9
    assert ended[1 - victim].status == 2
    assert f"lost algo-{victim + 1}" in ended[1 - victim].failure


def test_a_failed_host_gives_its_reason_to_the_other(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    ended = TwoHosts(tmp_path, clean_environment, fault="raise:algo-2").run()
    assert [each.status for each in ended] == [2, 2]
    assert ended[1].failure == "AlgorithmError: algo-2 cannot go on\n"
    assert "algo-2 gave up: algo-2: AlgorithmError: algo-2 cannot go on" in ended[0].failure


@pytest.mark.parametrize("host", ["algo-1", "algo-2"])
def test_bad_data_of_one_host_are_every_hosts_client_error(
    tmp_path: Path, clean_environment: dict[str, str], host: str
) -> None:
    ended = TwoHosts(tmp_path, clean_environment, fault=f"refuse:{host}").run()
    assert [each.status for each in ended] == [1, 1]
    own, other = ended if host == "algo-1" else ended[::-1]
    assert own.failure == "ClientError: line 3: no number\n"
    assert other.failure == f"ClientError: {host}: line 3: no number\n"


def test_xgboost_trains_on_two_hosts_and_leaves_one_model(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    hosts = TwoHosts(tmp_path, clean_environment)
    for number, job in enumerate(hosts.jobs):
        job.algorithm = "sagemaker-xgboost"
        job.configure("hyperparameters", {"num_round": "3", "objective": "binary:logistic"})
        rows = "".join(f"{i % 2},{i % 2},{i}\n" for i in range(number * 100, number * 100 + 100))
        job.channel("train", rows, ContentType="text/csv", S3DistributionType="ShardedByS3Key")
    ended = hosts.run()
    assert [each.status for each in ended] == [0, 0], [each.log for each in ended]
    assert [len(list(job.folder.model.iterdir())) for job in hosts.jobs] == [1, 0]
    assert "[2]\ttrain-logloss:" in ended[0].log
