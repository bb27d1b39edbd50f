"""The proof of the kit: every adapter that is broken on purpose is caught, by the test that names what it breaks."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from loom.errors import LoomError
from loom.plugins.spec import PORTS, UNBACKED_PORTS, Durability, Feature
from loom.testing.clock import ManualClock
from loom.testing.suites import base
from loom.testing.suites.base import Harness, Suite
from loom.testing.suites.blobs import BlobStoreSuite
from loom.testing.suites.coordination import CoordinationSuite
from loom.testing.suites.documents import DocumentStoreSuite
from loom.testing.suites.idempotency import IdempotencyStoreSuite
from loom.testing.suites.journal import JournalStoreSuite
from loom.testing.suites.locks import LockManagerSuite
from loom.testing.suites.queue import MessageQueueSuite
from loom.testing.suites.registry import ActorRegistrySuite
from loom.testing.suites.secrets import SecretsStoreSuite
from loom.testing.suites.state import StateStoreSuite

from .mutants import blobs, coordination, documents, idempotency, journal, locks, queue, registry, secrets, state

SUITES: dict[str, tuple[type[Suite[Any]], ModuleType]] = {
    "journal": (JournalStoreSuite, journal),
    "queue": (MessageQueueSuite, queue),
    "locks": (LockManagerSuite, locks),
    "documents": (DocumentStoreSuite, documents),
    "blobs": (BlobStoreSuite, blobs),
    "state": (StateStoreSuite, state),
    "idempotency": (IdempotencyStoreSuite, idempotency),
    "coordination": (CoordinationSuite, coordination),
    "registry": (ActorRegistrySuite, registry),
    "secrets": (SecretsStoreSuite, secrets),
}

LINEARIZABLE = "concurrent_histories_are_linearizable"
WITH_TOKENS = "concurrent_histories_with_tokens_are_linearizable"

CAUGHT_BY: dict[str, dict[str, str]] = {
    "journal": {
        "IgnoresExpectedSeq": "a_stale_head_is_a_conflict_that_shows_the_head_found",
        "IgnoresEntryId": "the_entry_id_is_compared_at_the_same_seq",
        "IsNotIdempotent": "repeating_an_append_succeeds_once_and_says_so",
        "HidesDuplicates": "repeating_an_append_succeeds_once_and_says_so",
        "IgnoresFences": "a_lower_fence_is_refused_and_a_higher_one_stays",
        "FailsAllForOneConflict": "append_many_gives_each_append_its_own_outcome",
        "TakesWhatIsTooLarge": "what_is_too_large_is_refused_and_fails_nothing_else",
        "FailsAllForOneTooLarge": "what_is_too_large_is_refused_and_fails_nothing_else",
        "ComparesBeforeItWaits": "of_racing_writers_exactly_one_wins_each_position",
        "SharesReadsUnderWay": LINEARIZABLE,
        "ShowsTheHeadBeforeTheEntry": LINEARIZABLE,
        "SnapshotsMoveBackwards": "snapshots_only_move_forward",
        "AppendsForgetTheSnapshot": "an_append_keeps_the_snapshot",
        "TrimsPastTheSnapshot": "trim_never_passes_the_snapshot_and_keeps_the_head",
        "ReadsOverGaps": "reading_what_was_trimmed_is_a_gap",
        "PagesByPosition": "paging_lists_every_old_stream_once_while_others_appear",
        "FoldsCase": "hostile_names_do_not_collide",
        "IsNotDurable": "everything_is_there_after_reopening",
        "LosesTheLastWrites": "everything_is_there_after_reopening",
    },
    "queue": {
        "LosesNacks": "a_nack_gives_back_at_once_or_after_its_delay",
        "IgnoresNackDelays": "a_nack_gives_back_at_once_or_after_its_delay",
        "RedeliversBehind": "lost_leases_come_back_in_their_first_order",
        "IgnoresGroups": "a_leased_message_holds_its_group_and_no_other",
        "DoesNotDedupe": "an_id_in_the_queue_is_a_duplicate",
        "ForgetsFinishedIds": "a_finished_id_is_a_duplicate_for_the_window",
        "ChargesAtReceive": "only_begin_charges_an_attempt",
        "AcksAfterTheLease": "whoever_lost_the_lease_can_do_nothing",
        "LeasesNeverEnd": "a_lease_that_ends_makes_the_message_receivable_by_anyone",
        "IgnoresDelays": "a_delayed_message_comes_when_its_delay_is_over",
        "DeliversWhatExpired": "an_expired_message_is_never_delivered",
        "IgnoresPriority": "a_higher_priority_is_received_earlier",
        "SendsUntilOneIsTooLarge": "a_batch_with_a_body_that_is_too_large_is_refused_whole",
        "DropsDeadLetters": "a_dead_letter_is_kept_with_its_reason",
        "RedrivesOldAttempts": "a_redriven_message_is_new",
        "ServesTheFirstQueueFirst": "a_full_queue_starves_no_other",
        "TakesPartOfABadBatch": "bad_names_are_refused",
        "IsNotDurable": "everything_is_there_after_reopening",
    },
    "locks": {
        "DoesNotFence": "a_paused_holder_is_stopped_by_its_token",
        "TokensRestartAfterRelease": "tokens_grow_with_every_lease",
        "TokensRestartWithTheProcess": "tokens_grow_across_reopening",
        "AllowsTwoHolders": "a_taken_lock_is_taken_for_everybody",
        "LooksBeforeItTakes": "only_one_of_many_is_inside",
        "TriesBeforeItTakes": LINEARIZABLE,
        "CountsTokensBeforeItTakes": WITH_TOKENS,
        "RenewsOverTheNext": LINEARIZABLE,
        "LeasesNeverEnd": "a_lease_ends_by_itself",
        "RenewsWhatIsLost": "a_lease_ends_by_itself",
        "ReleasesAnybodysLock": "whoever_lost_the_lease_cannot_touch_the_next",
        "RenewsUnderANewToken": "renew_moves_the_end_under_the_same_token",
        "IsNotDurable": "a_lease_outlives_the_client_that_took_it",
    },
    "documents": {
        "BatchesAreNotAtomic": "a_batch_of_which_one_fails_leaves_nothing",
        "IgnoresEtags": "if_match_replaces_that_version_only",
        "EtagsComeFromTheBody": "every_write_has_an_etag_of_its_own",
        "TakesWhatIsTooLarge": "a_batch_with_a_body_that_is_too_large_leaves_nothing",
        "CreateOnlyOverwrites": "create_only_writes_where_nothing_is",
        "ComparesBeforeItWaits": "of_racing_replacements_one_wins_each_version",
        "NothingExpires": "an_expired_document_is_gone_for_every_method",
        "QueriesFindTheExpired": "an_expired_document_is_gone_for_every_method",
        "PagesByOffset": "paging_meets_every_unchanged_document_once_whatever_is_written",
        "ScansWithoutAnIndex": "a_query_without_an_index_is_refused",
        "NumbersAreText": "numbers_compare_as_numbers_and_text_by_code_point",
        "HandsOutWhatItStores": "a_body_is_a_copy",
        "IsNotDurable": "everything_is_there_after_reopening",
    },
    "blobs": {
        "TearsReads": "a_reader_keeps_the_version_that_it_began",
        "IgnoresEtags": "conditions",
        "CreateOnlyOverwrites": "conditions",
        "LosesMetadata": "what_was_put_is_there_whole",
        "KeepsWhatAFailedStreamGave": "an_iterator_that_raises_leaves_nothing",
        "ChecksBeforeTheStream": "a_condition_is_checked_when_the_stream_has_ended",
        "TruncatesNames": "hostile_names_are_kept_apart",
        "DeletesAnyVersion": "conditions",
        "PagesByOffset": "paging_meets_every_unchanged_blob_once_whatever_is_written",
        "HidesWhatIsMissing": "a_blob_that_is_not_there",
        "IsNotDurable": "everything_is_there_after_reopening",
    },
    "state": {
        "StateMovesBackwards": "the_newest_record_is_kept",
        "LooksBeforeItSaves": "state_never_moves_backwards_under_racing_writers",
        "MixesTypes": "a_query_pages_over_one_type_in_the_order_of_keys",
        "IsNotDurable": "everything_is_there_after_reopening",
    },
    "idempotency": {
        "BeginsTwice": "begin_complete_and_repeat",
        "LooksBeforeItBegins": "of_racing_callers_one_begins",
        "CompletesAfterATakeOver": "taking_over_ends_the_first_token",
        "AbandonsAnybodysKey": "a_record_read_by_another_proves_nothing",
        "IgnoresFingerprints": "another_request_under_the_key_is_a_conflict",
        "KeepsTheLastResult": "a_repeated_complete_keeps_the_first_result",
        "NothingExpires": "a_record_is_forgotten_when_its_life_ends",
        "IsNotDurable": "everything_is_there_after_reopening",
    },
    "coordination": {
        "GivesAShardToTwo": "claiming_keeping_and_releasing",
        "ClaimsOverOthers": "members_that_race_for_all_shards_get_disjoint_sets",
        "EpochsStandStill": "an_epoch_grows_with_every_change_of_owner",
        "EpochsRestartAfterRelease": "an_epoch_grows_with_every_change_of_owner",
        "EpochsGrowWithEveryClaim": "claiming_keeping_and_releasing",
        "HasTwoLeaders": "of_racing_candidates_one_leads",
        "NobodyDies": "what_a_dead_member_had_goes_to_the_living",
        "RevivesTheDead": "a_member_without_heartbeats_is_dead_and_says_so",
        "ForgetsTheShardCount": "the_number_of_shards_is_set_once",
        "LeavesItsShardsBehind": "leaving_frees_everything",
        "LetsStrangersClaim": "who_is_no_member_owns_and_leads_nothing",
        "IsNotDurable": "owners_and_epochs_are_there_after_reopening",
    },
    "registry": {
        "NothingExpires": "records_that_nobody_refreshes_disappear",
        "HeartbeatsChangeNothing": "records_that_nobody_refreshes_disappear",
        "ForgetsSince": "registering_and_refreshing",
        "HeartbeatsOverwrite": "racing_refreshes_lose_nothing",
        "IsNotDurable": "everything_is_there_after_reopening",
    },
    "secrets": {
        "KeepsTheLastVersionOnly": "setting_adds_a_version_that_becomes_current",
        "ShowsValuesInItsFacts": "what_a_caller_sees_shows_no_value",
        "TakesAnyName": "bad_names_and_values_are_refused",
        "RepeatsARefusedValue": "bad_names_and_values_are_refused",
        "ListsByTheTimeOfWriting": "a_list_has_the_newest_version_of_each_in_order",
        "PrefixesAreFolders": "a_list_has_the_newest_version_of_each_in_order",
        "KeepsFewVersions": "the_newest_versions_are_kept",
        "StepsOverTheDisabled": "a_disabled_version_raises",
        "GivesWhatExpired": "an_expired_version_raises",
        "GivesWhatIsForLater": "a_version_for_later_leaves_the_one_before_it_current",
        "RotatesAtOnce": "rotation_overlaps",
        "DeletesTheNewestOnly": "deleting_takes_all_versions",
        "RecoversTheNewestOnly": "a_deleted_secret_is_recovered_as_it_was",
        "SetsOverADeletedOne": "a_deleted_secret_is_recovered_as_it_was",
        "PurgesTheLiving": "a_purged_secret_is_gone_and_its_name_free",
        "LooksBeforeItWrites": "racing_writers_lose_no_version",
        "CachesForEver": "another_client_reads_what_was_written",
        "IsNotDurable": "everything_is_there_after_reopening",
    },
}
"""Port -> broken adapter -> the test of its suite, without ``test_``, that must fail."""

ROWS = [(port, mutant, test) for port, rows in CAUGHT_BY.items() for mutant, test in rows.items()]
NAMED = sorted({(port, test) for port, _, test in ROWS})

CAUGHT = (AssertionError, pytest.fail.Exception, LoomError, ValueError)
"""How a test of a suite fails. Any other error, a TypeError say, is the mutant's own mistake and proves nothing."""


def run(port: str, adapter: Any, test: str, tmp_path: Path) -> None:
    """Run one test of the port's suite on the adapter, which declares everything."""

    class UnderTest(SUITES[port][0]):  # type: ignore[misc]
        features = frozenset(Feature)
        durability = Durability.MACHINE

        def harness(self, tmp_path: Path) -> Harness[Any]:
            clock = ManualClock()
            world = adapter(clock=clock)
            return Harness(lambda: adapter.sharing(world), clock=clock)

    getattr(UnderTest(), f"test_{test}")(tmp_path)


def original(mutant: type[Any]) -> type[Any]:
    """The adapter that the mutant is made from."""
    return next(cls for cls in mutant.__mro__ if cls.__module__.startswith("loom.adapters."))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # coroutines that a failing test never came to
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("port", "mutant", "test"), ROWS, ids=[f"{port}-{mutant}" for port, mutant, _ in ROWS])
def test_the_mutant_is_caught(
    port: str, mutant: str, test: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_TEST_SECONDS", 10.0)
    with pytest.raises(CAUGHT):
        run(port, getattr(SUITES[port][1], mutant), test, tmp_path)


@pytest.mark.parametrize(("port", "test"), NAMED, ids=[f"{port}-{test}" for port, test in NAMED])
def test_the_original_passes(port: str, test: str, tmp_path: Path) -> None:
    mutant = next(mutant for of, mutant, by in ROWS if (of, by) == (port, test))
    run(port, original(getattr(SUITES[port][1], mutant)), test, tmp_path)


@pytest.mark.parametrize(("port", "mutant"), [(port, mutant) for port, mutant, test in ROWS if "linearizable" in test])
def test_no_other_test_catches_what_is_wrong_in_a_race_only(port: str, mutant: str, tmp_path: Path) -> None:
    """Otherwise the mutant would prove nothing of the check of histories."""
    for name in dir(SUITES[port][0]):
        if name.startswith("test_") and "linearizable" not in name:
            (tmp_path / name).mkdir()
            try:
                run(port, getattr(SUITES[port][1], mutant), name.removeprefix("test_"), tmp_path / name)
            except pytest.skip.Exception:
                pass


def test_the_list_is_complete() -> None:
    assert set(CAUGHT_BY) == set(SUITES) == set(PORTS) - UNBACKED_PORTS
    for port, (_, module) in SUITES.items():
        classes = {
            name for name, cls in inspect.getmembers(module, inspect.isclass)
            if cls.__module__ == module.__name__ and not name.startswith("_")
        }  # fmt: skip
        assert set(CAUGHT_BY[port]) == classes
        assert all((getattr(module, name).__doc__ or "").strip() for name in classes)
    assert len(ROWS) >= 25
