"""From the words of an utterance so far: has the sentence come to its end? Rules for English, pure.

People pause before the word they look for, mostly a content word behind a function word (Maclay and Osgood 1959,
"Hesitation phenomena in spontaneous English speech"), and announce it with "um" or "uh" (Clark and Fox Tree 2002). So
the last word tells: no sentence ends after "the" or "because". The lists are closed classes of English.
"""

from vita_duplex.engine.cascade import wording

OPEN, DOUBTFUL, CLOSED = 0.05, 0.4, 1.0
"""Probability that nothing more is to come: after a word that ends no sentence, after one that ends few, and where the
words tell nothing. Only their order matters, no set is large enough to measure them."""

SHORT_ANSWER = 3
"""Words up to which an auxiliary or a question word may be the last: "yes, it is", "since when?"."""

FILLERS = wording.word_list("um, uh, er, erm, hm, hmm, uhm, eh")
WANT_MORE = wording.word_list("""
    the, a, an, my, your, his, its, our, their, every, each, another, and, or, but, because, if, whether, although,
    though, unless, while, than, as, nor, plus, minus, times, versus, i'm, you're, we're, they're, he's, she's, i'll,
    you'll, we'll, i've, you've, we've, i'd, you'd, we'd, let's, there's, very, such, even
""")
"""Determiners, conjunctions, subjects with their verb, degrees."""
SUBJECTS = wording.word_list("i, he, she, we, they")
BEING = wording.word_list("am, is, are, was, were, aren't, isn't, wasn't, weren't")
"""Behind these a subject ends a question: "how old is he"."""
PREPOSITIONS = wording.word_list("""
    of, for, from, with, at, into, onto, between, about, during, without, against, towards, toward, until, among, per,
    to, upon, via, beside, despite
""")
"""Those that need a noun behind them; "on" and "up" also end commands ("turn it on")."""
BEFORE_OF = wording.word_list("""
    made, think, thinking, heard, hear, afraid, full, out, kind, sort, capable, consist, proud, tired
""")
"""Behind these "of" ends a question."""
QUALITIES = wording.word_list("""
    big, small, short, long, old, new, young, good, nice, great, large, high, low, quick, simple, easy, hard, real,
    different, famous, whole, certain, single, better, bigger, largest, biggest, smallest, funny, few
""")
"""Behind a determiner these want a noun."""
LOOSE = wording.word_list("""
    do, does, did, have, has, had, so, like, not, more, most, too, that, is, be, been, being, some, other, own
""")
"""They end a sentence now and then: "what can you do", "I think so", "not that"."""

DIGITS = wording.word_list("zero, oh, o, one, two, three, four, five, six, seven, eight, nine, double, triple")
DICTATION, FEWEST, MOST = wording.word_list("number, phone, code, pin, reference, double, triple"), 3, 10
"""Digits one by one are dictated, mostly in groups with pauses between them; a telephone number has about ten."""
DOMAINS = wording.word_list("com, org, net, de, uk, us, eu, fr, it, es, edu, gov, info, io")
"""What is dictated behind "dot" ends with these."""


def completeness(text: str) -> float:
    """Probability that nothing more is to come."""
    spoken = ["", *wording.words(text)]
    before, last = spoken[-2:] if len(spoken) > 1 else ("", "")
    asks = not wording.QUESTION_WORDS.isdisjoint(spoken[:-2])
    short = len(spoken) - 1 <= SHORT_ANSWER
    if any(told(spoken[1:]) for told in (wording.is_short_query, wording.is_backchannel, wording.is_invention)):
        return CLOSED  # a reply that is held for a "hm" or a noise must not wait for more
    if last in FILLERS:
        return OPEN
    if FEWEST <= _digits_at_end(spoken) < MOST or (before == "dot" and last not in DOMAINS) or last == "dot":
        return DOUBTFUL
    if last in WANT_MORE or (last in QUALITIES and before in WANT_MORE):
        return OPEN
    if last in SUBJECTS:
        return CLOSED if before in BEING else OPEN
    if last == "of":
        return CLOSED if before in BEFORE_OF else OPEN
    if last in PREPOSITIONS:
        return DOUBTFUL if asks or last == "to" else OPEN  # "who are you talking to", "I'd like to"
    if last in LOOSE:
        return DOUBTFUL
    if last in wording.AUXILIARIES | wording.QUESTION_WORDS:
        return DOUBTFUL if short else OPEN
    return DOUBTFUL if wording.clean(text).endswith((",", "...", "…", "-", "–")) else CLOSED


def _digits_at_end(spoken: list[str]) -> int:
    """How many digits end this one by one. A figure such as 350 is one of them, unless a number is being dictated."""
    dictated = not DICTATION.isdisjoint(spoken)
    count = 0
    for word in reversed(" ".join(spoken).replace("-", " ").split()):
        if word in DIGITS:
            count += 1
        elif word.isdigit() or word[1:].isdigit():
            count += len(word) if dictated or word[0] in "0o" else 1
        elif word != "and":
            break
    return count
