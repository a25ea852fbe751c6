"""Vector drawings with random pose, proportions and colours: the objects of ToyVOC and of its source task."""

from collections.abc import Callable, Mapping

from toyvoc.silhouettes.animals import ANIMALS
from toyvoc.silhouettes.birds import BIRDS
from toyvoc.silhouettes.household import HOUSEHOLD
from toyvoc.silhouettes.pen import Pen
from toyvoc.silhouettes.people import PEOPLE
from toyvoc.silhouettes.trains import TRAINS
from toyvoc.silhouettes.vehicles import VEHICLES
from voclab.data.base import VOC_CLASSES

_ALL = VEHICLES | TRAINS | ANIMALS | BIRDS | HOUSEHOLD | PEOPLE
VOC_DRAWINGS: Mapping[str, Callable[[Pen], None]] = {name: _ALL[name] for name in VOC_CLASSES}
"""How to draw one object of each VOC class with a pen, in class order."""
