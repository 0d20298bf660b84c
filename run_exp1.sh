#!/usr/bin/env bash
# One command: environment, then enrich -> train -> predict -> eval.
#
#     bash run_exp1.sh                                   the embedded demo, minutes on a CPU
#     bash run_exp1.sh config_exp1.yaml train.lr=2e-4    your own rows on Qwen2-VL-7B, with overrides
#     bash run_exp1.sh config_exp1.yaml --overwrite      train again where an adapter was trained from something else
#
# Finished stages whose code, configuration and data did not change are skipped; an interrupted training is resumed; a
# training run made from other inputs is never replaced without --overwrite.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=$here/config_demo.yaml
overwrite=() overrides=()
for argument in "$@"; do
  case $argument in
    --overwrite) overwrite=(--overwrite) ;;
    *=*) overrides+=("$argument") ;;
    *.yaml | *.yml) config=$argument; [[ -e $config ]] || config=$here/$argument ;;
    *) echo "error: $argument: give a .yaml file, section.key=value overrides, or --overwrite" >&2; exit 1 ;;
  esac
done
source "$here/tools/environment.sh"
settings=(--config "$config" ${overrides[@]+"${overrides[@]}"})
facts=$("$python" "$here/tools/fingerprint.py" "${settings[@]}")
eval "$facts"
stamps=$out/.stages
mkdir -p "$stamps"
changed=no

finished() {  # finished NAME HASH OUTPUT: OUTPUT is there, made from HASH
  [[ -e $3 && $(cat "$stamps/$1" 2>/dev/null) == "$2" ]]
}

stage() {  # stage NAME HASH OUTPUT SCRIPT...: run unless it is finished and no earlier stage ran
  local name=$1 hash=$2 output=$3 script=$4; shift 4
  if [[ $changed == no ]] && finished "$name" "$hash" "$output"; then
    echo "== $name: unchanged, skipped"
    return
  fi
  changed=yes
  echo "== $name"
  rm -f "$stamps/$name"
  "$python" "$here/$script" "$@" "${settings[@]}"
  echo "$hash" > "$stamps/$name"
}

stage enrich "$inputs" "$out/data/train.jsonl" data/preprocess.py
changed=no  # what decides an adapter is hashed below, row by row

adapter=$out/adapter/adapter_model.safetensors
again=(${overwrite[@]+"${overwrite[@]}"})
if ! finished train "$train_inputs" "$adapter"; then
  checkpoints=$(compgen -G "$out/checkpoint-*/trainer_state.json" || true)
  if [[ -n $checkpoints && $(cat "$stamps/training_began" 2>/dev/null) == "$train_inputs" ]]; then
    again=(--resume_from_checkpoint)
  elif [[ ${#again[@]} -eq 0 && ( -n $checkpoints || -e $adapter ) ]]; then
    echo "error: $out already holds a training run, made from other inputs; add --overwrite, or set another output_dir" >&2
    exit 1
  fi
  echo "$train_inputs" > "$stamps/training_began"
fi
stage train "$train_inputs" "$adapter" train_exp1.py ${again[@]+"${again[@]}"}

summary=()
for run in "untuned free" "untuned constrained" "tuned free" "tuned constrained"; do
  read -r model decoding <<< "$run"
  name=${model}_$decoding
  choice=()
  if [[ $model == untuned ]]; then choice+=(--adapter none); fi
  if [[ $decoding == free ]]; then choice+=(predict.decoding=free); fi
  stage "predict_$name" "$inputs" "$out/predictions_$name.jsonl" \
    predict_exp1.py --split "$split" --out "$out/predictions_$name.jsonl" ${choice[@]+"${choice[@]}"} ${overwrite[@]+"${overwrite[@]}"}
  "$python" "$here/eval_exp1.py" "${settings[@]}" --predictions "$out/predictions_$name.jsonl" --report none > "$out/evaluation_$name.txt"
  summary+=("$out/metrics_$name.json")
done

echo "== eval: tuned, constrained, split $split"
cat "$out/evaluation_tuned_constrained.txt"
echo
"$python" "$here/eval_exp1.py" "${settings[@]}" --summary "${summary[@]}"
echo
"$python" "$here/eval_exp1.py" "${settings[@]}" --compare "$out/predictions_untuned_constrained.jsonl" "$out/predictions_tuned_constrained.jsonl" \
  --report "$out/report.html" > "$out/comparison.txt"
tail -n 3 "$out/comparison.txt"
