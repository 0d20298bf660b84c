# Sourced by run_exp1.sh and run_tests.sh, with the repository in $here and the wanted lists in $requirements (default:
# requirements.txt): sets $python to an interpreter that satisfies them. The active environment if it satisfies requirements.txt
# (or requirements-older.txt), else .venv, made on first use; what is missing of further lists is installed into either.

# OpenMP threads that wait should sleep: spinning, they starve whatever else runs (data loading, a neighbour), up to tenfold.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}

satisfies() {  # satisfies PYTHON LIST...
  local interpreter=$1; shift
  (cd "$here" && "$interpreter" - "$@" <<'PY' 2>/dev/null
import sys
from importlib.metadata import version
from packaging.requirements import Requirement
assert sys.version_info >= (3, 11)
for line in (line.strip() for path in sys.argv[1:] for line in open(path)):
    if line and not line.startswith("#"):
        requirement = Requirement(line)
        assert requirement.specifier.contains(version(requirement.name).split("+")[0]), line
PY
  )
}

make_environment() {
  local base
  for base in python3 python3.13 python3.12 python3.11 python; do
    if "$base" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "== environment: installing requirements.txt into .venv (once; torch is large)"
      "$base" -m venv "$here/.venv" && "$here/.venv/bin/python" -m pip install --quiet -r "$here/requirements.txt"
      return
    fi
  done
  echo "error: Python 3.11 or newer is needed (transformers 5 needs it); install it and run this again" >&2
  return 1
}

find_environment() {
  for python in python python3 "$here/.venv/bin/python"; do
    if satisfies "$python" requirements.txt || satisfies "$python" requirements-older.txt; then return; fi
  done
  make_environment  # $python is .venv's
}

find_environment
for list in ${requirements:-}; do
  if ! satisfies "$python" "$list"; then
    echo "== environment: installing $list"
    "$python" -m pip install --quiet -r "$here/$list"
  fi
done
