"""Write self-contained web pages: one file each, with pictures and styles inside."""
