"""The sixteen: how the providers break in each, and who judges what comes of it."""

from bench.fault_wall import judges
from bench.fault_wall.trial import Case, Pace, Run
from bench.fault_wall.wall import Route


def cases(pace: Pace) -> list[Case]:
    """Returns the sixteen, with faults that last as long as the pace says."""
    rows: list[tuple[str, str, Run, dict[str, Route]]] = [
        (
            "429 with Retry-After: 2, once",
            "waits about 2 s or fails over; at most 2 attempts in 1.5 s",
            judges.throttled_once,
            {"": Route(f"throttled-once:{judges.RETRY_AFTER_SECONDS}")},
        ),
        (
            "429 without it, for ever",
            "backs off with jitter, fails over; at most 4 attempts in 3 s, 6 in all",
            judges.throttled,
            {label: Route("throttled") for label in ("a", "b", "c", "d")},
        ),
        (
            "500 once",
            "one retry on the same provider",
            judges.error_once,
            {"": Route("failing-once:500")},
        ),
        (
            "503 for ever",
            "fails over within the retry budget",
            judges.down,
            {"": Route("down")},
        ),
        (
            "connection reset before headers, once",
            "answers",
            judges.reset_once,
            {"reset": Route("reset-once"), "closed": Route("hangs-up-once")},
        ),
        (
            "no response at all",
            "times out within its limit, does not ask the silent route again, fails over",
            judges.mute,
            {"": Route("mute")},
        ),
        (
            f"headers at once, first token after {pace.late:g} s",
            "the first-token limit fails over",
            judges.late,
            {
                "headers": Route(f"late:{pace.late}"),
                "role": Route(f"late-after-role:{pace.late}"),
            },
        ),
        (
            "stream dies after 40 of 60 tokens",
            "whole answer or clear error, never a truncated success",
            judges.cut,
            {"closed": Route("cut"), "reset": Route("cut-by-reset")},
        ),
        (
            f"stream goes silent for {pace.silence:g} s",
            "detected in bounded time; healthy afterwards",
            judges.stall,
            {"": Route(f"stalls-once:{pace.silence}")},
        ),
        (
            "one event is not JSON",
            "skipped, or a clean error; nothing partial leaks",
            judges.garbled,
            {"middle": Route("garbled"), "first": Route("garbled-first")},
        ),
        (
            "no [DONE]",
            "finished promptly, usage reported",
            judges.no_done,
            {"ended": Route("no-done"), "open": Route("no-done:open")},
        ),
        (
            "400 context_length_exceeded",
            "not retried on that model; goes to the larger one",
            judges.too_long,
            {"": Route("too-long", ("", ""), (100, 100, 1000))},
        ),
        (
            "400 content filter",
            "not retried; the reason reaches the client",
            judges.filtered,
            {"": Route("filtered")},
        ),
        (
            "stream cut, and the fallback refuses prefill",
            "a clean restart or the true error, never the prefill 400",
            judges.no_prefill,
            {"": Route("cut", ("no-prefill",))},
        ),
        (
            f"503 for {pace.outage:g} s, then healthy; {judges.REQUESTS} requests",
            f"served by the fallback, probes, back on the primary within {pace.recovery:g} s",
            judges.outage,
            {"": Route(f"down:{pace.outage}")},
        ),
        (
            "503; the fallback answers",
            "its model name and usage; failed attempts not billed",
            judges.billed,
            {"": Route("down")},
        ),
    ]
    return [
        Case(number=number, fault=fault, right=right, run=run, routes=routes)
        for number, (fault, right, run, routes) in enumerate(rows, start=1)
    ]
