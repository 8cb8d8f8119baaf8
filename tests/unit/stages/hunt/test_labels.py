"""Labels as AnomalyMatch's CSV: read, checked, and written back byte for byte."""

from __future__ import annotations

import pytest

from raydistill.errors import CatalogError
from raydistill.stages.hunt.inputs.labels import match_files, new_labels, read_labels
from raydistill.stages.hunt.inputs.survey import names_for_labels

FILES = {
    "plain": b"filename,label\na.jpg,normal\nb.jpg,anomaly\n",
    "windows, further columns and quotes": b'filename,label,note\r\n"a.jpg",normal,"x, ""y"""\r\nb.jpg,anomaly,\r\n',
    "byte order mark, no last line end": b"\xef\xbb\xbffilename,label\na.jpg,normal\nb.jpg,anomaly",
    "columns in another order, capitals": b"note,label,filename\n1,Normal,a.jpg\n2, anomaly,b.jpg\n",
    "yes and no": b"filename,label\na.jpg,no\nb.jpg,yes\n",
    "grades": b"filename,label\na.jpg,3\nb.jpg,4\n",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_every_form_of_file_is_read_and_written_back_unchanged(content):
    labels = read_labels(content, "labels.csv")
    assert labels.decisions() == {"a.jpg": False, "b.jpg": True}
    assert labels.with_rows([]).encode() == content


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_appended_rows_follow_the_form_of_the_file(content):
    labels = read_labels(content, "labels.csv")
    word = {"normal": "anomaly", "yes-no": "yes", "1-5": "5"}[labels.scale]
    text = labels.with_rows([{"filename": "c,d.jpg", "label": word, "unknown": "left out"}]).encode()
    assert text.startswith(content)
    assert text.count(b"\r\n") in (0, text.count(b"\n"))  # one kind of line end
    again = read_labels(text, "labels.csv")
    assert again.decisions() == {"a.jpg": False, "b.jpg": True, "c,d.jpg": True}
    assert again.columns == labels.columns


def test_threshold_decides_which_grades_are_targets():
    labels = read_labels(b"filename,label\na,1\nb,3\nc,5\n", "labels.csv")
    assert [labels.decisions(threshold)["b"] for threshold in (3, 4)] == [True, False]


def test_new_file_has_the_form_of_anomalymatch():
    assert new_labels().with_rows([{"filename": "a", "label": "anomaly"}]) == "filename,label\na,anomaly\n"
    assert new_labels().scale == "normal"


def test_filename_that_a_spreadsheet_would_calculate_is_text():
    names = ["=cmd|' /C calc'!A0", "@SUM(1)", "-1+1.jpg", "+J123", "'=x", "-12.5", "a=b"]
    text = new_labels().with_rows({"filename": name, "label": "anomaly"} for name in names)
    assert list(read_labels(text.encode(), "labels.csv").decisions()) == names
    assert not [line for line in text.splitlines() if line.startswith(("=", "@", "+", "-1+"))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no column 'filename'; its columns are: none"),
        (b"file,label\na,normal\n", "it has no column 'filename'; its columns are: file, label"),
        (b"filename,label,label\n", "it has two columns 'label'"),
        (b"filename,label\na,maybe\n", "row 2 has the label 'maybe'"),
        (b"filename,label\na,\n", "row 2 has no label"),
        (b"filename,label\na,nan\n", "row 2 has the label 'nan'"),
        (b"filename,label\na,yes\nb,3\n", "row 3 has the label '3', and rows before it are of the kind yes-no"),
        (b"filename,label\n,yes\n", "row 2 has no filename"),
        (b"filename,label\na,yes,no\n", "row 2 has 3 values, and the header names 2 columns"),
        (b"filename,label\n\xff,yes\n", "byte 15 is not UTF-8 text"),
        (b'filename,label\n"a,yes\n', "it is not CSV"),
        (
            b"filename,label\na,1\nb,1\n",
            "all 2 labels are 1, which may be the lowest grade of five or the yes of 0 and 1",
        ),
        (b"filename,label\na,1\nb,0\n", "row 3 has the label '0'"),
        (b"filename,label\na,0\nb,0\n", "row 2 has the label '0'"),
        (b"filename,label\na,-1\nb,1\n", "row 2 has the label '-1'"),
        (b"filename,label\na,TRUE\nb,FALSE\n", "row 2 has the label 'TRUE'"),
        (b"filename,label\na,5\nb,0\n", "row 3 has the label '0'"),
        (b"filename,label\na,1.0\nb,5.0\n", "row 2 has the label '1.0'"),
        (
            b"filename,label\n0,a,yes\n1,b,no\n",
            "row 2 has 3 values, and the header names 2 columns; correct the row, or",
        ),
    ],
)
def test_wrong_file_gets_one_sentence_that_names_the_row(content, message):
    with pytest.raises(CatalogError) as caught:
        read_labels(content, "labels.csv")
    assert str(caught.value).startswith("labels.csv: ")
    assert message in str(caught.value)


def test_rows_that_contradict_each_other_are_rejected():
    with pytest.raises(CatalogError, match="row 4 contradicts an earlier row of 'a'"):
        read_labels(b"filename,label\na,yes\nb,no\na,no\n", "labels.csv").decisions()
    assert read_labels(b"filename,label\na,yes\na,yes\n", "labels.csv").decisions() == {"a": True}


def test_blank_lines_are_no_rows():
    labels = read_labels(b"\nfilename,label,round\n\na,yes,\xc2\xb2\n\nb,no,3\n", "labels.csv")
    assert (labels.decisions(), labels.next_round) == ({"a": True, "b": False}, 4)
    with pytest.raises(CatalogError, match="row 3 has the label 'maybe'"):
        read_labels(b"filename,label\na,yes\n\nb,maybe\n", "labels.csv")


def test_filenames_are_object_ids_or_names_of_pictures():
    ids, paths = ["101", "102", "sub/103"], ["images/x.jpg", "images/y.jpg", "sub/103.png"]
    assert match_files(["101", "y.jpg", "y", "103.png", "sub/103"], ids, paths, "labels.csv") == [0, 1, 1, 2, 2]
    assert match_files(["101.jpg"], ids, [None] * 3, "labels.csv") == [0]


def test_names_for_labels_name_the_object_in_the_whole_survey():
    ids = ["12.jpg", "12.png", "x/12", "a/1", "b/1", "7", "8"]
    paths = ["12.jpg", "12.png", "x/13.png", "a/1.png", "b/1.png", "7.png", None]
    for row, object_id in enumerate(ids):  # one picture on a sheet
        assert match_files(names_for_labels(ids, paths, [row]), ids, paths, "labels.csv") == [row], object_id
    assert names_for_labels(ids, paths, [2, 3, 5, 6]) == ["13.png", "a/1", "7.png", "8"]
    assert names_for_labels(["12.png", "x/12"], ["12.jpg", "x/12.png"], [1]) == ["x/12"], "it is another object's id"


def test_ids_with_a_point_are_no_names_with_a_suffix():
    assert match_files(["1.10", "1.20.png", "2"], ["1.10", "1.20", "2"], [None] * 3, "labels.csv") == [0, 1, 2]
    with pytest.raises(CatalogError, match=r"the filename '1\.30' names no object"):
        match_files(["1.30"], ["1"], [None], "labels.csv")


def test_filenames_and_labels_may_have_any_form_of_their_letters():
    text = "filename,label\n\xa0cafe\u0301.png,yes\u200b\nb.png,No\xa0\n"
    decisions = read_labels(text.encode(), "labels.csv").decisions()
    assert list(decisions.values()) == [True, False]
    assert match_files(decisions, ["x", "y"], ["caf\xe9.png", "b.png"], "labels.csv") == [0, 1]


def test_second_column_of_labels_that_differs_gives_a_warning(caplog):
    read_labels(b"filename,label,label.1\na,yes,no\nb,no,no\n", "labels.csv")
    assert (
        "columns 'label' and 'label.1' differ in 1 of 2 rows (first: row 1: yes and no); 'label' is read" in caplog.text
    )


def test_unknown_and_ambiguous_filenames_are_rejected():
    with pytest.raises(CatalogError, match="2 filenames name no object of the survey: 'p', 'q'"):
        match_files(["a", "p", "q"], ["a"], [None], "labels.csv")
    with pytest.raises(CatalogError, match=r"several pictures have the name '1\.jpg'"):
        match_files(["1.jpg"], ["a", "b"], ["x/1.jpg", "y/1.jpg"], "labels.csv")
