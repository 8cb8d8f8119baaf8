"""Draw figures, pages and previews."""

import raydistill.storage.caches  # before matplotlib, whose folder it chooses
