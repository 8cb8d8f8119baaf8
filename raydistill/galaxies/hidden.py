"""Tell apart the data and what systems and tools put beside it."""

from __future__ import annotations

# Folders of macOS, of Synology's disks, of Windows and of Linux.
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")


def is_hidden(path: str) -> bool:
    """Return whether a path has a hidden part, or one that belongs to the system."""
    return any(part.startswith(".") or part in SYSTEM_FOLDERS for part in path.split("/"))
