"""Tokens against a slow reader that goes letter by letter."""

from hypothesis import given
from hypothesis import strategies as st

from rnnvg.text.tokens import spaces, words


def walk(text):
    """Lower-case runs of letters and digits with single apostrophes between them, and the six stops."""
    found, word = [], ""
    text = text.lower()
    for at, letter in enumerate(text):
        inside = word and letter in "'’" and at + 1 < len(text) and text[at + 1].isalnum()
        if letter.isalnum() or inside:
            word += letter
            continue
        if word:
            found.append(word)
            word = ""
        if letter in ".,;:!?":
            found.append(letter)
    return [*found, word] if word else found


@given(st.text(alphabet="abZé1 '’.,;:!?-_\n\t@", max_size=40))
def test_words_are_those_of_the_walker(text):
    assert words(text) == walk(text)


@given(st.text(max_size=30))
def test_words_are_lower_case_and_cut_again_the_same(text):
    cut = words(text.lower())
    assert words(" ".join(cut)) == cut


def test_words_by_hand():
    assert words("Nay, answer me: stand!--O'er 'Tis prov'd; the King's.") == (
        ["nay", ",", "answer", "me", ":", "stand", "!", "o'er", "tis", "prov'd", ";", "the", "king's", "."]
    )
    assert words("= Robert <unk> = 1 @-@ 2 <eos>") == ["robert", "<unk>", "1", "2", "<eos>"]
    assert words("<script>alert(1)</script>") == ["script", "alert", "1", "script"]
    assert words("") == []


def test_spaces_keep_what_stands_between_and_mark_lines():
    assert spaces(" = Title = \n\nThe @-@ N.Y. <unk>\n") == (
        ["=", "Title", "=", "<eos>", "<eos>", "The", "@-@", "N.Y.", "<unk>", "<eos>"]
    )
