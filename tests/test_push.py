"""Submissions sent with the real Kaggle client to a local server that speaks its protocol."""

import base64
import csv
import json
import os
import subprocess
import sys
import traceback
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from local_server import KEY, TOKEN, USER, Kaggle
from voc_trees import content, fails, make_tree

from voclab import cli, kaggle
from voclab.data import load
from voclab.errors import VoclabError
from voclab.files import sha256, writing_error
from voclab.kaggle import log as logs
from voclab.kaggle.client import kaggle_api
from voclab.kaggle.export import export
from voclab.reporting.session import Session

SLUG = "kul-computer-vision-ga-2-2026"
FILE = "submission.csv"
LOG = Path("submissions/log.csv")  # in the test's own working folder


@pytest.fixture
def said(capfd):
    """Everything printed so far, however often it is asked."""
    lines = []

    def printed():
        lines.extend(capfd.readouterr())
        return "".join(lines)

    return printed


@pytest.fixture
def server(tmp_path, monkeypatch, said):
    """The server, with credentials in the environment; at the end no secret is in any output or file."""
    served = Kaggle(SLUG)
    environment = served.environment(tmp_path / "home")
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr("voclab.kaggle.push._PAUSE", 0)
    yield served
    served.close()
    everything = said().encode() + b"".join(content(tmp_path / "project").values())
    for secret in (KEY, TOKEN):
        assert secret.encode() not in everything


@pytest.fixture
def file(server):
    return _write(FILE)


def _write(path, seed=0, ids=("7", "3"), **without):
    rng = np.random.default_rng(seed)
    rows = {
        "labels": rng.integers(0, 2, (len(ids), 20)).astype(np.uint8),
        "label_maps": [rng.integers(0, 21, (12, 9)).astype(np.uint8) for _ in ids],
    }
    kaggle.write_submission(path, ids, **{**rows, **without})
    return path


def push(path=FILE, **options):
    return kaggle.push_submission(path, SLUG, **options)


def push_fails(pattern, path=FILE, **options):
    return fails(pattern, push, path, **options)


def log():
    with open(LOG, newline="") as file:
        return list(csv.DictReader(file))


def test_a_file_is_sent_scored_and_written_down(server, file, said):
    server.looks = 3
    entry = push(message="first\n try", wait=True)
    assert server.stored["token1"] == Path(file).read_bytes()
    assert [s["description"] for s in server.submissions] == [f"first try [sha256 {sha256(file)[:12]}]"]
    assert entry.public_score == "0.61234"
    assert "public score 0.61234" in said()
    (row,) = log()
    assert abs(datetime.now(UTC) - datetime.fromisoformat(row.pop("time"))) < timedelta(minutes=5)
    assert row.pop("git")
    assert row == {
        "competition": SLUG,
        "file": file,
        "sha256": sha256(file),
        "message": "first try",
        "run": "",
        "ref": "1000",
        "status": "complete",
        "public_score": "0.61234",
    }
    assert set(content(Path())) == {FILE, "submissions/log.csv"}


def test_the_command_says_the_same(server, file, said):
    assert cli.main(["submit", "push", file, "--competition", SLUG, "--wait", "--message", "ok"]) == 0
    assert "public score 0.61234" in said()
    assert cli.main(["submit", "push", file, "--competition", SLUG]) == 2
    assert "add --again" in said()
    assert cli.main(["submit", "push", file, "--competition", SLUG, "--again"]) == 0
    assert [row["status"] for row in log()] == ["complete", "pending"]


def test_without_waiting_the_score_comes_into_the_log_at_the_next_push(server, file):
    server.looks = 1
    assert push().status == "pending"
    assert push(_write("second.csv", 1)).status == "pending"
    push_fails("add --again")
    assert [row["public_score"] for row in log()] == ["0.61234", "0.61234"]


def test_waiting_has_an_end_and_can_be_taken_up_again(server, file, said, monkeypatch):
    server.looks = 99
    with monkeypatch.context() as patched:
        patched.setattr("voclab.kaggle.push._PATIENCE", -1)
        assert push(wait=True).status == "pending"
    assert "not scored yet (it is pending); the same command says the score later" in said()
    server.looks = 0
    assert push(wait=True).public_score == "0.61234"
    server.submissions.clear()  # Kaggle's list is not endless
    assert push(wait=True).public_score == "0.61234"
    assert "is submission 1000 already; it is not sent again\npublic score 0.61234" in said()
    assert server.calls.count("CreateSubmission") == len(log()) == 1


def test_what_kaggle_cannot_score_is_an_error(server, file):
    server.outcome = {"status": "ERROR", "errorDescription": "Row 3 is wrong."}
    push_fails(f"could not score submission 1000, .*/{SLUG}/submissions", wait=True)
    assert log()[0]["status"] == "error"


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("without", "missing"), [("labels", "classification"), ("label_maps", "segmentation")]
)
def test_a_file_with_one_kind_of_rows_is_not_sent(server, without, missing):
    push_fails(f"no {missing} rows, and Kaggle wants both", _write(FILE, **{without: None}))
    assert server.calls == []
    assert not os.path.exists("submissions")


def test_a_faulty_file_is_not_sent(server, file, tmp_path, said):
    make_tree(tmp_path / "voc")
    train, test = (load("voc2009", tmp_path / "voc", split) for split in ("train", "val"))
    export(train, test, f"data/{SLUG}", progress=False)
    assert cli.main(["submit", "push", file, "--competition", SLUG]) == 2
    assert "'7_classification' is of none of the 4 expected ids" in said()
    with open(file, "a") as appended:
        appended.write("9_classification,1 0\n9_segmentation,\n")
    push_fails(f"{FILE}, line 6, column Predicted")
    push_fails("missing", "gone.csv")
    assert server.calls == []


def test_the_same_content_is_not_sent_twice_without_being_asked(server, file):
    push()
    os.rename(file, "renamed.csv")
    said = r"was sent to .* UTC already \(submission 1000, public score 0.61234\); add --again"
    push_fails(said, "renamed.csv")
    push("renamed.csv", again=True)
    assert [row["ref"] for row in log()] == ["1000", "1001"]
    push(_write(FILE, 1))
    assert len(log()) == 3


def test_a_file_sent_from_another_machine_is_known_again(server, file):
    push()
    LOG.unlink()
    push_fails("submission 1000, public score 0.61234")
    assert [row["ref"] for row in log()] == ["1000"]


def test_two_pushes_at_the_same_time(server, file):
    with logs.locked(LOG):
        push_fails(r"The log submissions/log.csv is in use by another process \(number \d+\); wait")
    push()


# The daily limit


def test_the_daily_limit_is_said_before(server, file):
    server.daily = 2
    server.add()
    server.add(status="ERROR")  # does not count
    server.add(date="2020-01-01T00:00:00Z")
    push()
    sent = server.calls.count("StartSubmissionUpload")
    message = push_fails(r"no more submissions to .* today \(2 are used up\)", _write("second.csv", 1))
    assert f"again from {datetime.now(UTC) + timedelta(days=1):%Y-%m-%d} 00:00 UTC on" in message
    assert server.calls.count("StartSubmissionUpload") == sent
    assert len(log()) == 1


def test_a_limit_that_only_the_last_step_tells(server, file, monkeypatch):
    # As clients before 2.2 do.
    monkeypatch.delattr(type(kaggle_api()), "competition_get_submission_limits", raising=False)
    server.faults["CreateSubmission"] = ["Your team has used its Submission allowance (5 of 5)."]
    push_fails(r"was not sent, .*: Kaggle answered 400 .*“Your team has used its .*try again later")
    assert log()[0]["status"] == "failed"
    assert push().ref == "1000"  # nothing was sent: no --again needed


# Credentials and rights


def test_a_wrong_key(server, file, monkeypatch):
    monkeypatch.setenv("KAGGLE_KEY", "wrong-one")
    push_fails("Kaggle answered 401 .*create a token on https://www.kaggle.com/settings")
    assert "StartSubmissionUpload" not in server.calls


def test_a_token_instead_of_name_and_key(server, file, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "wrong-one")
    push_fails("found no credentials that can be used")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert push(wait=True).public_score == "0.61234"


def test_a_competition_not_joined_or_unknown(server, file):
    fails("404 .*check the name", kaggle.push_submission, file, "another")
    fails("is no competition", kaggle.push_submission, file, "https://www.kaggle.com/c/x")
    server.joined = False
    push_fails(f"403 for https://www.kaggle.com/competitions/{SLUG} .*accept this competition.*join")
    assert "StartSubmissionUpload" not in server.calls


@pytest.fixture
def anonymous(server, monkeypatch, tmp_path):
    """No credentials in the environment; puts a kaggle.json into the folder of the client's."""
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True)

    def put(content):
        (folder / "kaggle.json").write_bytes(content)
        from kaggle.api.kaggle_api_extended import KaggleApi

        # The client looked for its file when it was imported.
        monkeypatch.setattr(KaggleApi, "config", str(folder / "kaggle.json"))

    return put


def test_credentials_from_the_file_in_a_process_of_its_own(server, file, anonymous):
    anonymous(json.dumps({"username": USER, "key": KEY}).encode())
    command = [sys.executable, "-m", "voclab", "submit", "push", file, "--competition", SLUG, "--wait"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "public score 0.61234" in done.stdout
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 100_000, b'{"username": "somebody"}', b'{"username": "", "key": "k"}',
     b'{"username": "somebody", "key": 5}', b"\xff\x00"],
    ids=lambda content: repr(content)[:40],
)  # fmt: skip
def test_no_or_broken_credentials(file, anonymous, content):
    if content:
        anonymous(content)
    message = push_fails(
        "found no credentials that can be used; create a token on https://www.kaggle.com/set"
    )
    for way in ("~/.kaggle/kaggle.json", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "Colab"):
        assert way in message


@pytest.mark.parametrize(
    ("secrets", "sound"),
    [
        ({"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}, True),
        ({"KAGGLE_API_TOKEN": TOKEN}, True),
        ({"KAGGLE_USERNAME": USER}, False),
    ],
)
def test_credentials_from_colab_secrets(file, anonymous, monkeypatch, secrets, sound):
    for name in ("google", "google.colab", "google.colab.userdata"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["google.colab.userdata"].get = secrets.__getitem__  # raises for those that are missing
    if sound:
        assert push(wait=True).public_score == "0.61234"
    else:
        push_fails("found no credentials")
    assert not set(secrets) & set(os.environ)  # programs started later do not inherit them


def test_no_network(server, file):
    server.close()
    push_fails("cannot be reached")


# What breaks on the way, and pushes that are killed (really, at every place: test_kills.py)


@pytest.fixture
def certain(monkeypatch):
    """What is not in Kaggle's list at once has not arrived."""
    monkeypatch.setattr("voclab.kaggle.push._UNCERTAIN", 0)


@pytest.mark.parametrize(
    "faults",
    [{"Upload": [503]}, {"StartSubmissionUpload": ["break"]}, {"CreateSubmission": ["break"]},
     {"CreateSubmission": [503]}],
    ids=str,
)  # fmt: skip
def test_what_did_not_arrive_is_said_and_can_be_sent_again(server, file, certain, faults):
    server.faults = faults
    push_fails("was not sent, no submission is used up: ")
    assert server.submissions == []
    assert log()[0]["status"] == "failed"
    assert push().ref == "1000"
    assert [row["status"] for row in log()] == ["failed", "pending"]


def test_an_upload_that_breaks_is_taken_up_by_the_client(server, file):
    server.faults["Upload"] = ["break"]
    push()
    assert list(server.stored.values()) == [Path(file).read_bytes()]
    assert len(server.submissions) == 1


@pytest.mark.parametrize("wait", [False, True])
def test_a_lost_answer_is_looked_up_instead_of_sending_again(server, file, wait, certain):
    server.add(description=f"by hand [sha256 {sha256(file)[:12]}]")  # an earlier one of the same file
    server.faults["CreateSubmission"] = ["lose"]
    assert push(again=True, wait=wait).ref == "1001"
    assert server.calls.count("CreateSubmission") == 1
    assert [row["ref"] for row in log()] == ["1000", "1001"]


def test_a_submission_that_turns_up_late_is_not_sent_again(server, file, certain):
    server.faults["CreateSubmission"] = ["break"]
    push_fails("was not sent")
    server.add(description=f"{FILE} [sha256 {sha256(file)[:12]}]")
    push_fails("was sent to .* already")
    assert [(row["ref"], row["status"]) for row in log()] == [("", "failed"), ("1000", "complete")]
    assert server.calls.count("CreateSubmission") == 1


def test_a_network_that_is_gone_after_the_file_leaves_it_open_whether_it_arrived(server, file, certain):
    server.faults["CreateSubmission"] = ["lose"]
    server.faults["ListSubmissions"] = [None, "break"]
    push_fails("was sent, and whether it arrived is not known .*cannot be reached.* not sent twice")
    assert log()[0]["status"] == "sending"
    assert push().ref == "1000"
    assert len(server.submissions) == len(log()) == 1


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("call", "moment", "rows"),
    [
        ("competition_submissions", "before", []),
        ("competition_submit", "before", ["sending"]),
        ("upload_complete", "after", ["sending"]),
        ("competition_submit", "after", ["sending"]),
    ],
)
def test_what_was_killed_is_given_again_at_once(
    server, file, monkeypatch, certain, call, moment, rows, again
):
    if again:
        push()
    before = log() if again else []
    client = type(kaggle_api())
    real = getattr(client, call)

    def dying(*arguments, **options):
        monkeypatch.setattr(client, call, real)
        if moment == "after":
            real(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(client, call, dying)
    with pytest.raises(KeyboardInterrupt):
        push(again=again)
    assert [row["status"] for row in (log() if LOG.exists() else [])[len(before) :]] == rows
    assert not Path(f"{LOG}.lock").exists()
    assert push(again=again, wait=True).public_score == "0.61234"
    assert len(server.submissions) == len(before) + 1
    assert [row["status"] for row in log()] == ["complete"] * (len(before) + 1)


# What Kaggle says

BASIC = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
ECHOES = [
    f"Key {KEY} of {USER} is wrong",
    f"no(key={KEY.upper()},x)",
    f"Authorization: Basic {BASIC}",
    BASIC.rstrip("="),
    "Authorization: Bearer abcdef.ghi-jkl",
    "KGAT_0123456789abcdef",
]


def _holds_secret(text):
    hidden = [KEY, TOKEN, BASIC.rstrip("="), "abcdef.ghi-jkl", "KGAT_0123456789abcdef"]
    return [secret for secret in hidden if secret.lower() in text.lower()]


@pytest.mark.parametrize(
    "call", ["ListSubmissions", "GetSubmissionLimits", "StartSubmissionUpload", "CreateSubmission"]
)
def test_an_answer_that_repeats_the_credentials_is_shown_without_them(server, file, call):
    if call == "GetSubmissionLimits" and not hasattr(kaggle_api(), "competition_get_submission_limits"):
        pytest.skip("the client cannot ask, which came with 2.2")
    for echo in ECHOES:
        server.faults[call] = [f"Refused, {echo} !"]
        with pytest.raises(VoclabError) as caught:
            push()
        assert "Refused, " in str(caught.value)
        assert _holds_secret("".join(traceback.format_exception(caught.value))) == []


def test_a_list_that_repeats_the_credentials_is_written_down_without_them(server, file, said):
    for echo in ECHOES:
        server.outcome = {"status": "ERROR", "errorDescription": echo, "publicScore": echo}
        push_fails("could not score", wait=True, again=True)
        server.submissions.clear()
    assert _holds_secret(said() + LOG.read_text()) == []


@pytest.mark.parametrize(
    "odd",
    [{"date": None}, {"date": "yesterday"}, {"status": "QUEUED_FOR_REVIEW"}, {"status": ["COMPLETE"]},
     {"publicScore": ["0.5"]}, {"ref": None}, {"description": 5}],
    ids=str,
)  # fmt: skip
def test_odd_lists_end_in_a_sentence_or_are_shown(server, file, odd, monkeypatch, certain):
    monkeypatch.setattr("voclab.kaggle.push._PATIENCE", -1)
    server.add(**odd)
    for again in (True, False):
        try:
            push(again=again, wait=True)
        except VoclabError as error:
            assert "\n" not in str(error)  # noqa: PT017 - one or the other
    if LOG.exists():
        logs.read(LOG)  # whatever was written can be read again


@pytest.mark.parametrize("body", [{"submissions": 5}, {"submissions": [5]}, "no"], ids=str)
def test_lists_of_another_form_end_in_a_sentence(server, file, body, certain):
    server.faults["ListSubmissions"] = [(200, body)] * 2
    try:
        push()
    except VoclabError as error:
        assert "\n" not in str(error)  # noqa: PT017
    server.faults.clear()
    assert push(again=True).status == "pending"


# The log


def test_what_is_in_the_log_stays(server, file):
    push(message='said "so", twice')
    before = LOG.read_text()
    with open(LOG, "w", encoding="utf-8-sig", newline="\r\n") as written:  # as a spreadsheet saves it
        written.write(before)
    push(_write("second.csv", 1))
    assert LOG.read_text().startswith(before.removesuffix("pending,\n"))
    assert log()[0]["message"] == 'said "so", twice'


@pytest.mark.parametrize(
    "change",
    [
        lambda log: b"",
        lambda log: bytes(range(256)),
        lambda log: log + b'"2026',
        lambda log: log + b"x,y\n",
        lambda log: log + b"x" * 200_000,
    ],
)
def test_a_damaged_log_is_named_and_left_alone(server, file, change):
    push(wait=True)
    damaged = change(LOG.read_bytes())
    LOG.write_bytes(damaged)
    push_fails("log.csv is not a log of submissions .*; correct it, or move it away", again=True)
    assert content(Path("submissions")) == {"log.csv": damaged}
    assert len(server.submissions) == 1


def test_a_log_that_cannot_be_read_or_locked_is_named(server, file):
    LOG.mkdir(parents=True)
    push_fails("log.csv is not a log of submissions .*directory")
    LOG.rmdir()
    Path(f"{LOG}.lock").symlink_to(file)
    push_fails("log.csv.lock is a link, which no lock follows")
    assert server.calls == []


@pytest.mark.parametrize("stage", ["sending", "pending", "complete"])
def test_a_disk_that_is_full_leaves_the_log_as_it_was_and_the_file_sent_once(
    server, file, monkeypatch, stage
):
    write, before = logs.write, []

    def full(log, entries):
        if entries[-1].status == stage:
            before.append(LOG.read_text() if LOG.exists() else "")
            raise writing_error(log, OSError(28, "No space left on device"))
        write(log, entries)

    server.looks = 2
    with monkeypatch.context() as patched:
        patched.setattr("voclab.kaggle.log.write", full)
        push_fails("Cannot write submissions/log.csv: the disk is full", wait=True)
    assert (LOG.read_text() if LOG.exists() else "") == before[0]
    assert push(wait=True).public_score == "0.61234"
    assert len(server.submissions) == len(log()) == 1


def test_the_run_that_wrote_a_file_is_found_by_its_content(server, tmp_path):
    make_tree(tmp_path / "voc")
    session = Session("02_test", question="?", profile="smoke", data=str(tmp_path / "voc"), seed=3)
    path = _write(session.submissions / FILE)
    session.close("!")
    for name, record in (("1_cut", '{"submissions": '), ("1_other", '{"submissions": 5}'), ("1_list", "[]")):
        session.figures_dir.with_name(name).mkdir()
        session.figures_dir.with_name(name).joinpath("run.json").write_text(record)
    entry = push(path)
    assert entry.run.startswith("02_test, profile smoke, seed 3, git ")
    assert entry.message == f"{FILE} of {entry.run}"
    _write(path, 1)
    assert push(path).run == ""
