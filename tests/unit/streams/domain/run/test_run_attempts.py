"""Attempts: who may hold one, how it ends, and what a run does when it hears nothing."""

import pytest

from streams.domain.definition import Retry
from streams.domain.run.commands import (
    ClaimStep,
    CompleteStep,
    FailStep,
    Heartbeat,
    PauseRun,
    ResumeRun,
    Tick,
)
from streams.domain.run.events import (
    RunEnded,
    RunResumed,
    StepCancelled,
    StepCheckpointed,
    StepClaimed,
    StepFailed,
    StepLost,
    StepOffered,
    StepRetryScheduled,
)
from streams.domain.run.timing import HEARTBEAT_MS, LEASE_MS, LOST_MAX, TIMEOUT_GRACE_MS, WAKE_MS, backoff_ms
from tests.support.pipeline_files import command
from tests.support.run_spec import AGGREGATE, RunSpec, created

RETRY = {"attempts": 3, "initial": "2s", "multiplier": 2, "max": "3s", "jitter": "none"}


def claimed(**step: object) -> RunSpec:
    """Return a run of one step a, claimed at 1 s."""
    told = created(command("a", **step)).at(1_000)
    told.claim("a")
    return told


# ---------------------------------------------------------------- claims
def test_an_offered_attempt_is_claimed_once() -> None:
    """The same token again is the same claim; another one comes too late."""
    told = created(command("a")).when(ClaimStep("a", 1, "t1", "n1")).then(StepClaimed("a", 1, "t1", "n1", 0))
    told.when(ClaimStep("a", 1, "t2", "n2")).refused("stale_lease", "attempt 1 is running")


@pytest.mark.parametrize(("step", "attempt"), [("a", 2), ("a", 0), ("b", 1), ("x", 1)])
def test_only_what_is_on_offer_is_claimed(step: str, attempt: int) -> None:
    """Not another attempt, not a step that waits, not a step that is not there."""
    created(command("a"), command("b", "a")).when(ClaimStep(step, attempt, "t", "n")).refused("stale_lease")


def test_a_claim_needs_a_token() -> None:
    """Without one anybody could end it."""
    created(command("a")).when(ClaimStep("a", 1, "", "n")).refused("invalid", "token")


@pytest.mark.parametrize("kind", [Heartbeat, CompleteStep, FailStep])
@pytest.mark.parametrize(("step", "attempt", "token"), [("a", 1, "x"), ("a", 2, "a/1"), ("x", 1, "a/1")])
def test_only_the_holder_of_the_lease_is_heard(kind: type, step: str, attempt: int, token: str) -> None:
    """By step, attempt and token."""
    more = {"error": "e"} if kind is FailStep else {}
    claimed().when(kind(step, attempt, token, **more)).refused("stale_lease")


def test_a_result_that_is_known_already_is_accepted_again() -> None:
    """Its answer got lost; the runner may rest."""
    told = claimed()
    told.complete("a")
    told.when(CompleteStep("a", 1, "a/1")).then()
    told.when(CompleteStep("a", 1, "other")).refused("stale_lease")
    again = claimed(retry=RETRY)
    again.fail("a")
    again.when(FailStep("a", 1, "a/1", "broken")).then()
    again.when(CompleteStep("a", 1, "a/1")).refused("stale_lease")


def test_a_result_of_an_attempt_that_was_given_up_comes_too_late() -> None:
    """Another attempt is on offer."""
    told = claimed()
    told.tick(1_000 + LEASE_MS)
    told.when(CompleteStep("a", 1, "a/1")).refused("stale_lease", "attempt 2 is queued")


# ---------------------------------------------------------------- leases
def test_a_heartbeat_is_no_event_and_extends_the_lease() -> None:
    """Its counts are shown meanwhile."""
    told = claimed().at(4_000).when(Heartbeat("a", 1, "a/1", 7, 5)).then()
    assert AGGREGATE.due(told.state) == 4_000 + LEASE_MS
    assert (told.step("a").records_in, told.step("a").records_out) == (7, 5)
    told.at(3_000).when(Heartbeat("a", 1, "a/1")).then()
    assert AGGREGATE.due(told.state) == 4_000 + LEASE_MS


def test_a_heartbeat_tells_how_far_the_attempt_is() -> None:
    """In numbers and words; a share that is none is not believed, and long words are cut. The end clears them."""
    told = claimed()
    told.do(Heartbeat("a", 1, "a/1", 7, 5, 1, 99, 12.5, "page 2"))
    step = told.step("a")
    assert (step.records_rejected, step.bytes, step.percent, step.progress) == (1, 99, 12.5, "page 2")
    for wrong in (-1.0, 100.5, float("nan")):
        told.do(Heartbeat("a", 1, "a/1", percent=wrong, text="x" * 300))
        assert (told.step("a").percent, len(told.step("a").progress)) == (None, 200)
    told.complete("a")
    assert (told.step("a").percent, told.step("a").progress) == (None, "")


def test_a_checkpoint_is_an_event_once_and_the_next_attempt_is_given_it() -> None:
    """Whether the attempt failed or its runner was lost; the lease goes on meanwhile, and success forgets it."""
    beat = Heartbeat("a", 1, "a/1", 7, 5, 0, 99, 50.0, "page 2", '{"page":2}')
    saved = StepCheckpointed("a", 1, '{"page":2}', 7, 5, 0, 99, 50.0, "page 2", 4_000)
    told = claimed(retry=RETRY).at(4_000).when(beat).then(saved)
    assert AGGREGATE.due(told.state) == 4_000 + LEASE_MS
    assert (told.step("a").records_in, told.step("a").percent) == (7, 50.0)
    told.fail("a")
    told.tick(6_000)
    assert told.offers()[-1]["checkpoint"] == {"page": 2}
    told.at(7_000).claim("a")
    told.tick(7_000 + LEASE_MS)
    assert told.offers()[-1]["checkpoint"] == {"page": 2}
    told.claim("a")
    told.complete("a")
    assert told.step("a").checkpoint is None


@pytest.mark.parametrize(
    ("text", "words"),
    [("[1]", "no JSON object"), ("{", "no JSON object"), ('{"a":"' + "x" * 16_384 + '"}', "more than 16384")],
)
def test_a_checkpoint_that_could_not_be_given_back_is_refused(text: str, words: str) -> None:
    """It says what to send."""
    claimed().when(Heartbeat("a", 1, "a/1", checkpoint=text)).refused("invalid", words)


def test_a_late_heartbeat_renews_and_never_kills() -> None:
    """As long as nobody has given the attempt up."""
    told = claimed().at(1_000 + 2 * LEASE_MS).when(Heartbeat("a", 1, "a/1")).then()
    assert told.tick(1_000 + 2 * LEASE_MS) == ()


def test_an_attempt_that_is_not_heard_of_is_lost_and_offered_again() -> None:
    """At once, as the next attempt."""
    now = 1_000 + LEASE_MS
    assert claimed().tick(now - 1) == ()
    assert claimed().tick(now) == (StepLost("a", 1, "runner-1", now), StepOffered("a", 2, "default", now))


def test_lost_attempts_do_not_use_up_retries() -> None:
    """The step has done nothing wrong."""
    told = claimed(retry=RETRY)
    told.tick(1_000 + LEASE_MS)
    told.claim("a")
    (scheduled,) = told.fail("a")
    assert isinstance(scheduled, StepRetryScheduled)
    assert told.step("a").failures == 1


def test_a_step_that_loses_every_runner_fails() -> None:
    """Whatever it does to them, it will do to the next one."""
    told = created(command("a"), command("b", "a"))
    for _ in range(LOST_MAX):
        told.claim("a")
        events = told.tick(told.now + LEASE_MS)
    assert [type(event).__name__ for event in events] == ["StepLost", "StepFailed", "StepSkipped", "RunEnded"]
    assert "10 attempts were lost" in told.step("a").error  # type: ignore[operator]  # a failed step has an error


def test_a_step_that_its_stopping_runner_hands_back_is_offered_again_at_once_and_uses_nothing_up() -> None:
    """However often nodes are exchanged under it; said again it is accepted again, from others refused."""
    told = claimed()
    for attempt in range(1, 2 * LOST_MAX):
        back = FailStep("a", attempt, f"a/{attempt}", "the node is stopping", handed_back=True)
        told.when(back).then(StepLost("a", attempt, "runner-1", told.now, handed_back=True))
        told.when(back).then()
        assert AGGREGATE.due(told.state) == told.now
        assert told.tick(told.now) == (StepOffered("a", attempt + 1, "default", told.now),)
        told.when(back).refused("stale_lease")
        told.claim("a")
    assert (told.step("a").failures, told.step("a").lost) == (0, 0)


def test_what_is_handed_back_in_a_paused_run_is_offered_when_it_goes_on() -> None:
    """A paused run offers nothing."""
    told = claimed()
    told.do(PauseRun())
    told.do(FailStep("a", 1, "a/1", "the node is stopping", handed_back=True))
    assert AGGREGATE.due(told.state) is None
    told.do(ResumeRun())
    told.tick(told.now)
    assert told.offers()[-1]["attempt"] == 2


def test_a_new_owner_gives_every_lease_two_heartbeats() -> None:
    """The earlier ones went to an owner that is gone."""
    told = claimed()
    told.state = AGGREGATE.wake(told.state, 60_000)
    assert AGGREGATE.due(told.state) == 60_000 + WAKE_MS == 60_000 + 2 * HEARTBEAT_MS
    assert AGGREGATE.wake(told.state, 50_000) is told.state


# ---------------------------------------------------------------- retries
def test_a_failed_attempt_is_tried_again_later() -> None:
    """Exponentially later, up to the most; the last one fails the step."""
    told = claimed(retry=RETRY)
    assert told.fail("a") == (StepRetryScheduled("a", 1, "broken", "", 3_000, 1_000),)
    assert told.tick(2_999) == ()
    assert told.tick(3_000) == (StepOffered("a", 2, "default", 3_000),)
    told.claim("a")
    assert told.fail("a") == (StepRetryScheduled("a", 2, "broken", "", 6_000, 3_000),)
    told.tick(6_000)
    told.claim("a")
    assert told.fail("a")[0] == StepFailed("a", 3, "broken", "", "failed", 6_000)


def test_an_error_that_the_file_names_is_not_tried_again() -> None:
    """Whether it is in the error or in what was printed last; any other error is."""
    retry = {**RETRY, "non_retryable": ["no such table", "denied"]}
    assert isinstance(claimed(retry=retry).fail("a", "exit code 1: no such table: x")[0], StepFailed)
    assert isinstance(claimed(retry=retry).fail("a", "exit code 1", tail="access denied\n")[0], StepFailed)
    assert isinstance(claimed(retry=retry).fail("a", "exit code 1", tail="reset\n")[0], StepRetryScheduled)


def test_what_is_not_retryable_fails_at_once() -> None:
    """Trying again would not help."""
    assert isinstance(claimed(retry=RETRY).fail("a", retryable=False)[0], StepFailed)


def test_a_step_without_retry_is_tried_once() -> None:
    """Unless its file says so."""
    assert isinstance(claimed().fail("a")[0], StepFailed)


def test_errors_and_tails_are_kept_within_bounds() -> None:
    """The end of a tail says most."""
    told = claimed()
    failed, *_ = told.do(FailStep("a", 1, "a/1", "e" * 9_999, True, "x" * 99_999 + "end"))
    assert (len(failed.error), len(failed.tail), failed.tail[-3:]) == (4_096, 16_384, "end")


def test_full_jitter_takes_a_fraction_that_depends_on_the_attempt_only() -> None:
    """A replay waits alike; a herd of steps does not."""
    retry = Retry(10, 1_000, 2.0, 60_000, "full")
    waits = [backoff_ms(retry, 5, f"r1/a/{attempt}") for attempt in range(200)]
    assert waits == [backoff_ms(retry, 5, f"r1/a/{attempt}") for attempt in range(200)]
    assert 1 <= min(waits) < 2_000
    assert 14_000 < max(waits) <= 16_000
    assert 7_000 < sum(waits) / 200 < 9_000


def test_a_wait_is_never_nothing_and_never_too_long() -> None:
    """Even where the file says 0s, or the hundredth attempt."""
    assert backoff_ms(Retry(initial_ms=0, jitter="none"), 1, "") == 1
    assert backoff_ms(Retry(100, 1_000, 100.0, 60_000, "none"), 99, "") == 60_000


# ---------------------------------------------------------------- timeouts
def test_an_attempt_may_take_so_long() -> None:
    """The runner says when it has killed it; then the step timed out."""
    told = claimed(timeout="30s").at(31_000)
    assert told.fail("a", "killed")[0] == StepFailed("a", 1, "killed", "", "timed_out", 31_000)


def test_a_runner_that_forgets_the_timeout_is_given_up_a_little_later() -> None:
    """Its heartbeats do not help it."""
    told = claimed(timeout="30s")
    limit = 31_000 + TIMEOUT_GRACE_MS
    told.at(limit - 1).do(Heartbeat("a", 1, "a/1"))
    assert AGGREGATE.due(told.state) == limit
    failed, end = told.tick(limit)
    assert (failed.status, failed.error) == ("timed_out", "the attempt took longer than its timeout of 30s")
    assert (end.status, end.error) == ("failed", f"step a timed out: {failed.error}")
    told.when(Heartbeat("a", 1, "a/1")).refused("stale_lease")


def test_a_timeout_uses_up_a_retry() -> None:
    """Unlike a loss: the step was too slow."""
    told = claimed(timeout="30s", retry=RETRY)
    told.at(40_999).do(Heartbeat("a", 1, "a/1"))
    (scheduled,) = told.tick(41_000)
    assert isinstance(scheduled, StepRetryScheduled)
    assert scheduled.retry_at == 43_000


def test_a_run_may_take_so_long() -> None:
    """Paused or not, offered or not."""
    told = created(command("a"), command("b", "a"), timeout="1m")
    told.do(PauseRun())
    assert AGGREGATE.due(told.state) == 60_000
    assert told.tick(60_000) == (
        StepCancelled("a", 1, 60_000),
        StepCancelled("b", 0, 60_000),
        RunEnded(
            "timed_out", "the run took longer than its timeout of 1m", "customers", None, "manual", 60_000
        ),
    )
    told.when(ClaimStep("a", 1, "t", "n")).refused("stale_lease", "timed out")


# ---------------------------------------------------------------- timers and pauses
def test_a_timer_that_finds_nothing_due_changes_nothing() -> None:
    """It may fire twice, late, or after the end."""
    told = claimed()
    told.at(2_000).when(Tick(500)).then()
    told.complete("a")
    told.at(99_000).when(Tick(7_000)).then()
    assert AGGREGATE.due(told.state) is None
    assert AGGREGATE.due(AGGREGATE.initial) is None


def test_one_timer_fires_everything_that_is_due() -> None:
    """Each step by itself."""
    told = created(command("a"), command("b"), command("c"))
    for name in "abc":
        told.claim(name)
    told.at(5_000).do(Heartbeat("c", 1, "c/1"))
    assert [event.step for event in told.at(LEASE_MS).do(Tick(LEASE_MS))] == ["a", "a", "b", "b"]


def test_a_paused_run_offers_no_retry_and_no_lost_attempt() -> None:
    """It does so when it goes on."""
    told = created(command("a", retry=RETRY), command("b"))
    told.claim("a")
    told.claim("b")
    told.do(PauseRun())
    told.fail("a")
    (lost,) = told.tick(LEASE_MS)
    assert isinstance(lost, StepLost)
    assert AGGREGATE.due(told.state) is None
    told.at(9_000).when(ResumeRun()).then(
        RunResumed(9_000), StepOffered("a", 2, "default", 9_000), StepOffered("b", 2, "default", 9_000)
    )
