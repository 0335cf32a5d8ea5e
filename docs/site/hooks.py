"""What the site needs beside mkdocs.yml: the repository's paths, API pages, and formulas without a script.

Pages keep their paths in the repository (README.md, docs/quickstart.md), so that one relative link works on the code
host and on the site. Formulas become MathML when the site is built; browsers draw it, and nothing is downloaded.
"""

from __future__ import annotations

import ast
import html
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">(?:\\\(|\\\[)(.*?)(?:\\\)|\\\])</\1>', re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Anchors as the code host makes them, and the API pages in the navigation."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    (reference,) = (entry["Reference"] for entry in config.nav or [] if "Reference" in entry)
    reference += [{name: f"api/{name}.md"} for name in _api_pages()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every page by its path in the repository; one page for each package of the API."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
        if file.src_uri != "site/hooks.py":
            files.append(_file(f"docs/{file.src_uri}", config))
    for page in PAGES:
        files.append(_file(page, config))
    for name, text in _api_pages().items():
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """The home page has no neighbours: it takes their room."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    return markdown


def on_page_content(content: str, **_: object) -> str:
    """Formulas as MathML."""
    return _FORMULA.sub(_mathml, content)


def _file(path: str, config: MkDocsConfig) -> File:
    return File(path, str(ROOT), config.site_dir, config.use_directory_urls)


def _mathml(found: re.Match[str]) -> str:
    drawn = convert(html.unescape(found[2]).strip(), display="block" if found[1] == "div" else "inline")
    # The bars of a norm are as high as a letter.
    return drawn.replace("<mo>&#x02016;", '<mo stretchy="false">&#x02016;')


def _api_pages() -> dict[str, str]:
    """Name of the page -> its Markdown: the public names of `figkd`, the modules of `export` and its subpackages."""
    import figkd

    names = "\n".join(f"::: {figkd._WHERE[name]}.{name}" for name in figkd.__all__)
    about = f"{figkd.__doc__}\n\n`from figkd import ...`: each name is loaded when it is used."
    pages = {"figkd": f"# figkd\n\n{about}\n\n{names}\n"}
    for package in sorted({path.parent for path in (ROOT / "export").rglob("*.py")}):
        name = ".".join(package.relative_to(ROOT).parts)
        modules = sorted(path.stem for path in package.glob("*.py") if not path.stem.startswith("_"))
        about = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""
        pages[name] = f"# {name}\n\n{about}\n\n" + "".join(f"::: {name}.{module}\n" for module in modules)
    return pages
