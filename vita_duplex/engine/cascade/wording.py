"""What the wording of a transcript says about whom it was meant for: rules for English, one reason each.

The rules look at form (a question, a command, a wish) and at a few closed lists. They were made for the
transcripts of Moonshine tiny-en, whose habits are noted where they matter.
"""

import re


def word_list(text: str) -> frozenset[str]:
    """Read words or phrases separated by commas."""
    return frozenset(" ".join(item.split()) for item in text.split(","))


INVENTIONS = word_list("""
    you, oh, so, the, and, i, a, bye, bye bye, thank you for watching, thanks for watching, thank you
    very much for watching, subscribe, the end, music, applause, foreign
""")
"""What Moonshine writes for noise, tones and clicks: the filler of subtitles."""

BACKCHANNELS = word_list("""
    absolutely, ah, aha, alright, amazing, and, but, cool, dammit, damn, dear, definitely, er, erm,
    exactly, fascinating, fine, god, good, goodness, gosh, great, ha, haha, hammer, hm, hm-hmm, hmm,
    huh, i, indeed, interesting, jeez, like, lovely, mama, mamma, mhm, mm, mm-hm, mm-hmm, mmm, nice, oh, ok,
    okay, ooh, oops, ouch, perfect, phew, really, right, seriously, so, sure, thanks, the, totally,
    true, uh, uh-huh, um, well, wonderful, wonderfully, wow, ya, yea, yeah, yep, you, yup
""")
"""Words that only say "I am listening" or fill a pause; "mama" and "hammer" is a mm-hm to Moonshine."""

BACKCHANNEL_PHRASES = word_list("""
    i see, i know, got it, i got it, of course, that's right, that is right, that's true, thank you,
    thank you very much, thank you so much, makes sense, that makes sense, makes sense to me, oh my god,
    my god, good point, fair enough, no way, you know, i understand, all right, not bad, very nice, very
    good, oh dear, oh no, sounds good, yes yes, that's good, that's great, that's nice, i think so, bless you,
    damn it, go on, that's interesting, how interesting, how nice, you don't say, is that so
""")
"""As above, in more words. "Go on" asks for nothing that is not being done."""

SHORT_QUERIES = word_list("""
    stop, stop it, stop that, stop please, please stop, stop stop, stop talking, stop stop stop, wait,
    wait wait, wait please, please wait, wait a minute, wait a second, wait a moment, one moment, hold
    on, hang on, cancel, cancel that, cancel it, pause, quiet, be quiet, silence, enough, that's enough,
    shut up, hush, next, back, again, once more, repeat, repeat that, continue, resume, restart, skip,
    skip it, skip that, louder, quieter, slower, faster, undo, help, help me, mute, hello, hi, hey,
    hello there, hi there, good morning, good afternoon, good evening, yes, yes please, no, no no, no no
    no, nope, no thanks, no thank you, never mind, nevermind, forget it, forget that, what, why, how,
    who, when, where, which, which one, why not, how come, what else, pardon, excuse me, sorry, say
    again, say that again, goodbye, wrong, that's wrong, not that, not that one
""")
"""Whole utterances that are short and yet meant for the assistant.

"Yes" and "no" are among them though they may be backchannels: an assistant that asked and does not hear the
answer is worse than one that stops once too often. "Yeah", "okay" and "right" are far more often said to a
speaker one wants to go on. A greeting opens a talk; "goodbye" closes it.
"""

STOPS = re.compile(r"((\w+ )?(stop|cancel)|wait|hold on|hang on)\b(?! for)")
"""Said first, or first but one, they are meant, whatever follows: "No, stop, I know that one." """

OPENERS = word_list("""
    wait, okay, ok, but, sorry, no, yes, yeah, actually, hey, and, so, well, um, uh, hmm, hm, please,
    oh, ah, alright, right, now, also, then, or, hello, hi, stop, sure, thanks, great, good, just,
    maybe, er, anyway, cool, listen, instead, first, next, again, quickly, computer, assistant, vita,
    vida, veeta, vito
""")
"""Words people put before the question itself, the assistant's name among them (as Moonshine spells it)."""

OPENER_PHRASES = word_list("""
    excuse me, hold on, hang on, wait a minute, wait a second, wait a moment, one moment, thank you,
    good morning, good afternoon, good evening, never mind, all right, by the way, no no, one more
    thing, i mean, you know, of course, i see, in that case, got it
""")

QUESTION_WORDS = word_list("""
    what, what's, whats, what're, what'll, who, who's, whose, whom, where, where's, when, when's, why,
    why's, how, how's, which
""")

AUXILIARIES = word_list("""
    is, isn't, are, aren't, was, wasn't, were, weren't, do, don't, does, doesn't, did, didn't, can,
    can't, could, couldn't, will, won't, would, wouldn't, should, shouldn't, shall, may, has, hasn't,
    have, haven't, am, might
""")

SUBJECTS = word_list("""
    i, you, he, she, it, we, they, there, this, that, these, those, the, a, an, my, your, his, her, its,
    our, their, any, some, all, both, one, people, everyone, anyone, anybody, somebody, someone, most,
    many, every, each, not
""")
"""What follows an auxiliary in a question; plural nouns ("do whales sleep") are told by their s."""

COMMANDS = word_list("""
    activate, add, analyse, analyze, answer, ask, be, begin, book, bring, buy, calculate, call, cancel,
    change, check, choose, cite, clarify, close, come, compare, compute, connect, consider, continue,
    convert, correct, count, create, cut, decrease, define, delete, describe, dim, disable, disconnect,
    discuss, do, don't, download, draw, drop, elaborate, email, enable, end, estimate, expand, explain,
    find, finish, fix, forget, get, give, go, guess, hang, help, hold, identify, ignore, imagine,
    increase, install, invent, keep, leave, let, let's, lets, list, lock, look, lower, make, measure,
    mention, message, move, mute, name, navigate, open, order, outline, paraphrase, pause, pick, plan,
    play, practice, practise, pretend, print, pronounce, prove, put, quit, quote, raise, rank, rate,
    read, recite, recommend, record, remember, remind, remove, repeat, rephrase, replace, report, reset,
    restart, resume, return, review, rewind, rewrite, save, say, schedule, scroll, search, send, set,
    shorten, show, shuffle, shut, simplify, sing, skip, slow, solve, sort, speak, speed, spell, start,
    stop, suggest, summarise, summarize, swap, switch, take, talk, tap, teach, tell, text, translate,
    try, tune, turn, unlock, unmute, update, use, wait, wake, write, zoom
""")
"""Verbs that open a command to a machine that talks."""

REQUESTS = word_list("""
    that's too, that is too, it's too, that's enough, that's all, that's not, i'd prefer, i prefer, i
    would prefer, you lost me, i know that already, i already know, i've heard that, i've never heard
    of, i don't know what, i don't know how, i don't know who, i'm not sure what, i can't follow, i'm
    confused, i forgot what, new topic, next topic, new question, next question, quick question, last
    question, first question, any, anything, anyone, ever heard, can't you, another, what if, in other
    words, something about, something more, same for, same question, same thing but, a bit, a little, i
    want, i wanna, i need, i'd like, i would like, i'd love, i'd rather, i would rather, i wonder, i was
    wondering, i have a question, i have another, i've got a question, i meant, i mean the, i don't
    understand, i didn't understand, i don't get, i didn't get, i didn't catch, i didn't hear, i can't
    hear, i can hear you, i asked, i said, i didn't ask, i was asking, i'm asking, i'm looking for, i
    changed my mind, i've changed my mind, my question, another question, a question, one question, one
    more, a different, something else, the other one, the first one, the second one, the last one,
    that's not what, that is not what, that's wrong, that is wrong, that's not right, that isn't, you're
    wrong, you're too, you're speaking, you're talking, you are too, you are speaking, you are talking,
    that can't be, that cannot be, are you sure, you are wrong, you said, you told me, you
    misunderstood, you didn't answer, you didn't say, you didn't tell, you didn't mention, you didn't
    explain, you haven't answered, you haven't told, you skipped, you already said, you keep, not that,
    not the, too loud, too fast, too slow, too long, too short, what about, how about, never mind, no
    need, my name is, from now on, any idea, any other, any chance, enough of, enough about, back to,
    more about, more details, shorter, longer, louder, quieter, slower, faster
""")
"""Other ways to ask: wishes, corrections, and fragments that only make sense to a partner."""

EXCLAMATIONS = re.compile(
    r"(what (a|an)|how (nice|lovely|sweet|sad|awful|strange|funny|beautiful|cute|interesting|good)"
    r"|(when|while|where|who|which|what|how) (i|he|she|they|we|it))\b"
)
"""Question words that ask nothing ("What a day!", "When I was young …"), unless a question mark says so."""

CORRECTIONS = word_list("the, not, in, with, for, from, to, without")
"""What follows a "no" in a correction: "No, the blue one.", "No, in Austria." """

AFTERTHOUGHTS = word_list("""
    please, then, again, too, though, instead, right, okay, ok, yes, no, thanks, exactly, either,
    anyway, maybe, really, first, now, today, tomorrow, tonight, monday, tuesday, wednesday, thursday,
    friday, saturday, sunday, january, february, march, april, may, june, july, august, september,
    october, november, december, vita, vida, veeta, vito, english, french, german, spanish, italian, i
""")
"""Single words after a last comma that are not somebody's name, though some are written with a capital."""

FAMILY = word_list("""
    mum, mom, mummy, mommy, mama, dad, daddy, papa, grandma, grandpa, granny, honey, darling,
    sweetheart, sweetie, dear, babe, baby, love, kids, children, guys, boys, girls, folks, everybody,
    everyone, ladies, gentlemen, son, buddy, mate, dude, bro, man, sir, madam, doctor, alexa, siri,
    cortana
""")
"""Whom people call without a name; other assistants too, for they are not us."""

NAMES = word_list("""
    adam, ahmed, alan, alex, alexander, ali, alice, alison, amir, amy, andrea, andrew, andy, angela,
    anil, ann, anna, anne, annie, anthony, antonio, astrid, ben, benjamin, bernard, betty, bill, billy,
    bob, brian, bruno, carl, carla, carlos, carol, caroline, catherine, charles, charlie, charlotte,
    chen, chloe, chris, christine, christopher, claire, clara, clare, daniel, daniela, dave, david,
    deborah, dennis, diana, diane, dmitri, donna, dorothy, edward, eleanor, elena, elizabeth, ella,
    ellen, emily, emma, eric, erik, eva, evelyn, fatima, felix, fiona, francesca, frank, fred, freddie,
    gary, george, gina, giovanni, giulia, grace, greg, hanna, hannah, harriet, harry, hassan, heather,
    heidi, helen, helena, henry, hiroshi, howard, ian, ida, ingrid, irene, isabel, isabella, ivan, jack,
    jacob, jake, james, jamie, jan, jana, jane, janet, jasmine, jason, jean, jeff, jen, jennifer, jenny,
    jeremy, jerry, jessica, jim, jimmy, joan, joe, joel, johanna, john, johnny, jonas, jonathan, joseph,
    josh, joshua, juan, judith, judy, julia, julian, julie, karen, karl, katarina, kate, katherine,
    kathy, katie, keith, kelly, ken, kenji, kevin, kim, kyle, larry, lars, laura, lauren, leila, lena,
    leo, leon, li, lily, linda, lisa, louis, louise, luca, lucas, lucy, luis, lukas, luke, marco,
    margaret, maria, marie, mark, martha, martin, mary, matt, matthew, max, megan, mei, mia, michael,
    michelle, mike, mohammed, molly, monica, nancy, natalie, natasha, nathan, neil, nicholas, nick,
    nicole, nina, nora, olga, oliver, olivia, omar, oscar, otto, pat, patricia, patrick, paul, paula,
    pavel, pedro, peggy, pete, peter, phil, philip, pierre, priya, rachel, ralph, ravi, ray, rebecca,
    rex, richard, rick, rita, rob, robert, robin, roger, ron, rosa, rose, ross, ruth, ryan, sally, sam,
    samantha, samuel, sandra, sanjay, sarah, scott, sean, sergei, sharon, simon, sofia, sophia, sophie,
    stefan, stella, stephanie, stephen, steve, steven, sue, susan, susie, suzanne, sven, sylvia, tanya,
    ted, teresa, terry, thomas, tim, tina, toby, todd, tom, tommy, tony, tracy, vera, veronica, victor,
    victoria, vincent, walter, wei, wendy, will, william, yuki, yvonne, zoe
""")
"""Common first names, in the spelling an English recogniser uses."""

TO_A_PERSON = re.compile(
    r"\b(have you (seen|eaten|fed|locked|packed|met|brushed|washed|been|finished|got)"
    r"|did you (lock|feed|pack|see|eat|sleep|buy|bring|leave|call|wash|turn off|take|enjoy|pick up|get|have)"
    r"|are you (hungry|thirsty|coming|tired|home|cold|asleep|awake|in bed|dressed|at home|going|done|staying)"
    r"|are you (leaving|mad|angry|still (mad|angry|up|coming))"
    r"|do you want|would you like|(can i get you|shall i make you|who wants) (some|a|another|any|more)\b"
    r"|(is|are|was|were|does|how's|how is) your"
    r" (mum|mom|mother|dad|father|sister|brother|wife|husband|son|daughter)"
    r"|is (this|that) (seat|chair|table|your)|(can|could|may) i (sit|get past|come in|get through|borrow)"
    r"|take a message|do you mind|who('s| is| was) (calling|there|at the|on the phone)"
    r"|is (anybody home|anyone home|dinner|lunch|breakfast)"
    r"|is the (bathroom|toilet|door|oven|kettle|car|baby|coffee)"
    r"|where('s| is| are| have) (my|you|your|the (kids|baby|car|dog|cat))\b"
    r"|where did (i|you) (put|leave|park)"
    r"|what are you doing (here|there|tonight|in)|what (do you want|would you like) (for|to eat|to drink)"
    r"|can you believe|(pass|hand|bring|fetch) me|hold (the|this|my|your)"
    r"|your (shoes|coat|hands|teeth|room|homework|jacket|bag|seat|plate)"
    r"|(call|talk to) (you|me) (back|later|soon|tomorrow)|see you|good night|\bbye$"
    r"|have a (seat|drink|good|nice)"
    r"|wait for (me|us)|leave (me|him|her|it|them|the \w+) alone|keep it down|sit down|hurry up|be careful)"
)
"""What is asked of a body, not of a voice: appetite, whereabouts, belongings, handing things over."""

WITH_HANDS = re.compile(
    r"((can|could|would|will) you )?(please )?"
    r"((come|move) (in|on|here|over|down|up|along|upstairs|downstairs)"
    r"|put (on|your|the|it down|it away|that down|that away)|take (your|my|off|out)|watch (out|your)"
    r"|get (up|out|down|dressed|in|the|your)|look (at|out|over|what)|let me (in|out|through|take your)"
    r"|let (go|him|her)|pick up|clean|wash|feed|walk the|(open|close|shut) the (door|window))\b"
)
"""The same for verbs that are also used otherwise ("when did the wall come down"): only at the beginning."""


def clean(text: str) -> str:
    """Drop what is not said: Moonshine wraps some transcripts in stray quotes and writes notes for music."""
    return re.sub(r"\[[^\]]*\]|\([^)]*\)|[\"“”♪*]", " ", text).replace("’", "'").strip(" '\t\n")


def words(text: str) -> list[str]:
    """Split into lower-case words; apostrophes and hyphens inside a word belong to it."""
    return re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", clean(text).lower())


def is_invention(spoken: list[str]) -> bool:
    """Tell whether this is what the recogniser writes when nobody spoke."""
    return " ".join(spoken) in INVENTIONS


def is_backchannel(spoken: list[str]) -> bool:
    """Tell whether the words, all of them, only say that somebody listens."""
    rest = list(spoken)
    while rest:
        for length in (4, 3, 2):
            if " ".join(rest[:length]) in BACKCHANNEL_PHRASES:
                del rest[:length]
                break
        else:
            if rest[0] not in BACKCHANNELS:
                return False
            del rest[0]
    return True


def is_short_query(spoken: list[str]) -> bool:
    """Tell whether this is a command or answer of a few words, also after "okay" or before "please"."""
    core = [word for word in spoken if word != "please"]
    while core and " ".join(core) not in SHORT_QUERIES and core[0] in OPENERS:
        core = core[1:]
    return " ".join(core) in SHORT_QUERIES


def is_to_somebody_else(text: str, *, names_answer: bool = False) -> bool:
    """Tell whether a name or a "honey" says who is meant, or the matter needs a body. `names_answer`: a name was asked
    for, so it calls nobody."""
    spoken = words(text)
    if TO_A_PERSON.search(" ".join(spoken)) or WITH_HANDS.match(" ".join(without_openers(spoken))):
        return True
    return not names_answer and (_calls_first(text) or _calls_last(text))


def _calls_first(text: str) -> bool:
    """Tell whether somebody is called first: "Anna, …", "Hey Tom, …", "Honey have you …"."""
    parts = [part for part in map(words, re.split(r"[,.!?;](?!\w)", clean(text))) if part]
    if not parts:
        return False
    first = parts[0]
    if len(first) > 1 and first[0] in OPENERS | {"dear", "bye", "goodbye"}:
        first = first[1:]
    if first[0] not in NAMES | FAMILY:
        return False
    if len(first) == 1:
        return len(parts) > 1
    # The comma is often not written; a name without one may be what the talk is about.
    return first[0] in FAMILY and first[1] in AUXILIARIES | QUESTION_WORDS | COMMANDS | {"i"}


def _calls_last(text: str) -> bool:
    """Tell whether somebody is called last: a name after a comma, known or misheard ("…, Coren?")."""
    called = re.search(r"[,?!] (\w+)[.?!]*$", clean(text))
    if called is None:
        return False
    word = called[1].lower()
    if word in NAMES | FAMILY:
        return True
    known = AFTERTHOUGHTS | OPENERS | QUESTION_WORDS | BACKCHANNELS | SHORT_QUERIES
    return called[1][0].isupper() and word not in known


def without_openers(spoken: list[str]) -> list[str]:
    """Drop what people say before they come to the point: "Okay, but how much …" is a question."""
    rest = list(spoken)
    while rest:
        for phrase in OPENER_PHRASES:
            parts = phrase.split()
            if rest[: len(parts)] == parts:
                del rest[: len(parts)]
                break
        else:
            if rest[0] not in OPENERS:
                break
            del rest[0]
    return rest


def asks(text: str) -> bool:
    """Tell whether this has the form of a question, a command or a wish."""
    if clean(text).endswith("?"):
        return True
    # A second sentence counts as well: "Thank you. Now tell me about Saturn."
    return any(_asks(part) for part in re.split(r"[.!?;]", clean(text)))


def _asks(sentence: str) -> bool:
    clauses = [spoken for spoken in map(words, sentence.split(",")) if spoken]
    spoken = [word for clause in clauses for word in clause]
    if STOPS.match(" ".join(spoken)):
        return True
    rest = without_openers(spoken)
    if not rest:
        return False
    said = " ".join(rest)
    if EXCLAMATIONS.match(said):
        return False
    if rest[0] in QUESTION_WORDS or rest[0] in COMMANDS:
        return len(rest) > 1 or rest[0] in SHORT_QUERIES
    if any(said == wish or said.startswith(wish + " ") for wish in REQUESTS):
        return True
    if spoken[0] == "no" and len(rest) <= 5 and rest[0] in CORRECTIONS:
        return True
    # "I'm allergic to nuts, what else could I bake"; after a comma "who" and "which" are mostly relative.
    return any(_is_inverted(clause) or clause[0] in {"what", "why", "how"} for clause in [rest, *clauses[1:]])


def _is_inverted(spoken: list[str]) -> bool:
    """Tell whether this begins like "is it …" or "do whales …"."""
    return len(spoken) > 1 and spoken[0] in AUXILIARIES and (spoken[1] in SUBJECTS or spoken[1].endswith("s"))


def kind(word: str) -> str:
    """The class of a word, for what does not depend on the very word."""
    for name, members in KINDS.items():
        if word in members:
            return name
    if word.isdigit():
        return "#"
    return "-ed" if word.endswith("ed") else "-s" if word.endswith("s") else "-"


KINDS = {
    "I": word_list("i, i'm, i've, i'll, i'd, we, we're, we've, we'll, we'd, me, us"),
    "you": word_list("you, you're, you've, you'll, you'd, your, yours, yourself"),
    "they": word_list(
        """
        he, she, they, he's, she's, they're, him, her, them, his, their, they've, he'd, she'd, they'd, he'll,
        she'll, they'll
        """
    ),
    "it": word_list("it, it's, that, that's, this, these, those, there, there's"),
    "mine": word_list("my, our, mine, ours"),
    "was": word_list(
        """
        was, were, had, said, went, came, told, saw, took, got, left, thought, knew, made, gave, found, felt,
        stood, sat, ran, met, put, bought, lost, began, fell, wasn't, didn't, been
        """
    ),
    "family": FAMILY - OPENERS,
    "name": NAMES,
    "question": QUESTION_WORDS,
    "auxiliary": AUXILIARIES,
    "command": COMMANDS,
    "opener": OPENERS,
    "the": word_list("the, a, an, some, any"),
    "of": word_list("of, in, on, at, for, with, from, about, into, by, under, near, after, before"),
}
"""Classes of words for the trained head; the first that holds a word counts."""
