"""Draw figures, pages and previews.

matplotlib would make a folder for its list of fonts in the home folder, or warn that it cannot. It
gets a temporary one, unless it has a folder there already.
"""

import os
from pathlib import Path

from raydistill.storage.caches import choose_temporary, is_writable

_OWN = Path("~/.config/matplotlib")
if "MPLCONFIGDIR" not in os.environ and not (os.path.isdir(os.path.expanduser(_OWN)) and is_writable(_OWN)):
    choose_temporary("MPLCONFIGDIR")
