"""Sends a submission to Kaggle: checked before, never twice, written down, its score awaited."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from voclab import terminal
from voclab.errors import VoclabError
from voclab.files import read_json, sha256
from voclab.kaggle_client import answered, check_competition, kaggle_api, quiet, reason, refusal
from voclab.revision import git_revision
from voclab.submission import log as logs
from voclab.submission.log import COMPLETE, ERROR, FAILED, PENDING, SENDING, Entry
from voclab.submission.rows import KINDS
from voclab.submission.table import check_submission

LOG = "submissions/log.csv"
_UPLOADS = 2  # a broken one is repeated once
_UPLOAD_FAILED = "Could not submit to competition"  # the client's answer; it then made no submission
_BEFORE_SUBMISSION = ("StartSubmissionUpload", "/submission-url")  # its first request, since and before 2.0
_LISTED = 100  # submissions asked for: several days of any competition
_UNCERTAIN = timedelta(minutes=10)  # so long a file whose answer got lost may still turn up in the list
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

    Args:
        path: the submission file.
        competition: its slug, the last part of its address.
        message: description on Kaggle; the file's name and the run that wrote it by default.
        wait: wait for the score.
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
        listed = _list(api, competition)
        entries = _update(log, entries, competition, listed)
        if not again:
            _refuse_repetition(path, competition, digest, entries, listed)
        _refuse_beyond_limit(path, competition, _allowance(api, competition), entries, listed)
        entry = Entry(logs.now(), competition, str(path), digest, message, run, git_revision())
        logs.write(log, [*entries, entry])
        say(f"{path}: {report}; sending it to {address}")
        earlier = {item.ref for item in listed}
        try:
            sent = _send(api, entry, earlier, pause, say)
        except _NotSent as error:
            logs.write(log, [*entries, replace(entry, status=FAILED)])
            raise VoclabError(f"{path} was not sent: {error}") from error
        logs.write(log, [*entries, sent])
    say(f"sent as submission {sent.ref or '(number not known)'}; written to {log}")
    return _await_score(api, sent, earlier, log, pause, patience, say) if wait else sent


class _NotSent(Exception):
    """The file did not become a submission; the text says why and what to do."""


@dataclass(frozen=True)
class _Listed:
    """A submission in Kaggle's list: ``status`` as in the log, ``date`` aware, UTC."""

    ref: str
    date: datetime
    description: str
    status: str
    public_score: str
    fault: str


def _list(api, competition: str) -> list[_Listed]:
    """The account's newest submissions to a competition."""
    try:
        with quiet():
            found = api.competition_submissions(competition, page_size=_LISTED)
    except requests.HTTPError as error:
        raise refusal(error, competition) from error
    except requests.RequestException as error:
        raise _unreachable(error) from error
    return [
        _Listed(
            ref=str(item.ref),
            date=item.date.replace(tzinfo=UTC),
            description=item.description or "",
            status=str(getattr(item.status, "name", item.status)).lower(),
            public_score=item.public_score or "",
            fault=" ".join((item.error_description or "").split()).rstrip("."),
        )
        for item in found or []
    ]


def _update(
    log: str | os.PathLike, entries: list[Entry], competition: str, listed: Sequence[_Listed]
) -> list[Entry]:
    """The entries, in the log too, with what became of the submissions to a competition since."""
    known = {entry.ref for entry in entries if entry.ref}
    updated = []
    for entry in entries:
        found = None
        if entry.competition == competition and entry.status != FAILED:
            found = _find(entry, listed, known)
            if found:
                known.add(found.ref)
                entry = _with(entry, found)
            elif entry.status == SENDING and datetime.now(UTC) - entry.when > _UNCERTAIN:
                entry = replace(entry, status=FAILED)  # the answer was never seen, and it did not arrive
        updated.append(entry)
    if updated != entries:
        logs.write(log, updated)
    return updated


def _find(entry: Entry, listed: Sequence[_Listed], known: set[str]) -> _Listed | None:
    """An entry's submission: by its number or, if that is not known, the checksum in its description."""
    if entry.ref:
        return next((item for item in listed if item.ref == entry.ref), None)
    return next(
        (item for item in listed if item.ref not in known and _mark(entry.sha256) in item.description), None
    )


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
        (item.date, item.ref, item.status, item.public_score)
        for item in listed
        if _mark(digest) in item.description
    ]
    if before:
        when, ref, status, score = max(before)
        if status == SENDING:
            raise VoclabError(
                f"{path} was sent to {competition} on {when:%Y-%m-%d %H:%M} UTC, and whether it arrived"
                f" is not known yet; try after {when + _UNCERTAIN:%H:%M} UTC, or add --again to send it now."
            )
        fate = f"public score {score}" if score else status
        raise VoclabError(
            f"{path} was sent to {competition} on {when:%Y-%m-%d %H:%M} UTC already (submission"
            f" {ref or 'of unknown number'}, {fate}); add --again to spend another one on the same file."
        )


@dataclass(frozen=True)
class _Allowance:
    """How many submissions count today, how many a day are allowed, and if the total is used up."""

    used: int
    daily: int
    total_reached: bool = False


def _allowance(api, competition: str) -> _Allowance | None:
    """What Kaggle says of today; ``None`` if it does not tell."""
    try:
        with quiet():
            if hasattr(api, "competition_get_submission_limits"):  # from client 2.2 on
                limits = api.competition_get_submission_limits(competition)
                if not (limits.num_allowed_now or limits.num_total or limits.num_today):
                    return None  # all zero: the account's first submission makes its team
                return _Allowance(
                    limits.num_today,
                    limits.num_today + limits.num_allowed_now,
                    limits.limited_by_total and not limits.num_allowed_now,
                )
            found = api.competitions_list(search=competition)
    except requests.HTTPError as error:
        raise refusal(error, competition) from error
    except requests.RequestException as error:
        raise _unreachable(error) from error
    for item in getattr(found, "competitions", found) or []:  # before client 2 a plain list
        if item.ref.rpartition("/")[2] == competition and item.max_daily_submissions:
            return _Allowance(0, item.max_daily_submissions)
    return None


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
    in_list = sum(item.date.date() == today and item.status != ERROR for item in listed)
    in_log = sum(
        entry.competition == competition
        and entry.when.date() == today
        and entry.status in (SENDING, PENDING, COMPLETE)
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


def _send(api, entry: Entry, earlier: set[str], pause: float, say: Callable[[str], None]) -> Entry:
    """Upload the file and make it a submission; ``_NotSent`` if it surely did not become one.

    Only what cannot have made a submission is repeated: the upload, and the request before it.
    """
    description = f"{entry.message} {_mark(entry.sha256)}"
    why = "Kaggle's store did not take it"
    for attempt in range(1, _UPLOADS + 1):
        if attempt > 1:
            say(f"the upload broke off ({why}); once more")
        try:
            with quiet():
                response = api.competition_submit(entry.file, description, entry.competition, quiet=True)
        except (requests.RequestException, ValueError) as error:
            address = getattr(getattr(error, "request", None), "url", None) or ""
            status, said = answered(error) if isinstance(error, requests.HTTPError) else (0, "")
            if status and status < 500 and status != 408:
                raise _NotSent(_reason_not_sent(error, entry.competition, said)) from error
            why = f"Kaggle answered {status}" if status else reason(error)
            if not any(name in address for name in _BEFORE_SUBMISSION):
                return _look_for(api, entry, earlier, why, pause, error)
            continue
        if _UPLOAD_FAILED in (response, getattr(response, "message", None)):
            continue
        ref = getattr(response, "ref", None)
        if ref:
            return replace(entry, ref=str(ref), status=PENDING)
        found = _newest(api, entry, earlier)  # older clients do not tell the number
        return _with(entry, found) if found else replace(entry, status=PENDING)
    raise _NotSent(
        f"the upload broke off {_UPLOADS} times ({why}), no submission is used up; check the network and"
        " push it again."
    )


def _reason_not_sent(error: requests.HTTPError, competition: str, said: str) -> str:
    if any(word in said.lower() for word in ("allowance", "daily limit", "submission limit")):
        return f"Kaggle says “{said}”; send it again {_next_day()}."
    return str(refusal(error, competition))


def _look_for(api, entry: Entry, earlier: set[str], why: str, pause: float, error: Exception) -> Entry:
    """After the answer was lost: whether the submission arrived is in Kaggle's list."""
    for look in range(3):
        time.sleep(pause * look)
        try:
            found = _newest(api, entry, earlier)
        except VoclabError:
            continue  # the network is still away: the sentence below says what is not known
        if found:
            return _with(entry, found)
    raise VoclabError(
        f"{entry.file} was sent, but the answer was lost ({why}) and it is not in Kaggle's list; push it"
        f" again in {_UNCERTAIN.seconds // 60} minutes: if it has arrived by then, it is not sent twice."
    ) from error


def _newest(api, entry: Entry, earlier: set[str]) -> _Listed | None:
    return _find(entry, _list(api, entry.competition), earlier)


def _await_score(
    api,
    entry: Entry,
    earlier: set[str],
    log: str | os.PathLike,
    pause: float,
    patience: float,
    say: Callable[[str], None],
) -> Entry:
    until = time.monotonic() + patience
    while True:
        found = _newest(api, entry, earlier)
        if found and found.status != PENDING:
            break
        if time.monotonic() + pause > until:
            say("not scored yet; the same command says the score later, and sends nothing")
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
    say(f"public score {scored.public_score or 'not shown by this competition'}")
    return scored


def _run_of(path: str | os.PathLike, digest: str) -> str:
    """The notebook's run that wrote this very file, found by its checksum in the record of the run."""
    for record in sorted(Path(path).resolve().parent.parent.glob("figures/*/run.json")):
        facts = read_json(record)
        if digest in facts.get("submissions", {}).values():
            return (
                f"{record.parent.name}, profile {facts['profile']}, seed {facts['seed']}, git {facts['git']}"
            )
    return ""


def _unreachable(error: Exception) -> VoclabError:
    return VoclabError(f"Kaggle cannot be reached ({reason(error)}); check the network.")
