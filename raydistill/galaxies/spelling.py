"""Write words in one form, and tell which look alike.

Tables, file systems and editors write one word in several forms: composed or decomposed accents,
blanks that do not break, characters without width, and the bytes of numpy as b'word'.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.log import get_logger

log = get_logger(__name__)

# Soft hyphen, characters without width, marks of direction, byte-order mark, and padding.
_INVISIBLE = "\u00ad\u200b\u200e\u200f\u2060\ufeff\0"
_BLANK = r"\s"  # of any width, also those that do not break, and ends of lines
_UNUSUAL = "[^ -~]|  "  # not printable ASCII, or two blanks
_BYTES = r"""^b(?:'(.*)'|"(.*)")$"""


def trim(word: str) -> str:
    """Return a word with composed accents and without what is invisible around it."""
    word = unicodedata.normalize("NFC", word)
    return re.sub(rf"^[\s{_INVISIBLE}]+|[\s{_INVISIBLE}]+$", "", word)


def spell(word: str) -> str:
    """Return a word in one form: as `trim`, with single plain blanks in it.

    >>> spell(" barre\\u0301\\u00a0\\nspiral\\u200b") == "barr\\xe9 spiral"
    True
    """
    return re.sub(f"{_BLANK}+", " ", re.sub(f"[{_INVISIBLE}]", "", trim(word)))


def likeness(word: str) -> str:
    """Return a text that is equal for words that differ in case, blanks or form alone.

    >>> likeness("Barred Spiral") == likeness("barredspiral ")
    True
    """
    return "".join(unicodedata.normalize("NFKC", spell(word)).casefold().split())


def spell_column(words: pa.Array, where: str, form: Callable[[str], str] = spell) -> pa.Array:
    """Return a column of text in one form, with a warning of what changes.

    Parameters
    ----------
    words : pyarrow.Array of string
    where : str
        What the words are, for the warning.
    form : callable
        `spell` or `trim`. Before it, b'word' becomes word if all words are written so.
    """
    words = pc.utf8_trim_whitespace(pc.utf8_rtrim(words, characters="\0"))  # padding of bytes
    is_bytes = pc.match_substring_regex(words, _BYTES)
    if pc.any(is_bytes).as_py() and pc.all(is_bytes).as_py():
        plain = pc.replace_substring_regex(words, _BYTES, r"\1\2")
        words = _changed(words, plain, where, "are the text of bytes")
    if pc.any(pc.match_substring_regex(words, _UNUSUAL)).as_py():
        distinct = words.dictionary_encode()
        plain = pa.array(map(form, distinct.dictionary.to_pylist()), pa.string()).take(distinct.indices)
        words = _changed(words, plain, where, "have decomposed accents, unusual blanks or invisible characters")
    return words


def _changed(words: pa.Array, plain: pa.Array, where: str, what: str) -> pa.Array:
    """Return the plain words, and warn of those that differ."""
    differs = pc.fill_null(pc.not_equal(words, plain), False)
    if count := pc.sum(differs).as_py():
        row = pc.index(differs, True).as_py()
        shown = words[row].as_py().encode("ascii", "backslashreplace").decode()
        log.warning("curate: %s: %d values %s; '%s' is read as '%s'", where, count, what, shown, plain[row])
    return plain
