"""``loom status``: what a run is doing, or what the whole fleet has in hand."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AppOption, JsonOption, TomlOption, UrlOption

if TYPE_CHECKING:
    from .output import Output
    from .session import Session

__all__ = ["status"]

_COUNT_UP_TO = 10_000


def status(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="WORKFLOW/RUN_ID, or a RUN_ID that is unique; else the fleet.")
    ] = None,
    cluster: Annotated[bool, typer.Option("--cluster", help="The fleet: hosts, shards, work in hand, queues.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0.001, help="Seconds to wait.")] = None,
    url: UrlOption = None,
    toml: TomlOption = None,
    app: AppOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a run is doing; without RUN the hosts, their shards, and what waits."""
    from .output import Output

    if run is not None and cluster:
        raise typer.BadParameter("give a RUN or --cluster, not both")
    out = Output(json=json)
    if run is not None:
        from .runs import with_run

        _, found = with_run(run, app, url, toml, timeout, lambda handle: handle.status())
        out.data(found) if json else _show_run(out, found)
        return
    from .session import open_session, wait_for

    async def work() -> dict[str, Any]:
        async with open_session(app, url, toml) as session:
            return await _fleet(session)

    fleet = wait_for(work())
    out.data(fleet) if json else _show_fleet(out, fleet)


def _show_run(out: Output, run: Any) -> None:
    from .output import clock_time

    out.line(f"{run.workflow}/{run.run_id}: {run.status}", style="bold")
    out.line(f"  started   {clock_time(run.started_at)}")
    if run.finished_at:
        out.line(f"  finished  {clock_time(run.finished_at)}")
    out.line(f"  steps     {run.steps_done} done")
    for waiting in run.waiting_for:
        out.line(f"  waits for {waiting}")
    if run.incarnation:
        out.line(f"  incarnation {run.incarnation}")
    if run.cancel_requested:
        out.line("  cancel was requested")
    if run.error:
        out.line(f"  error     {run.error}")


async def _fleet(session: Session) -> dict[str, Any]:
    import time

    members = await session.coordination.members()
    owners = await session.coordination.owners()
    owned = Counter(lease.owner for lease in owners.values())
    alive = {member.id for member in members}
    now = time.time()
    overdue = later = 0
    async for record in session.pending.due():
        if record.due is not None and record.due <= now:
            overdue += 1
        else:
            later += 1
        if overdue + later >= _COUNT_UP_TO:
            break
    poisoned = [record.stream async for _, record in session.pending.poisoned()]
    queues = {name: await session.queue.depth(name) for name in await session.queue.queues()}
    mailboxes = {name: depth for name, depth in queues.items() if name.startswith("loom/shard/")}
    served = {name for member in members for name in member.serves}
    unserved: Counter[str] = Counter()
    for name, depth in mailboxes.items():
        type_name = name.split("/", 3)[3] if name.count("/") > 2 else ""
        if type_name and type_name not in served and depth.ready + depth.delayed + depth.leased:
            unserved[type_name] += depth.ready + depth.delayed + depth.leased
    return {
        "members": [
            {
                "id": member.id, "host": member.host, "pid": member.pid, "version": member.version,
                "started_at": member.started_at, "draining": member.draining,
                "serves": sorted({name.partition("/")[2] for name in member.serves}),
                "shards": owned[member.id],
            }
            for member in members
        ],
        "shards": {
            "owned": sum(lease.owner in alive for lease in owners.values()),
            "of_the_dead": sum(lease.owner not in alive for lease in owners.values()),
        },
        "pending": {
            "overdue": overdue, "later": later, "counted_up_to": _COUNT_UP_TO, "poisoned": poisoned,
        },
        "queues": {
            "mailboxes": {
                field: sum(getattr(depth, field) for depth in mailboxes.values())
                for field in ("ready", "delayed", "leased", "dead")
            },
            "unserved": dict(sorted(unserved.items())),
            "each": {name: depth for name, depth in queues.items() if not name.startswith("loom/reply/")},
        },
    }  # fmt: skip


def _show_fleet(out: Output, fleet: dict[str, Any]) -> None:
    import time

    from .output import ago

    rows = [
        (m["id"], m["host"], m["pid"], m["version"], ago(m["started_at"], time.time()), m["shards"],
         ("draining; " if m["draining"] else "") + ", ".join(m["serves"]))
        for m in fleet["members"]
    ]  # fmt: skip
    columns = ("member", "host", "pid", "version", "started", "shards", "serves")
    out.table(columns, rows, empty="no host is running; start one with: loom run MODULE:APP")
    shards, pending, mail = fleet["shards"], fleet["pending"], fleet["queues"]["mailboxes"]
    dead = f", {shards['of_the_dead']} of hosts that have died" if shards["of_the_dead"] else ""
    out.line(f"shards     {shards['owned']} owned{dead}")
    at_least = "at least " if pending["overdue"] + pending["later"] >= pending["counted_up_to"] else ""
    hand = f"{at_least}{pending['overdue']} due now, {pending['later']} later, {len(pending['poisoned'])} poisoned"
    out.line(f"in hand    {hand}")
    leased = f"{mail['leased']} being worked on, {mail['dead']} dead"
    out.line(f"mailboxes  {mail['ready']} ready, {mail['delayed']} delayed, {leased}")
    for name, count in fleet["queues"]["unserved"].items():
        what = name.replace("run/", "workflow ").replace("actor/", "actor type ")
        out.line(f"unserved   {count} requests wait for a host that serves {what}; start one with: loom run MODULE:APP")
    depths = [
        (name, depth.ready, depth.delayed, depth.leased, depth.dead)
        for name, depth in fleet["queues"]["each"].items()
        if depth.ready or depth.delayed or depth.leased or depth.dead
    ]
    out.table(("queue", "ready", "delayed", "leased", "dead"), depths)
    if mail["dead"] or pending["poisoned"]:
        out.line("see: loom dlq list")
