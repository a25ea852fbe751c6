"""Sends a submission to Kaggle: checked before, never twice, written down, its score awaited.

It may be killed at any moment and given again at once: a file whose row in the log says that its sending was
begun is looked for in Kaggle's list before it is sent again.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from voclab.errors import VoclabError
from voclab.files import read_json, sha256
from voclab.kaggle import log as logs
from voclab.kaggle.client import Refused, asking, check_competition, clean, kaggle_api
from voclab.kaggle.log import COMPLETE, ERROR, FAILED, PENDING, SENDING, Entry
from voclab.kaggle.rows import KINDS
from voclab.kaggle.table import check_submission
from voclab.revision import git_revision
from voclab.terminal import say

LOG = "submissions/log.csv"
_UPLOAD_FAILED = "Could not submit to competition"  # the client's answer; it then made no submission
_LISTED = 100  # submissions asked for: several days of any competition
_UNCERTAIN = 30.0  # seconds in which a submission whose answer got lost may still turn up in the list
_PAUSE, _LONGEST_PAUSE = 2.0, 30.0  # seconds between two looks at the list; the pauses grow
_PATIENCE = 1800.0  # seconds after which waiting for the score ends, without an error


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
        wait: wait for the score, half an hour at most; for a file that was sent before, of that submission.
        again: send a file that was sent before.
        ids: the competition's test ids, see ``check_submission``.
        shapes: sizes of its images, see ``check_submission``.
        log: the log that every submission is written to.

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
    with logs.locked(log):
        kept = logs.read(log)
        api = kaggle_api()
        cut_off = {e.time for e in kept if e.status == SENDING and e.is_of(competition, digest)}
        if cut_off:
            say(f"the last push of {path} was cut off; looking whether it arrived")
        entries, listed = _settled(api, kept, competition, digest)
        entries = [e for e in entries if not (e.time in cut_off and e.status == FAILED)]
        known = {entry.ref for entry in entries}
        entries += [  # sent from another machine, or with another log
            replace(item, file=str(path), sha256=digest)
            for item in reversed(listed)
            if item.ref not in known and _mark(digest) in item.message
        ]
        if entries != kept:
            logs.write(log, entries)
        ours = [e for e in entries if e.is_of(competition, digest) and e.status != FAILED]
        arrived = [entry for entry in ours if entry.time in cut_off]
        if before := arrived or ([] if again else ours):
            sent = before[-1]
            if not (wait or arrived):
                fate = f"public score {sent.public_score}" if sent.public_score else sent.status
                raise VoclabError(
                    f"{path} was sent to {competition} on {sent.time[:16]} UTC already (submission"
                    f" {sent.ref}, {fate}); add --again to spend another one on it."
                )
            say(f"{path} is submission {sent.ref} already; it is not sent again")
        else:
            _require_allowance(api, path, competition)
            run = _run_of(path, digest)
            message = " ".join((message or f"{Path(path).name}{f' of {run}' if run else ''}").split())
            say(" ".join([f"{path}: {report}; sending it to {address}", *report.remarks()]))
            begun = Entry(logs.now(), competition, str(path), digest, message, run, git_revision())
            sent = _send(api, [*entries, begun], log)
            say(f"sent as submission {sent.ref}")
    return _await_score(api, sent, log) if wait else sent


def _list(api, competition: str) -> list[Entry]:
    """The account's newest submissions to a competition, newest first; file and checksum are not known."""
    with asking(competition):
        return [
            Entry(
                time=clean(item.date).replace(" ", "T"),
                competition=competition,
                file="",
                sha256="",
                message=str(item.description or ""),
                run="",
                git="",
                ref=clean(item.ref),
                status=clean(getattr(item.status, "name", item.status)).lower(),
                public_score=clean(item.public_score),
            )
            for item in api.competition_submissions(competition, page_size=_LISTED) or []
        ]


def _settled(api, entries: Sequence[Entry], competition: str, digest: str) -> tuple[list[Entry], list[Entry]]:
    """The entries with what became of them since, and Kaggle's list.

    What was begun with this file and is still not in the list after a while never arrived: it has failed.
    """
    until = time.monotonic() + _UNCERTAIN
    while True:
        listed = _list(api, competition)
        entries = _matched(entries, listed)
        unknown = [e for e in entries if e.status == SENDING and e.is_of(competition, digest)]
        if not unknown or time.monotonic() >= until:
            return [replace(e, status=FAILED) if e in unknown else e for e in entries], listed
        time.sleep(_PAUSE)


def _matched(entries: Sequence[Entry], listed: Sequence[Entry]) -> list[Entry]:
    """The entries with number, status and score from the list of a competition.

    By their number or, where that is not known, by the checksum in the description.
    """
    known, matched = {entry.ref for entry in entries}, []
    for entry in reversed(entries):  # the newest first, as they are listed
        for item in listed if entry.status != FAILED else []:
            unknown = not entry.ref and item.ref not in known and _mark(entry.sha256) in item.message
            if entry.competition == item.competition and (unknown or entry.ref == item.ref):
                known.add(item.ref)
                entry = replace(entry, ref=item.ref, status=item.status, public_score=item.public_score)
                break
        matched.insert(0, entry)
    return matched


def _mark(digest: str) -> str:
    return f"[sha256 {digest[:12]}]"


def _require_allowance(api, path: str | os.PathLike, competition: str) -> None:
    """Raise if Kaggle allows no more submissions now; clients before 2.2 learn that by sending."""
    if not hasattr(api, "competition_get_submission_limits"):
        return
    with asking(competition):
        limits = api.competition_get_submission_limits(competition)
        # The account's first submission makes its team, which is allowed nothing before.
        used_up = limits.num_allowed_now <= 0 and limits.num_total > 0
    if used_up:
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        raise VoclabError(
            f"{path} was not sent: Kaggle allows no more submissions to {competition} today"
            f" ({limits.num_today} are used up); send it again from {midnight:%Y-%m-%d %H:%M} UTC on."
        )


def _send(api, entries: list[Entry], log: str | os.PathLike) -> Entry:
    """Send the last of the entries, which is written into the log before, and again with its fate."""
    logs.write(log, entries)
    entry = entries[-1]
    why = "Kaggle's store did not take it, check the network"
    try:
        with asking(entry.competition):
            response = api.competition_submit(
                entry.file, f"{entry.message} {_mark(entry.sha256)}", entry.competition, quiet=True
            )
        if _UPLOAD_FAILED in (response, getattr(response, "message", None)):
            entry = replace(entry, status=FAILED)
        else:
            entry = replace(entry, ref=clean(getattr(response, "ref", None)), status=PENDING)
    except Refused as error:
        entry, why = replace(entry, status=FAILED), str(error)
    except VoclabError as error:
        why = str(error)
        try:
            entry = _settled(api, entries, entry.competition, entry.sha256)[0][-1]
        except VoclabError:
            raise VoclabError(
                f"{entry.file} was sent, and whether it arrived is not known ({why.removesuffix('.')}); push"
                " it again, what has arrived is not sent twice."
            ) from None
    logs.write(log, [*entries[:-1], entry])
    if entry.status == FAILED:
        raise VoclabError(f"{entry.file} was not sent, no submission is used up: {why.removesuffix('.')}.")
    return entry


def _await_score(api, sent: Entry, log: str | os.PathLike) -> Entry:
    until, pause, before = time.monotonic() + _PATIENCE, _PAUSE, sent
    while sent.status not in (COMPLETE, ERROR):
        if time.monotonic() > until:
            say(f"not scored yet (it is {sent.status}); the same command says the score later")
            return sent
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        sent = _matched([sent], _list(api, sent.competition))[0]
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
