"""What is counted, and as Prometheus reads it (text format 0.0.4). One thread writes: the one of the connections."""

from __future__ import annotations

import bisect
from collections import deque
from typing import Deque, Dict, Iterable, List, Mapping, Optional, Tuple

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Upper bounds of latencies, seconds."""
TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LATEST, _ENOUGH = 1000, 100
Labels = Tuple[Tuple[str, str], ...]


class Histogram:
    """Latencies by bucket."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class Metrics:
    """Counters of the whole process, and of the release that serves."""

    def __init__(self) -> None:
        self.responses: Dict[Tuple[str, int], int] = {}
        """By endpoint and status."""
        self.errors: Dict[str, int] = {}
        """By kind."""
        self.total: Dict[str, Histogram] = {"infer": Histogram(), "classify": Histogram()}
        """From the last byte of a request to the answer, by endpoint."""
        self.engine = Histogram()
        self.images = 0
        self.connections = 0
        """Accepted."""
        self.reloads = {"ok": 0, "refused": 0}
        self.answered = 0
        """By the release that serves now, its failures included."""
        self.failed = 0
        """Of these, those that the model could not answer."""
        self._latest: Deque[float] = deque(maxlen=_LATEST)

    def response(self, endpoint: str, status: int) -> None:
        """Count an answer."""
        key = (endpoint, status)
        self.responses[key] = self.responses.get(key, 0) + 1

    def error(self, kind: str) -> None:
        """Count an error."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def inference(self, endpoint: str, images: int, total_s: float, engine_s: float) -> None:
        """Count what the engine answered."""
        self.images += images
        self.total[endpoint].add(total_s)
        self.engine.add(engine_s)
        self.answered += 1
        self._latest.append(total_s)

    def failure(self) -> None:
        """Count what the engine could not answer."""
        self.answered += 1
        self.failed += 1

    def release_changed(self) -> None:
        """Begin to count for another release."""
        self.answered = self.failed = 0
        self._latest.clear()

    def p99_ms(self) -> Optional[float]:
        """99th percentile of the latest latencies; None where there are too few."""
        latest = sorted(self._latest.copy())
        return 1000 * latest[int(0.99 * (len(latest) - 1))] if len(latest) >= _ENOUGH else None


def text(metrics: Metrics, gauges: Mapping[str, Tuple[str, float]], release: Mapping[str, str]) -> str:
    """All of it.

    Args:
        metrics: what was counted.
        gauges: name to meaning and value now.
        release: labels of the release that serves.
    """
    lines: List[str] = []
    _family(lines, "figkd_responses_total", "counter", "Answers by endpoint and status.",
            (((("endpoint", endpoint), ("status", str(status))), count)
             for (endpoint, status), count in sorted(metrics.responses.items())))  # fmt: skip
    _family(lines, "figkd_errors_total", "counter", "Errors by kind; model: the engine could not answer.",
            (((("kind", kind),), count) for kind, count in sorted(metrics.errors.items())))  # fmt: skip
    _family(
        lines, "figkd_images_total", "counter", "Images that the engine answered.", [((), metrics.images)]
    )
    _family(lines, "figkd_connections_total", "counter", "Connections accepted.", [((), metrics.connections)])
    _family(lines, "figkd_reloads_total", "counter", "Releases taken up, or refused.",
            (((("result", result),), count) for result, count in metrics.reloads.items()))  # fmt: skip
    for name, (meaning, value) in gauges.items():
        _family(lines, name, "gauge", meaning, [((), value)])
    _family(lines, "figkd_release_info", "gauge", "The release that serves.",
            [(tuple(release.items()), 1)] if release else [])  # fmt: skip
    _histograms(lines, "figkd_request_seconds", "From the last byte of a request to its answer.",
                [((("endpoint", endpoint),), found) for endpoint, found in metrics.total.items()])  # fmt: skip
    _histograms(lines, "figkd_engine_seconds", "The engine alone, a request.", [((), metrics.engine)])
    return "\n".join(lines) + "\n"


def _family(
    lines: List[str], name: str, kind: str, meaning: str, samples: Iterable[Tuple[Labels, float]]
) -> None:
    lines += ["# HELP %s %s" % (name, meaning), "# TYPE %s %s" % (name, kind)]
    lines += ["%s%s %s" % (name, _labels(labels), _number(value)) for labels, value in samples]


def _histograms(lines: List[str], name: str, meaning: str, found: List[Tuple[Labels, Histogram]]) -> None:
    lines += ["# HELP %s %s" % (name, meaning), "# TYPE %s histogram" % name]
    for labels, one in found:
        below = 0
        for bound, count in zip([*map(repr, BUCKETS), "+Inf"], one.counts):
            below += count
            lines.append("%s_bucket%s %d" % (name, _labels((*labels, ("le", bound))), below))
        lines.append("%s_sum%s %s" % (name, _labels(labels), _number(one.sum)))
        lines.append("%s_count%s %d" % (name, _labels(labels), below))


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    escaped = (
        (name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for name, value in labels
    )
    return "{%s}" % ",".join('%s="%s"' % pair for pair in escaped)


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
