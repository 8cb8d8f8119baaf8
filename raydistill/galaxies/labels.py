"""Match the labels of a table with classes.

A label matches a class in three steps; the first that succeeds counts:

- the same text;
- the same number: 3, 3.0 and 3e0 are equal;
- the same truth value: YAML parses yes, no, true, false, on and off as booleans, and a table may
  spell them differently.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydistill.errors import ConfigError, listed
from raydistill.log import get_logger

# Write words in one form, and tell which look alike.
#
# Tables, file systems and editors write one word in several forms: composed or decomposed accents,
# blanks that do not break, characters without width, and the bytes of numpy as b'word'.

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


NO_LABEL, OTHER_LABEL = -1, -2  # a galaxy without a label, and one whose label is not among the classes
_MISSING_LABELS = ("", "-1", "none", "nan", "null", "unknown", "na", "n/a", "<na>")
_TRUE, _FALSE = ("yes", "true", "on"), ("no", "false", "off")
_MAX_EXPONENT = 30  # of a label; a longer number is text
_EXAMPLE = "{elliptical: 1, s0: 2, spiral: [3, 4]}"


@dataclass(frozen=True)
class LabelledClass:
    """Define a class by its labels in the table.

    Parameters
    ----------
    name
        Name of the class.
    labels
        Labels of its galaxies, as text.
    """

    name: str
    labels: tuple[str, ...]


class LabelIndex:
    """Find the class of a label.

    Parameters
    ----------
    labels
        The labels of each class, by the position of the class.

    Raises
    ------
    ConfigError
        If two classes share a label.
    """

    def __init__(self, labels: Sequence[Sequence[str]]) -> None:
        self.labels = labels
        pairs = [(label, position) for position, group in enumerate(labels) for label in group]
        counts = Counter(label for label, _ in pairs)
        if repeated := [label for label, count in counts.items() if count > 1]:
            raise ConfigError(f"the label '{repeated[0]}' is given twice", "", "give each label to one class")
        self._by_text = dict(pairs)
        self._by_value = _unambiguous((_value(label), position) for label, position in pairs)

    def find(self, label: str | None) -> int:
        """Return the position of the label's class, `NO_LABEL` or `OTHER_LABEL`."""
        if label in self._by_text:
            return self._by_text[label]
        if label is None:
            return NO_LABEL
        value = _value(label)
        if value in self._by_value:
            return self._by_value[value]
        return NO_LABEL if is_missing(label) else OTHER_LABEL

    def absent(self, labels: Iterable[str | None]) -> list[tuple[int, str]]:
        """Return (position, label) of every label of a class that is not among `labels`.

        ConfigError for a label that is the number of another class, in a spelling of no galaxy.
        """
        words = {label for label in labels if label is not None}
        values = {_value(word) for word in words} - {None}
        pairs = [(p, label) for p, group in enumerate(self.labels) for label in group if label not in words]
        for _, label in pairs:
            if _value(label) in values and _value(label) not in self._by_value:
                raise ConfigError(f"the label '{label}' is given twice", "", "give each label to one class")
        return [(position, label) for position, label in pairs if _value(label) not in values]


def left_out(labels: Iterable[str | None], groups: Sequence[Sequence[str]]) -> Counter[str]:
    """Return the number of galaxies by label, for the labels of no class.

    Parameters
    ----------
    labels
        The label of each galaxy.
    groups
        The labels of each class.
    """
    index = LabelIndex(groups)
    counts = Counter(label for label in labels if label is not None)
    return Counter({label: count for label, count in counts.items() if index.find(label) == OTHER_LABEL})


def warn_of_similar_labels(counts: Mapping[str, int], groups: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    """Warn of labels of no class that are those of a class but for case or blanks.

    Parameters
    ----------
    counts
        The result of `left_out`.
    groups, names
        Labels and names of the classes.
    """
    similar = {likeness(label): (label, name) for group, name in zip(groups, names, strict=True) for label in group}
    confused = [(other, *similar[likeness(other)]) for other in counts if likeness(other) in similar]
    if confused:
        shown = listed([f"'{other}' ({counts[other]}) like '{label}'" for other, label, _ in confused])
        other, label, name = confused[0]
        what = (
            "curate: labels that look like one of a class are left out: %s; curate.classes={%s: [%s, %s], …} joins them"
        )
        log.warning(what, shown, name, label, other)


def is_missing(label: str | None) -> bool:
    """Return whether a label is missing: empty, -1, none, nan, null, na or unknown."""
    return label is None or label.lower() in _MISSING_LABELS or number(label) == -1


def number(label: str) -> Decimal | None:
    """Return the number that a label spells, or None."""
    try:
        value = Decimal(label)
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value.adjusted()) <= _MAX_EXPONENT else None


def numeric_labels(labels: Iterable[str | None]) -> list[str]:
    """Return the distinct labels in order if all of them are numbers, else nothing.

    Missing labels are left out.
    """
    numbers = {number(label) for label in labels if label is not None and not is_missing(label)}
    values = sorted(value for value in numbers if value is not None)
    return [_spell(value) for value in values] if None not in numbers else []


def mapping_example(names: Sequence[str], codes: Sequence[str], labels: Sequence[Sequence[str]] | None = None) -> str:
    """Return an example of `curate.classes` that gives a number to each class.

    A truth value, among `labels` or else the names, becomes 1 or 0.
    """
    truths = [label[0].lower() for label in labels or [(name,) for name in names]]
    if len(codes) > len(names) and codes[0] == "0":  # 0 often stands for "none"
        codes = codes[1:]
    if all(truth in _TRUE + _FALSE for truth in truths):
        codes = ["1" if truth in _TRUE else "0" for truth in truths]
    shown = [f"{name}: {code}" for name, code in zip(names, codes, strict=False)][:6]
    return f"curate.classes={{{', '.join(shown)}{', …' if len(names) > len(shown) else ''}}}"


def parse_classes(value: Any) -> Any:
    """Return `curate.classes` in the form of the config; other values as they are.

    A mapping of names to labels becomes a tuple of `LabelledClass`, which keeps its order.

    Raises
    ------
    ValueError
        If a class or a label is neither text nor a number.
    """
    if isinstance(value, Mapping):
        return tuple(LabelledClass(_text(name), _labels(labels)) for name, labels in value.items())
    if isinstance(value, list | tuple):
        return tuple(_listed_class(entry) for entry in value)
    return value


def _listed_class(entry: Any) -> Any:
    """Return an entry of a list of classes."""
    if isinstance(entry, LabelledClass):
        return entry
    if isinstance(entry, Mapping):
        if entry.keys() == {"name", "labels"}:
            return LabelledClass(_text(entry["name"]), _labels(entry["labels"]))
        if len(entry) == 1:  # YAML's `- spiral: 3`
            ((name, labels),) = entry.items()
            return LabelledClass(_text(name), _labels(labels))
    return entry if type(entry) is int else _text(entry)


def _labels(value: Any) -> tuple[str, ...]:
    labels = tuple(_text(label) for label in (value if isinstance(value, list | tuple) else [value]))
    if not labels:
        raise ValueError(f"a class has no label; write {_EXAMPLE}")
    return labels


def _text(scalar: Any) -> str:
    """Return the text of a YAML scalar."""
    if isinstance(scalar, bool):
        return "yes" if scalar else "no"
    if scalar is None or isinstance(scalar, Mapping | list | tuple):
        raise ValueError(f"a class or a label is {scalar!r}; write {_EXAMPLE}, and quote words such as 'null'")
    return str(scalar)


def _value(label: str) -> tuple[str, Decimal | bool] | None:
    """Return kind and value of a label that spells a boolean or a number, or None."""
    if label.lower() in _TRUE + _FALSE:
        return "boolean", label.lower() in _TRUE
    value = number(label)
    return None if value is None else ("number", value)


def _spell(value: Decimal) -> str:
    """Return a whole number without a decimal point."""
    return str(int(value)) if value == int(value) else str(value)


def _unambiguous(pairs: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    """Return the position by value, without values of several classes."""
    positions: defaultdict[Any, set[int]] = defaultdict(set)
    for value, position in pairs:
        positions[value].add(position)
    return {value: places.pop() for value, places in positions.items() if value is not None and len(places) == 1}
