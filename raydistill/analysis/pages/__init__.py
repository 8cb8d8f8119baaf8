"""Write web pages that are one file each: pictures and styles inside, nothing from the internet."""
