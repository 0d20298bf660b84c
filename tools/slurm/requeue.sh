# Sourced by the .sbatch files: a job that saves where it is when the queue warns it, and puts itself back into the queue.
#
# `--signal=B:USR1@120` sends SIGUSR1 to the job's shell 120 seconds before its time is up. The shell hands it to the step that runs,
# which saves, ends with 75, and goes on from there when the job is started again. A preempted job (SIGTERM) saves likewise, and is
# requeued by Slurm itself; scancel saves and ends.

cd "${SLURM_SUBMIT_DIR:?submit this with sbatch, from the folder of the repository}"
source tools/pass_signals.sh
[[ -n ${VIRTUAL_ENV:-} || ! -d .venv ]] || source .venv/bin/activate

(( $# )) && [[ -f $1 || $1 != *=* ]] || { echo "error: sbatch $SLURM_JOB_NAME FILE.yaml section.key=value …: give a configuration" >&2; exit 1; }
settings=(--config "$@")

read -r MASTER_ADDR < <(scontrol show hostnames "$SLURM_JOB_NODELIST")  # where the processes of several GPUs meet
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

requeue_if_warned() {
  local code=$?
  [[ $code == 75 && $handed == USR1 ]] || exit "$code"
  local job=$SLURM_JOB_ID
  [[ -z ${SLURM_ARRAY_JOB_ID:-} ]] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID  # else the whole array
  echo "== job $job goes back into the queue"
  scontrol requeue "$job"
}
trap requeue_if_warned EXIT

step() {  # step [OPTION OF srun]... COMMAND...: in a job step, once for each task; a process that dies takes the others along
  pass_signals srun --kill-on-bad-exit=1 "$@"
  [[ $handed != USR1 ]] || exit 75  # it has ended as well as its time
}
