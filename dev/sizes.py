"""Print the size of each package: files, lines of code, docstrings, imports.

`python dev/sizes.py [FOLDER [DEPTH]]`. Code is what is neither blank, comment nor docstring. An
import counts once for each name that it binds.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sizes(path: Path) -> Counter[str]:
    """Return the counts of one file."""
    text = path.read_text()
    nodes = list(ast.walk(ast.parse(text)))
    documented: set[int] = set()
    for node in nodes:
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            documented.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = {number for number, line in enumerate(text.splitlines(), 1) if line.strip() and line.strip()[0] != "#"}
    imports = sum(len(node.names) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))
    return Counter(files=1, code=len(lines - documented), docstring=len(documented), imports=imports)


def main(root: Path, depth: int) -> None:
    total: dict[str, Counter[str]] = {}
    for path in sorted(root.rglob("*.py")):
        package = "/".join(path.relative_to(root).parts[:-1][:depth]) or "."
        total.setdefault(package, Counter()).update(sizes(path))
    total["all"] = sum(total.values(), Counter())
    print("| package | files | code | docstring | imports |\n|---|---|---|---|---|")
    for package, counted in total.items():
        columns = (counted[name] for name in ("files", "code", "docstring", "imports"))
        print(f"| {package} | {' | '.join(f'{number:,}' for number in columns)} |")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "raydistill"), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
