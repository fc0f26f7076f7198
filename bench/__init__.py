"""How fast it is: each figure beside its raw ceiling or a peer, measured in the same run on the same machine.

`rounds` takes turns between the two, `material` makes what is measured, the other modules hold one kind of figure each.
"""

import sys
from pathlib import Path

# The folders of the tests are no packages: their modules find each other the way pytest has it.
sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("tests", "tests/peers")]
