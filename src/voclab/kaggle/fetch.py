"""Downloads a competition's data with the kaggle client."""

import shutil
from collections.abc import Callable
from pathlib import Path

from voclab.data.archives import unpack
from voclab.data.competition import TRAIN_CSV
from voclab.errors import VoclabError
from voclab.files import locked, make_folder
from voclab.kaggle.client import asking, check_competition, kaggle_api
from voclab.terminal import tell


def fetch_competition(slug: str, base: str | Path, say: Callable[[str], None] | None = tell) -> Path:
    """Download and unpack a competition's data; returns ``base/<slug>``.

    A competition that is there already is left alone. An interrupted download is taken up again by the
    client.

    Args:
        slug: the last part of the competition's address.
        base: the data folder; made if it is not there.
        say: takes a line for the user; ``None`` also hides the client's progress bar.

    Raises:
        VoclabError: no credentials, rules not accepted, no network, a hostile or damaged archive, another
            download into ``base``, a folder that cannot be written.
    """
    check_competition(slug)
    base, target = Path(base), Path(base) / slug
    staging = base / f".download-{slug}"
    if any(target.glob(f"train/{TRAIN_CSV}")) or any(target.glob(f"*/train/{TRAIN_CSV}")):
        shutil.rmtree(staging, ignore_errors=True)  # of a process killed just before its end
        if say:
            say(f"{target} is already there; nothing was downloaded.")
        return target
    api = kaggle_api()
    with locked(base / ".fetching.lock", f"{base} (for a download)"):
        if staging.is_symlink() or (staging / f"{slug}.zip").is_symlink():
            raise VoclabError(f"{staging} is or holds a link, which is not followed; remove it.")
        make_folder(staging)
        with asking(slug, show=say is not None):
            api.competition_download_files(slug, path=str(staging), quiet=say is None)
        unpack(staging / f"{slug}.zip", target)
        shutil.rmtree(staging)
    return target
