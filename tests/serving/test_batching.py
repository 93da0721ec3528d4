"""The queue and its workers, with real models."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Event, Semaphore, get_ident

import numpy as np
import pytest

from emotion_detection.errors import BrokenImage
from emotion_detection.preprocess import Pixels
from serving.batching import BatchQueue, Outcome, Prepare
from serving.engine import Engine, Probabilities
from serving.errors import ClientGone, Overloaded
from serving.metrics import Metrics
from serving.model import ServedModel
from serving.settings import Settings
from serving.sources import load_directory
from tests.serving.tiny import TinyBundle, encode, write_bundle

Start = Callable[[], None]


class Recorder(Engine):
    """Notes how many crops each run of the model had."""

    def __init__(self, engine: Engine) -> None:
        self.__dict__.update(engine.__dict__)
        self.runs: list[tuple[int, bool]] = []

    def predict(self, images: Pixels, alone: bool = False) -> Probabilities:
        self.runs.append((len(images), alone))
        return super().predict(images, alone)


def model_of(bundle: TinyBundle) -> ServedModel:
    model = load_directory(Settings(bundle=bundle.directory, threads=2))
    object.__setattr__(model, "engine", Recorder(model.engine))
    return model


@pytest.fixture
def model(tiny: TinyBundle) -> ServedModel:
    return model_of(tiny)


@asynccontextmanager
async def started(workers: int = 1, size: int = 100, max_batch: int = 100) -> AsyncIterator[tuple[BatchQueue, Start]]:
    """A queue, and what starts its workers; until then, all that is submitted waits."""
    queue = BatchQueue(Metrics(), workers, size, max_batch)
    running = False

    def start() -> None:
        nonlocal running
        queue.start()
        running = True

    yield queue, start
    if running:
        await asyncio.to_thread(queue.stop)


async def outcomes(queue: BatchQueue, start: Start, model: ServedModel, *prepares: Prepare) -> list[Outcome]:
    jobs = queue.submit(model, prepares)
    start()
    return [await asyncio.wait_for(job.future, 20) for job in jobs]


def crops(model: ServedModel, *seeds: int) -> Pixels:
    blank = np.zeros((0, 8, 8, 1), np.uint8)
    return np.concatenate([blank, *(model.engine.crops(encode(seed)) for seed in seeds)])


def test_what_waits_is_one_batch_and_everyone_gets_his_own_rows(model: ServedModel, tiny: TinyBundle) -> None:
    async def main() -> None:
        async with started() as (queue, start):
            found = await outcomes(queue, start, model, *(partial(crops, model, seed) for seed in range(9)))
            for seed, rows in enumerate(found):
                np.testing.assert_allclose(rows, [tiny.expected(encode(seed))], atol=1e-5)

    asyncio.run(main())
    assert model.engine.runs == [(9, False)]


def test_a_job_may_have_any_number_of_crops(model: ServedModel, tiny: TinyBundle) -> None:
    async def main() -> None:
        async with started() as (queue, start):
            seeds = [(1, 2, 3), (), (4,)]
            found = await outcomes(queue, start, model, *(partial(crops, model, *these) for these in seeds))
            assert [len(rows) for rows in found] == [3, 0, 1]
            for these, rows in zip(seeds, found, strict=True):
                for seed, row in zip(these, rows, strict=True):
                    np.testing.assert_allclose(row, tiny.expected(encode(seed)), atol=1e-5)

    asyncio.run(main())
    assert model.engine.runs == [(4, False)]


def test_more_crops_than_a_run_may_have_are_several_runs(model: ServedModel, tiny: TinyBundle) -> None:
    async def main() -> None:
        async with started(max_batch=3) as (queue, start):
            jobs = [partial(crops, model, 1, 2), partial(crops, model, *range(3, 8))]
            found = await outcomes(queue, start, model, *jobs)
            for seed, row in enumerate(np.concatenate(found), 1):
                np.testing.assert_allclose(row, tiny.expected(encode(seed)), atol=1e-5)

    asyncio.run(main())
    assert model.engine.runs == [(3, False), (3, False), (1, False)]


def test_a_job_without_any_crop_gets_an_empty_answer(model: ServedModel) -> None:
    async def main() -> None:
        async with started() as (queue, start):
            (rows,) = await outcomes(queue, start, model, partial(crops, model))
            assert rows.shape == (0, 3)

    asyncio.run(main())


def test_a_bad_image_fails_alone_however_it_fails(model: ServedModel, tiny: TinyBundle) -> None:
    def fail(error: Exception) -> Pixels:
        raise error

    async def main() -> None:
        async with started() as (queue, start):
            good = partial(crops, model, 1)
            bad = [partial(fail, BrokenImage("bad")), partial(fail, ZeroDivisionError())]
            found = await outcomes(queue, start, model, good, bad[0], good, bad[1], good)
            assert [type(outcome) for outcome in found[1::2]] == [BrokenImage, ZeroDivisionError]
            for rows in found[::2]:
                np.testing.assert_allclose(rows, [tiny.expected(encode(1))], atol=1e-5)

    asyncio.run(main())
    assert model.engine.runs == [(3, False)]


def test_a_model_that_fails_fails_its_batch_and_no_other(model: ServedModel, tiny: TinyBundle) -> None:
    async def main() -> None:
        async with started() as (queue, start):
            wrong = partial(np.zeros, (1, 9, 9, 1), np.uint8)
            (failed,) = await outcomes(queue, start, model, wrong)
            assert isinstance(failed, Exception)
            (rows,) = await outcomes(queue, lambda: None, model, partial(crops, model, 1))
            np.testing.assert_allclose(rows, [tiny.expected(encode(1))], atol=1e-5)

    asyncio.run(main())


def test_a_batch_never_mixes_models(model: ServedModel, tiny: TinyBundle, tmp_path: Path) -> None:
    other_bundle = write_bundle(tmp_path / "other", seed=9)
    other = model_of(other_bundle)

    async def main() -> None:
        async with started() as (queue, start):
            order = [model, model, other, model, other, other]
            jobs = [queue.submit(one, [partial(crops, one, 1)])[0] for one in order]
            start()
            for one, job in zip(order, jobs, strict=True):
                bundle = tiny if one is model else other_bundle
                rows = await asyncio.wait_for(job.future, 20)
                np.testing.assert_allclose(rows, [bundle.expected(encode(1))], atol=1e-5)

    asyncio.run(main())
    assert [size for size, _ in model.engine.runs] == [size for size, _ in other.engine.runs] == [3]


def test_only_a_lone_request_gets_all_cores(model: ServedModel) -> None:
    async def main() -> None:
        async with started(workers=2) as (queue, start):
            await outcomes(queue, start, model, partial(crops, model, 1))
            await outcomes(queue, lambda: None, model, partial(crops, model, 1))

    asyncio.run(main())
    assert model.engine.runs == [(1, True), (1, True)]


def test_who_does_not_wait_any_more_is_neither_decoded_nor_judged(model: ServedModel) -> None:
    decoded: list[int] = []

    def prepare(seed: int) -> Pixels:
        decoded.append(seed)
        return crops(model, seed)

    async def main() -> None:
        async with started() as (queue, start):
            jobs = queue.submit(model, [partial(prepare, seed) for seed in range(4)])
            jobs[1].future.cancel()
            jobs[2].settle(BrokenImage("gone"))
            start()
            await asyncio.wait_for(jobs[3].future, 20)

    asyncio.run(main())
    assert decoded == [0, 3]
    assert model.engine.runs == [(2, False)]


def test_what_nobody_waits_for_is_not_kept_until_a_worker_comes_to_it(model: ServedModel) -> None:
    async def main() -> None:
        async with started() as (queue, start):
            prepare = partial(crops, model, 1)
            held = weakref.ref(prepare)
            (job,) = queue.submit(model, [prepare])
            del prepare
            assert held() is not None
            job.forget()
            assert held() is None
            with pytest.raises(ClientGone):  # for a worker that found the job a moment before
                job.prepare()
            start()

    asyncio.run(main())
    assert model.engine.runs == []


def test_who_leaves_while_he_is_decoded_is_not_judged(model: ServedModel) -> None:
    decoding, left = Event(), Event()

    def prepare() -> Pixels:
        decoding.set()
        assert left.wait(20)
        return crops(model, 1)

    async def main() -> None:
        async with started() as (queue, start):
            (job,) = queue.submit(model, [prepare])
            start()
            assert await asyncio.to_thread(decoding.wait, 20)
            job.future.cancel()
            left.set()

    asyncio.run(main())
    assert model.engine.runs == []


def test_a_full_queue_takes_all_jobs_of_a_request_or_none(model: ServedModel) -> None:
    async def main() -> None:
        async with started(size=3) as (queue, start):
            prepare = partial(crops, model, 1)
            jobs = queue.submit(model, [prepare, prepare])
            with pytest.raises(Overloaded, match="3 images wait already"):
                queue.submit(model, [prepare, prepare])
            jobs += queue.submit(model, [prepare])
            with pytest.raises(Overloaded):
                queue.check_room()
            start()
            await asyncio.gather(*(job.future for job in jobs))
            queue.check_room(3)

    asyncio.run(main())


def test_a_worker_takes_its_share_and_no_more_than_allowed(model: ServedModel) -> None:
    everybody, threads = [], set()

    def prepare() -> Pixels:
        threads.add(get_ident())
        return crops(model, 1)

    async def main() -> None:
        async with started(workers=2, max_batch=3) as (queue, start):
            everybody.extend(await outcomes(queue, start, model, *[prepare] * 11))

    asyncio.run(main())
    sizes = [size for size, _ in model.engine.runs]
    assert sum(sizes) == len(everybody) == 11
    assert max(sizes) <= 3
    assert len(threads) <= 2


def test_it_is_busy_while_half_of_the_workers_have_work(model: ServedModel) -> None:
    begun, go_on = Semaphore(0), Event()

    def prepare() -> Pixels:
        begun.release()
        assert go_on.wait(20)
        return crops(model, 1)

    async def main() -> None:
        async with started(workers=3) as (queue, start):
            start()
            found, jobs = [queue.busy()], []
            for _ in range(3):
                jobs += queue.submit(model, [prepare])
                assert await asyncio.to_thread(begun.acquire, timeout=20)
                found.append(queue.busy())
            go_on.set()
            await asyncio.gather(*(job.future for job in jobs))
            assert found == [False, False, True, True]
            assert not queue.busy()

    asyncio.run(main())


def test_stopping_ends_what_waits(model: ServedModel) -> None:
    async def main() -> None:
        queue = BatchQueue(Metrics(), 3, 100, 2)
        jobs = queue.submit(model, [partial(crops, model, seed) for seed in range(20)])
        queue.start()
        await asyncio.to_thread(queue.stop)
        await asyncio.sleep(0)
        found = await asyncio.wait_for(asyncio.gather(*(job.future for job in jobs)), 20)
        assert all(isinstance(rows, np.ndarray) for rows in found)

    asyncio.run(main())


def test_batches_and_stages_are_measured(model: ServedModel) -> None:
    metrics = Metrics()

    async def main() -> None:
        queue = BatchQueue(metrics, 1, 100, 100)
        jobs = queue.submit(model, [partial(crops, model, 1, 2), partial(crops, model, 3)])
        assert metrics.registry.get_sample_value("emotion_queue_length") == 2
        queue.start()
        await asyncio.gather(*(job.future for job in jobs))
        await asyncio.to_thread(queue.stop)

    asyncio.run(main())
    value = metrics.registry.get_sample_value
    assert value("emotion_queue_length") == 0
    assert (value("emotion_batch_size_count"), value("emotion_batch_size_sum")) == (1, 3)
    stages = {"queue": 2, "inference": 1}
    for stage, count in stages.items():
        assert value("emotion_stage_duration_seconds_count", {"stage": stage}) == count
