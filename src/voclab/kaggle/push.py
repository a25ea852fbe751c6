"""Sends a submission to Kaggle: checked before, never twice, written down, its score awaited.

It may be killed at any moment and given again at once. Its row in the log tells the next one how far it
came: ``sending`` made no submission; after ``submitting`` Kaggle's list tells whether there is one.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from voclab import terminal
from voclab.errors import VoclabError
from voclab.files import read_json, sha256
from voclab.kaggle import log as logs
from voclab.kaggle.client import (
    answered,
    asking,
    check_competition,
    clean,
    kaggle_api,
    quiet,
    reason,
    refusal,
)
from voclab.kaggle.log import COMPLETE, ERROR, FAILED, PENDING, SENDING, SUBMITTING, Entry
from voclab.kaggle.rows import KINDS
from voclab.kaggle.table import check_submission
from voclab.revision import git_revision

LOG = "submissions/log.csv"
_UPLOADS = 2  # a broken one is repeated once
_UPLOAD_FAILED = "Could not submit to competition"  # the client's answer; it then made no submission
_LISTED = 100  # submissions asked for: several days of any competition
_UNCERTAIN = timedelta(seconds=30)  # so long a submission whose answer got lost may still turn up in the list
_UNDONE = (SENDING, SUBMITTING, FAILED)
_STATUSES = (PENDING, COMPLETE, ERROR)  # by Kaggle's numbers
_UNKNOWN = datetime.min.replace(tzinfo=UTC)  # a date that cannot be read
_MINUTE = "%Y-%m-%d %H:%M UTC"
_LONGEST_PAUSE = 30.0  # seconds between two looks at the score


def push_submission(
    path: str | os.PathLike,
    competition: str,
    message: str | None = None,
    *,
    wait: bool = False,
    again: bool = False,
    ids: Iterable[Any] | None = None,
    shapes: Mapping[Any, tuple[int, int]] | None = None,
    log: str | os.PathLike = LOG,
    pause: float = 2.0,
    patience: float = 1800.0,
    say: Callable[[str], None] = terminal.say,
) -> Entry:
    """Check a submission file and send it to a competition with the official client.

    Nothing is sent if the file has a fault or only one kind of rows, if it was sent before, or if the
    day's submissions are used up. The description on Kaggle ends with the beginning of the file's SHA-256:
    by it a file is known again that was sent from another machine, or whose answer got lost on the way.
    A push that was killed goes on where it was: what has arrived is not sent again.

    Args:
        path: the submission file.
        competition: its slug, the last part of its address.
        message: description on Kaggle; the file's name and the run that wrote it by default.
        wait: wait for the score; of a file that was sent before it is said, and nothing is sent.
        again: send a file that was sent before.
        ids: the competition's test ids, see ``check_submission``.
        shapes: sizes of its images, see ``check_submission``.
        log: the log that every submission is written to.
        pause: seconds between the first two looks at the score; it grows.
        patience: seconds after which waiting ends, without an error.
        say: receives lines about the progress.

    Returns:
        The submission's row in the log.

    Raises:
        VoclabError: any of the above; wrong or no credentials, competition not joined, no network; Kaggle
            refused the file or could not score it.
    """
    address = check_competition(competition)
    report = check_submission(path, ids, shapes)
    missing = [kind for kind in KINDS if kind not in report.kinds]
    if missing:
        raise VoclabError(
            f"{path} was not sent: it has no {missing[0]} rows, and Kaggle wants both kinds; join two files"
            " with `voclab submit merge`."
        )
    digest = sha256(path)
    run = _run_of(path, digest)
    message = " ".join((message or f"{Path(path).name}{f' of {run}' if run else ''}").split())
    with logs.locked(log):
        entries = logs.read(log)
        api = kaggle_api()
        ours = [entry for entry in entries if entry.competition == competition and entry.sha256 == digest]
        left = {e.time for e in ours if e.status in (SENDING, SUBMITTING)}  # by pushes that were killed
        for entry in ours:
            if entry.status == SUBMITTING:
                say(f"the last push of {path} was cut off; looking whether it arrived")
                _arrived(api, entry, _refs(entries), pause, "that push was cut off")
        listed = _list(api, competition)
        updated = [
            e for e in _updated(entries, competition, listed) if e.time not in left or e.status not in _UNDONE
        ]
        if updated != entries:
            logs.write(log, updated)
        if wait and not again:  # what was sent before is not sent again to say its score
            left |= {entry.time for entry in ours}
        sent = next((e for e in reversed(updated) if e.time in left and e.status not in _UNDONE), None)
        earlier = _refs(listed)
        if sent:
            say(f"{path} is submission {sent.ref or '(number not known)'} already; it is not sent again")
        else:
            if not again:
                _refuse_repetition(path, competition, digest, updated, listed)
            _refuse_beyond_limit(path, competition, _allowance(api, competition), updated, listed)
            entry = Entry(logs.now(), competition, str(path), digest, message, run, git_revision())
            say(" ".join([f"{path}: {report}; sending it to {address}", *report.remarks()]))
            sent = _send(api, entry, lambda row: logs.write(log, [*updated, row]), earlier, pause, say)
            try:
                logs.write(log, [*updated, sent])
            finally:  # also where the log cannot be written
                say(f"sent as submission {sent.ref or '(number not known)'}")
    return _await_score(api, sent, earlier, log, pause, patience, say) if wait else sent


@dataclass(frozen=True)
class _Listed:
    """A submission in Kaggle's list: ``status`` as in the log, ``date`` aware, UTC, where it can be read."""

    ref: str
    date: datetime | None
    description: str
    status: str
    public_score: str
    fault: str


def _list(api, competition: str) -> list[_Listed]:
    """The account's newest submissions to a competition."""
    with asking(competition):
        found = api.competition_submissions(competition, page_size=_LISTED)
        return [
            _Listed(
                ref=clean(getattr(item, "ref", None)),
                date=_date(getattr(item, "date", None)),
                description=str(getattr(item, "description", None) or ""),
                status=_status(getattr(item, "status", None)),
                public_score=clean(getattr(item, "public_score", None)),
                fault=clean(getattr(item, "error_description", None)).rstrip("."),
            )
            for item in found or []
            if item
        ]


def _date(value: object) -> datetime | None:
    try:
        value = datetime.fromisoformat(value) if isinstance(value, str) else value
        return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None


def _status(value: object) -> str:
    """A status as the log writes it; Kaggle's own word, if it is none of those."""
    if type(value) is int and 0 <= value < len(_STATUSES):
        return _STATUSES[value]
    return clean(getattr(value, "name", value)).rpartition(".")[2].lower() or "of unknown status"


def _refs(rows: Iterable[Entry | _Listed]) -> set[str]:
    return {row.ref for row in rows if row.ref}


def _updated(entries: Sequence[Entry], competition: str, listed: Sequence[_Listed]) -> list[Entry]:
    """The entries with what became of the submissions to a competition since."""
    known, updated = _refs(entries), []
    for entry in reversed(entries):
        found = None
        if entry.competition == competition and entry.status != SENDING:
            found = _find(entry, listed, known)
        if found:
            known.add(found.ref)
            entry = _with(entry, found)
        elif entry.status == SENDING or (
            entry.status == SUBMITTING and datetime.now(UTC) - entry.when > _UNCERTAIN
        ):
            entry = replace(entry, status=FAILED)  # whoever sent it was killed: we hold the lock
        updated.insert(0, entry)
    return updated


def _find(entry: Entry, listed: Sequence[_Listed], known: set[str]) -> _Listed | None:
    """An entry's submission: by its number or, if that is not known, the checksum in its description."""
    if entry.ref:
        return next((item for item in listed if item.ref == entry.ref), None)
    return next(
        (item for item in listed if item.ref not in known and _mark(entry.sha256) in item.description), None
    )


def _arrived(api, entry: Entry, known: set[str], pause: float, why: str) -> _Listed | None:
    """The submission of an entry whose answer was not seen; ``None`` if it is certain that there is none."""
    certain = min(entry.when + _UNCERTAIN - datetime.now(UTC), _UNCERTAIN)  # not by a clock that was wrong
    until = time.monotonic() + certain.total_seconds()
    while True:
        over = time.monotonic() >= until
        try:
            found = _find(entry, _list(api, entry.competition), known)
        except VoclabError as error:
            if over:
                raise VoclabError(
                    f"{entry.file} was sent, and whether it arrived is not known ({why}):"
                    f" {str(error).removesuffix('.')}; push it again, what has arrived is not sent twice."
                ) from None
            found = None
        if found or over:
            return found
        time.sleep(pause)


def _with(entry: Entry, found: _Listed) -> Entry:
    return replace(entry, ref=found.ref, status=found.status, public_score=found.public_score)


def _mark(digest: str) -> str:
    return f"[sha256 {digest[:12]}]"


def _refuse_repetition(
    path: str | os.PathLike,
    competition: str,
    digest: str,
    entries: Sequence[Entry],
    listed: Sequence[_Listed],
) -> None:
    before = [
        (entry.when, entry.ref, entry.status, entry.public_score)
        for entry in entries
        if entry.competition == competition and entry.sha256 == digest and entry.status != FAILED
    ]
    before += [
        (item.date or _UNKNOWN, item.ref, item.status, item.public_score)
        for item in listed
        if _mark(digest) in item.description
    ]
    if before:
        when, ref, status, score = max(before)
        on = f" on {when:{_MINUTE}}" if when != _UNKNOWN else ""
        fate = f"public score {score}" if score else status
        raise VoclabError(
            f"{path} was sent to {competition}{on} already (submission {ref or 'of unknown number'},"
            f" {fate}); add --again to spend another one on the same file."
        )


@dataclass(frozen=True)
class _Allowance:
    """How many submissions count today, how many a day are allowed, and if the total is used up."""

    used: int
    daily: int
    total_reached: bool = False


def _allowance(api, competition: str) -> _Allowance | None:
    """What Kaggle says of today; ``None`` if it does not tell, or not in numbers."""
    with asking(competition):
        if not hasattr(api, "competition_get_submission_limits"):  # which came with client 2.2
            found = api.competitions_list(search=competition)
            for item in getattr(found, "competitions", found) or []:  # before client 2 a plain list
                if item.ref.rpartition("/")[2] == competition and item.max_daily_submissions:
                    return _Allowance(0, item.max_daily_submissions)
            return None
        limits = api.competition_get_submission_limits(competition)
    counts = [getattr(limits, f"num_{name}", None) for name in ("today", "allowed_now", "total")]
    if not any(counts) or not all(type(count) is int for count in counts):
        return None  # all zero: the account's first submission makes its team
    today, left, _ = counts
    return _Allowance(today, today + left, bool(getattr(limits, "limited_by_total", False)) and not left)


def _refuse_beyond_limit(
    path: str | os.PathLike,
    competition: str,
    allowance: _Allowance | None,
    entries: Sequence[Entry],
    listed: Sequence[_Listed],
) -> None:
    """Kaggle's count can lag behind its list, and both behind our log: the largest holds."""
    if allowance is None:
        return
    if allowance.total_reached:
        raise VoclabError(
            f"{path} was not sent: all submissions that {competition} allows a team are used up; choose"
            " among those that are there."
        )
    today = datetime.now(UTC).date()
    in_list = sum(
        item.status != ERROR and item.date is not None and item.date.date() == today for item in listed
    )
    in_log = sum(
        entry.competition == competition
        and entry.when.date() == today
        and entry.status in (SUBMITTING, PENDING, COMPLETE)
        for entry in entries
    )
    used = max(allowance.used, in_list, in_log)
    if used >= allowance.daily:
        raise VoclabError(
            f"{path} was not sent: {used} of {allowance.daily} submissions to {competition} are used up"
            f" today; send it again {_next_day()}."
        )


def _next_day() -> str:
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    minutes = int((midnight - now).total_seconds()) // 60 + 1
    return f"from {midnight:%Y-%m-%d %H:%M} UTC on, in {minutes // 60} h {minutes % 60} min"


def _send(
    api,
    entry: Entry,
    save: Callable[[Entry], None],
    earlier: set[str],
    pause: float,
    say: Callable[[str], None],
) -> Entry:
    """Upload the file and make it a submission, with its row in the log ahead of each of the two steps.

    Only the upload is repeated, which makes no submission.
    """
    sent, why = entry, "Kaggle's store did not take it"

    def submitting() -> None:
        nonlocal sent
        sent = replace(entry, time=logs.now(), status=SUBMITTING)
        save(sent)

    def not_sent(why: str) -> VoclabError:
        save(replace(entry, status=FAILED))
        return VoclabError(f"{entry.file} was not sent: {why.removesuffix('.')}.")

    for attempt in range(_UPLOADS):
        if attempt:
            say(f"the upload broke off ({why}); once more")
        sent = entry
        save(sent)
        try:
            with quiet(), _after_upload(api, submitting):
                response = api.competition_submit(
                    entry.file, f"{entry.message} {_mark(entry.sha256)}", entry.competition, quiet=True
                )
        except VoclabError:  # the log could not be written
            raise
        except Exception as error:  # the client takes an answer apart without looking
            status, said = answered(error) if isinstance(error, requests.HTTPError) else (0, "")
            if status and status < 500 and status != 408:
                raise not_sent(_reason_not_sent(error, entry.competition, said)) from None
            why = f"Kaggle answered {status}" if status else reason(error)
            if sent is entry:
                continue
        else:
            if _UPLOAD_FAILED in (response, getattr(response, "message", None)):
                continue
            ref = clean(getattr(response, "ref", None))  # older clients do not tell it
            return replace(sent, ref=ref, status=PENDING)
        found = _arrived(api, sent, earlier, pause, why)
        if found:
            return _with(sent, found)
        raise not_sent(f"the answer was lost ({why}) and it is not in Kaggle's list; push it again")
    raise not_sent(
        f"the upload broke off {_UPLOADS} times ({why}), no submission is used up; check the network and"
        " push it again"
    )


@contextmanager
def _after_upload(api, note: Callable[[], None]) -> Iterator[None]:
    """Call ``note`` between the client's upload and the request that makes a submission of it."""
    upload = api.upload_complete

    def uploaded(*arguments, **options):
        result = upload(*arguments, **options)
        note()
        return result

    api.upload_complete = uploaded
    try:
        yield
    finally:
        api.upload_complete = upload


def _reason_not_sent(error: requests.HTTPError, competition: str, said: str) -> str:
    if any(word in said.lower() for word in ("allowance", "daily limit", "submission limit")):
        return f"Kaggle says “{said}”; send it again {_next_day()}."
    return str(refusal(error, competition))


def _await_score(
    api,
    entry: Entry,
    earlier: set[str],
    log: str | os.PathLike,
    pause: float,
    patience: float,
    say: Callable[[str], None],
) -> Entry:
    if entry.status == COMPLETE:
        say(_score(entry))
        return entry
    until = time.monotonic() + patience
    while True:
        found = _find(entry, _list(api, entry.competition), earlier)
        if found and found.status in (COMPLETE, ERROR):
            break
        if time.monotonic() + pause > until:
            status = f" (it is {found.status})" if found and found.status != PENDING else ""
            say(f"not scored yet{status}; the same command says the score later, and sends nothing")
            return entry
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    scored = _with(entry, found)
    with logs.locked(log, patience=60):
        logs.write(log, [scored if old.time == entry.time else old for old in logs.read(log)])
    if scored.status == ERROR:
        raise VoclabError(
            f"Kaggle could not score submission {scored.ref}, {entry.file}"
            f" ({found.fault or 'no reason given'}); see {check_competition(entry.competition)}/submissions."
        )
    say(_score(scored))
    return scored


def _score(entry: Entry) -> str:
    return f"public score {entry.public_score or 'not shown by this competition'}"


def _run_of(path: str | os.PathLike, digest: str) -> str:
    """The notebook's run that wrote this very file, found by its checksum in the record of the run."""
    for record in sorted(Path(path).resolve().parent.parent.glob("figures/*/run.json")):
        try:
            facts = read_json(record, dict)
            if digest in facts["submissions"].values():
                settings = f"profile {facts['profile']}, seed {facts['seed']}, git {facts['git']}"
                return f"{record.parent.name}, {settings}"
        except (VoclabError, KeyError, AttributeError):  # a damaged record keeps no file from being sent
            continue
    return ""
