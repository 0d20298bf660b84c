#!/usr/bin/env bash
# One command: environment, then Experiments 1 to 5 of the series, each against Experiment 1, in one table.
#
#     bash run_series.sh                                 the embedded demo, its test split: half an hour on two CPU cores
#     bash run_series.sh my.yaml train.lr=2e-4           your own rows, with overrides, on the validation split
#     bash run_series.sh my.yaml --test                  the test split: once, at the end
#     bash run_series.sh my.yaml --seeds 3               three trainings of each
#     bash run_series.sh my.yaml configs/exp2.yaml       Experiments 1 and 2 alone
#     bash run_series.sh my.yaml --dry-run               what would run, and what is there already
#     bash run_series.sh my.yaml --overwrite             make anew what was made with other settings, files or code
#
# What is done is skipped; what was interrupted goes on. SIGTERM, SIGUSR1 and Ctrl-C go to the stage that runs, and its exit code, 75
# where the same command goes on, is this one's. More: python tools/series.py --help, docs/series.md
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
demo=("$here/config_demo.yaml" --test)  # nobody chooses a model by drawn scenes
for argument in "$@"; do
  case $argument in
    -h | --help) sed -n '2,/^set/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit ;;
    */exp[2-5].yaml | exp[2-5].yaml) ;;
    *.yaml | *.yml) demo=() ;;
  esac
done
requirements=''  # none of the caller's
source "$here/tools/environment.sh"
source "$here/tools/pass_signals.sh"
pass_signals "$python" "$here/tools/series.py" ${demo[@]+"${demo[@]}"} "$@"
