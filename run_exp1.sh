#!/usr/bin/env bash
# One command: environment, then enrich -> train -> predict -> eval.
#
#     bash run_exp1.sh                                   the embedded demo, minutes on a CPU
#     bash run_exp1.sh config_exp1.yaml train.lr=2e-4    your own rows on Qwen2-VL-7B, with overrides
#
# Finished stages whose code, configuration and data did not change are skipped; an interrupted training is resumed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
config=config_demo.yaml
if [[ ${1:-} == *.yaml ]]; then config=$1; shift; fi
overrides=("$@")
source environment.sh

# What every stage reads besides what the stage before it wrote.
facts=$("$python" - "$config" ${overrides[@]+"${overrides[@]}"} <<'PY'
import shlex, sys
from config import load_config
from files import UserError
try:
    cfg = load_config(sys.argv[1], sys.argv[2:])
    rows = [cfg.split_path(split) for split in ("train", "val", "test") if split == "train" or getattr(cfg.data, f"{split}_jsonl")]
    split = "test" if cfg.data.test_jsonl else "val"
    print(f"out={shlex.quote(str(cfg.output_dir))} images={shlex.quote(str(cfg.data.image_root or ''))} model={shlex.quote(cfg.model_name)}")
    print(f"split={split} rows=({' '.join(shlex.quote(str(path)) for path in rows)})")
except UserError as error:
    sys.exit(f"error: {error}")
PY
)
eval "$facts"
stamps=$out/.stages
mkdir -p "$stamps"
inputs=$(
  {
    cat ./*.py data/*.py requirements.txt "$config" "${rows[@]}"
    if [[ -d $images ]]; then ls -lRn "$images"; fi
    if [[ -d $model ]]; then cat "$model"/*.json "$model"/*.safetensors; fi
    echo "${overrides[*]:-}"
  } | "$python" -c 'import hashlib, sys; print(hashlib.file_digest(sys.stdin.buffer, "sha256").hexdigest())'
)
changed=no

stage() {  # stage NAME OUTPUT COMMAND...: run unless OUTPUT is there and neither the inputs nor an earlier stage changed
  local name=$1 output=$2; shift 2
  if [[ $changed == no && -e $output && $(cat "$stamps/$name" 2>/dev/null) == "$inputs" ]]; then
    echo "== $name: unchanged, skipped"
    return
  fi
  changed=yes
  echo "== $name"
  rm -f "$stamps/$name"
  "$python" "$@" --config "$config" ${overrides[@]+"${overrides[@]}"}
  echo "$inputs" > "$stamps/$name"
}

stage enrich "$out/data/train.jsonl" -m data.preprocess

training=(train_exp1.py --overwrite)
if [[ $(cat "$stamps/training_began" 2>/dev/null) == "$inputs" ]] && compgen -G "$out/checkpoint-*/trainer_state.json" > /dev/null; then
  training=(train_exp1.py --resume_from_checkpoint)
fi
echo "$inputs" > "$stamps/training_began"
stage train "$out/adapter/adapter_model.safetensors" "${training[@]}"

summary=()
for run in "untuned free" "untuned constrained" "tuned free" "tuned constrained"; do
  read -r model decoding <<< "$run"
  name=${model}_$decoding
  choice=()
  if [[ $model == untuned ]]; then choice+=(--adapter none); fi
  if [[ $decoding == free ]]; then choice+=(predict.decoding=free); fi
  stage "predict_$name" "$out/predictions_$name.jsonl" predict_exp1.py --split "$split" --out "$out/predictions_$name.jsonl" ${choice[@]+"${choice[@]}"}
  "$python" eval_exp1.py --config "$config" ${overrides[@]+"${overrides[@]}"} --predictions "$out/predictions_$name.jsonl" > "$out/evaluation_$name.txt"
  summary+=("$out/metrics_$name.json")
done

echo "== eval: tuned, constrained, split $split"
cat "$out/evaluation_tuned_constrained.txt"
echo
"$python" eval_exp1.py --config "$config" ${overrides[@]+"${overrides[@]}"} --summary "${summary[@]}"
