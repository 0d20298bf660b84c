#!/usr/bin/env bash
# One command: environment, then enrich -> train -> predict -> eval, on the validation split.
#
#     bash run_exp1.sh                                   the embedded demo, minutes on a CPU
#     bash run_exp1.sh my.yaml train.lr=2e-4             your own rows, with overrides
#     bash run_exp1.sh my.yaml --test                    the same, and then the test split: once, at the end
#     bash run_exp1.sh my.yaml --overwrite               train again where an adapter was trained from something else
#
# Finished stages whose code, configuration and data did not change are skipped; an interrupted training is resumed; a
# training run made from other inputs is never replaced without --overwrite. SIGTERM, SIGUSR1 and Ctrl-C go to the stage that runs,
# and its exit code, 75 where the same command goes on, is this one's.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config='' test=no overwrite=() overrides=()
text='' readers='' requirements='' split_train='' split_val='' split_test=''  # none of the caller's
for argument in "$@"; do
  case $argument in
    -h | --help) sed -n '2,/^set/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit ;;
    --overwrite) overwrite=(--overwrite) ;;
    --test) test=yes ;;
    *.yaml | *.yml)
      [[ -z $config ]] || { echo "error: two configurations, $config and $argument; give one" >&2; exit 1; }
      config=$argument; [[ -e $config ]] || config=$here/$argument ;;
    *=*) overrides+=("$argument") ;;
    *) echo "error: $argument: give a .yaml file, section.key=value overrides, --test or --overwrite" >&2; exit 1 ;;
  esac
done
source "$here/tools/environment.sh"
source "$here/tools/pass_signals.sh"
settings=(--config "${config:-$here/config_demo.yaml}" ${overrides[@]+"${overrides[@]}"})

facts() { facts=$("$python" "$here/tools/fingerprint.py" "${settings[@]}"); eval "$facts"; }  # sets $out, $split_…, $…_inputs

echo "== enrich"
pass_signals "$python" "$here/data/preprocess.py" "${settings[@]}"  # looks by itself at what is there
facts
split=val
[[ -n $config ]] || split=test  # the demo's own: see the end
for needed in "$split" $([[ $test == no ]] || echo "test"); do
  rows=split_$needed
  [[ -n ${!rows:-} ]] || { echo "error: set data.${needed}_jsonl in ${config:-config_demo.yaml}" >&2; exit 1; }
done
stamps=$out/.stages
mkdir -p "$stamps"

finished() {  # finished NAME HASH OUTPUT: OUTPUT is there, made from HASH
  [[ -e $3 && $(cat "$stamps/$1" 2>/dev/null) == "$2" ]]
}

stage() {  # stage NAME HASH OUTPUT SCRIPT...: run unless it is finished
  # $readers: the stages that read what it writes, and so are not finished any more. $text: where what it prints goes.
  local name=$1 hash=$2 output=$3 script=$4 reader stale; shift 4
  if finished "$name" "$hash" "$output" && [[ -z $text || -e $text ]]; then
    echo "== $name: unchanged, skipped"
    return
  fi
  echo "== $name"
  read -ra stale <<< "$name $readers"
  for reader in "${stale[@]}"; do rm -f "$stamps"/$reader; done
  if [[ -n $text ]]; then
    pass_signals "$python" "$here/$script" "${settings[@]}" "$@" > "$text"
  else
    pass_signals "$python" "$here/$script" "${settings[@]}" "$@"
  fi
  echo "$hash" > "$stamps/$name"
}

predict_and_eval() {  # predict_and_eval NAME SPLIT REPORT OPTIONS-OF-PREDICT...
  local name=$1 split=$2 report=$3 rows=split_$2; shift 3
  local predictions=$out/predictions_$name.jsonl tables='summary compare'
  [[ $name != test ]] || tables=''  # which are about the four runs
  readers="eval_$name $tables" stage "predict_$name" "$predict_inputs $split" "$predictions" \
    predict_exp1.py --split "$split" --out "$predictions" "$@" --overwrite  # what is there is this stage's own, and stale
  readers=$tables text=$out/evaluation_$name.txt stage "eval_$name" "$eval_inputs $split $(cksum < "$predictions")" "$out/metrics_$name.json" \
    eval_exp1.py --predictions "$predictions" --against "${!rows}" --report "$report"
}

adapter=$out/adapter/adapter_model.safetensors
again=(${overwrite[@]+"${overwrite[@]}"})
if finished train "$train_inputs" "$adapter"; then trained=before; else
  trained=now
  record=$({ cksum < "$out/train_run.json"; } 2>/dev/null || true)  # of what train_exp1.py started last
  began=$(cat "$stamps/training_began" 2>/dev/null || true)  # our inputs, and the record that was there before
  if [[ -n $record && $began == "$train_inputs "* && $began != "$train_inputs $record" ]]; then
    again=(--resume_from_checkpoint)  # our own: it starts, goes on or finds all done
  elif [[ -n $record && -z $began && ${#again[@]} -eq 0 ]]; then
    again=(--resume_from_checkpoint)  # started without this script: train_exp1.py compares
  elif [[ ${#again[@]} -eq 0 && ( -e $adapter || -n $(compgen -G "$out/checkpoint-*") ) ]]; then
    echo "error: $out already holds a training run, made from other inputs; add --overwrite, or set another output_dir" >&2
    exit 1
  else
    echo "$train_inputs $record" > "$stamps/training_began"
  fi
fi
readers='predict_* eval_* summary compare' stage train "$train_inputs" "$adapter" train_exp1.py ${again[@]+"${again[@]}"}
[[ $trained == before ]] || facts  # the adapter counts in what follows

predict_and_eval untuned_free "$split" none --adapter none predict.decoding=free
predict_and_eval untuned_constrained "$split" none --adapter none
predict_and_eval tuned_free "$split" none predict.decoding=free
predict_and_eval tuned_constrained "$split" none
text=$out/summary.txt stage summary "$eval_inputs $split" "$out/summary.txt" \
  eval_exp1.py --summary "$out"/metrics_{untuned,tuned}_{free,constrained}.json
rows=split_$split
text=$out/comparison.txt stage compare "$eval_inputs $split" "$out/report.html" \
  eval_exp1.py --compare "$out"/predictions_{untuned,tuned}_constrained.jsonl --against "${!rows}" --report "$out/report.html"

echo "== results: tuned, constrained, on the $split split"
cat "$out/evaluation_tuned_constrained.txt"
echo
cat "$out/summary.txt"
echo
tail -n 4 "$out/comparison.txt"
if [[ -z $config ]]; then
  echo "The demo shows its test split each time, which of your own data nobody should: nobody chooses a model by drawn scenes."
elif [[ $test == yes ]]; then
  predict_and_eval test "test" "$out/report_test.html"
  echo "== results: tuned, constrained, on the test split"
  cat "$out/evaluation_test.txt"
elif [[ -n ${split_test:-} ]]; then
  echo "The test split was not touched. When nothing is going to change any more, once: $(printf '%q ' bash "$0" "$config" ${overrides[@]+"${overrides[@]}"})--test"
fi
