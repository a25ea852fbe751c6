"""Vector drawings with random pose, proportions and colours: the objects of ToyVOC and of its source task."""

from collections.abc import Callable, Mapping

from voclab.datasets.base import VOC_CLASSES
from voclab.datasets.silhouettes.animals import ANIMALS
from voclab.datasets.silhouettes.birds import BIRDS
from voclab.datasets.silhouettes.household import HOUSEHOLD
from voclab.datasets.silhouettes.pen import Pen
from voclab.datasets.silhouettes.people import PEOPLE
from voclab.datasets.silhouettes.trains import TRAINS
from voclab.datasets.silhouettes.vehicles import VEHICLES

_ALL = VEHICLES | TRAINS | ANIMALS | BIRDS | HOUSEHOLD | PEOPLE
VOC_DRAWINGS: Mapping[str, Callable[[Pen], None]] = {name: _ALL[name] for name in VOC_CLASSES}
"""How to draw one object of each VOC class with a pen, in class order."""
