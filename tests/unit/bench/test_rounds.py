"""Rows → jobs: what is compared sends the same."""

from bench.rounds import ROWS, Options, job_of

OPTIONS = Options(clients=2, seconds=1.0, warm_up_seconds=0.1, rounds=2, chunk_seconds=0.01)


def test_all_rows_of_a_round_send_the_same_prompts() -> None:
    """Else a row could be slower for its longer prompts."""
    assert len({job_of(row, "h:1", {}, OPTIONS, number=0).seed for row in ROWS}) == 1


def test_each_round_sends_other_prompts() -> None:
    """Else a cache would answer from the second round on."""
    first, second = (job_of(ROWS[0], "h:1", {}, OPTIONS, number=number) for number in range(2))
    assert first.seed != second.seed


def test_only_routed_rows_must_say_what_was_decided() -> None:
    """The demo provider decides nothing."""
    routed = {row.name: job_of(row, "h:1", {}, OPTIONS, number=0).routed for row in ROWS}
    assert routed == {
        "direct": False,
        "router-random-0.5": True,
        "router-mf-0.5": True,
        "direct, streamed": False,
        "router-random-0.5, streamed": True,
    }
