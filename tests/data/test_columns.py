import pytest
from datasets import ClassLabel, Image, Value

from logitkd.data.columns import class_names, image_column, label_column, mask_column, masked_column, text_columns
from logitkd.data.frames import Frame, Mixed


def frame(where="the split", **features):
    return Frame(where, features, read=lambda _: [], column=lambda _: [], place=str)


CIFAR = frame(img=Image(), fine=ClassLabel(names=["a", "b", "c"]), coarse=ClassLabel(names=["x", "y"]))
TEXT = Value("string")
PLAIN = frame(picture=Value("binary"), y=Value("int64"), name=Value("string"), score=Value("float32"))


def test_the_only_column_of_the_type_is_taken():
    one = frame(x=Image(), y=ClassLabel(names=["a"]), other=Value("int64"))
    assert image_column(one, None) == "x"
    assert label_column(one, None) == "y"


def test_named_columns_are_taken():
    assert label_column(CIFAR, "coarse") == "coarse"
    assert image_column(PLAIN, "picture") == "picture"
    assert label_column(PLAIN, "y") == "y"
    assert label_column(PLAIN, "name") == "name"
    struct = {"bytes": Value("binary"), "path": Value("string")}
    assert image_column(frame(x=struct), "x") == "x"


def test_several_candidates_are_listed():
    with pytest.raises(ValueError, match=r"several label columns: fine, coarse. Name one with `data.label_column`"):
        label_column(CIFAR, None)


def test_no_candidate_lists_the_columns():
    with pytest.raises(ValueError, match=r"no image column by its type. .*Columns there: picture \(binary\), y \(int64\)"):
        image_column(PLAIN, None)


def test_a_missing_column_lists_the_columns():
    message = (
        r"`data.label_column` names `fine_label`, which the split does not have. Columns there: "
        r"img \(Image\), fine \(ClassLabel of 3\), coarse \(ClassLabel of 2\)"
    )
    with pytest.raises(ValueError, match=message):
        label_column(CIFAR, "fine_label")
    with pytest.raises(ValueError, match=r"`data.image_column` names `imgs`, .* Did you mean `img`\?"):
        image_column(CIFAR, "imgs")


def test_columns_of_another_type_are_refused():
    with pytest.raises(ValueError, match=r"column `y` of the split must hold images \(encoded bytes\), got int64"):
        image_column(PLAIN, "y")
    with pytest.raises(ValueError, match=r"column `score` of the split must hold integers or names.*got float32"):
        label_column(PLAIN, "score")


def test_class_names_by_type_of_label():
    assert class_names([CIFAR, CIFAR], "fine", [0, 0]) == ("a", "b", "c")
    assert class_names([PLAIN], "y", [1, 0, 2, 1]) == ("0", "1", "2")
    assert class_names([PLAIN], "name", ["cow", "ape", "cow"]) == ("ape", "cow")


def test_missing_labels_name_no_class():
    assert class_names([PLAIN], "y", [1, -1, 0, None]) == ("0", "1")
    assert class_names([PLAIN], "name", ["cow", None, "ape"]) == ("ape", "cow")


@pytest.mark.parametrize(("labels", "absent"), [([1, 2, 3], 0), ([0, 1, 3], 2), ([-2, 0, 1], 2)])
def test_integer_labels_with_a_gap_are_refused(labels, absent):
    with pytest.raises(ValueError, match=rf"must be 0, 1, ... without a gap, got {labels[0]} to {labels[-1]} .*no {absent}"):
        class_names([PLAIN], "y", labels)


def test_splits_must_number_their_classes_alike():
    other = frame("the other split", fine=ClassLabel(names=["b", "a", "c"]))
    with pytest.raises(ValueError, match=r"column `fine` must be the same in every split.*one number would mean two"):
        class_names([CIFAR, other], "fine", [0])


def test_a_label_column_of_a_usual_name_is_taken_where_types_do_not_tell():
    usual = ("label", "labels")
    plain = frame(text=TEXT, labels=Value("int64"))
    assert label_column(plain, None, usual) == "labels"
    assert label_column(frame(labels=TEXT, label=TEXT), None, usual) == "label"
    assert label_column(frame(label=TEXT, kind=ClassLabel(names=["a"])), None, usual) == "kind"
    assert label_column(plain, "text", usual) == "text"
    with pytest.raises(ValueError, match=r"no label column by its type\. Name one"):
        label_column(plain, None)
    with pytest.raises(ValueError, match=r"several label columns: fine, coarse"):
        label_column(CIFAR, None, usual)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ("text title", "text"),
        ("idx sentence", "sentence"),
        ("sentence2 sentence1", "sentence1 sentence2"),
        ("question1 question2 id", "question1 question2"),
        ("premise hypothesis genre", "premise hypothesis"),
        ("sentence question", "question sentence"),
        ("text_pair text", "text text_pair"),
        ("question", "question"),
        ("utterance", "utterance"),
        ("sentence1", "sentence1"),
    ],
)
def test_columns_of_texts_by_their_names(there, found):
    split = frame(label=ClassLabel(names=["a"]), **dict.fromkeys(there.split(), TEXT))
    assert text_columns(split, None, "label") == tuple(found.split())


def test_usual_names_of_different_texts_are_asked_about():
    """Half of a pair or the wrong column would be read without a word."""
    split = frame(label=ClassLabel(names=["a"]), **dict.fromkeys(("text", "sentence1", "sentence2"), TEXT))
    with pytest.raises(ValueError, match=r"several columns that could be the texts: text, sentence1, sentence2\. Name"):
        text_columns(split, None, "label")


@pytest.mark.parametrize("other", [" card", "card ", "ca\u0301rd", "c\uff41\u0301rd"])
def test_names_of_one_class_written_in_two_ways_are_refused(other):
    """Each would be a class of its own, that no network can tell from the other."""
    usual = "card" if other.isascii() else "c\u00e1rd"
    with pytest.raises(ValueError, match=r"names of classes must differ by more than spaces .*are they one class\?"):
        class_names([frame(label=TEXT)], "label", [usual, other, "Card", "loan"])
    assert class_names([frame(label=TEXT)], "label", [other, "Card"]) == tuple(sorted([other, "Card"]))
    with pytest.raises(ValueError, match=r"names of classes must be Unicode, got half of a character"):
        class_names([frame(label=TEXT)], "label", ["a", "b\ud800"])


def test_columns_of_texts_hold_texts():
    split = frame(text=Value("int64"), words=TEXT, more=TEXT, label=TEXT, any=Mixed("text in row 0 and a number in row 3"))
    assert text_columns(split, ("more", "words"), "label") == ("more", "words")
    with pytest.raises(
        ValueError, match=r"column `text` of the split must hold texts, got int64\. Columns there: text \(int64\)"
    ):
        text_columns(split, None, "label")
    with pytest.raises(ValueError, match=r"column `any` of the split must hold texts, got text in row 0 and a number in row 3"):
        text_columns(split, ("any",), "label")
    with pytest.raises(ValueError, match=r"`data\.text_columns` must not name the labels, got `label`"):
        text_columns(split, ("label",), "label")
    with pytest.raises(ValueError, match=r"`data\.text_columns` names `word`, .* Did you mean `words`\?"):
        text_columns(split, ("word",), "label")
    assert text_columns(frame(label=TEXT, text=TEXT), None, "text") == ("label",)


@pytest.mark.parametrize(
    "names", ["image mask", "annotation pixels", "label image", "img segmentation_map", "photo seg_mask", "LabelMap scene"]
)
def test_columns_of_images_and_masks_by_their_names(names):
    one = frame(**dict.fromkeys(names.split(), Image()), where_=TEXT, label_number=ClassLabel(names=["a"]))
    (mask,) = (name for name in names.split() if name not in ("image", "pixels", "img", "photo", "scene"))
    assert mask_column(one, None, None) == mask
    assert masked_column(one, None, mask) == next(name for name in names.split() if name != mask)


def test_columns_of_images_and_masks_can_be_named():
    three = frame(left=Image(), right=Image(), depth=Image())
    assert mask_column(three, "depth", None) == "depth"
    assert masked_column(three, "right", "depth") == "right"
    assert mask_column(frame(left=Image(), right=Image()), None, "left") == "right"
    assert mask_column(frame(mask=Value("binary"), x=Image()), "mask", None) == "mask"


@pytest.mark.parametrize(
    ("columns", "name", "image", "message"),
    [
        (
            "left right",
            None,
            None,
            r"the split has no column of masks by type and name\. Name one with `data\.mask_column`\. Col",
        ),
        ("image", None, None, r"has no column of masks by type and name\."),
        (
            "image mask label",
            None,
            None,
            r"several columns that could be the masks: mask, label\. Name one with `data\.mask_column`",
        ),
        ("a b c", None, "a", r"several columns that could be the masks: b, c\."),
        ("image mask", "masks", None, r"`data\.mask_column` names `masks`, which .* Did you mean `mask`\?"),
        ("image mask", "words", None, r"column `words` of the split must hold images \(encoded bytes\), got string\."),
        (
            "image mask",
            "mask",
            "mask",
            r"`data\.mask_column` must be another column than `data\.image_column`, got `mask` for both",
        ),
    ],
)
def test_a_column_of_masks_that_cannot_be_told_is_asked_for(columns, name, image, message):
    with pytest.raises(ValueError, match=message):
        mask_column(frame(**dict.fromkeys(columns.split(), Image()), words=TEXT), name, image)


def test_several_images_beside_the_masks_are_asked_about():
    with pytest.raises(ValueError, match=r"several image columns: left, right\. Name one with `data\.image_column`"):
        masked_column(frame(left=Image(), right=Image(), mask=Image()), None, "mask")
