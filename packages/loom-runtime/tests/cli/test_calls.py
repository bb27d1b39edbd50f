"""Calls, runs and signals from the outside, against a host in a process of its own."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_call_prints_its_result_and_takes_json_values(running: Any) -> None:
    assert running.ok("call", "Account", "alice", "deposit", "7").strip() == "7"
    assert running.ok("call", "Account", "alice", "deposit", "-2").strip() == "5"
    assert running.ok("call", "Account", "x/y z", "hello", "bob").strip() == "hello bob"
    assert running.json("call", "Account", "alice", "hello", '"5"')["result"] == "hello 5"


def test_an_idempotency_key_makes_a_repeat_harmless(running: Any) -> None:
    for _ in range(2):
        call = running.json("call", "Account", "key", "deposit", "3", "--idempotency-key", "tx-1")
        assert call["result"] == 3
    conflict = running.json("call", "Account", "key", "deposit", "4", "--idempotency-key", "tx-1", code=1)
    assert conflict["error"]["code"] == "call.idempotency_conflict"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("Account", "a", "deposit", "x"), "call.invalid_arguments", "int"),
        (("Account", "a", "nope"), "call.unknown_method", "it has"),
        (("Account", "a", "withdraw", "5"), "call.remote", "ValueError: only 0"),
        (("Acount", "a", "deposit", "5"), "call.unknown_actor", "no host serves Acount; start one with: loom run"),
    ],
)
def test_what_a_call_can_meet_has_a_code_and_says_what_is_wrong(
    running: Any, arguments: tuple[str, ...], code: str, said: str
) -> None:
    error = running.json("call", *arguments, code=1)["error"]
    assert error["code"] == code
    assert said in error["message"]
    plain = running("call", *arguments)
    assert plain.exit_code == 1
    assert plain.stdout == ""
    assert f"code: {code}" in plain.stderr
    assert "Traceback" not in plain.output


def test_a_mistyped_option_is_not_taken_for_an_argument(running: Any) -> None:
    assert running("call", "Account", "a", "hello", "--timout", "3").exit_code == 2
    assert running("call", "Account", "a", "hello", '{"a":').exit_code == 2
    assert running.ok("call", "Account", "a", "hello", "--", "--timout").strip() == "hello --timout"


def test_a_run_from_start_to_result(running: Any) -> None:
    running.ok("call", "Account", "from", "deposit", "100")
    running.ok("start", "transfer", "t-1", "from", "to", "30")

    def waiting() -> Any:
        status = running.json("status", "t-1")
        return status if status["waiting_for"] else None

    status = running.until(waiting, "the run to wait")
    assert status["status"] == "running"
    assert "approved" in status["waiting_for"][0]
    assert "waits for" in running.ok("status", "transfer/t-1")
    assert running.json("signal", "t-1", "approved", "true")["run"] == "transfer/t-1"
    assert running.ok("runs", "result", "t-1", "--timeout", "20").strip() == "done"
    assert running.json("cancel", "t-1")["cancel_requested"] is False
    assert running.json("call", "Account", "to", "deposit", "0")["result"] == 30

    def listed() -> list[str]:
        found = running.json("runs", "list", "--status", "completed", "--workflow", "transfer", "--since", "2h")["runs"]
        return [run["run_id"] for run in found]

    running.until(lambda: "t-1" in listed(), "the listing to show the run")
    assert "transfer/t-1" in running.ok("runs", "list")
    assert running.json("runs", "list", "--since", "2999-01-01")["runs"] == []


def test_a_cancelled_run_gives_its_error_and_compensates(running: Any) -> None:
    running.ok("call", "Account", "payer", "deposit", "10")
    running.ok("start", "transfer", "t-2", "payer", "to", "10")
    assert running.json("runs", "cancel", "t-2", "--reason", "changed my mind")["cancel_requested"] is True
    error = running.json("runs", "result", "t-2", "--timeout", "20", code=1)["error"]
    assert error["code"] == "call.workflow_cancelled"
    assert running.json("call", "Account", "payer", "deposit", "0")["result"] == 10


def test_start_can_wait_and_a_failed_run_can_be_retried(running: Any) -> None:
    for _ in range(2):  # the second time it is the same run
        assert running.ok("start", "refund", "r-1", "bob", "--wait").strip() == "refunded bob"
    failed = running.json("start", "transfer", "t-3", "poor", "to", "5", "--wait", code=1)["error"]
    assert failed["message"] == "ValueError: only 0"
    running.ok("call", "Account", "poor", "deposit", "5")
    assert running.json("runs", "retry", "t-3") == {"run": "transfer/t-3", "retried": True}
    running.ok("signal", "t-3", "approved", "true")
    assert running.ok("runs", "result", "t-3", "--timeout", "20").strip() == "done"


def test_unknown_and_ambiguous_runs(running: Any) -> None:
    assert running.json("status", "nope", code=1)["error"]["code"] == "call.run_not_found"
    running.ok("start", "refund", "same", "a", "--wait")
    running.ok("start", "transfer", "same", "nobody", "to", "5")
    message = running.json("status", "same", code=1)["error"]["message"]
    assert "run/refund/same" in message
    assert "run/transfer/same" in message
    assert running.json("status", "refund/same")["status"] == "completed"
    assert running("runs", "list", "--status", "gone").exit_code == 2
    assert running("runs", "list", "--since", "lately").exit_code == 2
    unknown = running.json("start", "transfr", "t", code=1)["error"]
    assert unknown["code"] == "call.unknown_workflow"


def test_the_fleet(running: Any) -> None:
    fleet = running.json("status")
    [member] = fleet["members"]
    assert member["shards"] == 256
    assert member["serves"] == ["Account", "refund", "transfer"]
    assert fleet["shards"] == {"owned": 256, "of_the_dead": 0}
    text = running.ok("status", "--cluster")
    assert member["id"] in text
    assert "256 owned" in text
    assert running("status", "t-1", "--cluster").exit_code == 2


def test_the_journal_of_a_running_fleet(running: Any) -> None:
    running.ok("call", "Account", "diary", "deposit", "4")
    found = running.json("journal", "Account/diary")
    assert found["stream"] == "actor/Account/diary"
    [entry] = found["entries"]
    [event] = entry["events"]
    assert (event["what"], event["name"], event["value"], event["state"]) == ("turn", "deposit", 4, {"balance": 4})
    assert 'deposit = 4 state {"balance":4}' in running.ok("journal", "actor/Account/diary")
    assert "actor/Account/diary" in [row["stream"] for row in running.json("journal", "--prefix", "actor/")["streams"]]
    [raw] = running.json("journal", "Account/diary", "--raw")["entries"]
    assert bytes.fromhex(raw["raw"])
    assert running.json("journal", "Account/unwritten", code=1)["error"]["code"] == "journal"


def test_following_a_journal_shows_what_comes(running: Any) -> None:
    running.ok("call", "Account", "followed", "deposit", "1")
    process = running.spawn("journal", "Account/followed", "--follow", "--json")
    assert process.stdout is not None
    assert '"seq":1' in process.stdout.readline()
    running.ok("call", "Account", "followed", "deposit", "1")
    assert '"seq":2' in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=20)
