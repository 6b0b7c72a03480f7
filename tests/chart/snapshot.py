"""``python -m tests.chart.snapshot`` writes the default render after a wanted change."""

from tests.chart.helm import template
from tests.chart.test_render import SNAPSHOT

if __name__ == "__main__":
    SNAPSHOT.write_text(template())
    print(f"wrote {SNAPSHOT}")
