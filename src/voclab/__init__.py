"""voclab: PASCAL VOC classification, segmentation, adversaries and robustness, for a course and beyond.

Importing the package is cheap on purpose: TensorFlow is imported only by the rooms that need it.
"""

import os
import time

__version__ = "0.1.0"
IMPORTED_AT = time.time()  # a file of ours that is newer was edited while it was in use

# Both must be set before the libraries are imported: albumentations asks the network for its
# newest version, TensorFlow writes start-up notes into every saved notebook.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
