"""Draw figures, pages and previews."""

import raydistill.storage.caches  # noqa: F401  # before matplotlib, whose folder it chooses
