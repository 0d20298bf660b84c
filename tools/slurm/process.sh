#!/usr/bin/env bash
# Run by srun, once for each GPU: srun bash tools/slurm/process.sh python train_exp1.py …
#
# Tells a process what torchrun would: which one it is, and of how many. (With torchrun itself a job's signals would not reach the
# processes, nor their exit codes the job.)
if (( SLURM_NTASKS > 1 )); then
  export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE=$((SLURM_NTASKS / SLURM_NNODES))
fi
exec "$@"
