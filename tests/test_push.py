"""Submissions sent with the real Kaggle client to a local server that speaks its protocol."""

import base64
import csv
import json
import os
import re
import subprocess
import sys
import traceback
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from local_server import KEY, TOKEN, USER, Kaggle
from voc_trees import content, fails, make_tree

from voclab import cli, kaggle
from voclab.data import competition as kaggle_layout
from voclab.data import load
from voclab.errors import VoclabError
from voclab.files import sha256, writing_error
from voclab.kaggle import log as logs
from voclab.kaggle.client import clean, kaggle_api
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
    return kaggle.push_submission(path, SLUG, pause=0, **options)


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
    train, test = (load("voc2009", tmp_path / "voc", split) for split in ("train", "val"))
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
        push_fails(r"The log submissions/log.csv is in use by another process \(number \d+\); wait")
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
    fails("404 .*check the name", kaggle.push_submission, file, "another")
    fails("is no competition", kaggle.push_submission, file, "https://www.kaggle.com/c/x")


def test_credentials_from_the_file(server, file, tmp_path):
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": USER, "key": KEY}))
    keep = {k: v for k, v in os.environ.items() if k not in ("KAGGLE_USERNAME", "KAGGLE_KEY")}
    command = [sys.executable, "-m", "voclab", "submit", "push", file, "--competition", SLUG, "--wait"]
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


def _credentials(tmp_path, content, name="kaggle.json"):
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


BROKEN = {
    "": "it is empty",
    "{": r"not JSON \(line 1, column 2\)",
    "key: x": "not JSON",
    "[" * 100_000: "not JSON",
    "null": "holds no username and key",
    '["somebody", "key"]': "holds no username and key",
    "{}": "has no username",
    '{"username": "somebody"}': "has no key",
    '{"username": "", "key": "k"}': "its username is no text, or empty",
    '{"username": "somebody", "key": 5}': "its key is no text, or empty",
    '{"username": "somebody", "key": null}': "its key is no text, or empty",
    b'\xef\xbb\xbf{"username": "somebody", "key": "k"}': "byte order mark",
    '{"username": "somebody", "key": "k"}'.encode("utf-16"): "not UTF-8",
    b"\xff\x00": "not UTF-8",
}


@pytest.mark.parametrize("content", BROKEN, ids=lambda content: repr(content)[:40])
def test_a_broken_file_of_credentials_is_named(server, file, monkeypatch, tmp_path, content):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    path = _credentials(tmp_path, content)
    monkeypatch.setattr(type(_client()), "config", str(path))  # it was looked for when it was imported
    message = push_fails(f"{path} is broken: .*{BROKEN[content]}.*https://www.kaggle.com/settings")
    assert "found no credentials" not in message


def _client():
    from kaggle.api.kaggle_api_extended import KaggleApi

    return KaggleApi()


def test_a_file_of_credentials_that_may_not_be_read_or_has_another_name(server, file, monkeypatch, tmp_path):
    monkeypatch.delenv("KAGGLE_USERNAME")
    monkeypatch.delenv("KAGGLE_KEY")
    path = _credentials(tmp_path, "{}", "kaggle (1).json")
    push_fails(r"no credentials; .*kaggle \(1\).json is not read, rename it to kaggle.json")
    path.with_name("kaggle.json").mkdir()
    push_fails("kaggle.json is broken: it cannot be read")


def test_a_broken_file_that_is_not_needed_is_no_hindrance(server, file, tmp_path):
    _credentials(tmp_path, "{")
    assert push().ref == "1000"


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
def test_a_submission_that_is_not_listed_after_its_answer_was_lost_is_given_up(server, file, fault, certain):
    server.faults["CreateSubmission"] = [fault]
    push_fails("was not sent: the answer was lost .* not in Kaggle's list; push it again")
    assert log()[0]["status"] == "failed"
    assert push().ref == "1000"
    assert [row["status"] for row in log()] == ["failed", "pending"]


def test_a_submission_that_turns_up_late_is_not_sent_again(server, file, certain):
    server.faults["CreateSubmission"] = ["break"]
    push_fails("the answer was lost")
    server.add(description=f"{FILE} [sha256 {sha256(file)[:12]}]")
    push_fails("sent to .* already")
    assert [(row["ref"], row["status"]) for row in log()] == [("1000", "complete")]
    assert server.calls.count("CreateSubmission") == 1


def test_a_network_that_is_gone_after_the_file_leaves_it_open_whether_it_arrived(server, file, certain):
    server.faults["CreateSubmission"] = ["lose"]
    server.faults["ListSubmissions"] = [None, "break"]
    push_fails("was sent, and whether it arrived is not known .*cannot be reached.* not sent twice")
    assert log()[0]["status"] == "submitting"
    assert push().ref == "1000"
    assert len(server.submissions) == len(log()) == 1


# Killed (a process that really is, at every place: test_kills.py)


@pytest.fixture
def certain(monkeypatch):
    """What is not in Kaggle's list at once has not arrived."""
    monkeypatch.setattr("voclab.kaggle.push._UNCERTAIN", timedelta(0))


def _dies(monkeypatch, where):
    """The next push ends at a call of the client's: before or after it is made."""
    (name, moment), client = where, type(kaggle_api())
    real = getattr(client, name)

    def dying(*arguments, **options):
        monkeypatch.setattr(client, name, real)
        if moment == "after":
            real(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(client, name, dying)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("where", "status"),
    [
        (("competition_submissions", "before"), None),
        (("competition_submit", "before"), "sending"),
        (("upload_complete", "before"), "sending"),
        (("upload_complete", "after"), "sending"),
        (("competition_submit", "after"), "submitting"),
    ],
)
def test_what_was_cut_off_is_given_again_at_once(server, file, monkeypatch, certain, where, status, again):
    if again:
        push()
    before = log() if again else []
    _dies(monkeypatch, where)
    with pytest.raises(KeyboardInterrupt):
        push(again=again)
    assert [row["status"] for row in (log() if LOG.exists() else [])[len(before) :]] == (
        [status] if status else []
    )
    assert not Path(f"{LOG}.lock").exists()
    assert push(again=again, wait=True).public_score == "0.61234"
    assert len(server.submissions) == len(log()) == len(before) + 1


def test_what_did_not_arrive_before_the_kill_is_sent(server, file, monkeypatch, certain):
    server.faults["CreateSubmission"] = ["break"]
    with monkeypatch.context() as patched:
        patched.setattr("voclab.kaggle.push._arrived", lambda *_: 1 / 0)  # killed before it could look
        with pytest.raises(ZeroDivisionError):
            push()
    assert log()[0]["status"] == "submitting"
    assert push().ref == "1000"
    assert len(server.submissions) == len(log()) == 1


def test_a_push_killed_while_it_waited_for_the_score_goes_on_waiting(server, file, monkeypatch, said):
    server.looks = 3
    with monkeypatch.context() as patched:
        patched.setattr("voclab.kaggle.push.time.sleep", _dies_asleep)
        with pytest.raises(KeyboardInterrupt):
            push(wait=True)
    assert log()[0]["status"] == "pending"
    assert push(wait=True).public_score == "0.61234"
    assert "is submission 1000 already; it is not sent again" in said()
    assert len(server.submissions) == len(log()) == 1


def test_waiting_for_what_was_scored_before_says_its_score_and_sends_nothing(server, file, said):
    push(wait=True)
    said()
    for gone in (False, True):  # from Kaggle's list, which is not endless
        if gone:
            server.submissions.clear()
        assert push(wait=True).public_score == "0.61234"
        assert "already; it is not sent again\npublic score 0.61234" in said()
    assert len(log()) == 1
    assert server.calls.count("CreateSubmission") == 1


def _dies_asleep(seconds):
    raise KeyboardInterrupt


# What Kaggle says

BASIC = base64.b64encode(f"{USER}:{KEY}".encode()).decode()
ECHOES = {
    "key": f"Key {KEY} of {USER} is wrong",
    "in a word": f"no(key={KEY},x)",
    "header": f"Authorization: Basic {BASIC}",
    "bare header": BASIC,
    "unpadded": BASIC.rstrip("="),
    "percent": f"?auth={quote(BASIC, safe='')}&key={''.join(f'%{ord(letter):02x}' for letter in KEY)}",
    "capitals": KEY.upper(),
    "entities": "".join(f"&#{ord(letter)};" for letter in KEY),
    "another's token": "Authorization: Bearer abcdef.ghi-jkl",
    "a token": "KGAT_0123456789abcdef",
}


def _holds_secret(text):
    text = text.lower()
    hidden = [
        KEY,
        TOKEN,
        BASIC,
        BASIC.rstrip("="),
        quote(BASIC, safe=""),
        "abcdef.ghi-jkl",
        "KGAT_0123456789abcdef",
    ]
    hidden += [ECHOES["percent"].rpartition("=")[2], ECHOES["entities"]]
    return [secret for secret in hidden if secret.lower() in text]


@pytest.mark.parametrize(
    "call", ["ListSubmissions", "GetSubmissionLimits", "StartSubmissionUpload", "CreateSubmission"]
)
def test_an_answer_that_repeats_the_credentials_is_shown_without_them(server, file, call):
    for echo in ECHOES.values():
        server.faults[call] = [f"Refused, {echo} !"]
        with pytest.raises(VoclabError) as caught:
            push()
        assert "Refused, " in str(caught.value)
        assert _holds_secret("".join(traceback.format_exception(caught.value))) == []


def test_a_list_that_repeats_the_credentials_is_written_down_without_them(server, file, said):
    for echo in ECHOES.values():
        server.outcome = {"status": "ERROR", "errorDescription": echo, "publicScore": echo}
        push_fails("could not score", wait=True, again=True)
        server.submissions.clear()
    assert _holds_secret(said() + LOG.read_text()) == []


@pytest.mark.parametrize("where", ["kaggle.json", "access_token", "credentials.json"])
def test_a_key_from_a_file_is_taken_out_too(server, monkeypatch, tmp_path, where):
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name)
    contents = {
        "kaggle.json": json.dumps({"username": "me", "key": "file-secret"}),
        "access_token": "file-secret\n",
        "credentials.json": json.dumps({"refresh_token": "file-secret", "access_token": "x"}),
    }
    _credentials(tmp_path, contents[where], where)
    assert clean("the key file-secret\x1b[31m is  unknown") == r"the key ***\u001b[31m is unknown"
    assert clean("the username and the access_token") == "the username and the access_token"


ODD = [
    {"date": None},
    {"date": "yesterday"},
    {"date": "2026-11-28"},
    {"date": "9999-12-31T23:59:59Z"},
    {"date": "0001-01-01T00:00:00+14:00"},
    {"date": 1764364000},
    {"date": {"seconds": 5}},
    {"status": None},
    {"status": "QUEUED_FOR_REVIEW"},
    {"status": 2},
    {"status": 99},
    {"status": ["COMPLETE"]},
    {"publicScore": None},
    {"publicScore": "N/A"},
    {"publicScore": 0.5},
    {"publicScore": ["0.5"]},
    {"ref": None},
    {"ref": "a-ref"},
    {"description": None},
    {"description": 5},
    {"errorDescription": {"a": 1}},
]


@pytest.mark.parametrize("odd", ODD, ids=str)
@pytest.mark.parametrize("parsed", [False, True], ids=["answer", "object"])
def test_odd_lists_end_in_a_sentence_or_are_shown(server, file, odd, parsed, monkeypatch, certain):
    if parsed:  # as a client that looks at nothing would hand it over
        facts = {
            "ref": 1,
            "date": datetime.now(),
            "status": "complete",
            "public_score": "0.5",
            "description": "",
        }
        renamed = {"publicScore": "public_score", "errorDescription": "error_description"}
        facts |= {renamed.get(name, name): value for name, value in odd.items()}
        description = facts["description"] or f"[sha256 {sha256(file)[:12]}]"
        items = [types.SimpleNamespace(**facts), types.SimpleNamespace(description=description), None]
        monkeypatch.setattr(type(kaggle_api()), "competition_submissions", lambda *_, **__: items)
    else:
        server.add(**odd)
    for again in (True, False):
        try:
            push(again=again, wait=True, patience=-1)
        except VoclabError as error:
            assert "\n" not in str(error)  # noqa: PT017 - one or the other
    logs.read(LOG)  # whatever was written can be read again


@pytest.mark.parametrize("body", [[], {"submissions": 5}, {"submissions": [5]}, {"code": "x"}, "no"], ids=str)
@pytest.mark.parametrize("call", ["ListSubmissions", "GetSubmissionLimits", "StartSubmissionUpload"])
def test_answers_of_another_form_end_in_a_sentence(server, file, call, body):
    server.faults[call] = [(200, body)] * 2
    try:
        push()
    except VoclabError as error:
        assert "\n" not in str(error)  # noqa: PT017
    server.faults.clear()
    assert push(again=True).status == "pending"


def test_a_status_that_is_not_known_is_waited_on_and_shown(server, file, said, monkeypatch):
    facts = types.SimpleNamespace(ref=1000, date=None, status="on hold", public_score=None, description="")
    monkeypatch.setattr(type(kaggle_api()), "competition_submissions", lambda *_, **__: [facts])
    push(wait=True, patience=-1)
    assert "not scored yet (it is on hold)" in said()


# The log


def test_what_is_in_the_log_stays(server, file):
    push(message='said "so", twice')
    before = LOG.read_text()
    push(_write("second.csv", 1))
    after = LOG.read_text()
    assert after.startswith(before.removesuffix("pending,\n"))
    assert log()[0]["message"] == 'said "so", twice'


DAMAGE = {  # what became of a sound log, and how it is told
    "empty": (lambda log: b"", "first line"),
    "other header": (lambda log: b"time;competition\n", "first line"),
    "no header": (lambda log: log.partition(b"\n")[2], "first line"),
    "semicolons": (lambda log: log.replace(b",", b";"), "first line"),
    "another column": (lambda log: log.replace(b"public_score", b"public_score,mine", 1), "first line"),
    "binary": (lambda log: bytes(range(256)), "not UTF-8"),
    "zeros": (lambda log: b"\0" * len(log), "first line"),
    "UTF-16": (lambda log: log.decode().encode("utf-16"), "not UTF-8"),
    "half a line": (lambda log: log[: -len(log) // 4], r"row 2 has \d+ columns instead of 10"),
    "an open quote": (lambda log: log + b'"2026', "no CSV table"),
    "a row too short": (lambda log: log + b"x,y\n", "row 3 has 2 columns"),
    "a long field": (lambda log: log + b"x" * 200_000, "no CSV table"),
    "time in words": (lambda log: log.replace(b"T", b" at ", 1), "row 2 has the time"),
    "time of Excel": (
        lambda log: re.sub(rb"\d{4}-\d\d-\d\dT[^,]*", b"28/11/2026 21:16", log),
        "row 2 has the time",
    ),
    "time without zone": (lambda log: log.replace(b"Z,", b",", 1), "row 2 has the time"),
    "month 13": (lambda log: re.sub(rb"\d{4}-\d\d", b"2026-13", log, count=1), "row 2 has the time"),
    "the end of time": (
        lambda log: re.sub(rb"2[^,]*Z", b"9999-12-31T23:59:59-12:00", log, count=1),
        "the time",
    ),
    "number of Excel": (lambda log: log.replace(b",1000,", b",1.00E+03,"), "row 2 has the ref"),
    "checksum of Excel": (lambda log: re.sub(rb"[0-9a-f]{64}", b"5E+63", log), "row 2 has the sha256"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_log_is_named_and_left_alone(server, file, damage):
    push(wait=True)
    change, said = DAMAGE[damage]
    damaged = change(LOG.read_bytes())
    LOG.write_bytes(damaged)
    push_fails(f"log.csv is not a log of submissions: .*{said}.*; mend it, or move it away", again=True)
    assert content(Path("submissions")) == {"log.csv": damaged}
    assert len(server.submissions) == 1


def test_a_log_that_cannot_be_read_or_locked_is_named(server, file):
    LOG.mkdir(parents=True)
    push_fails("log.csv is not a log of submissions: it cannot be read")
    LOG.rmdir()
    Path(f"{LOG}.lock").symlink_to(file)
    push_fails("log.csv.lock is a link, which no lock follows")
    assert server.calls == []


@pytest.mark.parametrize("stage", ["sending", "submitting", "pending", "complete"])
def test_a_disk_that_is_full_leaves_the_log_as_it_was_and_the_file_sent_once(
    server, file, monkeypatch, stage, said
):
    push()
    _write(FILE, 1)
    write, before = logs.write, []

    def full(log, entries):
        if entries[-1].status == stage and len(entries) == 2:
            before.append(LOG.read_text())
            monkeypatch.setattr(logs.files, "write_text", lambda path, text: _full(path))
        write(log, entries)

    real = logs.files.write_text
    with monkeypatch.context() as patched:
        patched.setattr("voclab.kaggle.log.write", full)
        push_fails("Cannot write submissions/log.csv: the disk is full", wait=True)
    assert LOG.read_text() == before[0]
    assert ("sent as submission 1001" in said()) == (stage in ("pending", "complete"))
    monkeypatch.setattr(logs.files, "write_text", real)
    assert push(wait=True).public_score == "0.61234"
    assert len(server.submissions) == len(log()) == 2


def _full(path):
    raise writing_error(path, OSError(28, "No space left on device"))


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
    for name, record in (("1_cut", '{"submissions": '), ("1_other", '{"submissions": 5}'), ("1_list", "[]")):
        session.figures_dir.with_name(name).mkdir()
        session.figures_dir.with_name(name).joinpath("run.json").write_text(record)
    entry = push(path)
    assert entry.run.startswith("02_test, profile smoke, seed 3, git ")
    assert entry.message == f"{FILE} of {entry.run}"
    _write(path, 1)
    assert push(path).run == ""
