"""The compose file: what its NATS keeps is there after a restart, and the record role gets in with what it is given."""

import asyncio
import json
import os
import re
import subprocess

import nats
import pytest
import yaml
from conftest import DEPLOY, VENV, free_port, get, wait_for

COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def filled(value):
    """As compose fills it in where the environment has nothing."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def environment(name):
    return {key: filled(value) for key, value in SERVICES[name]["environment"].items()}


def test_volumes_are_those_that_services_name():
    named = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {name for name in named if not name.startswith(".")} == set(COMPOSE["volumes"])


def test_a_service_is_there_whenever_one_that_waits_for_it_is():
    for name, service in SERVICES.items():
        for other in service.get("depends_on", {}):
            assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", [])), (name, other)


def test_the_database_is_where_the_record_role_looks_for_it():
    user, password, host, database = re.fullmatch(
        r"postgres://(\w+):([^@]+)@(\w+)/(\w+)", environment("record")["CLOUDPOSE_RECORD_TO"]).groups()
    assert SERVICES[host]["profiles"] == SERVICES["record"]["profiles"]
    given = environment(host)
    assert (user, password, database) == (given["POSTGRES_USER"], given["POSTGRES_PASSWORD"], given["POSTGRES_DB"])
    # And other passwords of both, by the same name.
    assert SERVICES[host]["environment"]["POSTGRES_PASSWORD"] in SERVICES["record"]["environment"]["CLOUDPOSE_RECORD_TO"]
    assert [volume.split(":")[1] for volume in SERVICES[host]["volumes"]] == ["/var/lib/postgresql/data"]


@pytest.fixture
def processes():
    started = []
    yield started
    for process in reversed(started):
        process.kill()
        process.wait()


def test_events_wait_in_files_until_they_are_recorded(processes, cloudpose, tmp_path):
    client, monitor, ops = free_port(), free_port(), free_port()
    command = [str(DEPLOY / "nats" / arg.removeprefix("/etc/nats/")) if arg.startswith("/etc/nats/") else arg
               for arg in SERVICES["nats"]["command"]]
    command[0] = VENV / "bin" / command[0]
    command[command.index("--store_dir") + 1] = tmp_path
    command[command.index("--http_port") + 1] = str(monitor)

    def start():
        server = subprocess.Popen([*command, "--addr", "127.0.0.1", "--port", str(client)],
                                  env=os.environ | environment("nats"), stderr=subprocess.DEVNULL)
        processes.append(server)
        wait_for(lambda: get(f"http://127.0.0.1:{monitor}/healthz"), server)
        return server

    def waiting():
        """Events that wait; `None` before their stream is there."""
        accounts = json.loads(get(f"http://127.0.0.1:{monitor}/jsz?streams=true")).get("account_details", [])
        streams = [stream for account in accounts for stream in account.get("stream_detail", [])]
        return {stream["name"]: stream["state"]["messages"] for stream in streams}.get("cloudpose-events")

    server = start()
    env = environment("record")
    assert env["CLOUDPOSE_NATS"].endswith("@nats:4222")
    env["CLOUDPOSE_NATS"] = env["CLOUDPOSE_NATS"].replace("nats:4222", f"127.0.0.1:{client}")
    # Nobody is there: the database comes later than the role.
    env["CLOUDPOSE_RECORD_TO"] = env["CLOUDPOSE_RECORD_TO"].replace("@postgres/", f"@127.0.0.1:{free_port()}/")
    role = subprocess.Popen([cloudpose, *SERVICES["record"]["command"], "--ops-listen", f"127.0.0.1:{ops}"],
                            env=os.environ | env, stderr=subprocess.DEVNULL)
    processes.append(role)
    wait_for(lambda: get(f"http://127.0.0.1:{ops}/health"), role)
    wait_for(lambda: waiting() == 0, role)

    async def publish():
        password = environment("nats")["CLOUDPOSE_WORKER_PASSWORD"]
        worker = await nats.connect(f"nats://worker:{password}@127.0.0.1:{client}")
        await worker.publish("cloudpose.poses.door", b"{}")
        await worker.drain()

    asyncio.run(publish())
    wait_for(lambda: waiting() == 1, role)
    server.kill()
    server.wait()
    server = start()
    assert wait_for(waiting, server) == 1
