"""The data as a section of the Markdown report."""

from __future__ import annotations

from pipeline.report import data_words, markup, numbers
from pipeline.results.data_summary import DataSummary


def render(data: DataSummary) -> str:
    """Worries, the summary, and images by class."""
    worries = [f"- {markup.MARKS[w.tone]} {markup.text(w.text)}" for w in data_words.worries(data)]
    facts = [
        [markup.text(fact.label), "; ".join(map(markup.text, fact.values))] for fact in data_words.facts(data)
    ]
    classes = data_words.class_table(data)
    rows = [[str(row.output), markup.text(row.name), *map(numbers.count, row.images)] for row in classes.rows]
    parts = [
        "## Your data",
        "\n".join(worries),
        markup.table(["fact", "value"], facts, "ll"),
        markup.table(["output", "class", *classes.splits], rows, "rl" + "r" * len(classes.splits)),
        markup.text(classes.rest),
    ]
    return "\n\n".join(part for part in parts if part)
