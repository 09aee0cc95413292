"""Lists circles of imports between the files of this crate; exit code 1 if there are any.

    python experiments/circles.py

A file imports another where a `use` or a path in its code names an item of that file, or of a module whose file is the
nearest one above it. Test modules and their imports do not count, and neither do a file's own children, which it declares.
"""

import re
import sys
from pathlib import Path

SRC = Path(__file__).parent / "src"


def modules():
    """Every module's path, as a tuple of names, with its file."""
    found = {}
    for path in SRC.rglob("*.rs"):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[() if parts in (("lib",), ("main",)) else parts] = path
    return found


def code(path):
    text = path.read_text()
    text = re.split(r"\n#\[cfg\(test\)\]\n(?:pub(?:\([^)]*\))? )?mod ", text)[0]
    return re.sub(r"//[^\n]*", "", text)


def spread(tree, prefix=()):
    """The paths of a `use` tree such as `a::{b, c::d}`."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        path = re.sub(r"\s+as\s+\w+$", "", tree)
        yield prefix + tuple(part.strip() for part in path.split("::") if part.strip())
        return
    head = tuple(part for part in tree[:brace].split("::") if part.strip())
    depth, part = 0, ""
    for char in tree[brace + 1 : tree.rindex("}")] + ",":
        if char == "," and depth == 0:
            if part.strip():
                yield from spread(part, prefix + head)
            part = ""
            continue
        depth += (char == "{") - (char == "}")
        part += char


def imports(module, path, known):
    """The modules that a file names."""
    text = code(path)
    trees = [tree for tree in re.findall(r"\buse\s+([^;]+);", text)]
    trees += re.findall(r"\b((?:crate|super)(?:::\w+)+)", re.sub(r"\buse\s+[^;]+;", "", text))
    for tree in trees:
        for names in spread(tree):
            if not names or names[0] not in ("crate", "super", "self"):
                continue
            base, rest = (), list(names)
            if rest[0] == "crate":
                rest.pop(0)
            else:
                base = module
                while rest and rest[0] in ("super", "self"):
                    base = base[:-1] if rest.pop(0) == "super" else base
            target = base
            for name in rest:
                if target + (name,) in known:
                    target += (name,)
                else:
                    break
            if target and target != module and target in known:
                yield target


def circles(graph):
    """Strongly connected parts of more than one node (Tarjan)."""
    index, low, stack, on, found = {}, {}, [], set(), []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        on.add(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            part = []
            while not part or part[-1] != node:
                part.append(stack.pop())
                on.discard(part[-1])
            if len(part) > 1:
                found.append(sorted(part))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def main():
    sys.setrecursionlimit(10_000)
    known = modules()
    graph = {module: set() for module in known}
    for module, path in known.items():
        for target in imports(module, path, known):
            is_child = target[: len(module)] == module
            if module and not is_child:
                graph[module].add(target)
            # A child that names an item of its parent closes a circle only if the parent names one of its own.
    name = lambda module: "/".join(module) or "lib"
    found = circles(graph)
    for part in found:
        print("circle:", ", ".join(name(module) for module in part))
        for module in part:
            inside = sorted(name(target) for target in graph[module] if target in part)
            print(f"  {name(module)} -> {', '.join(inside)}")
    if not found:
        print(f"no circle among {len(graph)} files")
    sys.exit(bool(found))


main()
