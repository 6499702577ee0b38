"""Build the reference of all public packages, and the guide, as one site: `python .ci/site.py FOLDER`.

pdoc documents modules. So each page of the guide becomes the docstring of a module in a temporary package.
A warning of pdoc is an error.
"""

import re
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pdoc
import pdoc.render

HERE = Path(__file__).parent.parent
PAGES = HERE / "desk360_async" / "guide"
# The reading order; a page that isn't named comes behind these.
ORDER = [
    *(
        "start",
        "messages",
        "files",
        "lists",
        "campaigns",
        "ledgers",
        "once",
        "limits",
        "machines",
        "workers",
        "web",
        "webhooks",
    ),
    *("customers", "sync", "testing", "sandbox", "observability", "doctor", "live", "errors", "settings"),
    *("troubleshooting", "rulings", "house"),
]
WITHOUT_NAMES = {"cli", "guide", "new"}


def packages() -> list[str]:
    """Return the dotted names of the packages with public names."""
    inner = {path.parent.name for path in HERE.glob("desk360_async/*/__init__.py")} - WITHOUT_NAMES
    modules = {path.stem for path in HERE.glob("desk360_async/[a-z]*.py")}
    return ["desk360_async", *(f"desk360_async.{name}" for name in sorted(inner | modules))]


def load(name: str) -> ModuleType:
    """Import a module with all its public names, since pdoc sees only those in its `__dict__`."""
    module = import_module(name)
    for public in module.__all__:
        setattr(module, public, getattr(module, public))
    return module


def linked(text: str) -> str:
    """Return a page whose links lead to the site's own pages."""
    text = re.sub(r"\]\(desk360_async/guide/(\w+)\.md\)", r"](guide/\1.html)", text)
    return re.sub(r"\]\(([\w/-]+)\.md\)", lambda found: f"]({module(found[1])}.html)", text)


def write_guide(folder: Path) -> None:
    """Write the package `guide`.

    Args:
        folder: where the package is made.
    """
    found = {path.relative_to(PAGES).with_suffix("").as_posix(): path for path in PAGES.rglob("*.md")}
    names = sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    package = folder / "guide"
    package.mkdir()
    index = "# The guide\n\n" + "\n".join(f"- [{title(found[name])}]({module(name)}.html)" for name in names)
    index = index.replace("](", "](guide/")
    exported = [module(name) for name in names]
    (package / "__init__.py").write_text(
        f"{index!r}\n__docformat__ = 'markdown'\n__all__ = {exported!r}\n", "utf-8"
    )
    for name in names:
        text = linked(found[name].read_text(encoding="utf-8"))
        (package / f"{module(name)}.py").write_text(
            f"{text!r}\n__docformat__ = 'markdown'\n__all__ = ()\n", "utf-8"
        )


def module(name: str) -> str:
    """Return a page's name as a module's."""
    return re.sub(r"\W", "_", name)


def title(page: Path) -> str:
    """Return a page's first heading."""
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def main(target: str) -> None:
    """Build the site and print where it is.

    Args:
        target: the site's folder.
    """
    warnings.simplefilter("error", UserWarning)
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        write_guide(Path(folder))
        pdoc.render.configure(docformat="google", footer_text="desk360-async")
        reference = [load(name).__name__ for name in packages()]
        pdoc.pdoc("guide", *reference, output_directory=Path(target))
    sys.stdout.write(f"the site: {Path(target).resolve() / 'index.html'}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
