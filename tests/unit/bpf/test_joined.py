"""The text that bcc is given: a program's files as one."""

from pathlib import Path

from enforcer.datapath.compiler import joined


def test_included_programs_stand_in_place_and_every_line_keeps_its_number(tmp_path: Path) -> None:
    """What the compiler says of a line names the file and the line that people see."""
    (tmp_path / "whole.bpf.c").write_text('#include "limit.h"\n#include "part.bpf.c"\nint last;\n')
    (tmp_path / "part.bpf.c").write_text("int first;\n")

    assert joined(tmp_path / "whole.bpf.c").splitlines() == [
        '#line 1 "whole.bpf.c"',
        '#include "limit.h"',
        '#line 1 "part.bpf.c"',
        "int first;",
        '#line 3 "whole.bpf.c"',
        "int last;",
    ]
