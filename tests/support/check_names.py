#!/usr/bin/env python3
"""Checks the names in README.md, CONTRIBUTING.md, cuda/README.md and docs/*.md against the repository.

    check_names.py REPOSITORY

Exit status 1 and one line per fault:
  - a function, class or method in docs/equations.md that is not in the file named in the same row or sentence, or,
    without a file there, not in src/;
  - a path of a file or folder of the repository that does not exist;
  - a config key that is not in docs/config.md;
  - a relative link to a missing file or heading;
  - a line of more than 120 characters (docs/config.md is generated and exempt).
Before it looks at the repository it checks itself on planted faults.
"""
import functools
import pathlib
import re
import sys
import tempfile

TOP = ("src", "cuda", "tests", "docs", "launch", "configs", "bench", "docker", "python")
EXEMPT_FROM_LENGTH = ("docs/config.md",)
NAME = re.compile(r"(?:[A-Z]\w*::)?[A-Za-z_]\w*")
KEY = re.compile(r"[a-z_]+\.[a-z_]+")
PLACEHOLDER = re.compile(r"[<>${}]|\.\.\.|[A-Z]{3,}")


class Repository:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.pages = [page for name in ("README.md", "CONTRIBUTING.md", "cuda/README.md")
                      if (page := self.root / name).is_file()]
        self.pages += sorted((self.root / "docs").glob("*.md"))
        self.keys = self.config_keys()

    @functools.lru_cache(maxsize=None)
    def text(self, path):
        return path.read_text(errors="replace")

    @functools.cached_property
    def sources(self):
        return sorted(path for path in (self.root / "src").rglob("*") if path.suffix in (".hpp", ".cpp"))

    def config_keys(self):
        """{section: keys} of docs/config.md."""
        keys, section = {}, None
        for line in self.text(self.root / "docs/config.md").splitlines():
            if heading := re.match(r"## \[(\w+)\]", line):
                section = keys.setdefault(heading[1], set())
            elif section is not None and (row := re.match(r"\| `(\w+)`", line)):
                section.add(row[1])
        return keys

    def within(self, path):
        """The source files of `path`, a file or a folder. A .cpp file includes its header."""
        full = self.root / path
        if full.is_dir():
            return [file for file in self.sources if full in file.parents]
        return [file for file in (full, full.with_suffix(".hpp")) if file.is_file()]


def quoted(text):
    return re.findall(r"`([^`\n]+)`", text)


def is_path(word):
    return "/" in word and word.split("/")[0] in TOP


def units(text):
    """Table rows, and sentences of all other text, each with its line number."""
    text = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL | re.MULTILINE)
    prose, begin = [], 0
    for number, line in enumerate(text.splitlines() + [""], 1):
        if line.startswith("|") or line.startswith("    ") or not line.strip() or line.startswith("#"):
            if prose:
                at = begin
                for sentence in re.split(r"(?<=[.:;])\s", "\n".join(prose)):
                    yield at, sentence
                    at += sentence.count("\n")
                prose = []
            if line.startswith("|"):
                yield number, line
        else:
            begin = begin if prose else number
            prose.append(line)


def defines(text, name):
    """Whether the source `text` defines or declares `name`, as in `Class::method`, `function` or `Type`."""
    owner, _, member = name.rpartition("::")
    word = re.escape(member)
    if owner and re.search(rf"\b(?:Cpu)?{owner}::{word}\s*\(", text):
        return True
    if owner and not re.search(rf"\b(?:class|struct)\s+{owner}\b", text):
        return False
    return bool(re.search(rf"\b(?:class|struct|enum class)\s+{word}\b|\b{word}\s*\(|\b{word}_?\s*[;={{]", text))


def equation_names(repository, page):
    known_elsewhere = set().union(*repository.keys.values(), repository.keys)
    for number, unit in units(repository.text(page)):
        words = quoted(unit)
        names = [word for word in words if NAME.fullmatch(word) and ("::" in word or "_" in word or word[0].isupper()
                                                                     or any(map(is_path, words)))]
        files = [file for word in words if is_path(word) for file in repository.within(word)]
        for name in names:
            if not files and "::" not in name and name in known_elsewhere:
                continue
            if not any(defines(repository.text(file), name) for file in files or repository.sources):
                where = ", ".join(word for word in words if is_path(word)) or "src/"
                yield number, f"`{name}` is not in {where}"
            elif "::" in name and not any(defines(repository.text(file), name) for file in repository.sources):
                yield number, f"no class of src/ has `{name}`"


def paths(repository, page):
    for number, line in enumerate(repository.text(page).splitlines(), 1):
        code = line if line.startswith("    ") else " ".join(quoted(line))
        for word in re.split(r"[\s|;&()\"']+", code):
            word = word.rstrip(".,:").removeprefix("./").split("#")[0]
            if is_path(word) and not PLACEHOLDER.search(word) and not any(repository.root.glob(word.rstrip("/"))):
                yield number, f"there is no {word}"


def keys(repository, page):
    section, block = None, None
    for number, line in enumerate(repository.text(page).splitlines(), 1):
        if line.startswith("```"):
            block, section = (None if block else line.strip("`") or "text"), None
            continue
        named = set(re.findall(r"(?:--set +'?)([a-z_]+\.[a-z_]+)(?==)", line))
        if block == "toml":
            if heading := re.fullmatch(r"\[(\w+)\].*", line.strip()):
                section = heading[1]
            elif assignment := re.match(r"([a-z_]+) *=", line.strip()):
                if section in repository.keys:
                    named.add(f"{section}.{assignment[1]}")
            elif assignment := re.match(r"([a-z_]+\.[a-z_]+) *=", line.strip()):
                named.add(assignment[1])
        elif block is None:
            named |= {word.split(" ")[0] for word in quoted(line) if KEY.fullmatch(word.split(" ")[0])}
        for name in sorted(named):
            part, key = name.split(".")
            if part in repository.keys and key not in repository.keys[part] and not is_file_name(key):
                yield number, f"there is no config key {name}"


def is_file_name(suffix):
    return suffix in ("sbatch", "h5", "toml", "json", "jsonl", "md", "cpp", "hpp", "sh", "txt", "csv", "svg", "html", "py")


def anchors(text):
    found = set()
    for heading in re.findall(r"^#+ +(.*)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE):
        heading = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", heading).replace(" ", "-"))
    return found


def links(repository, page):
    for number, line in enumerate(repository.text(page).splitlines(), 1):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            if not file.exists():
                yield number, f"the link {target} leads nowhere"
            elif anchor and anchor not in anchors(repository.text(file)):
                yield number, f"the link {target} names no heading of {file.name}"


def lengths(repository, page):
    if page.relative_to(repository.root).as_posix() in EXEMPT_FROM_LENGTH:
        return
    for number, line in enumerate(repository.text(page).splitlines(), 1):
        if len(line) > 120:
            yield number, f"{len(line)} characters; the limit is 120"


def faults(root):
    repository = Repository(root)
    found = []
    for page in repository.pages:
        checks = [paths, keys, links, lengths] + ([equation_names] if page.name == "equations.md" else [])
        for check in checks:
            found += [f"{page.relative_to(repository.root)}:{number}: {text}" for number, text in check(repository, page)]
    return found


def check_itself():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)

        def write(path, text):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)

        write("src/a/pass.hpp", "class Pass {\n    void run(int steps);\n};\ndouble norm(double x);\n")
        write("src/a/pass.cpp", "void Pass::run(int steps) {}\n")
        write("src/a/other.cpp", "int other() { return 0; }\n")
        write("docs/config.md", "## [run]\n| `seed` | integer |\n" + "x" * 200 + "\n")

        def count(page, text):
            write(page, text)
            number = len(faults(root))
            (root / page).unlink()
            return number

        equations = "docs/equations.md"
        assert count(equations, "| x | `Pass::run` | `src/a/pass.cpp` |\n`norm` (`src/a/pass.cpp`) is one.\n") == 0
        assert count(equations, "# Runs\nSee [runs](#runs), `run.seed` and `Pass::run`.\n") == 0
        assert count(equations, "| x | `Pass::stop` | `src/a/pass.cpp` |\n") == 1
        assert count(equations, "| x | `Pass::run` | `src/a/other.cpp` |\n") == 1
        assert count(equations, "`Pass::run` (`src/a/pass.cpp`) and\n`other`. `norm` (`src/a/other.cpp`) is wrong.\n") == 2
        assert count(equations, "`read_out` is not there.\n") == 1
        assert count("README.md", "`src/a/pass.hpp`, `src/*/p*.cpp`, `src/a/`, `launch/sweep FILE` is missing\n") == 1
        assert count("README.md", "    src/a/missing.cpp --set run.sed=1\n    src/a/pass.cpp --set run.seed=1\n") == 2
        assert count("README.md", "```toml\n[run]\nseed = 1\nsteps = 2\n```\n`run.seed = 3`, `run.log`\n") == 2
        assert count("README.md", "[a](docs/config.md#run) [b](docs/none.md) [c](docs/config.md#missing)\n") == 2
        assert count("README.md", "y" * 120 + "\n" + "y" * 121 + "\n") == 1


def main():
    check_itself()
    root = pathlib.Path(sys.argv[1])
    if not (root / "docs/equations.md").is_file():
        print(f"no docs/equations.md under {root}; give the root of the repository")
        return 1
    found = faults(root)
    print("\n".join(found) or "every name, path, key and link of the docs is right")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
