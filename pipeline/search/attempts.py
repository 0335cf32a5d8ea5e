"""Running requests at once, each tried twice at most, each outcome handed over as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from pipeline.search.runners import Runner, WorkerDied
from pipeline.search.trial import Failure, TrialOutcome, TrialRequest

Key = tuple[int, int]
"""A trial and one of its seeds, or a group of trials."""


def outcomes(
    run: Runner, requests: Mapping[Key, TrialRequest], jobs: int, again: Callable[[Key, Failure], bool]
) -> Iterator[tuple[Key, TrialOutcome]]:
    """Each request's last outcome, in the order in which they come.

    Args:
        run: runs one, and returns when it is done.
        requests: what to run.
        jobs: how many at once.
        again: is told of a failure; whether to try once more.
    """
    pool = ThreadPoolExecutor(max(1, min(jobs, len(requests))), thread_name_prefix="trial")
    try:
        running: dict[Future[TrialOutcome], Key] = {}
        for key, request in requests.items():
            running[pool.submit(_attempt, run, request)] = key
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda future: running[future]):
                key, outcome = running.pop(future), future.result()
                if outcome.failure is not None and again(key, outcome.failure):
                    running[pool.submit(_attempt, run, requests[key])] = key
                    continue
                yield key, outcome
    finally:
        # Without waiting: after an interrupt the runner ends what still runs, and with it these threads.
        pool.shutdown(wait=False, cancel_futures=True)


def _attempt(run: Runner, request: TrialRequest) -> TrialOutcome:
    try:
        return run(request)
    except WorkerDied as error:
        fix = "give it more memory, or lower jobs or the batch size"
        return TrialOutcome(0, failure=Failure(str(error), fix))
