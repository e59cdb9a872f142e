"""Parsed modules to documents that read like pages of a manual, and the list of objects they document.

One page for each larger class and for each group of smaller ones of a module, of about 1 to 2 KB, so that what a small
model sees at once is most of a page: a title, then each object under a heading like `statistics.mean(data)`. A
docstring that came before, word for word, is not written again.
Page ids are "<source>/<full name of the first object>".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from llmforge.corpus.python_docs.extract import Extraction
from llmforge.corpus.python_docs.names import PublicNames, shown_name
from llmforge.corpus.python_docs.parse import Entry, ParsedModule
from llmforge.corpus.python_docs.roots import PACKAGES, SOURCES

OWN_PAGE = 700  # characters from which a class or function stands alone
FULL_PAGE = 1400  # a group page is closed before it grows beyond this
MAX_PAGE = 2200  # a class page is divided between its methods beyond this
SMALL_PAGE = 400  # a page below this waits for more of the same package
REPEATED = 80  # a docstring of this many characters or more is written once


@dataclass(frozen=True, slots=True)
class Page:
    """One document: `id` with its source in front, `text`, and the module it belongs to."""

    id: str
    source: str
    module: str
    text: str


@dataclass(frozen=True, slots=True)
class DocumentedObject:
    """A function, method, class or property with the page that documents it; `name` is its public name."""

    name: str
    kind: str
    source: str
    signature: str
    parameters: tuple[str, ...]
    doc: str
    page: str


@dataclass(slots=True)
class _Unit:
    """What stays together on a page: a class with its members, or one function."""

    title: str
    key: str
    sections: list[tuple[str, str]] = field(default_factory=list)  # full name of the object, text

    @property
    def size(self) -> int:
        return sum(len(text) for _, text in self.sections)


def build_pages(found: Extraction) -> tuple[list[Page], list[DocumentedObject]]:
    """All pages and all documented objects, in the order of SOURCES, modules and source lines."""
    pages: list[Page] = []
    objects: list[DocumentedObject] = []
    for source in SOURCES:
        book = _Book(source, PublicNames(found.modules.get(source, [])))
        for module in found.modules.get(source, []):
            book.add_module(module)
        if source == "topics":
            for name, text in found.topics.items():
                book.add_topic(name, text)
        book.close()
        pages.extend(book.pages)
        objects.extend(book.objects())
    return pages, objects


class _Book:
    """The pages of one source, filled module by module."""

    def __init__(self, source: str, names: PublicNames) -> None:
        self.pages: list[Page] = []
        self._source = source
        self._names = names
        self._ids: set[str] = set()
        self._page_of: dict[str, str] = {}  # an object's full name -> the id of its page
        self._first_with: dict[str, str] = {}  # a docstring -> the full name of the object that has it on its page
        self._noted: list[tuple[str, Entry, str]] = []  # public name, entry, full name whose page has the text
        self._waiting: list[_Unit] = []
        self._waiting_module = ""

    def add_module(self, module: ParsedModule) -> None:
        group: list[_Unit] = self._take_waiting(module.name)
        for unit in self._units(module):
            if unit.size >= OWN_PAGE:
                self._write(unit.title, [unit], module.name)
                continue
            if group and sum(member.size for member in group) + unit.size > FULL_PAGE:
                self._write_group(group, module.name)
                group = []
            group.append(unit)
        if sum(unit.size for unit in group) >= SMALL_PAGE:
            self._write_group(group, module.name)
        else:
            self._waiting, self._waiting_module = group, module.name

    def add_topic(self, name: str, text: str) -> None:
        for number, part in enumerate(_text_parts(text), 1):
            title = f"Python topic: {name}" + ("" if number == 1 else ", continued")
            self._append(f"{name}" if number == 1 else f"{name}#{number}", "pydoc_data.topics", f"{title}\n\n{part}")

    def close(self) -> None:
        if self._waiting:
            self._write_group(self._waiting, self._waiting_module)
        self._waiting = []

    def objects(self) -> Iterator[DocumentedObject]:
        """Every object noted, with the page its text stands on."""
        for name, entry, full_name in self._noted:
            page = self._page_of[full_name]
            parameters = tuple(entry.parameters)
            yield DocumentedObject(name, entry.kind, self._source, entry.signature, parameters, entry.doc, page)

    def _take_waiting(self, module: str) -> list[_Unit]:
        """Small leftovers go on in the next module of the same package, and end where the package does."""
        if self._waiting and _package(module) != _package(self._waiting_module):
            self.close()
        group, self._waiting = self._waiting, []
        return group

    def _units(self, module: ParsedModule) -> Iterator[_Unit]:
        unit: _Unit | None = None
        owner = ""
        for full_name, entry in _all_entries(module):
            name = full_name if entry.kind == "module" else self._names.of(full_name)
            if self._is_internal(name):
                continue
            in_unit = unit is not None and owner and full_name.startswith(f"{owner}.") and entry.kind != "module"
            if not in_unit:
                if unit is not None and unit.sections:
                    yield unit
                owner = _owner(full_name, entry)
                title = f"The class {self._names.of(owner)}" if owner else f"The {entry.kind} {shown_name(name)}"
                unit = _Unit(title, full_name)
            assert unit is not None, "a unit is begun above"
            self._add_entry(unit, full_name, name, entry)
        if unit is not None and unit.sections:
            yield unit

    def _is_internal(self, name: str) -> bool:
        """True for what only lives in a private part of a package: notes for its developers."""
        return self._source in PACKAGES and name.startswith(f"{self._source}._")

    def _add_entry(self, unit: _Unit, full_name: str, name: str, entry: Entry) -> None:
        known = self._first_with.get(entry.doc) if len(entry.doc) >= REPEATED else None
        if known is None:
            unit.sections.append((full_name, f"{_heading(entry, name)}\n\n{entry.doc}"))
            self._first_with.setdefault(entry.doc, full_name)
        if entry.kind != "module":
            self._noted.append((name, entry, known or full_name))

    def _write_group(self, group: list[_Unit], module: str) -> None:
        title = group[0].title if len(group) == 1 else f"From the module {shown_name(module)}"
        self._write(title, group, module)

    def _write(self, title: str, units: list[_Unit], module: str) -> None:
        sections = [section for unit in units for section in unit.sections]
        start, part = 0, 1
        while start < len(sections):
            end, size = start, 0
            while end < len(sections) and (end == start or size + len(sections[end][1]) <= MAX_PAGE):
                size += len(sections[end][1])
                end += 1
            key = units[0].key if part == 1 else f"{units[0].key}#{part}"
            head = title if part == 1 else f"{title}, continued"
            page = self._append(key, module, "\n\n".join([head, *(text for _, text in sections[start:end])]))
            self._page_of.update((full_name, page) for full_name, _ in sections[start:end])
            start, part = end, part + 1

    def _append(self, key: str, module: str, text: str) -> str:
        page_id, copies = f"{self._source}/{key}", 1
        while page_id in self._ids:
            copies += 1
            page_id = f"{self._source}/{key}~{copies}"
        self._ids.add(page_id)
        self.pages.append(Page(page_id, self._source, module, text + "\n"))
        return page_id


def _all_entries(module: ParsedModule) -> Iterator[tuple[str, Entry]]:
    for entry in module.entries:
        yield (f"{module.name}.{entry.name}" if entry.name else module.name), entry
    for entry in module.absolute:
        yield entry.name, entry


def _package(module: str) -> str:
    return ".".join(module.split(".")[:2]) if module.split(".")[0] in SOURCES else module.split(".")[0]


def _owner(full_name: str, entry: Entry) -> str:
    """The class that an object belongs to or is; "" for a function or module."""
    if entry.kind == "class":
        return full_name
    return full_name.rpartition(".")[0] if entry.kind in ("method", "property") else ""


def _heading(entry: Entry, name: str) -> str:
    if entry.kind == "module":
        return f"module {shown_name(name)}"
    return f"class {name}{entry.signature}" if entry.kind == "class" else f"{name}{entry.signature}"


def _text_parts(text: str) -> Iterator[str]:
    """A long text in parts of at most MAX_PAGE characters, divided between paragraphs."""
    part: list[str] = []
    size = 0
    for paragraph in text.split("\n\n"):
        if part and size + len(paragraph) > MAX_PAGE:
            yield "\n\n".join(part)
            part, size = [], 0
        part.append(paragraph)
        size += len(paragraph)
    if part:
        yield "\n\n".join(part)
