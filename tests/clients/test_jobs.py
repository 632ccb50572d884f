"""Jobs with the Python client, against a running server."""

import asyncio
import io
import sys
from pathlib import Path

import pytest
from cloudpose import AsyncClient, Client, Problem
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "contract"))

from processes import Processes  # noqa: E402


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    with Processes() as processes:
        server = processes.gateway("serve", "--device", "cpu", "--store", store, "--max-video-bytes", "100000")
        with Client(server.http) as client:
            yield client


def test_a_folder_of_images_is_handed_in_and_fetched(client, sample, tmp_path):
    for name in ["b.jpg", "a.jpg"]:
        (tmp_path / name).write_bytes(sample.read_bytes())
    (tmp_path / "notes.txt").write_text("no image")
    assert client.jobs.submit(tmp_path.glob("*.jpg"), model="fast").items == 2
    job = client.jobs.submit(tmp_path, want="both", model="fast")
    told = client.jobs.wait(job, every=0.05)
    assert (told.items, told.done, told.failed, told.state) == (2, 2, 0, "done")
    results = list(client.jobs.results(job))
    assert [(result.item, result.name, result.at) for result in results] == [(1, "a.jpg", None), (2, "b.jpg", None)]
    assert all(len(result.event.persons) == 3 for result in results)
    assert Image.open(io.BytesIO(client.jobs.overlay(job, 1))).size == (804, 1072)
    assert Image.open(io.BytesIO(client.jobs.thumbnail(job, 2))).size == (150, 200)
    client.jobs.delete(job)
    with pytest.raises(Problem) as gone:
        client.jobs.status(job.id)
    assert gone.value.status == 404


def test_the_frames_of_a_video_come_in_their_order(client, clip):
    job = client.jobs.submit(clip, model="lightning")
    told = client.jobs.wait(job, every=0.05)
    results = list(client.jobs.results(job))
    assert (told.items, told.failed) == (24, 0)
    assert [result.item for result in results] == list(range(1, 25))
    assert all(result.event is not None for result in results)
    assert [result.at for result in results] == sorted(result.at for result in results)
    few = client.jobs.wait(client.jobs.submit(clip, model="lightning", fps=2), every=0.05)
    assert 0 < few.items < 24


def test_asynchronous_programs_have_the_same(client, clip, sample, tmp_path):
    (tmp_path / "a.jpg").write_bytes(sample.read_bytes())

    async def use():
        async with AsyncClient(client._server.url) as server:
            jobs = server.jobs
            job = await jobs.submit(tmp_path, want="both", model="fast")
            video = await jobs.submit(clip, model="lightning", fps=2)
            assert {told.id for told in await jobs.newest()} >= {job.id, video.id}
            told = [await jobs.wait(each, every=0.05) for each in (job, video)]
            assert (told[0].items, told[0].failed) == (1, 0)
            [result] = [result async for result in jobs.results(job)]
            assert (result.name, len(result.event.persons)) == ("a.jpg", 3)
            frames = [result.item async for result in jobs.results(video)]
            assert frames == list(range(1, told[1].items + 1)) and 0 < len(frames) < 24
            assert Image.open(io.BytesIO(await jobs.overlay(job, 1))).size == (804, 1072)
            assert Image.open(io.BytesIO(await jobs.thumbnail(video, 1))).format == "JPEG"
            for gone in (job, video):
                await jobs.delete(gone)
            with pytest.raises(Problem) as problem:
                await jobs.status(job)
            assert problem.value.status == 404

    asyncio.run(use())


def test_waiting_for_a_job_ends_in_time(client, clip):
    async def wait(job):
        async with AsyncClient(client._server.url) as server:
            with pytest.raises(TimeoutError, match="is not done after 0.01 s"):
                await server.jobs.wait(job, timeout=0.01)

    job = client.jobs.submit(clip, model="accurate")
    with pytest.raises(TimeoutError, match=rf"job {job.id} is not done after 0 s: \d+ of \d+ are.*wait\(\) can be called again"):
        client.jobs.wait(job, timeout=0)
    asyncio.run(wait(job))
    assert client.jobs.wait(job, timeout=240).is_done


def test_what_fails_says_why(client, clip, sample, tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:6000])
    job = client.jobs.submit(cut, model="lightning")
    told = client.jobs.wait(job, every=0.05)
    *_, last = client.jobs.results(job)
    assert (told.failed, last.item, last.error.reason) == (1, told.items, "undecodable")
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(100_001))
    with pytest.raises(Problem, match="100000 bytes"):
        client.jobs.submit(large)
    with pytest.raises(ValueError, match="one at a time"):
        client.jobs.submit([clip, sample])
    with pytest.raises(ValueError, match="no image"):
        (tmp_path / "empty").mkdir()
        client.jobs.submit(tmp_path / "empty")
    with pytest.raises(ValueError, match="an empty list"):
        client.jobs.submit([])
    with pytest.raises(TypeError, match="by their paths, not of bytes"):
        client.jobs.submit([sample.read_bytes()])
