"""Work that is divided between processes, each with its share of the cores, and between machines."""

import json
import os
import pickle
import queue
import re
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from voclab.errors import VoclabError

# Libraries read these when they start; each would take all cores otherwise.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Cluster:
    """The machines that train one network together; worker 0 is the chief, which writes the run's folder."""

    workers: int
    index: int


def cluster() -> Cluster | None:
    """What the environment variable ``TF_CONFIG`` says of several machines; ``None`` where there is one.

    Raises:
        VoclabError: it is not what TensorFlow's MultiWorkerMirroredStrategy takes.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        told = json.loads(text)
        roles, task = told["cluster"], told["task"]
        addresses = [(role, k, a) for role in ("chief", "worker") for k, a in enumerate(roles.get(role, ()))]
        index = [(role, k) for role, k, _ in addresses].index((task["type"], int(str(task["index"]))))
        hosts = [address for _, _, address in addresses]
        sound = all(re.fullmatch(r"[^\s/]+:\d+", host) for host in hosts) and len(set(hosts)) == len(hosts)
        sound = sound and all(isinstance(listed, list) for listed in roles.values())
        if not sound or set(roles) - {"chief", "worker"} or len(roles.get("chief", ())) > 1:
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise VoclabError(
            "TF_CONFIG names no workers that voclab can train on; unset it, or give each"
            ' machine its own index in {"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]},'
            ' "task": {"type": "worker", "index": 0}}.'
        ) from None
    return Cluster(len(hosts), index) if len(hosts) > 1 else None


class Workers:
    """Processes that carry out one task each at a time; use it in a ``with`` statement, which ends them.

    They end with this process too, even where that one is killed: what a task writes must bear that. Not
    :mod:`multiprocessing`, which runs the user's script again in each process.

    Args:
        n: number of processes; each gets an equal share of the cores.
        progress: receives the lines that the tasks report.
    """

    def __init__(self, n: int, progress: Callable[[str], None]):
        self.progress = progress
        self._told: queue.SimpleQueue = queue.SimpleQueue()  # (process, what it said or None at its end)
        self._tasks: dict[subprocess.Popen, str | None] = {}
        share = dict.fromkeys(_THREADS, str(max(1, cores() // n)))
        paths = os.pathsep.join(path for path in sys.path if path)
        for _ in range(n):
            process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what TensorFlow says as it starts would land in a notebook
                env={**os.environ, **share, "PYTHONPATH": paths},
            )
            self._tasks[process] = None
            threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error) -> None:
        for process in self._tasks:
            process.kill()
            process.wait()

    @property
    def free(self) -> bool:
        """Whether a process waits for a task."""
        return None in self._tasks.values()

    @property
    def busy(self) -> bool:
        """Whether a task is under way."""
        return any(self._tasks.values())

    def begin(self, name: str, function: Callable, *arguments, **options) -> None:
        """Let a free process call ``function(*arguments, progress=…, **options)``; its result is not kept.

        Raises:
            Exception: something in it cannot be handed to another process.
        """
        import cloudpickle  # data sets hold functions that pickle cannot name

        payload = cloudpickle.dumps((function, arguments, options))
        process = next(process for process, task in self._tasks.items() if task is None)
        self._tasks[process] = name
        with suppress(OSError):  # it is gone: `ended` says so
            _send(process.stdin, payload)

    def ended(self) -> str:
        """Wait until a task ends, passing on what all report meanwhile; the name of that task.

        Raises:
            Exception: what a task raised.
            VoclabError: a process was ended from outside.
        """
        while True:
            process, said = self._told.get()
            name = self._tasks[process]
            if said is None:
                raise VoclabError(
                    f"The process that worked on {name or 'nothing yet'} was ended from outside (status"
                    f" {process.wait()}); if memory ran out, close other programs. Started again, it"
                    " goes on where it was."
                )
            line, error = said
            if error is not None:
                raise error
            if line is None:
                self._tasks[process] = None
                return name
            self.progress(line)

    def _listen(self, process: subprocess.Popen) -> None:
        try:
            while True:
                self._told.put((process, pickle.load(process.stdout)))
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            self._told.put((process, None))


def serve() -> None:
    """What a process does: one task after another, until the one that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # reaches all processes of a terminal; the first ends us
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        tasks: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(tasks,), daemon=True).start()
        while True:
            _carry_out(tasks.get(), answers)


def _receive(tasks: queue.SimpleQueue) -> None:
    try:
        while True:
            tasks.put(pickle.load(sys.stdin.buffer))
    except (EOFError, OSError, pickle.UnpicklingError):
        os._exit(1)


def _carry_out(payload: bytes, answers: IO[bytes]) -> None:
    error = None
    try:
        import cloudpickle

        function, arguments, options = cloudpickle.loads(payload)
        function(*arguments, progress=lambda line: _send(answers, (str(line), None)), **options)
    except Exception as raised:
        error = raised
        if not isinstance(raised, VoclabError):
            raised.add_note("In another process:\n" + traceback.format_exc())
    try:
        _send(answers, (None, error))
    except (TypeError, AttributeError, pickle.PicklingError):  # some of TensorFlow's cannot be sent
        _send(answers, (None, RuntimeError("".join(traceback.format_exception(error)))))


def _send(stream: IO[bytes], what: Any) -> None:
    stream.write(pickle.dumps(what))
    stream.flush()
