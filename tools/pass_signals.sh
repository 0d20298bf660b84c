# Sourced by run_exp1.sh and tools/slurm/*.sbatch: a shell that waits for a command obeys a signal only when that has ended, and a
# shell that dies of one leaves its command running.

child='' came='' handed=''  # the command's process group; the signal that ended a wait for it, and the one that it got

hand_on() {  # hand_on SIGNAL: to the command, or, where none runs, the end: the same command goes on
  came=$1 handed=$1
  [[ -n $child ]] || exit 75
  kill "-${1/HUP/TERM}" -- "-$child" 2>/dev/null || true  # a closed terminal would not reach it
}
for name in TERM USR1 INT HUP; do
  # shellcheck disable=SC2064
  trap "hand_on $name" "$name"
done

pass_signals() {  # pass_signals COMMAND...: run it, hand it the signals that come meanwhile, and return its exit code
  local code=0 now
  set -m  # in a process group of its own, so that a terminal's Ctrl-C reaches it once, from here
  "$@" &
  child=$!
  set +m
  while :; do
    came='' now=0
    wait "$child" || now=$?
    (( now == 127 )) || code=$now  # it had ended when the signal came
    [[ -n $came ]] || break
  done
  child=''
  [[ -z $handed ]] || (( code <= 130 )) || code=75  # it dies of a signal: of those stages that have nothing to save
  return "$code"
}
