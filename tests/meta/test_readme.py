"""The README's Python samples run, one after the other, and print what stands beside them."""

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_samples_run_and_print_what_they_say() -> None:
    samples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(samples) >= 2
    code = "\n".join(samples)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(README), "exec"), {})  # noqa: S102 (the project's own README)
    said = re.findall(r"print\(.*\)\s+# (.+)", code)
    assert len(said) >= 2
    for expected in said:
        assert any(line.startswith(expected.rstrip(".")) for line in printed.getvalue().splitlines()), expected
