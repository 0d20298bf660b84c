"""The stage of a question: 1 is looked at first, later stages build on what was found. No torch."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re

from files import UserError, quoted

PREFIX = re.compile(r"\s*\[\s*stage[\s_-]*(\d+)\b[^\[\]]*\]", re.IGNORECASE)  # `[Stage-2: Findings Identification] Is there a polyp?`


def stage_of(row):
    """The stage of a row (int, from 1), by its `stage` or its question's `[Stage-k: name]` prefix; None where it has neither.

    Raises UserError for a `stage` that is no such number.
    """
    given = row.get("stage")
    if given is None:
        found = PREFIX.match(row["question"])
        return int(found[1]) if found else None
    if isinstance(given, bool) or not re.fullmatch(r"0*[1-9]\d*", str(given).strip()):
        raise UserError(f"row {quoted(row['id'])}: stage is {quoted(given)}; write 1, 2 or 3, or leave it out")
    return int(given)
