"""A search for settings: trials of `voclab train`, chosen by Optuna, scored on validation images."""

import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
import pandas as pd
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from voclab.errors import VoclabError, first_line
from voclab.experiments.search import Plan, Range
from voclab.experiments.train import VICTIM, parts, planned, trained, validation_score, victims
from voclab.files import lock, locked, make_folder, unlock
from voclab.options import shown
from voclab.terminal import say
from voclab.training import Parts
from voclab.training.experiment import model_digest
from voclab.training.identity import changes, data_digest, known_by, listed, weights_digest

JOURNAL = "journal.log"  # of Optuna, in the folder of the sweep
SCORE, STATE, WHY, OWNER = "score", "state", "why", "owner"
_PATIENCE = 60.0  # seconds that another process may take to choose its next trial
_ASKING = timedelta(minutes=1)  # after which a trial that has no owner will get none
_HOPELESS = 3  # first trials that all fail: so would the others


def sweep(
    plan: Plan,
    name: str,
    runs: Path,
    trials: int,
    storage: str | None = None,
    progress: Callable[[str], None] = say,
) -> tuple[pd.DataFrame, str]:
    """Train trials until there are enough of them, here and in other processes of the same sweep together.

    Trial k is the run ``name/trial-k``. One that was interrupted is gone on with by whoever comes next; with
    ``storage``, on the same machine in the same folder; without file locks, by nobody. The values come from
    Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), seeded by the training's seed and the
    number of the trial; the first ten are drawn at random.

    Args:
        plan: what is searched.
        name: folder of the sweep.
        runs: parent folder.
        trials: how many in all, failed ones included.
        storage: address of a database that knows the trials, e.g. ``sqlite:///trials.db``; by default a file
            in the folder of the sweep, which also works on a network disk.
        progress: receives lines of text.

    Returns:
        A row a trial (index: its number) with the columns ``score``, ``state``, the settings searched and
        ``why`` it failed; and the name of the score, the validation figure that epochs are chosen by.

    Raises:
        VoclabError: another search, or one of other data or code, has that name, the storage cannot be used,
            or no trial succeeds.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder, data = make_folder(runs / name), parts(plan.first())
    study = _study(plan, data, name, folder, storage)
    # A journal is in the folder, so whoever reads it also sees the locks; a database says nothing of them.
    owner = f"{socket.gethostname()}:{folder.resolve()}" if storage else ""
    while (begun := _next(study, plan, folder, trials, owner)) is not None:
        trial, chosen = begun
        called = ", ".join(f"{key} {short(value)}" for key, value in chosen.items())
        progress(f"Trial {trial.number} of {trials}: {called}")
        try:
            asked = plan.asked(chosen)
            run = trained(asked, f"{name}/trial-{trial.number}", runs, progress, data)
            study.set_user_attr(SCORE, (found := validation_score(asked, data, run))[0])
            study.tell(trial, found[1], skip_if_finished=True)
        except VoclabError as error:
            _fail(study, trial, str(error))
            progress(f"Trial {trial.number} failed: {error}")
            states = [each.state for each in study.get_trials(deepcopy=False)]
            if TrialState.COMPLETE not in states and states.count(TrialState.FAIL) >= _HOPELESS:
                raise VoclabError(
                    f"The first {_HOPELESS} trials failed, so the sweep stops: {error}"
                ) from error
        finally:
            unlock(_lock_of(folder, trial.number))
        keras.utils.clear_session()  # or every trial's network would stay in memory
    table = table_of(study, plan)
    return table, study.user_attrs.get(SCORE, SCORE)


def table_of(study: optuna.Study, plan: Plan) -> pd.DataFrame:
    """The table that :func:`sweep` returns."""
    rows = {
        trial.number: {
            SCORE: trial.value if trial.state == TrialState.COMPLETE else np.nan,
            STATE: "failed" if trial.state == TrialState.FAIL else trial.state.name.lower(),
            **{name: trial.params.get(name) for name in plan.searched},
            WHY: trial.user_attrs.get(WHY, ""),
        }
        for trial in study.get_trials(deepcopy=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("trial")


def _study(plan: Plan, data: Parts, name: str, folder: Path, storage: str | None) -> optuna.Study:
    """The study of that name, made by the first process; refused where it is another search."""
    first = plan.first()
    networks = victims(first, data)
    task = planned(first, name, data.fit, networks.get(VICTIM)).task
    about = {key: value for key, value in first.items() if key not in {*plan.searched, "dataset"}}
    # Paths differ between machines, contents must not.
    about["weights"] = weights_digest(first.get("weights"))
    about |= {key: model_digest(network.model) for key, network in networks.items()}
    about["data"] = data_digest(data.fit, data.validation, data.test, masks=task.masks(networks))
    about["searched"] = plan.searched
    now = known_by(about, planned, *(network.model for network in networks.values()))
    try:
        where: Any = storage or optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
        )
        with locked(folder / ".lock", f"The sweep {folder}", _PATIENCE):
            study = optuna.create_study(
                storage=where, study_name=name, direction="maximize", load_if_exists=True
            )
            if not study.user_attrs:
                study.set_user_attr("about", now)
    except VoclabError:
        raise
    except Exception as error:  # each database has its own errors
        raise VoclabError(
            f"The trials in {storage or folder / JOURNAL} cannot be read ({first_line(error)}); check the"
            " address given with --storage, or give the sweep another name."
        ) from error
    if changed := changes(study.user_attrs["about"], now):
        raise VoclabError(
            f"The sweep {name} was begun with other settings, data or code ({listed(changed)}); go back to"
            " those, or give this one another --name."
        )
    return study


def _next(
    study: optuna.Study, plan: Plan, folder: Path, trials: int, owner: str
) -> tuple[Trial, dict[str, Any]] | None:
    """The next trial, whose lock this process then holds, and its values; ``None`` if none is left."""
    with locked(folder / ".lock", f"The sweep {folder}", _PATIENCE):
        for begun in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _is_ours(begun, owner) and _ended(folder, begun.number):
                trial = Trial(study, begun._trial_id)
                trial.set_user_attr(OWNER, owner)
                return trial, _values(trial, plan)
        if len(study.get_trials(deepcopy=False)) >= trials:
            return None
        trial = study.ask()  # its number is known only now: on a database others ask at the same time
        trial.set_user_attr(OWNER, owner)
        lock(_lock_of(folder, trial.number), f"Trial {trial.number} of {folder}")
        return trial, _values(trial, plan)


def _is_ours(trial: FrozenTrial, owner: str) -> bool:
    """Whether a lock in this folder says if the trial still runs; of another owner's nobody here can tell."""
    if OWNER in trial.user_attrs or not owner:
        return trial.user_attrs.get(OWNER, "") == owner
    # Killed between its two first words to the database; or it is about to say the second.
    return datetime.now() - trial.datetime_start > _ASKING


def _values(trial: Trial, plan: Plan) -> dict[str, Any]:
    """The values of a trial; those that a killed process had not yet chosen are chosen now."""
    # A sampler that went on from its seed would draw the same values in every process.
    seed = int(np.random.SeedSequence([plan.first()["seed"], trial.number]).generate_state(1)[0])
    trial.study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return {name: _suggested(trial, name, values) for name, values in plan.searched.items()}


def _suggested(trial: Trial, name: str, values: Range | tuple) -> Any:
    if not isinstance(values, Range):
        return trial.suggest_categorical(name, values)
    if values.whole:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)


def _lock_of(folder: Path, number: int) -> Path:
    return folder / f".trial-{number}.lock"


def _ended(folder: Path, number: int) -> bool:
    """Whether the process of a trial has certainly ended: this one then holds its lock."""
    try:
        return lock(_lock_of(folder, number), "The trial")
    except VoclabError:
        return False


def _fail(study: optuna.Study, trial: Trial, why: str) -> None:
    with suppress(UpdateFinishedTrialError):  # somebody else told its end
        trial.set_user_attr(WHY, why)
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def short(value: Any) -> str:
    """A setting for people."""
    return f"{value:.3g}" if isinstance(value, float) else shown(value)
