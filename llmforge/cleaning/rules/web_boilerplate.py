"""Lines of web pages that are no text: notices about cookies, menus, buttons for sharing, counters, copyright lines.

The phrases of C4 (https://jmlr.org/papers/v21/20-074.html) and of RefinedWeb's line filter
(https://arxiv.org/abs/2306.01116, appendix G), and the wording of the most frequent buttons in English. A line goes
only when all of it is such a phrase, or when it is short and has one of the notices' phrases: prose about cookies
stays. It judges nothing; a word is what stands between white space.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from llmforge.cleaning.rules.edited import Edited, edit_lines
from llmforge.config.schema import Config

_BUTTONS = frozenset(
    """home|menu|search|login|log in|log out|logout|sign in|sign up|sign-in|register|my account|create account|subscribe
subscribe now|newsletter|contact|contact us|about|about us|faq|help|sitemap|site map|careers|press|advertise|donate
share|share this|share this page|share on facebook|share on twitter|tweet|email this|pin it|print|print this page|like
follow us|follow us on twitter|follow us on facebook|reply|report|report abuse|add to cart|add to basket|checkout
view cart|read more|read more...|continue reading|show more|load more|see more|view all|see all|learn more|click here
next|previous|next page|previous page|back to top|skip to content|skip to main content|skip to navigation|top|close
advertisement|advertisements|sponsored|related articles|related posts|recent posts|popular posts|leave a comment
leave a reply|post a comment|comments|no comments|tags|categories|archives|privacy policy|terms of use|terms of service
terms and conditions|cookie policy|accept cookies|accept all cookies|reject all|manage cookies|cookie settings
all rights reserved|powered by wordpress|loading|please wait|toggle navigation""".replace("\n", "|").split("|")
)
_NOTICE = re.compile(
    r"\b(?:we use cookies|uses? (?:of )?cookies|cookie policy|privacy policy|terms of (?:use|service)|enable javascript"
    r"|javascript (?:is|must be) (?:disabled|enabled|required)|all rights reserved|sign up (?:for|to) our newsletter"
    r"|subscribe to our|your browser (?:does not|is not)|by continuing to (?:use|browse))\b"
)
_COPYRIGHT = re.compile(r"(?:copyright\b|\(c\)|©)[^\n]{0,20}\b(?:19|20)\d\d\b")
_COUNTER = re.compile(
    r"\W*\d[\d,.]*[kmb]?\s+(?:likes?|shares?|comments?|retweets?|reposts?|views?|followers?|downloads?|upvotes?|votes?"
    r"|replies|reply|reads?|items?)\W*"
)
_MENU_MARKS = re.compile(r"\s+[|»›•·/>]\s+")
_LONGEST = 300  # characters of a line that is looked at


class WebBoilerplate(Config):
    """Removes the lines of a page that are its furniture."""

    name: Literal["web_boilerplate"] = "web_boilerplate"
    remove_buttons: bool = Field(default=True, description="lines that are a button or a menu entry alone")
    remove_menus: bool = Field(default=True, description="lines such as Home | News | Contact")
    min_menu_entries: int = Field(default=3, ge=2, description="entries of a line that is a menu")
    remove_notices: bool = Field(default=True, description="short lines about cookies, JavaScript and rights")
    max_notice_words: int = Field(default=30, ge=1, description="words of a line that is a notice")
    remove_counters: bool = Field(default=True, description="lines such as 3 likes")

    def edit(self, text: str) -> Edited:
        """The lines that stay."""
        return edit_lines(self.name, text, text.split("\n"), self._change)

    def _change(self, line: str) -> tuple[str, str]:
        if not line or len(line) > _LONGEST:
            return line, ""
        lowered = line.strip().lower()
        if self.remove_buttons and lowered.rstrip(" .!:»›>→") in _BUTTONS:
            return "", "buttons"
        if self.remove_counters and _COUNTER.fullmatch(lowered):
            return "", "counters"
        if self.remove_notices and self._is_notice(lowered):
            return "", "notices"
        if self.remove_menus and self._is_menu(lowered):
            return "", "menus"
        return line, ""

    def _is_notice(self, lowered: str) -> bool:
        if not (_NOTICE.search(lowered) or _COPYRIGHT.match(lowered)):
            return False
        return len(lowered.split()) <= self.max_notice_words

    def _is_menu(self, lowered: str) -> bool:
        entries = _MENU_MARKS.split(lowered)
        return len(entries) >= self.min_menu_entries and all(len(entry.split()) <= 3 for entry in entries)
