"""Freed memory is returned to the system or kept, as measured in a new process."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have their own rules")

USED = """
from pathlib import Path
import startup

def used():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1])
"""


def used_memory(repository, code: str) -> list[int]:
    """The numbers that the code prints; those of its function `used` are in kB."""
    result = subprocess.run([sys.executable, "-c", USED + code], cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [int(number) for number in result.stdout.split()]


def test_free_memory_is_returned_to_the_system(repository):
    before, after = used_memory(
        repository,
        """
blocks = [bytes(10_000) for _ in range(20_000)]
newest = blocks[-1]  # glibc itself returns nothing below a block in use
del blocks
before = used()
startup.return_freed_memory()
print(before, used())
""",
    )
    assert before - after > 100_000, (before, after)  # of about 200,000


@pytest.mark.parametrize("keep", [True, False])
def test_freed_memory_is_kept_after_keep_freed_memory(repository, keep):
    before, after = used_memory(
        repository,
        f"""
if {keep}:
    startup.keep_freed_memory()
blocks = [bytearray(b"1" * 15_000_000) for _ in range(10)]
before = used()
del blocks
print(before, used())
""",
    )
    assert (before - after < 50_000) == keep, (before, after)  # of about 150,000
