"""Submissions sent with the real Kaggle client to a local server that speaks its protocol."""

import csv
import json
import os
import subprocess
import sys
import types
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from local_server import KEY, TOKEN, USER, Kaggle
from voc_trees import content, fails, make_tree

from voclab import cli, datasets, submission
from voclab.datasets import kaggle as kaggle_layout
from voclab.files import sha256
from voclab.kaggle_client import kaggle_api
from voclab.session import Session
from voclab.submission import log as logs

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
    for name in list(os.environ):
        if "proxy" in name.lower() or name.startswith("KAGGLE"):
            monkeypatch.delenv(name)
    served = Kaggle(SLUG)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # nobody's own credentials
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{served.port}")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setenv("KAGGLE_USERNAME", USER)
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
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
    submission.write_submission(path, ids, **{**rows, **without})
    return path


def push(path=FILE, **options):
    return submission.push_submission(path, SLUG, pause=0, **options)


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


def test_waiting_has_an_end(server, file, said):
    server.looks = 99
    assert push(wait=True, patience=-1).status == "pending"
    assert "the same command says the score later" in said()
    server.looks = 0
    push_fails("1000, pending")
    push_fails("1000, public score 0.61234")
    assert server.calls.count("CreateSubmission") == 1


def test_what_kaggle_cannot_score_is_an_error(server, file):
    server.outcome = {"status": "ERROR", "errorDescription": "Row 3 is wrong."}
    push_fails(r"could not score submission 1000.*Row 3 is wrong", wait=True)
    assert log()[0]["status"] == "error"


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("without", "missing"), [("labels", "classification"), ("label_maps", "segmentation")]
)
def test_a_file_with_one_kind_of_rows_is_not_sent(server, without, missing):
    push_fails(f"no {missing} rows, and Kaggle wants both", _write(FILE, **{without: None}))
    assert server.calls == []
    assert not os.path.exists("submissions")


def test_a_faulty_file_is_not_sent(server, file):
    with open(file, "a") as appended:
        appended.write("9_classification,1 0\n9_segmentation,\n")
    push_fails(f"{FILE}, line 6, column Predicted")
    push_fails("missing", "gone.csv")
    assert server.calls == []


def test_the_competitions_own_test_set_is_held_against_the_file(server, file, tmp_path, said):
    make_tree(tmp_path / "voc")
    train, test = (datasets.load("voc2009", tmp_path / "voc", split) for split in ("train", "val"))
    kaggle_layout.export(train, test, f"data/{SLUG}", progress=False)
    assert cli.main(["submit", "push", file, "--competition", SLUG]) == 2
    assert "'7_classification' is of none of the 4 expected ids" in said()
    assert server.calls == []


def test_the_same_content_is_not_sent_twice_without_being_asked(server, file):
    push()
    os.rename(file, "renamed.csv")
    push_fails(
        r"sent to .* UTC already \(submission 1000, public score 0.61234\); add --again", "renamed.csv"
    )
    push("renamed.csv", again=True)
    assert [row["ref"] for row in log()] == ["1000", "1001"]
    _write(FILE, 1)
    push()
    assert len(log()) == 3


def test_a_file_sent_from_another_machine_is_known_again(server, file):
    push()
    LOG.unlink()
    push_fails("submission 1000, public score 0.61234")


def test_two_pushes_at_the_same_time(server, file):
    with logs.locked(LOG):
        push_fails("log.csv.lock says that another submission is just being sent")
    push()


# The daily limit


def test_the_daily_limit_as_the_server_counts_it(server, file):
    server.daily = 2
    for _ in range(2):
        server.add()
    message = push_fails(
        r"2 of 2 submissions to .* used up today; send it again from \S+ 00:00 UTC on, in \d"
    )
    assert f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}" in message
    assert "StartSubmissionUpload" not in server.calls
    assert not LOG.exists()


def test_the_daily_limit_with_an_older_client_that_cannot_ask_what_is_left(server, file, monkeypatch):
    monkeypatch.delattr(type(kaggle_api()), "competition_get_submission_limits")
    server.daily = 2
    server.add()
    server.add(status="ERROR")  # does not count
    server.add(date="2020-01-01T00:00:00Z")
    push()
    push_fails("2 of 2 submissions", _write("second.csv", 1))


def test_the_daily_limit_by_the_log_where_the_list_lags_behind(server, file):
    server.daily = 1
    server.add(date="2020-01-01T00:00:00Z")
    push()
    server.submissions.pop(0)
    push_fails("1 of 1 submissions", _write("second.csv", 1))


def test_the_first_submission_of_an_account_whose_counts_are_all_zero(server, file):
    assert push().status == "pending"


def test_the_limit_of_the_whole_competition(server, file):
    server.total = 1
    server.add(date="2020-01-01T00:00:00Z")
    push_fails("all submissions that .* allows a team are used up")


def test_a_limit_that_only_the_last_step_tells(server, file):
    server.faults["CreateSubmission"] = ["Your team has used its Submission allowance (5 of 5)."]
    push_fails(r"was not sent: Kaggle says “Your team has used.*send it again from \S+ 00:00 UTC on")
    assert log()[0]["status"] == "failed"
    assert push().ref == "1000"  # nothing was sent: no --again needed


# Credentials and rights


def test_a_wrong_key(server, file, monkeypatch):
    monkeypatch.setenv("KAGGLE_KEY", "wrong-one")
    push_fails("does not accept the credentials.*https://www.kaggle.com/settings")
    assert "StartSubmissionUpload" not in server.calls


def test_a_token_instead_of_name_and_key(server, file, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "wrong-one")
    push_fails("does not accept the credentials")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    assert push(wait=True).public_score == "0.61234"


def test_a_competition_not_joined(server, file):
    server.joined = False
    push_fails(f"403 for https://www.kaggle.com/competitions/{SLUG} .*accept this competition.*join")
    assert "StartSubmissionUpload" not in server.calls


def test_a_competition_that_is_none(server, file):
    fails("404 .*check the name", submission.push_submission, file, "another")
    fails("is no competition", submission.push_submission, file, "https://www.kaggle.com/c/x")


def test_credentials_from_the_file(server, file, tmp_path):
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": USER, "key": KEY}))
    keep = {k: v for k, v in os.environ.items() if k not in ("KAGGLE_USERNAME", "KAGGLE_KEY")}
    command = [sys.executable, "-m", "voclab.cli", "submit", "push", file, "--competition", SLUG, "--wait"]
    done = subprocess.run(command, env=keep, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "public score 0.61234" in done.stdout
    assert KEY not in done.stdout + done.stderr


class _Secrets(types.ModuleType):
    """``google.colab.userdata`` with these secrets."""

    def __init__(self, **secrets):
        super().__init__("google.colab.userdata")
        self.secrets = secrets

    class SecretNotFoundError(Exception):
        pass

    def get(self, name):
        if name not in self.secrets:
            raise self.SecretNotFoundError(name)
        return self.secrets[name]


@pytest.fixture
def colab(server, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    for name in ("google", "google.colab"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))

    def put(**secrets):
        monkeypatch.setitem(sys.modules, "google.colab.userdata", _Secrets(**secrets))

    return put


@pytest.mark.parametrize(
    "secrets",
    [{"KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY}, {"KAGGLE_API_TOKEN": TOKEN}],
    ids=["key", "token"],
)
def test_credentials_from_colab_secrets(colab, file, secrets):
    colab(**secrets)
    assert push(wait=True).public_score == "0.61234"
    assert not set(secrets) & set(os.environ)  # programs started later do not inherit them


def test_colab_without_the_secrets(colab, file):
    colab(KAGGLE_USERNAME=USER)
    push_fails("no credentials, nor among Colab's secrets .*KAGGLE_KEY: secret not found error")
    colab(KAGGLE_API_TOKEN="wrong-one")
    push_fails("does not accept the credentials")


def test_no_credentials(server, file, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    message = fails("found no credentials", kaggle_api)
    for way in ("~/.kaggle/kaggle.json", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "Colab"):
        assert way in message


def test_no_network(server, file):
    server.close()
    push_fails("cannot be reached")


# What breaks on the way


def test_a_connection_that_breaks_during_the_upload(server, file):
    server.faults["Upload"] = ["break"]
    push()
    assert list(server.stored.values()) == [Path(file).read_bytes()]
    assert len(server.submissions) == 1


@pytest.mark.parametrize("faults", [{"Upload": [503]}, {"StartSubmissionUpload": ["break"]}], ids=str)
def test_a_dropped_upload_is_repeated_once(server, file, faults, said):
    server.faults = faults
    assert push().ref == "1000"
    assert "once more" in said()
    assert server.calls.count("StartSubmissionUpload") == 2
    assert server.calls.count("CreateSubmission") == len(server.submissions) == len(log()) == 1


def test_an_upload_dropped_twice_is_given_up_and_used_nothing_up(server, file):
    server.faults["Upload"] = [503, 503]
    push_fails("was not sent: the upload broke off 2 times.*no submission is used up")
    assert server.submissions == []
    assert log()[0]["status"] == "failed"
    assert push().ref == "1000"
    assert [row["status"] for row in log()] == ["failed", "pending"]


@pytest.mark.parametrize("wait", [False, True])
def test_a_lost_answer_is_looked_up_instead_of_sending_again(server, file, wait):
    server.add(description=f"by hand [sha256 {sha256(file)[:12]}]")  # an earlier one of the same file
    server.faults["CreateSubmission"] = ["lose"]
    assert push(again=True, wait=wait).ref == "1001"
    assert server.calls.count("CreateSubmission") == 1
    assert log()[0]["ref"] == "1001"


@pytest.mark.parametrize("fault", ["break", 503])
def test_an_answer_lost_for_good_blocks_the_file_until_it_is_certain(server, file, fault):
    server.faults["CreateSubmission"] = [fault]
    push_fails("the answer was lost .* push it again in 10 minutes")
    assert log()[0]["status"] == "sending"
    push_fails("whether it arrived is not known yet")
    assert server.calls.count("CreateSubmission") == 1
    (entry,) = logs.read(LOG)
    earlier = (datetime.now(UTC) - timedelta(minutes=11)).isoformat()
    logs.write(LOG, [replace(entry, time=earlier)])
    assert push().ref == "1000"
    assert [row["status"] for row in log()] == ["failed", "pending"]


def test_a_submission_that_turns_up_late_is_not_sent_again(server, file):
    server.faults["CreateSubmission"] = ["break"]
    push_fails("the answer was lost")
    server.add(description=f"{FILE} [sha256 {sha256(file)[:12]}]")
    push_fails("sent to .* already")
    assert log()[0]["ref"] == "1000"
    assert log()[0]["status"] == "complete"


def test_the_log_has_the_submission_before_it_is_sent(server, file, monkeypatch):
    monkeypatch.setattr("voclab.submission.push.kaggle_api", lambda: _Killed(kaggle_api()))
    with pytest.raises(KeyboardInterrupt):
        push()
    assert log()[0]["status"] == "sending"
    assert not os.path.exists("submissions/log.csv.lock")


class _Killed:
    """A client during whose upload the user loses patience."""

    def __init__(self, api):
        self.api = api

    def __getattr__(self, name):
        return getattr(self.api, name)

    def competition_submit(self, *_, **__):
        raise KeyboardInterrupt


# The log


def test_what_is_in_the_log_stays(server, file):
    push(message='said "so", twice')
    before = LOG.read_text()
    push(_write("second.csv", 1))
    after = LOG.read_text()
    assert after.startswith(before.removesuffix("pending,\n"))
    assert log()[0]["message"] == 'said "so", twice'


@pytest.mark.parametrize("damage", ["", "time;competition\n", "\xff", "+row", "+time"])
def test_a_damaged_log_is_named_and_left_alone(server, file, damage):
    push()
    good = LOG.read_text()
    damaged = {"+row": good + "x,y\n", "+time": good.replace("T", " at ", 1)}.get(damage, damage)
    with open(LOG, "w", encoding="latin-1") as written:
        written.write(damaged)
    push_fails("log.csv is not a log of submissions.*mend it, or move it away", again=True)
    assert LOG.read_text("latin-1") == damaged


def test_a_log_that_a_spreadsheet_saved_is_read(server, file):
    push()
    text = LOG.read_text()
    with open(LOG, "w", encoding="utf-8-sig", newline="\r\n") as written:
        written.write(text)
    push_fails("add --again")


def test_the_run_that_wrote_a_file_is_found_by_its_content(server, tmp_path):
    make_tree(tmp_path / "voc")
    session = Session("02_test", question="?", profile="smoke", data=str(tmp_path / "voc"), seed=3)
    path = _write(session.submissions / FILE)
    session.close("!")
    entry = push(path)
    assert entry.run.startswith("02_test, profile smoke, seed 3, git ")
    assert entry.message == f"{FILE} of {entry.run}"
    _write(path, 1)
    assert push(path).run == ""
