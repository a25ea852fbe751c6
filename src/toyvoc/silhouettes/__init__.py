"""Vector drawings with random pose, proportions and colours: the objects of ToyVOC."""

from collections.abc import Callable, Mapping

from toyvoc.base import VOC_CLASSES
from toyvoc.silhouettes.animals import ANIMALS
from toyvoc.silhouettes.birds import BIRDS
from toyvoc.silhouettes.household import HOUSEHOLD
from toyvoc.silhouettes.pen import Pen
from toyvoc.silhouettes.people import PEOPLE
from toyvoc.silhouettes.trains import TRAINS
from toyvoc.silhouettes.vehicles import VEHICLES

_ALL = VEHICLES | TRAINS | ANIMALS | BIRDS | HOUSEHOLD | PEOPLE
VOC_DRAWINGS: Mapping[str, Callable[[Pen], None]] = {name: _ALL[name] for name in VOC_CLASSES}
"""How to draw one object of each VOC class with a pen, in class order."""
