"""The picture that README opens with: what the ready networks see in free photos, and how they are fooled.

    make picture, or python benchmarks/ready_picture.py [FOLDER]

Writes FOLDER/ready.png (default: figures/). The photos come with scikit-image: Chelsea the cat (Stefan van
der Walt, CC0), the astronaut Eileen Collins (NASA, public domain), a cup of coffee (Rachel Michetti, CC0).
Each is attacked by the PGD of `voclab app` at the size of the classifier, which answers to the 8-bit result.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from voclab import plotting
from voclab.app.demo import Answers, Seen, open_photo, write_examples
from voclab.attacks import visibility
from voclab.data.images import at_size
from voclab.evaluation import open_saved
from voclab.models.network import Network
from voclab.models.ready import CLASSIFIER, SEGMENTER

EPSILON = 4  # steps of an 8-bit value
MAGNIFIED = 30  # times: within the range of an 8-bit value
PHOTOS = 3  # of the page's examples; the others are drawn


def main(folder: str = "figures") -> None:
    """Open the networks and draw."""
    answers = Answers(open_saved(CLASSIFIER), open_saved(SEGMENTER))
    with tempfile.TemporaryDirectory() as there:
        photos = [open_photo(path) for path in write_examples(there)[:PHOTOS]]
    print(draw(answers, photos, folder))


def draw(answers: Answers, photos: list[np.ndarray], folder: str | Path) -> Path:
    """Draw (H, W, 3) uint8 photos into a folder; returns the file."""
    rows = [row(answers, photo) for photo in photos]
    figure = plotting.fooled_photos(rows, answers.segmenter.class_names, MAGNIFIED)
    return plotting.save(figure, Path(folder) / "ready", title="", images=True, dither=True, dpi=220)


def row(answers: Answers, photo: np.ndarray) -> tuple:
    """What :func:`voclab.plotting.fooled_photos` draws of an (H, W, 3) uint8 photo."""
    done = answers.attack(photo, "PGD", EPSILON)
    clean = at_size(photo, answers.classifier.size)  # what is attacked
    change = visibility(done.image[None], clean[None])
    text = f"at most {change['linf']:.0f} of 255\nPSNR {change['psnr']:.0f} dB"
    magnified = cv2.resize(plotting.magnified(done.image, clean, MAGNIFIED), done.shown.shape[1::-1])
    same = cv2.resize(photo, done.shown.shape[1::-1], interpolation=cv2.INTER_AREA)
    before, after = (
        _answered(image, seen, answers.classifier)
        for image, seen in ((same, done.before), (done.shown, done.after))
    )
    return before, magnified, text, after


def _answered(image: np.ndarray, seen: Seen, network: Network) -> plotting.Answered:
    thresholds = np.broadcast_to(0.5 if network.thresholds is None else network.thresholds, len(seen.classes))
    present = {name for (name, share), least in zip(seen.classes.items(), thresholds) if share >= least}
    return plotting.Answered(image, seen.regions.labels, seen.classes, present)


if __name__ == "__main__":
    main(*sys.argv[1:])
