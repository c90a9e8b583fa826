from dualpath_ray.observability.columns import columns


def test_numbers_stand_to_the_right_and_words_to_the_left():
    text = columns(("name", "bytes"), [("a", "1"), ("bcdefg", "1,000")])
    assert text.splitlines() == ["name    bytes", "a           1", "bcdefg  1,000"]


def test_a_table_may_be_empty():
    assert columns(("name", "bytes"), []) == "name  bytes"
