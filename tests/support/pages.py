"""The Markdown pages of the repository: their headings, their links, and their blocks of Python."""

import re
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

_FENCE = re.compile(r"^ {0,3}(```+|~~~+) *(\S*)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#* *$")
_LINK = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)>?(?: +\"[^\"]*\")?\)")
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_REFERENCE = re.compile(r"\[[^\]]*\]\[([^\]]+)\]")
_DEFINITION = re.compile(r"^ {0,3}\[([^\]]+)\]: *<?([^\s>]+)>?", re.MULTILINE)
_CODE = re.compile(r"(`+)(?!`)(?:.|\n(?!\n))+?(?<!`)\1(?!`)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


@dataclass
class Page:
    """One page.

    Attributes:
        path: where it is.
        prose: its lines outside of fenced blocks; those inside are empty.
        blocks: the fenced blocks: their language, the number of their first line, from 1, and their text.
    """

    path: Path
    prose: list[str]
    blocks: list[tuple[str, int, str]]

    @property
    def anchors(self) -> set[str]:
        """What `#...` may name: the headings as GitHub turns them into anchors, numbered where they repeat."""
        found = set()
        for line in self.prose:
            if heading := _HEADING.match(line):
                name = slug(heading.group(1))
                repeats = sum(1 for known in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", known))
                found.add(f"{name}-{repeats}" if name in found else name)
        return found

    @property
    def links(self) -> list[tuple[int, str]]:
        """The line and the target of every link and image that is not an address elsewhere."""
        text = _blank(_CODE, "\n".join(self.prose))
        defined = dict(_DEFINITION.findall(text))
        matches = {
            (match.start(1), match.group(1)) for t in (text, _blank(_IMAGE, text)) for match in _LINK.finditer(t)
        }
        matches |= {
            (match.start(1), defined.get(match.group(1), f"[{match.group(1)}]")) for match in _REFERENCE.finditer(text)
        }
        return [
            (text.count("\n", 0, place) + 1, target)
            for place, target in sorted(matches)
            if not _ELSEWHERE.match(target)
        ]

    def broken_links(self) -> list[str]:
        """A line for each link to a file or a heading that does not exist."""
        broken = []
        for number, target in self.links:
            name, _, anchor = target.partition("#")
            path = self.path.parent / name if name else self.path
            if not path.exists():
                broken.append(f"{self.path}:{number}: {target}: there is no {path}")
            elif anchor and (path.suffix != ".md" or anchor not in read(path).anchors):
                broken.append(f"{self.path}:{number}: {target}: {path} has no heading #{anchor}")
        return broken

    @property
    def python(self) -> list[CodeType]:
        """Its blocks of Python, compiled so that an error names the line of the page."""
        return [
            compile("\n" * (line - 1) + text, str(self.path), "exec")
            for language, line, text in self.blocks
            if language == "python"
        ]


def read(path: Path) -> Page:
    """The page in a file.

    Raises:
        ValueError: a fenced block does not end.
    """
    prose, blocks, fence = [], [], None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = _FENCE.match(line)
        if fence is None and match:
            fence, language, first, inside = match.group(1), match.group(2), number + 1, []
        elif fence is not None and line.strip() == fence:
            blocks.append((language, first, "\n".join(inside) + "\n"))
            fence = None
        elif fence is not None:
            inside.append(line)
        else:
            prose.append(line)
            continue
        prose.append("")
    if fence is not None:
        raise ValueError(f"{path}:{first - 1}: the block does not end")
    return Page(path, prose, blocks)


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading: of links and code their text, lower case, hyphens for spaces."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def _blank(pattern: re.Pattern, text: str) -> str:
    """The text without what the pattern finds, and with all else where it was."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", ".", match.group()), text)
