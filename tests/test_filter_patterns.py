"""Patterns: how long a match can be, what detectors find, and that pieces hide nothing."""

import re
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmpool_worker.filters.detectors import DETECTORS, of_detector
from llmpool_worker.filters.matching import Matcher, of_keywords, of_pattern
from llmpool_worker.filters.redactor import Redactor
from llmpool_worker.filters.width import BadPattern, longest_match


@dataclass(frozen=True)
class Rule:
    matcher: Matcher
    replacement: str | None = "#"


def redacted(matcher: Matcher, text: str) -> str:
    return Redactor([Rule(matcher)], lambda rule: None).whole(text)


@pytest.mark.parametrize(
    ("pattern", "longest"),
    [
        ("abc", 3),
        ("a|bcd|", None),
        ("(?:ab|c){2,3}x?", 7),
        (r"\d{3}-\w{2,4}", 8),
        (r"[]a-z]{2}[^]x][[:alpha:]\]\p{Greek}]", 4),
        (r"\bfoo\b$", 3),
        (r"(?i)(?P<hide>a{2})(?s:.)(?<x>y)", 4),
        (r"\x41\x{1F600}\101\pL\p{^Lu}\.\z", 6),
        ("a{,3}", 5),  # RE2 reads a repetition without a beginning as text
        ("a{3}?b??", 4),
        ("a{2}{3}", 6),
    ],
)
def test_longest_match(pattern: str, longest: int | None) -> None:
    """The longest match of each construct, in characters; a pattern that matches nothing at all is refused."""
    if longest is None:
        with pytest.raises(BadPattern, match="empty text"):
            longest_match(pattern, 1_024)
    else:
        assert longest_match(pattern, 1_024) == longest


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("a*", "any length"),
        ("(?:ab+){2}", "any length"),
        ("a{3,}", "any length"),
        ("a{1000}b{100}", "1100 characters, allowed are 1024"),
        ("a?", "empty text"),
        (r"\b", "empty text"),
        (r"a\C", "half a character"),
        (r"\Qa.b\E", "isn't read here"),
        ("(" * 60 + "a" + ")" * 60, "nested more than 50"),
        (r"(a)\1", "not a pattern of RE2"),
        ("(?=a)b", "not a pattern of RE2"),
        ("(", "not a pattern of RE2"),
        (r"\pL{1,200}", "instructions, allowed are 10000"),
    ],
)
def test_patterns_that_cannot_be_used(pattern: str, says: str) -> None:
    """A pattern without a longest match, or that RE2 doesn't take, is refused with what to write instead."""
    with pytest.raises(BadPattern, match=re.escape(says)):
        of_pattern(pattern)


ATOMS = st.sampled_from(["a", "b", "é", ".", "[^a]", r"\w", r"\b", "^", "$", r"\x62", "(?i)"])


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    counted = st.tuples(inner, st.sampled_from(["?", "{0,2}", "{2}", "{1,3}?"])).map(lambda p: f"(?:{p[0]}){p[1]}")
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda p: f"(?:{p[0]}|{p[1]})"),
        inner.map(lambda p: f"({p})"),
        counted,
    )


PATTERNS = st.recursive(ATOMS, _combined, max_leaves=6)
TEXTS = st.text(alphabet="aabbcBé €", max_size=60)


@given(PATTERNS, TEXTS)
@settings(max_examples=150, deadline=None)
def test_no_match_is_longer_than_said(pattern: str, text: str) -> None:
    """For any pattern that is taken, each match is within the length that streams rely on."""
    try:
        matcher = of_pattern(pattern)
    except BadPattern:
        return
    data, at = text.encode(), 0
    while found := matcher.next(data, at):
        assert found.span
        assert len(data[found.start : found.span[1]].decode()) <= matcher.longest
        at = found.resume


def reference(patterns: list[str], text: str) -> str:
    """What is left of a text by Python's own ``re``, all at once."""
    finds = sorted(
        (match.start(hidden), order, match.end(hidden))
        for order, pattern in enumerate(patterns)
        for hidden in ["hide" if "hide" in pattern else 0]
        for match in re.finditer(pattern, text, re.ASCII)
    )
    parts, gone = [], 0
    for begin, order, end in finds:
        if begin >= gone:
            parts += [text[gone:begin], str(order)]
        gone = max(gone, end)
    return "".join([*parts, text[gone:]])


TRICKY = [
    "ab",
    "a{1,3}b?",
    r"\bab\b",
    "^a",
    "b$",
    "(?:a|ab)(?:c|bcd)",
    "é{1,2}",
    "[^a]b",
    "c.{0,4}b",
    r"\bB",
    "[ab].{0,3}(?P<hide>c)",
]


@given(
    st.lists(st.sampled_from(TRICKY), min_size=1, max_size=4, unique=True),
    TEXTS,
    st.lists(st.integers(0, 60)),
    st.integers(1, 8),
)
@example([r"\bab\b"], "abc", [], 1)
@example([r"\bab\b"], "éabc", [], 1)
@settings(max_examples=300, deadline=None)
def test_however_a_text_is_cut_the_same_is_left(patterns: list[str], text: str, cuts: list[int], step: int) -> None:
    """Redaction of a stream in any pieces is that of the whole text, and that of another engine."""
    rules = [Rule(of_pattern(pattern), str(order)) for order, pattern in enumerate(patterns)]
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for pieces, gathered in ([text[a:b] for a, b in pairwise(edges)], step), (list(text), 1):
        redactor = Redactor(rules, lambda rule: None, gathered)
        shown = [redactor.feed(piece) for piece in pieces]
        assert "".join([*shown, redactor.end()]) == reference(patterns, text)


WORDS = of_keywords(["cat", "cat food", "über", "a-b"])
CHECKED = [Rule(WORDS, "W"), *(Rule(of_detector(name), name) for name in ("credit_card", "ip", "iban", "email"))]
FRAGMENTS = ["cat", "cat  food", "über", "a-b", "4111 1111 1111 1111", "10.0.0.1", "::1", "DE89370400440532013000"]
FRAGMENTS += ["a@b.example", " ", ".", "x", "1234 ", "é", "cat "]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join), st.data())
@settings(max_examples=100, deadline=None)
def test_checks_and_keywords_do_not_depend_on_the_cut(text: str, data: st.DataObject) -> None:
    """The same for rules that look at neighbours and that check their candidates."""
    redactor, at, parts = Redactor(CHECKED, lambda rule: None, 1), 0, []
    while at < len(text):
        size = data.draw(st.integers(1, 40))
        parts.append(redactor.feed(text[at : at + size]))
        at += size
    whole = Redactor(CHECKED, lambda rule: None, 1_000_000).whole(text)
    assert "".join([*parts, redactor.end()]) == whole


def test_a_stream_is_held_back_by_the_longest_match_alone() -> None:
    """What no match can reach back to is let go, so a reader waits for a bounded number of characters."""
    redactor = Redactor([Rule(of_pattern("secret[0-9]{1,4}"))], lambda rule: None)
    shown = "".join(redactor.feed("word ") for _ in range(1_000))
    assert 5_000 - len(shown) <= 10 + 32 + 5


@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("email", "to a.b+c@mail.example.org, x@y", "to #, x@y"),
        ("phone", "+49 30 1234567, (415) 555-2671; 12345 2024-01-01", "#, #; 12345 2024-01-01"),
        ("credit_card", "4111 1111 1111 1111 123, 4111111111111112, 3782 822463 10005", "# 123, 4111111111111112, #"),
        ("credit_card", "1234 4111-1111-1111-1111 0000 0000 0000 0000", "1234 # 0000 0000 0000 0000"),
        ("iban", "DE89 3704 0044 0532 0130 00 AND GB29NWBK60161331926818", "# AND GB29NWBK60161331926818"),
        (
            "ip",
            "10.0.0.1. [::1]:80 ::ffff:1.2.3.4, 12:30:45 std::dead 999.1.1.1",
            "#. [#]:80 #, 12:30:45 std::dead 999.1.1.1",
        ),
        ("us_ssn", "123-45-6789 000-12-3456 987-65-4321", "# 000-12-3456 987-65-4321"),
        ("api_key", "AKIAIOSFODNN7EXAMPLE risk-assessment-of-the-whole", "# risk-assessment-of-the-whole"),
        ("url_password", "redis://me:s3cret@db:6379 https://a.example/b", "redis://me:#@db:6379 https://a.example/b"),
    ],
)
def test_detectors(name: str, text: str, left: str) -> None:
    """Each detector finds its shape, and leaves what only looks like it and fails its check."""
    assert redacted(of_detector(name), text) == left


def test_every_detector_fits_a_stream() -> None:
    """No detector's longest match is beyond what a rule may hold back."""
    assert all(of_detector(name).longest <= 400 for name in DETECTORS)


@pytest.mark.parametrize(
    ("words", "text", "left"),
    [
        (["cat"], "cat cat concat Cats CAT_ cat.", "# # concat Cats CAT_ #."),
        (["cat", "category"], "category cat", "# #"),
        (["über"], "größüber ÜBER über", "größüber # #"),
        (["no fly list"], "NO  FLY\nlist", "#"),
        (["c++", "a.b"], "c++ axb a.b", "# axb #"),
    ],
)
def test_keywords_are_whole_words(words: list[str], text: str, left: str) -> None:
    """In any script and case, side by side, and with characters that patterns give a meaning."""
    assert redacted(of_keywords(words), text) == left


def test_finds_that_overlap_are_replaced_once() -> None:
    """By the one that begins first; nothing of the other is left."""
    rules = [Rule(of_pattern("bcd"), "1"), Rule(of_pattern("abc"), "2")]
    assert Redactor(rules, lambda rule: None).whole("xabcdx") == "x2x"


def test_no_pattern_stops_the_worker() -> None:
    """A pattern and a text on which a backtracking engine runs for longer than the universe: done at once."""
    matcher = of_pattern("(?:a{1,30}){1,30}!")
    assert redacted(matcher, "a" * 20_000) == "a" * 20_000
