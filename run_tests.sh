#!/usr/bin/env bash
# One command: environment, then the code's form (ruff), then the tests. Arguments go to pytest: bash run_tests.sh -k decode
#
# Tests on real data need SURGVQA_SHARED, a folder that may not be committed; without it they are skipped and say so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD requirements=requirements-dev.txt
source tools/environment.sh
"$python" -m ruff check .
"$python" -m ruff format --check .
unset PYTHONDONTWRITEBYTECODE  # or each of the hundreds of scripts that tests start would compile all it imports
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # a core for each of the two workers
workers=2
[[ " $* " != *" -k "* ]] || workers=0  # a file's tests go to one worker, and reading all files takes longer than one module's tests
exec "$python" -m pytest tests -q -ra -n "$workers" --dist loadfile --no-loadscope-reorder "$@"
