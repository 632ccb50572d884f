"""Three NATS servers as the chart starts them: one is killed, cut off, all are restarted in turn, and no photo is lost."""

import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
import yaml
from conftest import REPOSITORY, VENV, free_port, get, named, rendered, wait_for

NAME = "pose-cloudpose"
PHOTO = (REPOSITORY / "ingest" / "web" / "sample.jpg").read_bytes()
PASSWORDS = {user: f"p-{user}" for user in ("gateway", "worker", "listener", "route")}
SERVER = VENV / "bin" / "nats-server"


class Member:
    """A pod of the StatefulSet, as a process."""

    def __init__(self, number, folder, routes):
        self.number, self.folder, self.routes = number, folder / str(number), routes
        self.client, self.monitor = free_port(), free_port()
        documents = rendered("cluster")
        self.box = named(documents, "StatefulSet", f"{NAME}-nats-cluster")["spec"]["template"]["spec"]["containers"][0]
        self.folder.mkdir()
        for name, content in named(documents, "ConfigMap", f"{NAME}-nats")["data"].items():
            content = content.replace("0.0.0.0:6222", f"127.0.0.1:{routes[number]}")
            (self.folder / name).write_text(content)
        self.process = None

    def place(self, text):
        """The same on this machine."""
        for number, port in enumerate(self.routes):
            text = text.replace(f"{NAME}-nats-cluster-{number}.{NAME}-nats-servers:6222", f"127.0.0.1:{port}")
        text = text.replace("$(POD_NAME)", f"server-{self.number}")
        text = text.replace("$(CLOUDPOSE_ROUTE_PASSWORD)", PASSWORDS["route"])
        return text.replace("/etc/nats", str(self.folder)).replace("/data", str(self.folder))

    def start(self):
        env = dict(os.environ) | {f"CLOUDPOSE_{user.upper()}_PASSWORD": password for user, password in PASSWORDS.items()}
        args = [self.place(arg) for arg in self.box["args"]]
        args[args.index("--http_port") + 1] = str(self.monitor)
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                [SERVER, *args, "--addr", "127.0.0.1", "--port", str(self.client)], env=env, stderr=log)

    def is_(self, probe):
        return get(f"http://127.0.0.1:{self.monitor}{self.box[probe]['httpGet']['path']}")

    def started(self):
        """As Kubernetes waits before it goes on to the next."""
        wait_for(lambda: self.is_("startupProbe") and self.is_("readinessProbe"), seconds=120)

    def prestop(self):
        command = self.box["lifecycle"]["preStop"]["exec"]["command"]
        subprocess.run([SERVER, *(self.place(part) for part in command[1:])], check=True, stderr=subprocess.DEVNULL)


class Pod:
    """A role, started again when it ends, as Kubernetes does: the servers may take longer than it waits for its queues."""

    def __init__(self, command, log, env):
        self.command, self.log, self.env = command, open(log, "a"), env
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stderr=self.log, env=self.env)

    def lives(self):
        if self.process.poll() is not None:
            self.start()
        return True


class Clients:
    """Post photos until they are told to stop, and again what was refused, as `Retry-After` asks."""

    def __init__(self, url):
        self.url, self.stopped = url, threading.Event()
        self.answered, self.refused, self.lost, self.longest = 0, 0, [], 0.0
        self.threads = [threading.Thread(target=self.post) for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def post(self):
        while not self.stopped.is_set():
            request = urllib.request.Request(self.url, data=PHOTO, headers={"Content-Type": "image/jpeg"})
            began = time.monotonic()
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    assert b"persons" in answer.read()
                self.answered += 1
                self.longest = max(self.longest, time.monotonic() - began)
            except urllib.error.HTTPError as error:
                if error.code == 503:
                    self.refused += 1
                    time.sleep(0.5)
                else:
                    self.lost.append(error.read())

    def more(self, photos=5):
        """Waits until so many have been answered from now on."""
        until = self.answered + photos
        wait_for(lambda: self.answered >= until or self.lost, seconds=120)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        print(f"{self.answered} answered, {self.refused} refused, longest {self.longest:.1f} s")
        return self.lost


@pytest.fixture
def cluster(cloudpose, tmp_path):
    """`(servers, clients)` at work: the roles with the settings that the chart gives them."""
    routes = [free_port() for _ in range(3)]
    servers = [Member(number, tmp_path, routes) for number in range(3)]
    shared = named(rendered("cluster"), "ConfigMap", NAME)["data"]
    # There is no collector here, and no bucket for jobs.
    shared = {key: value for key, value in shared.items() if "OTLP" not in key and "STORE" not in key}
    processes = []
    try:
        for server in servers:
            server.start()
        for server in servers:
            server.started()
        http = free_port()
        for role, user, options in (("ingest", "gateway", ["--listen", f"127.0.0.1:{http}"]), ("infer", "worker", [])):
            box = named(rendered("cluster"), "Deployment", f"{NAME}-{'gateway' if role == 'ingest' else 'infer-cpu'}")
            extra = {e["name"]: e["value"] for e in box["spec"]["template"]["spec"]["containers"][0]["env"]
                     if e.get("value") and "LISTEN" not in e["name"] and "STORE" not in e["name"] and e["name"] != "CLOUDPOSE_NATS"}
            urls = ",".join(f"nats://{user}:{PASSWORDS[user]}@127.0.0.1:{server.client}" for server in servers)
            processes.append(Pod([cloudpose, role, *options], tmp_path / role,
                                 dict(os.environ) | shared | extra | {"CLOUDPOSE_NATS": urls}))
        wait_for(lambda: all(process.lives() for process in processes) and get(f"http://127.0.0.1:{http}/ready"), seconds=120)
        clients = Clients(f"http://127.0.0.1:{http}/v1/pose?model=lightning")
        clients.more()
        yield servers, clients
        clients.stop()
    finally:
        for server in servers:
            if server.process:
                server.process.send_signal(signal.SIGCONT)
                server.process.kill()
                server.process.wait()
        for process in processes:
            process.process.kill()
            process.process.wait()


def leader(servers, stream="cloudpose-infer-still"):
    """Who leads the queue of photos: the worst to lose."""
    for server in servers:
        told = yaml.safe_load(get(f"http://127.0.0.1:{server.monitor}/jsz?streams=true&config=true"))
        for account in told.get("account_details", []):
            for detail in account["stream_detail"]:
                if detail["name"] == stream and detail.get("cluster", {}).get("leader"):
                    assert detail["config"]["num_replicas"] == 3
                    return next(s for s in servers if f"server-{s.number}" == detail["cluster"]["leader"])
    return None


def test_one_is_killed_and_no_photo_is_lost(cluster):
    servers, clients = cluster
    lost = wait_for(lambda: leader(servers), seconds=120)
    lost.process.kill()
    lost.process.wait()
    clients.more(10)
    # Back with an empty memory and its disk, it catches up.
    lost.start()
    lost.started()
    clients.more()
    assert not clients.stop()


def test_one_is_cut_off_and_no_photo_is_lost(cluster):
    """It neither answers nor ends, as one whose network is gone."""
    servers, clients = cluster
    silent = wait_for(lambda: leader(servers), seconds=120)
    silent.process.send_signal(signal.SIGSTOP)
    clients.more(10)
    silent.process.send_signal(signal.SIGCONT)
    silent.started()
    clients.more()
    assert not clients.stop()


def test_all_are_restarted_in_turn_and_no_photo_is_lost(cluster):
    """As a StatefulSet rolls: the highest number first, each after the one before has started."""
    servers, clients = cluster
    for server in reversed(servers):
        server.prestop()
        server.process.wait(timeout=60)
        clients.more(2)
        server.start()
        server.started()
    clients.more()
    assert not clients.stop()
