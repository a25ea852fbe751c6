"""Local servers for the tests: one that serves files, and one that speaks the Kaggle client's protocol."""

import base64
import http.server
import json
import os
import threading
from datetime import UTC, datetime


class Server:
    """Serves ``files`` (path -> bytes); ``script`` says what to do to the requests to come, in turn.

    An entry of ``script`` is a status to answer with, ``("break", n)``: close after n bytes of the
    body, ``"no range"``: send the whole file whatever was asked for, or ``"wrong range"``: send another
    part than was asked for. ``raw`` maps a path to all bytes of an answer, proper HTTP or not.
    """

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.raw: dict[str, bytes] = {}
        self.script: list = []
        self.requests: list[dict] = []
        self.etag = '"one"'
        self.redirect: dict[str, str] = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            do_POST = do_PUT = do_GET

            def log_message(self, *_):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self):
        if not self._thread.is_alive():
            return
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def answer(self, handler):
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        path = handler.path.removeprefix("http://localhost")  # as a proxy sees it
        self.requests.append({"path": path, **handler.headers})
        if path in self.raw:
            handler.wfile.write(self.raw[path])
            handler.close_connection = True
            return
        if path in self.redirect:
            handler.send_response(302)
            handler.send_header("Location", self.redirect[path])
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        step = self.script.pop(0) if self.script else None
        if isinstance(step, int) or path not in self.files:
            handler.send_error(step or 404)
            return
        body, start = self.files[path], 0
        asked = handler.headers.get("Range")
        same = handler.headers.get("If-Range", self.etag) == self.etag
        if asked and same and step != "no range":
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if step != "wrong range" else 7
            if start >= len(body):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(body)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.send_header("ETag", self.etag)
        handler.end_headers()
        stop = start + step[1] if isinstance(step, tuple) else len(body)
        handler.wfile.write(body[start:stop])
        handler.close_connection = True


USER, KEY, TOKEN = "somebody", "0123456789abcdef-secret", "KGAT_token-secret"


class Kaggle(Server):
    """Takes submissions to one competition, as the official client sends them.

    Attributes:
        slug: the competition.
        joined: whether the account takes part in it.
        daily: submissions a day; ``total``: of the competition, ``None`` for no limit.
        submissions: what it took, the newest first, as it lists them.
        stored: token -> bytes uploaded.
        looks: how often a submission is listed as pending before its score is there.
        outcome: what a submission then becomes.
        faults: call -> what to do to the requests to come, in turn: a status, ``"break"`` (no answer; an
            upload is cut off half-way), ``"lose"`` (do it, then no answer), a status and what to answer, or
            another text: refuse with it.
    """

    def __init__(self, slug):
        super().__init__()
        self.slug, self.joined, self.daily, self.total = slug, True, 5, None
        self.submissions: list[dict] = []
        self.stored: dict[str, bytes] = {}
        self.looks = 0
        self.outcome = {"status": "COMPLETE", "publicScore": "0.61234"}
        self.faults: dict[str, list] = {}
        self.calls: list[str] = []

    def environment(self, home):
        """Variables with which the client talks to this server as the one account that it knows."""
        own = {name: value for name, value in os.environ.items() if not self._concerns(name)}
        return {
            **own,
            "HOME": str(home),  # nobody's own credentials
            "http_proxy": f"http://127.0.0.1:{self.port}",
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_USERNAME": USER,
            "KAGGLE_KEY": KEY,
        }

    @staticmethod
    def _concerns(name):
        return "proxy" in name.lower() or name.startswith("KAGGLE")

    def of_today(self):
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        return [s for s in self.submissions if s["date"].startswith(today) and s["status"] != "ERROR"]

    def add(self, **facts):
        """A submission that is there already; returns it."""
        taken = {
            "ref": 1000 + len(self.submissions),
            "date": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "description": "by hand",
            "fileName": "submission.csv",
            "status": "COMPLETE",
            "publicScore": "0.5",
            **facts,
        }
        self.submissions.insert(0, taken)
        return taken

    def answer(self, handler):
        length = int(handler.headers.get("Content-Length", 0))
        call = handler.path.rpartition("/")[2] if handler.command == "POST" else "Upload"
        self.calls.append(call)
        fault = self.faults[call].pop(0) if self.faults.get(call) else None
        if fault == "break":
            handler.rfile.read(length // 2)
            handler.close_connection = True
            return
        body = handler.rfile.read(length)
        if len(body) < length:  # the client was killed
            handler.close_connection = True
            return
        if call == "Upload":
            if fault is None:
                self.stored[handler.path.rpartition("/")[2]] = body
            self._say(handler, fault or 200, {})
            return
        if isinstance(fault, int):
            self._say(handler, fault, {"code": fault, "message": "Not now."})
            return
        if isinstance(fault, tuple):
            self._say(handler, *fault)
            return
        if isinstance(fault, str) and fault != "lose":
            self._say(handler, 400, {"code": 400, "message": fault})
            return
        status, value = self._reply(call, handler.headers, json.loads(body or b"{}"))
        if fault == "lose":
            handler.close_connection = True
            return
        self._say(handler, status, value)

    def _reply(self, call, headers, asked):
        def no(status, message):
            return status, {"code": status, "message": message}

        if call == "IntrospectToken":
            return 200, {"active": asked["token"] == TOKEN, "username": USER}
        basic = "Basic " + base64.b64encode(f"{USER}:{KEY}".encode()).decode()
        if headers.get("Authorization") not in (basic, f"Bearer {TOKEN}"):
            return no(401, "Unauthenticated")
        if call == "ListCompetitions":
            return 200, {
                "competitions": [
                    {
                        "ref": f"https://www.kaggle.com/competitions/{self.slug}",
                        "maxDailySubmissions": self.daily,
                    }
                ]
            }
        if call != "CreateSubmission" and asked["competitionName"] != self.slug:
            return no(404, "Not found")
        if not self.joined:
            return no(403, "You must accept this competition's rules before you'll be able to continue.")
        return getattr(self, f"_{call}")(asked, no)

    def _ListSubmissions(self, asked, no):
        listed = [dict(s) for s in self.submissions]
        for submission in self.submissions:
            if submission["status"] == "PENDING":
                self.looks -= 1
                if self.looks <= 0:
                    submission.update(self.outcome)
        return 200, {"submissions": listed, "nextPageToken": ""}

    def _GetSubmissionLimits(self, asked, no):
        today, total = len(self.of_today()), len(self.submissions)
        left = self.daily - today if total else 0
        by_total = self.total is not None and self.total - total < left
        return 200, {
            "numToday": today,
            "numTotal": total,
            "numAllowedNow": self.total - total if by_total else left,
            "limitedByTotal": by_total,
        }

    def _StartSubmissionUpload(self, asked, no):
        token = f"token{self.calls.count('StartSubmissionUpload')}"
        return 200, {"token": token, "createUrl": f"http://localhost/upload/{token}"}

    def _CreateSubmission(self, asked, no):
        if len(self.of_today()) >= self.daily:
            return no(400, "Submission not allowed:  Your team has used its daily Submission allowance.")
        assert asked["blobFileTokens"] in self.stored
        taken = self.add(status="PENDING", publicScore="", description=asked["submissionDescription"])
        taken["token"] = asked["blobFileTokens"]
        if self.looks <= 0:
            taken.update(self.outcome)
        return 200, {"message": "Successfully submitted", "ref": taken["ref"]}

    @staticmethod
    def _say(handler, status, value):
        body = json.dumps(value).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
