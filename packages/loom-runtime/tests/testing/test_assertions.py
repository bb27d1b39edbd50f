"""A failing assertion shows the journal."""

from __future__ import annotations

from typing import Any

import pytest

from loom.testing import VirtualClock, assert_run, journal_on_failure, journal_text

from .bank import load_bank

bank = load_bank()


async def _waiting(app: Any) -> Any:
    await app.actor(bank.Account, "alice").deposit(100)
    run = await app.workflow(bank.transfer, "t-1").start("alice", "bob", 30)
    await app._clock.run_for(1)
    return run


async def test_a_run_that_stands_otherwise_shows_its_journal(loom_app: Any, loom_clock: VirtualClock) -> None:
    async with loom_app(actors=[bank.Account], workflows=[bank.transfer]) as app:
        run = await _waiting(app)
        await assert_run(app, run, status="running", waiting_for="approved")
        with pytest.raises(
            AssertionError, match=r"(?s)is running, not completed\njournal of run/transfer/t-1:.*notify"
        ):
            await assert_run(app, "transfer/t-1")
        with pytest.raises(AssertionError, match=r"does not wait for 'rain' but for .*approved"):
            await assert_run(app, run, status="running", waiting_for="rain")
        await run.signal("approved", True)
        await loom_clock.run_until(run.result())
        await assert_run(app, run, result="done")
        with pytest.raises(AssertionError, match=r"(?s)gave 'done', not 'more'.*Account/bob.deposit"):
            await assert_run(app, run, result="more")


async def test_any_failure_gets_the_journals_as_notes(loom_app: Any) -> None:
    async with loom_app(actors=[bank.Account], workflows=[bank.transfer]) as app:
        run = await _waiting(app)
        alice = app.actor(bank.Account, "alice")
        with pytest.raises(AssertionError) as raised:
            async with journal_on_failure(app, run, alice, "transfer/other"):
                assert await alice.balance() == 100
        one, two, three = raised.value.__notes__
        assert "call" in one
        assert "withdraw" in two
        assert "state" in two
        assert "empty" in three


async def test_long_journals_show_their_end(loom_app: Any) -> None:
    async with loom_app(actors=[bank.Account]) as app:
        alice = app.actor(bank.Account, "alice")
        for _ in range(230):
            await alice.deposit(1)
        text = await journal_text(app, alice)
        assert "entries 1 to 30 are not shown" in text
        assert '"balance": 230' in text
