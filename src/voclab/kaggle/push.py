"""Sends a submission to Kaggle: checked before, never twice, written down, its score awaited.

It may be killed at any moment and given again at once: a file whose row in the log says that its sending was
begun is looked for in Kaggle's list before it is sent again.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from voclab import terminal
from voclab.errors import VoclabError
from voclab.files import read_json, sha256
from voclab.kaggle import log as logs
from voclab.kaggle.client import Refused, asking, check_competition, clean, kaggle_api
from voclab.kaggle.log import COMPLETE, ERROR, FAILED, PENDING, SENDING, Entry
from voclab.kaggle.rows import KINDS
from voclab.kaggle.table import check_submission
from voclab.revision import git_revision

LOG = "submissions/log.csv"
_UPLOAD_FAILED = "Could not submit to competition"  # the client's answer; it then made no submission
_LISTED = 100  # submissions asked for: several days of any competition
_UNCERTAIN = 30.0  # seconds in which a submission whose answer got lost may still turn up in the list
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
        pause: seconds between the first two looks at Kaggle's list; it grows.
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
        cut_off = [entry.time for entry in entries if _is_open(entry, competition, digest)]
        if cut_off:
            say(f"the last push of {path} was cut off; looking whether it arrived")
        entries, listed = _refreshed(api, entries, competition, digest, pause)
        for item in reversed(listed):  # sent from another machine, or with another log
            if _mark(digest) in item.description and item.ref not in {entry.ref for entry in entries}:
                facts = (item.date, competition, str(path), digest, item.description, "", "")
                entries.append(Entry(*facts, item.ref, item.status, item.public_score))
        if entries != logs.read(log):
            logs.write(log, entries)
        ours = [
            e for e in entries if (e.competition, e.sha256) == (competition, digest) and e.status != FAILED
        ]
        arrived = [entry for entry in ours if entry.time in cut_off]
        before = arrived or ([] if again else ours)
        if before:
            sent = before[-1]
            if not (wait or arrived):
                fate = f"public score {sent.public_score}" if sent.public_score else sent.status
                raise VoclabError(
                    f"{path} was sent to {competition} on {sent.time[:16]} UTC already (submission"
                    f" {sent.ref or 'of unknown number'}, {fate}); add --again to spend another one on it."
                )
            say(f"{path} is submission {sent.ref or '(number not known)'} already; it is not sent again")
        else:
            _require_allowance(api, path, competition, listed)
            sent = Entry(logs.now(), competition, str(path), digest, message, run, git_revision())
            say(" ".join([f"{path}: {report}; sending it to {address}", *report.remarks()]))
            entries = _send(api, [*entries, sent], log, pause)
            sent = entries[-1]
            say(f"sent as submission {sent.ref or '(number not known)'}")
    return _await_score(api, entries, sent, log, pause, patience, say) if wait else sent


class _Listed(NamedTuple):
    """A submission in Kaggle's list, its values as the log writes them."""

    ref: str
    date: str
    description: str
    status: str
    public_score: str


def _list(api, competition: str) -> list[_Listed]:
    """The account's newest submissions to a competition."""

    def value(item, name: str) -> str:
        return clean(getattr(item, name, None))

    with asking(competition):
        found = api.competition_submissions(competition, page_size=_LISTED)
        return [
            _Listed(
                value(item, "ref"),
                value(item, "date").replace(" ", "T"),
                str(getattr(item, "description", None) or ""),
                value(getattr(item, "status", None), "name").lower() or value(item, "status").lower(),
                value(item, "public_score"),
            )
            for item in found or []
            if item
        ]


def _is_open(entry: Entry, competition: str, digest: str) -> bool:
    """Whether an entry is of this file, and whether it arrived is not known."""
    return (entry.competition, entry.sha256, entry.status) == (competition, digest, SENDING)


def _refreshed(
    api, entries: Sequence[Entry], competition: str, digest: str, pause: float
) -> tuple[list[Entry], list[_Listed]]:
    """The entries with what became of them since, and Kaggle's list.

    What was begun with this file and is still not in the list after a while never arrived: it is left out.
    """
    until = time.monotonic() + _UNCERTAIN
    while True:
        listed = _list(api, competition)
        entries = _matched(entries, competition, listed)
        if not any(_is_open(entry, competition, digest) for entry in entries):
            return entries, listed
        if time.monotonic() >= until:
            return [entry for entry in entries if not _is_open(entry, competition, digest)], listed
        time.sleep(pause)


def _matched(entries: Sequence[Entry], competition: str, listed: Sequence[_Listed]) -> list[Entry]:
    """The entries with number, status and score from the list.

    By their number or, where that is not known, the checksum in the description.
    """
    known, matched = {entry.ref for entry in entries}, []
    for entry in reversed(entries):
        for item in listed if entry.competition == competition and entry.status != FAILED else []:
            unknown = not entry.ref and item.ref not in known and _mark(entry.sha256) in item.description
            if unknown or (item.ref and item.ref == entry.ref):
                known.add(item.ref)
                entry = replace(entry, ref=item.ref, status=item.status, public_score=item.public_score)
                break
        matched.insert(0, entry)
    return matched


def _mark(digest: str) -> str:
    return f"[sha256 {digest[:12]}]"


def _require_allowance(api, path: str | os.PathLike, competition: str, listed: Sequence[_Listed]) -> None:
    """Raise if Kaggle allows no more submissions now."""
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    with asking(competition):
        if hasattr(api, "competition_get_submission_limits"):  # which came with client 2.2
            limits = api.competition_get_submission_limits(competition)
            used, left = limits.num_today, limits.num_allowed_now
            if not left and not limits.num_total:  # the account's first submission makes its team
                return
        else:
            found = api.competitions_list(search=competition)
            of_it = [
                c for c in getattr(found, "competitions", found) or [] if c.ref.endswith(f"/{competition}")
            ]
            used = sum(item.date.startswith(today) and item.status != ERROR for item in listed)
            left = of_it[0].max_daily_submissions - used if of_it and of_it[0].max_daily_submissions else 1
    if left <= 0:
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        raise VoclabError(
            f"{path} was not sent: Kaggle allows no more submissions to {competition} today ({used} are used"
            f" up); send it again from {midnight:%Y-%m-%d %H:%M} UTC on."
        )


def _send(api, entries: list[Entry], log: str | os.PathLike, pause: float) -> list[Entry]:
    """Send the last of the entries, which is in the log before; returns them with what became of it."""
    *earlier, entry = entries
    logs.write(log, entries)
    why = "Kaggle's store did not take it, check the network"
    try:
        with asking(entry.competition):
            response = api.competition_submit(
                entry.file, f"{entry.message} {_mark(entry.sha256)}", entry.competition, quiet=True
            )
        if _UPLOAD_FAILED in (response, getattr(response, "message", None)):
            entry = replace(entry, status=FAILED)
        else:
            ref = clean(getattr(response, "ref", None))  # older clients do not tell it
            entry = replace(entry, ref=ref, status=PENDING)
    except Refused as error:
        entry, why = replace(entry, status=FAILED), str(error)
    except VoclabError as error:
        why = str(error)
        try:
            found, _ = _refreshed(api, entries, entry.competition, entry.sha256, pause)
            entry = next((e for e in found if e.time == entry.time), replace(entry, status=FAILED))
        except VoclabError:
            raise VoclabError(
                f"{entry.file} was sent, and whether it arrived is not known ({why.removesuffix('.')}); push"
                " it again, what has arrived is not sent twice."
            ) from None
    logs.write(log, [*earlier, entry])
    if entry.status == FAILED:
        raise VoclabError(f"{entry.file} was not sent, no submission is used up: {why.removesuffix('.')}.")
    return [*earlier, entry]


def _await_score(
    api,
    entries: list[Entry],
    sent: Entry,
    log: str | os.PathLike,
    pause: float,
    patience: float,
    say: Callable[[str], None],
) -> Entry:
    until, before = time.monotonic() + patience, sent
    while sent.status not in (COMPLETE, ERROR):
        if time.monotonic() > until:
            say(f"not scored yet (it is {sent.status}); the same command says the score later")
            return sent
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        entries = _matched(entries, sent.competition, _list(api, sent.competition))
        sent = next(entry for entry in entries if entry.time == sent.time)
    if sent != before:
        with logs.locked(log, patience=60):
            logs.write(log, [sent if entry.time == sent.time else entry for entry in logs.read(log)])
    if sent.status == ERROR:
        raise VoclabError(
            f"Kaggle could not score submission {sent.ref}, {sent.file}; see"
            f" {check_competition(sent.competition)}/submissions."
        )
    say(f"public score {sent.public_score or 'not shown by this competition'}")
    return sent


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
