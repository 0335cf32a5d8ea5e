"""Views of a `result.json`: a web page, Markdown and a terminal table. Every figure comes from the result."""
