"""Memory of a `cloudpose serve` before an attack, at its peak, and when it is over, with settings of the allocator.

Each setting gets a fresh server in turn, and is attacked alike: messages that are never finished, and photos of noise
from many clients at once, who leave before they are answered or stay.
"""

import argparse
import os
import statistics
import threading
import time
from pathlib import Path

import attack
import pictures

# As environment variables of the process: `man mallopt`.
SETTINGS = {
    "as it is": {},
    "arenas 2": {"MALLOC_ARENA_MAX": "2"},
    "trim 128 KiB": {"MALLOC_TRIM_THRESHOLD_": "131072"},
    "mmap 128 KiB": {"MALLOC_MMAP_THRESHOLD_": "131072"},
    "mmap and trim 128 KiB": {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"},
    "all three": {
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": "131072",
        "MALLOC_TRIM_THRESHOLD_": "131072",
    },
}


def unfinished(server, count):
    clients = []
    for _ in range(count):
        client = server.websocket()
        attack.message(client)
        try:
            client.sendall(attack.frame(2, bytes(15 * attack.MIB), fin=False))
        except OSError:
            pass
        clients.append(client)
    time.sleep(1)
    for client in clients:
        client.close()


def photos(server, clients, each):
    noise = pictures.noise()

    def post():
        for _ in range(each):
            server.ask(noise, "image/png", "/v1/pose?model=lightning&quality=100", "image/jpeg")

    threads = [threading.Thread(target=post) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure(binary, setting, wait):
    before = dict(os.environ)
    os.environ.update(setting)
    server = attack.Server(binary)
    os.environ.clear()
    os.environ.update(before)
    for _ in range(5):
        server.healthy()
    begin, begun = server.memory("VmRSS"), time.monotonic()
    for _ in range(2):
        unfinished(server, 40)
        photos(server, 8, 2)
    took = time.monotonic() - begun
    time.sleep(wait)
    result = begin, server.memory("VmHWM"), server.memory("VmRSS"), took
    server.stop()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=attack.REPOSITORY / "target/release/cloudpose")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wait", type=float, default=20, help="seconds after the attack")
    parser.add_argument("--only", nargs="*", choices=SETTINGS)
    arguments = parser.parse_args()
    settings = {name: SETTINGS[name] for name in arguments.only or SETTINGS}
    measured = {name: [] for name in settings}
    for _ in range(arguments.rounds):
        for name, setting in settings.items():
            measured[name].append(measure(arguments.binary, setting, arguments.wait))
    print(f"| allocator | before, MiB | peak | {arguments.wait:.0f} s after | attack, s |\n|---|---|---|---|---|")
    for name, runs in measured.items():
        begin, peak, after, took = (statistics.median(column) for column in zip(*runs))
        print(f"| {name} | {begin:.0f} | {peak:.0f} | {after:.0f} | {took:.0f} |")


if __name__ == "__main__":
    main()
