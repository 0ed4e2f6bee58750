"""Full stops that end no sentence: of abbreviations, initials and list numbers. Pure."""

import re

_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'])(?:Mr|Mrs|Ms|Dr|Prof|Gen|Gov|Sen|Rev|Capt|Mt|St|Sr|Jr|vs|etc|approx|cf|[Ff]ig|No|[A-HJ-Z]"
    r"|Jan|Feb|Apr|Aug|Sept|Oct|Nov|Dec|Inc|Ltd|Corp|Sgt|Lt|Ft|Hwy|Ave|Blvd|dept|max|(?:[A-Za-z]\.)+[A-Za-z]|Ph\.D)\.$"
)
_NUMBER = re.compile(r"\d\.$")
_LIST_NUMBER = re.compile(r"(?:^|\n)\s*\d{1,2}\.$")


def ends_no_sentence(text: str) -> bool:
    """Tell whether the full stop at the end of `text` belongs to its last word. "I." and "in 1999." are ends."""
    if _NUMBER.search(text):
        return _LIST_NUMBER.search(text) is not None
    return _ABBREVIATION.search(text) is not None
