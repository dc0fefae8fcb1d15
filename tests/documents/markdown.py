"""Markdown as far as links go: what a document points to, and what in it can be pointed to."""

import re
from urllib.parse import unquote

FENCE = re.compile(r"^(\s*)(`{3,}|~{3,}).*?^\1\2[`~]*\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
INLINE = re.compile(r"\]\(\s*<?([^()\s>]+(?:\([^()\s]*\)[^()\s>]*)*)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\s{0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*(?:\"[^\"]*\")?$", re.MULTILINE)
ATTRIBUTE = re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)=\"([^\"]+)\"")
HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)
NAMED = re.compile(r"<a\b[^>]*?\b(?:id|name)=\"([^\"]+)\"")


def without_code(text):
    """The same text with blanks for code and comments, so that lines stay where they are."""

    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])

    text = FENCE.sub(blank, text)
    return CODE.sub(blank, COMMENT.sub(blank, text))


def links(text):
    """(line, target) of each link and picture."""
    plain = without_code(text)
    for pattern in (INLINE, REFERENCE, ATTRIBUTE):
        for match in pattern.finditer(plain):
            yield plain.count("\n", 0, match.start()) + 1, unquote(match[1])


def headings(text):
    """(level, words) of each heading."""
    fenced = FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    return [(len(marks), words) for marks, words in HEADING.findall(COMMENT.sub("", fenced))]


def anchors(text):
    """What `#…` may say, as the usual renderers make it: small letters, no punctuation, hyphens for blanks; repeats are numbered."""
    found = set(NAMED.findall(text))
    counts = {}
    for _, words in headings(text):
        words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", words)
        slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        again = counts.get(slug, 0)
        counts[slug] = again + 1
        found.add(f"{slug}-{again}" if again else slug)
    return found


def fences(text):
    """The text of each block of code."""
    return [match[0] for match in FENCE.finditer(text)]
