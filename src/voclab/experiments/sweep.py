"""A search for settings: trials of `voclab train`, chosen by Optuna, scored on validation images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from voclab.errors import VoclabError, first_line
from voclab.experiments.search import Plan, Range
from voclab.experiments.train import parts, trained, validation_score
from voclab.files import lock, locked, make_folder, unlock
from voclab.options import shown
from voclab.terminal import say
from voclab.training import Parts
from voclab.training.identity import data_digest, plain, weights_digest

JOURNAL = "journal.log"  # of Optuna, in the folder of the sweep
SCORE, STATE, WHY = "score", "state", "why"
_PATIENCE = 60.0  # seconds that another process may take to choose its next trial
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

    Trial k is the run ``name/trial-k``. One that was interrupted is gone on with by whoever comes next. The
    next values come from Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), seeded by the
    training's seed and the number of the trial; the first ten are drawn at random.

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
        VoclabError: another search has that name, the storage cannot be used, or no trial succeeds.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder, data = make_folder(runs / name), parts(plan.first())
    study = _study(plan, data, name, folder, storage)
    while (begun := _next(study, plan, folder, trials)) is not None:
        number, chosen = begun
        called = ", ".join(f"{key} {short(value)}" for key, value in chosen.items())
        progress(f"Trial {number} of {trials}: {called}")
        try:
            asked = plan.asked(chosen)
            run = trained(asked, f"{name}/trial-{number}", runs, progress, data)
            study.set_user_attr(SCORE, (found := validation_score(asked, data, run))[0])
            study.tell(number, found[1])
        except VoclabError as error:
            _fail(study, number, str(error))
            progress(f"Trial {number} failed: {error}")
            states = [trial.state for trial in study.get_trials(deepcopy=False)]
            if TrialState.COMPLETE not in states and states.count(TrialState.FAIL) >= _HOPELESS:
                raise VoclabError(
                    f"The first {_HOPELESS} trials failed, so the sweep stops: {error}"
                ) from error
        finally:
            unlock(_lock_of(folder, number))
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
    about = {
        name: value for name, value in first.items() if name not in {*plan.searched, "dataset", "victim"}
    }
    about["weights"] = weights_digest(
        first.get("weights")
    )  # paths differ between machines, contents must not
    about |= {"searched": plan.searched, "data": data_digest(data.fit, data.validation, data.test)}
    try:
        where: Any = storage or optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
        )
        with locked(folder / ".lock", f"The sweep {folder}", _PATIENCE):
            study = optuna.create_study(
                storage=where, study_name=name, direction="maximize", load_if_exists=True
            )
            if not study.user_attrs:
                study.set_user_attr("about", plain(about))
    except VoclabError:
        raise
    except Exception as error:  # each database has its own errors
        raise VoclabError(
            f"The trials in {storage or folder / JOURNAL} cannot be read ({first_line(error)}); check the"
            " address given with --storage, or give the sweep another name."
        ) from error
    known, now = study.user_attrs["about"], plain(about)
    if changed := [key for key in now if known.get(key) != now[key]]:
        raise VoclabError(
            f"The sweep {name} was begun with other settings ({', '.join(changed)}); repeat its options, or"
            " give this one another --name."
        )
    return study


def _next(study: optuna.Study, plan: Plan, folder: Path, trials: int) -> tuple[int, dict] | None:
    """Number and values of the next trial, whose lock this process then holds; ``None`` if none is left."""
    with locked(folder / ".lock", f"The sweep {folder}", _PATIENCE):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Without its folder it runs on a machine with another disk.
            if (folder / f"trial-{trial.number}").is_dir() and _held(folder, trial.number):
                return trial.number, trial.params
        number = len(study.get_trials(deepcopy=False))
        if number >= trials:
            return None
        # A sampler that went on from its seed would draw the same values in every process.
        seed = int(np.random.SeedSequence([plan.first()["seed"], number]).generate_state(1)[0])
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        make_folder(folder / f"trial-{number}")
        trial = study.ask({name: _distribution(values) for name, values in plan.searched.items()})
        if not _held(folder, trial.number):
            raise VoclabError(f"{_lock_of(folder, trial.number)} is in use; name another folder with --runs.")
        make_folder(folder / f"trial-{trial.number}")
        return trial.number, trial.params


def _lock_of(folder: Path, number: int) -> Path:
    return folder / f".trial-{number}.lock"


def _held(folder: Path, number: int) -> bool:
    """Whether this process holds the lock of a trial now, because no other does."""
    try:
        lock(_lock_of(folder, number), "The trial")
    except VoclabError:
        return False
    return True


def _fail(study: optuna.Study, number: int, why: str) -> None:
    trial = study.get_trials(deepcopy=False)[number]
    optuna.trial.Trial(study, trial._trial_id).set_user_attr(WHY, why)
    study.tell(number, state=TrialState.FAIL)


def _distribution(values: Range | tuple) -> BaseDistribution:
    if not isinstance(values, Range):
        return CategoricalDistribution(values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def short(value: Any) -> str:
    """A setting for people."""
    return f"{value:.3g}" if isinstance(value, float) else shown(value)
