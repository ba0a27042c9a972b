#!/usr/bin/env python3
"""The house: what stands where, who may include whom, and what the documents say about the programs.

Each rule is a function that is given a root and returns complaints. The first test of a rule asks it about
this tree; the second plants a mistake in a copy and wants to hear of it.

BUILD names the folder with the programs (default .darkroom/build); without programs the tests that compare
documents with them are skipped.
"""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / ".darkroom" / "build"))
STAGES = ("preprocess", "store", "batch", "train", "deploy", "predict")

TOP = {"workers", "proto", "lib", "deploy", "tests", "CMakeLists.txt", "README.md", "LICENSE"}

BELOW_WORKERS = {"lib/stage", "lib/learn", "lib/image", "lib/nn", "lib/kv", "lib/base", "proto"}
FLOORS = {
    "workers": BELOW_WORKERS,
    "lib/stage": {"lib/bus", "lib/base", "proto"},
    "lib/learn": {"lib/kv", "lib/nn", "lib/image", "lib/base", "proto"},
    "lib/export": {"lib/learn", "lib/nn", "lib/kv", "lib/image", "lib/format", "lib/base", "proto"},
    "lib/client": {"lib/bus", "lib/learn", "lib/nn", "lib/export", "lib/kv", "lib/image", "lib/base", "proto"},
    "proto": {"lib/base"},
    "lib/image": {"lib/base"},
    "lib/format": {"lib/base"},
    "lib/nn": {"lib/base"},
    "lib/kv": {"lib/base"},
    "lib/bus": {"lib/base"},
    "lib/base": set(),
}

# Each outside library has one door: header -> the files that may include it.
DOORS = {
    r"(cjson/)?cJSON\.h": r"lib/base/json\.c",
    r"openssl/.*": r"lib/base/hash\.c",
    r"png\.h": r"lib/image/png\.c",
    r"(cblas|openblas.*|f77blas|lapacke)\.h": r"lib/nn/matmul\.c",
    r"hiredis/.*": r"lib/kv/redis\.c",
    r"librdkafka/.*": r"lib/bus/kafka\w*\.[ch]",
    r"microhttpd\.h": r"lib/stage/probe\.c",
    r"protobuf-c/.*|\w+\.pb-c\.h": r"lib/format/(events|graph)\.c",
    r"isa-l(/.*)?\.h": r"lib/format/record\.c",
}
LIBC = re.compile(
    r"(assert|ctype|dirent|errno|fcntl|fenv|fnmatch|ftw|getopt|glob|immintrin|inttypes|libgen|limits|locale|math|"
    r"netdb|poll|pthread|sched|setjmp|signal|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdlib|"
    r"stdnoreturn|string|strings|termios|threads|time|unistd|arm_neon|cpuid|"
    r"gnu/libc-version|(arpa|linux|net|netinet|sys)/\w+)\.h"
)


def files(root, *folders, ends=(".c", ".h")):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.name.endswith(ends):
                yield path.relative_to(root).as_posix(), path.read_text(errors="replace")


def module_of(name):
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "lib" else parts[0]


def includes(text):
    return re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', text, re.M)


def bare(text):
    """Code without comments and texts."""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', " ", text, flags=re.S)


def check_top_level(root):
    names = {path.name for path in root.iterdir()}
    return [f"{name} does not belong on the top level" for name in sorted(names - TOP)
            if not name.startswith((".", "build"))] + \
           [f"{name} is missing" for name in sorted(TOP - names)]


def check_floors(root):
    wrong = []
    for name, text in files(root, "workers", "lib", "proto"):
        module = module_of(name)
        allowed = {"lib/client"} if name == "workers/darkroom.c" else FLOORS.get(module)
        if allowed is None:
            wrong.append(f"{name}: the folder {module} has no floor")
            continue
        for mark, target in includes(text):
            if mark == "<":
                continue
            if not (root / target).is_file():
                wrong.append(f"{name}: {target} is not spelled from the root")
            elif module_of(target) not in allowed | {module}:
                wrong.append(f"{name} may not include {target}")
    return wrong


def check_doors(root):
    wrong = []
    for name, text in files(root, "workers", "lib", "proto"):
        for mark, target in includes(text):
            if mark == '"' or LIBC.fullmatch(target):
                continue
            door = next((door for header, door in DOORS.items() if re.fullmatch(header, target)), None)
            if door is None:
                wrong.append(f"{name}: <{target}> belongs to no library that we know")
            elif not re.fullmatch(door, name):
                wrong.append(f"{name}: <{target}> has its door in {door}")
    return wrong


def check_workers(root):
    """A worker knows nothing of processes, signals, threads, the environment or the broker."""
    forbidden = r"\b(getenv|secure_getenv|setenv|_?exit|abort|atexit|signal|sigaction|raise|kill|fork|exec\w+|" \
                r"pthread_\w+|thrd_\w+|rd_kafka\w*|bus_\w+)\s*\("
    return [f"{name}: {word}()" for name, text in files(root, "workers")
            for word in re.findall(forbidden, bare(text))]


def check_openings(root):
    return [f"{name} does not begin with a comment that says what it does"
            for name, text in files(root, "workers", "lib", "proto", "tests")
            if not re.match(r"(#[^\n]*\n)*/[*/]\s*\S|/\*\s*\n\s*\*\s*\S", text)]


def check_words(root):
    """The project speaks of itself: no path of anybody's machine, no tool that wrote it."""
    forbidden = re.compile(r"(?<![\w.])/(work|root|home|Users)/\w|/tmp/(mnist|venv|build)|anthropic|claude|copilot|chatgpt", re.I)
    wrong = []
    texts = list(files(root, "workers", "lib", "proto", "deploy", "tests", ends=""))
    texts += [(path.name, path.read_text(errors="replace")) for path in root.iterdir()
              if path.is_file() and path.name not in ("LICENSE", ".git")]
    for name, text in texts:
        if name == "tests/unit/house_test.py" or name.endswith((".png", ".pyc", ".gz", ".bin")):
            continue
        wrong += [f"{name}: {match.group()}" for match in forbidden.finditer(text)]
    return wrong


def check_reasons(root):
    """proto/README.md lists every reason of lib/base/err.h with its sentence, and no other."""
    header = (root / "lib/base/err.h").read_text()
    code = {name: what for name, what in re.findall(r'X\(REASON_\w+,\s*"([^"]+)",\s*"([^"]+)"\)', header)}
    del code["none"]
    page = (root / "proto/README.md").read_text() if (root / "proto/README.md").is_file() else ""
    table = re.search(r"^\| reason \|.*\n\|[-| :]+\n((?:\|.*\n)+)", page, re.M)
    said = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|$", table.group(1), re.M)) if table else {}
    return [f"proto/README.md: no row | `{name}` | {what} |" for name, what in code.items() if said.get(name) != what] + \
           [f"proto/README.md: there is no reason {name}" for name in said if name not in code]


def check_spec(root):
    """README.md has a row for every field of a model's spec."""
    table = (root / "lib/learn/spec.c").read_text()
    fields = re.findall(r'^    \{"([\w.]+)", SETTING_\w+, AT\([\w.]+\), "([^"]*)", "([^"]*)", (NULL|"[^"]*"),', table, re.M)
    page = (root / "README.md").read_text()
    wanted = [f"| `{name}` | `{preset}` | {what}{'' if allowed == 'NULL' else ': ' + ' or '.join(allowed.strip(chr(34)).replace('|', ', ').rsplit(', ', 1))} |"
              for name, preset, what, allowed in fields]
    unread = len(fields) != len(re.findall(r"SETTING_\w+,\s*AT\(", table))
    return ["lib/learn/spec.c: not every field stands on a line of its own"] * unread + [f"README.md: no row {row}" for row in wanted if row not in page]


def rows(text):
    """The rows of a Markdown table, without its rule, blanks evened out."""
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()
            if line.startswith("|") and not re.fullmatch(r"[\s|:-]+", line)]


def program(*command):
    return subprocess.run([str(BUILD / command[0]), *command[1:]], capture_output=True, text=True, timeout=20)


def check_table(root, *command, page="README.md"):
    """The page has every row that the program prints."""
    run = program(*command)
    if run.returncode or not rows(run.stdout):
        return [f"{' '.join(command)} printed no table (exit code {run.returncode}): {run.stderr.strip()}"]
    said = set(rows((root / page).read_text()))
    return [f"{page}: missing or outdated: {row}" for row in rows(run.stdout) if row not in said]


def check_topic_table(root):
    return check_table(root, "darkroom", "topics", "list", "--markdown")


def check_acl_table(root):
    return check_table(root, "darkroom", "topics", "acls", "--format", "markdown", page="proto/README.md")


def check_settings(root):
    return [wrong for stage in STAGES for wrong in check_table(root, f"darkroom-{stage}", "--settings-markdown")]


class House(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.copy = pathlib.Path(self.folder.name) / "copy"

    def tearDown(self):
        self.folder.cleanup()

    def fine(self, check):
        self.assertEqual([], check(ROOT))

    def planted(self, check, name, change):
        """`change` is given a file's text and returns another; the check must have one complaint more."""
        shutil.copytree(ROOT, self.copy, ignore=shutil.ignore_patterns(".*", "build*", "*.png", "__pycache__"))
        before = check(self.copy)
        path = self.copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_text() if path.is_file() else ""
        new = change(old)
        self.assertTrue(old != new, "nothing was planted")
        path.write_text(new)
        self.assertNotEqual([], [wrong for wrong in check(self.copy) if wrong not in before], "the mistake went unnoticed")

    def needs(self, name):
        if not (BUILD / name).is_file():
            self.skipTest(f"{BUILD / name} is not built")

    def test_top_level(self):
        self.fine(check_top_level)

    def test_top_level_planted(self):
        self.planted(check_top_level, "notes.txt", lambda old: "x")

    def test_floors(self):
        self.fine(check_floors)

    def test_floors_planted_upwards(self):
        self.planted(check_floors, "lib/base/json.c", lambda old: '#include "lib/bus/bus.h"\n' + old)

    def test_floors_planted_sideways(self):
        self.planted(check_floors, "lib/kv/extra.c", lambda old: '#include "lib/bus/bus.h"\n')

    def test_floors_planted_worker_on_bus(self):
        self.planted(check_floors, "workers/extra.c", lambda old: '#include "lib/bus/bus.h"\n')

    def test_floors_planted_command_line(self):
        self.planted(check_floors, "workers/darkroom.c", lambda old: '#include "lib/base/json.h"\n' + old)

    def test_floors_planted_relative(self):
        self.planted(check_floors, "lib/base/json.c", lambda old: '#include "json.h"\n' + old)

    def test_doors(self):
        self.fine(check_doors)

    def test_doors_planted(self):
        self.planted(check_doors, "lib/base/log.c", lambda old: "#include <cjson/cJSON.h>\n" + old)

    def test_doors_planted_in_header(self):
        self.planted(check_doors, "lib/base/json.h", lambda old: "#include <cjson/cJSON.h>\n" + old)

    def test_doors_planted_made_code(self):
        self.planted(check_doors, "lib/export/board.c", lambda old: "#include <tensorboard.pb-c.h>\n" + old)

    def test_doors_planted_stranger(self):
        self.planted(check_doors, "lib/base/log.c", lambda old: "#include <curl/curl.h>\n" + old)

    def test_workers(self):
        self.fine(check_workers)

    def test_workers_planted(self):
        self.planted(check_workers, "workers/extra.c", lambda old: 'int f(void) { return getenv("X") != 0; }\n')

    def test_spec(self):
        self.fine(check_spec)

    def test_spec_planted(self):
        self.planted(check_spec, "README.md", lambda old: old.replace("`batch.count`", "`batch.size`"))

    def test_openings(self):
        self.fine(check_openings)

    def test_openings_planted(self):
        self.planted(check_openings, "lib/base/extra.h", lambda old: "#ifndef X\n#define X\n#endif\n")

    def test_words(self):
        self.fine(check_words)

    def test_words_planted(self):
        self.planted(check_words, "lib/base/log.h", lambda old: old + "/* see /home" + "/me/notes */\n")

    def test_reasons(self):
        self.fine(check_reasons)

    def test_reasons_planted(self):
        self.planted(check_reasons, "lib/base/err.h", lambda old: old.replace("does not begin as", "is not"))

    def test_topic_table(self):
        self.needs("darkroom")
        self.fine(check_topic_table)

    def test_topic_table_planted(self):
        self.needs("darkroom")
        self.planted(check_topic_table, "README.md", lambda old: old.replace("| image id |", "| picture id |"))

    def test_acl_table(self):
        self.needs("darkroom")
        self.fine(check_acl_table)

    def test_acl_table_planted(self):
        self.needs("darkroom")
        self.planted(check_acl_table, "proto/README.md", lambda old: old.replace("| deploy | Read | Topic |", "| deploy | Write | Topic |"))

    def test_settings(self):
        self.needs("darkroom-predict")
        self.fine(check_settings)

    def test_settings_planted(self):
        self.needs("darkroom-predict")
        self.planted(check_settings, "README.md", lambda old: old.replace("DARKROOM_REDIS_URL", "DARKROOM_REDIS"))


if __name__ == "__main__":
    unittest.main()
